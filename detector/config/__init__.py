"""The config: defaults, and how YAML files, overrides and checkpoints become one."""

from detector.config.checks import validate
from detector.config.defaults import get_defaults
from detector.config.load import changes_text, config_from_text, config_text, load_config, save_config

__all__ = ["changes_text", "config_from_text", "config_text", "get_defaults", "load_config", "save_config", "validate"]
