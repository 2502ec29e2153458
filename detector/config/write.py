"""A config as YAML: whole, what differs from the defaults, or with where each value comes from."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from yacs.config import CfgNode

from detector.config.defaults import flat, get_defaults
from detector.config.reading import is_whole, leaves, parse
from detector.errors import UserError
from detector.files import write_atomic


class _Dumper(yaml.SafeDumper):
    """Writes lists on one line, and a text with line breaks too."""


_Dumper.add_representer(tuple, lambda dumper, v: dumper.represent_sequence("tag:yaml.org,2002:seq", v, flow_style=True))
_Dumper.add_representer(
    str, lambda dumper, v: dumper.represent_scalar("tag:yaml.org,2002:str", v, style='"' if "\n" in v else None)
)


def save_config(cfg: CfgNode, path: str | Path) -> None:
    """Write every key as YAML; `load_config` reads it back to an equal config. Makes the folder if needed."""
    write_atomic(path, config_text(cfg).encode("utf-8", "backslashreplace"))


def was_saved(path: Path) -> bool:
    """Whether a YAML file is what `save_config` wrote."""
    try:
        return is_whole(leaves(parse(path.read_bytes(), str(path)), str(path)))
    except (OSError, UserError):
        return False


def config_text(cfg: CfgNode) -> str:
    """Every key as YAML: what checkpoints and `save_config` hold."""
    return _dump(_plain(cfg))


def changed_keys(cfg: CfgNode) -> dict[str, Any]:
    """The keys that differ from their defaults, dotted, with their values."""
    defaults = flat(get_defaults())
    return {key: value for key, value in flat(cfg).items() if value != defaults[key]}


def changes_text(cfg: CfgNode, keep: Collection[str] = ()) -> str:
    """The keys that differ from their defaults, and those in `keep`, as YAML: what a reader has to know."""
    defaults = flat(get_defaults())
    tree: dict[str, Any] = {}
    for key, value in flat(cfg).items():
        if value != defaults[key] or key in keep:
            *path, leaf = key.split(".")
            node = tree
            for name in path:
                node = node.setdefault(name, {})
            node[leaf] = value
    return _dump(tree)


def origins_text(cfg: CfgNode, origins: Mapping[str, str]) -> str:
    """Every key on a line of its own, `KEY: value  # origin`; `load_config` reads it back to an equal config.

    origins: as `load_config_with_origins` gives them.
    """
    lines = {key: _dump({key: value}, width=1_000_000).rstrip("\n") for key, value in flat(cfg).items()}
    column = max(len(line) for line in lines.values() if len(line) <= 60)
    return "".join(f"{line:{column}}  # {origins[key]}\n" for key, line in lines.items())


def _dump(tree: dict[str, Any], width: int = 120) -> str:
    return yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=width)


def _plain(cfg: CfgNode) -> dict[str, Any]:
    return {name: _plain(value) if isinstance(value, CfgNode) else value for name, value in cfg.items()}
