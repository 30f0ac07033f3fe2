"""Typed configuration: one YAML file, one section a stage."""

from thermocancer.config.loader import load_config
from thermocancer.config.schema import Config
from thermocancer.config.showing import differences, dump_yaml, starting_file

__all__ = ["Config", "differences", "dump_yaml", "load_config", "starting_file"]
