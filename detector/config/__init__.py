"""The config: defaults, and how YAML files, overrides and checkpoints become one."""

from detector.config.checks import validate
from detector.config.declare import declare
from detector.config.defaults import get_defaults
from detector.config.load import config_from_text, load_config, load_config_with_origins
from detector.config.shipped import find_config, shipped_configs
from detector.config.values import KEY, no_value_text
from detector.config.write import changed_keys, changes_text, config_text, origins_text, save_config

__all__ = [
    "KEY",
    "changed_keys",
    "changes_text",
    "config_from_text",
    "config_text",
    "declare",
    "find_config",
    "get_defaults",
    "load_config",
    "load_config_with_origins",
    "no_value_text",
    "origins_text",
    "save_config",
    "shipped_configs",
    "validate",
]
