"""Typed configuration: one YAML file, one section a stage."""

from thermocancer.config.loader import differences, dump_yaml, load_config, starting_file
from thermocancer.config.schema import Config

__all__ = ["Config", "differences", "dump_yaml", "load_config", "starting_file"]
