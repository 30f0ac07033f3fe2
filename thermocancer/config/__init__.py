"""Typed configuration: one YAML file, one section a stage."""

from thermocancer.config.loader import dump_yaml, load_config
from thermocancer.config.schema import Config

__all__ = ["Config", "dump_yaml", "load_config"]
