"""YAML file, its `_BASE_` chain and KEY VALUE overrides -> one frozen config; and back to YAML.

Every scalar is taken as text and read as the type of its key's default. So one rule serves files and the command line,
`off` is a word where a word is wanted, and `1e-4` is a number.
"""

import ast
import math
import os
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from yacs.config import CfgNode

from detector.config.checks import validate
from detector.config.defaults import get_defaults
from detector.config.moved import what_to_write_now

COMMAND_LINE = "command line"

_BOOLS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_NOTHING = ("", "~", "null", "Null", "NULL")
_EXPECTED = {bool: "True or False", int: "an integer", float: "a number", str: "text"}
_EXPECTED_LIST = {int: "a list of integers", float: "a list of numbers", str: "a list of names"}


class _Loader(yaml.BaseLoader):
    """Leaves scalars as text and builds no objects; refuses a key that stands twice, where YAML drops the first."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.value in seen:
                problem = (
                    f"key {key.value!r} stands twice" if isinstance(key, yaml.ScalarNode) else "a key must be text"
                )
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Writes lists on one line."""


_Dumper.add_representer(tuple, lambda dumper, v: dumper.represent_sequence("tag:yaml.org,2002:seq", v, flow_style=True))


def load_config(path: str | Path | None, opts: Sequence[str] = ()) -> CfgNode:
    """The frozen config of a YAML file (None: the defaults) with overrides `["KEY", "VALUE", ..]` on top.

    `_BASE_: other.yaml`, relative to the file that says so, is read first; bases may have bases. Keys may be nested or
    dotted. A list is written `[480000, 640000]` or `(480000, 640000)`; one plain value serves as a list of one
    (`DATASETS.TRAIN images:train.json`).

    Raises FileNotFoundError for a missing file or base. Raises ValueError for YAML that cannot be read, bases in a
    circle, an override without value, and, all in one message with file and key: unknown keys (with the nearest ones),
    keys of other frameworks (with what to write now), values of a wrong type or range.
    """
    layers = [] if path is None else _read_chain(Path(path))
    if len(opts) % 2:
        raise ValueError(f"{COMMAND_LINE}: {opts[-1]!r} has no value; write KEY VALUE pairs")
    overrides = [(COMMAND_LINE, [(key, value)]) for key, value in zip(opts[::2], opts[1::2], strict=True)]
    return _build([*layers, *overrides])


def save_config(cfg: CfgNode, path: str | Path) -> None:
    """Write every key as YAML; `load_config` reads it back to an equal config. Makes the folder if needed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(config_text(cfg), encoding="utf-8")


def config_text(cfg: CfgNode) -> str:
    """Every key as YAML: what checkpoints and `save_config` hold."""
    return yaml.dump(_plain(cfg), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def changes_text(cfg: CfgNode, keep: Collection[str] = ()) -> str:
    """The keys that differ from their defaults, and those in `keep`, as YAML: what a reader has to know."""
    defaults = _flat(get_defaults())
    tree: dict[str, Any] = {}
    for key, value in _flat(cfg).items():
        if value != defaults[key] or key in keep:
            *path, leaf = key.split(".")
            node = tree
            for name in path:
                node = node.setdefault(name, {})
            node[leaf] = value
    return yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def config_from_text(text: str, source: str = "checkpoint") -> CfgNode:
    """The frozen config that `config_text` wrote; keys that are newer than the text have their defaults.

    Raises ValueError, naming `source`, for keys that no longer exist and whatever else `load_config` refuses.
    """
    return _build([(source, _leaves(_parse(text, source)))])


def _read_chain(path: Path, above: tuple[Path, ...] = ()) -> list[tuple[str, list[tuple[str, object]]]]:
    """(file, its keys and values) of a file and its bases, the outermost base first."""
    source = os.path.normpath(path)
    if path.resolve() in [p.resolve() for p in above]:
        raise ValueError(f"_BASE_ goes round in a circle: {' -> '.join(os.path.normpath(p) for p in (*above, path))}")
    if not path.is_file():
        raise FileNotFoundError(f"{source}: no such config file" + (f"; _BASE_ of {above[-1]}" if above else ""))
    tree = _parse(path.read_bytes(), source)
    base = tree.pop("_BASE_", None)
    if base is not None and (not isinstance(base, str) or base in _NOTHING):
        raise ValueError(f"{source}: _BASE_: expected the path of one YAML file, got {base!r}")
    below = _read_chain(path.parent / base, (*above, path)) if base else []
    return [*below, (source, _leaves(tree))]


def _parse(text: str | bytes, source: str) -> dict[str, Any]:
    """A YAML text as nested dicts; an empty text is an empty dict."""
    try:
        tree = yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ValueError(f"{source}{line}: not valid YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise ValueError(f"{source}: not valid YAML: {error}") from error
    if tree in (None, ""):
        return {}
    if not isinstance(tree, dict):
        raise ValueError(f"{source}: expected KEY: VALUE lines, got {tree!r}")
    return tree


def _leaves(tree: Mapping[str, Any]) -> list[tuple[str, object]]:
    """(dotted key, value) pairs of nested sections."""
    known = _flat(get_defaults())

    def walk(node: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, object]]:
        for name, value in node.items():
            key = prefix + name
            if isinstance(value, Mapping) and value and key not in known:
                yield from walk(value, key + ".")
            else:
                yield key, value

    return list(walk(tree, ""))


def _flat(cfg: CfgNode, prefix: str = "") -> dict[str, Any]:
    """The config as one dict of dotted keys."""
    flat: dict[str, Any] = {}
    for name, value in cfg.items():
        flat.update(_flat(value, f"{prefix}{name}.") if isinstance(value, CfgNode) else {prefix + name: value})
    return flat


def _plain(cfg: CfgNode) -> dict[str, Any]:
    return {name: _plain(value) if isinstance(value, CfgNode) else value for name, value in cfg.items()}


def _build(layers: Sequence[tuple[str, Sequence[tuple[str, object]]]]) -> CfgNode:
    """The defaults with each layer's values on top, checked and frozen. Raises one ValueError with all problems."""
    cfg = get_defaults()
    defaults = _flat(cfg)
    sections = {key[:i] for key in defaults for i, c in enumerate(key) if c == "."}
    problems: dict[str, list[str]] = {}
    sources: dict[str, str] = {}
    for source, pairs in layers:
        for key, value in pairs:
            if key in sections and (value == {} or value in _NOTHING):
                continue
            try:
                _set(cfg, key, _value_of(key, value, defaults, sections))
                sources[key] = source
            except ValueError as error:
                problems.setdefault(source, []).append(str(error))
    if problems:
        raise ValueError(_report(problems))
    validate(cfg, sources)
    cfg.freeze()
    return cfg


def _value_of(key: str, value: object, defaults: Mapping[str, Any], sections: set[str]) -> object:
    """`value` as the type of its key. Raises ValueError with the key and the remedy."""
    if advice := what_to_write_now(key, value, known=key in defaults):
        raise ValueError(f"{key}: {advice}")
    if key in sections:
        raise ValueError(f"{key}: expected a section of keys, got {_shown(value)}")
    if key not in defaults:
        raise ValueError(f"{key}: unknown key; near: {', '.join(_near(key, defaults)) or 'none'}")
    like = defaults[key]
    kind = type(like[0]) if isinstance(like, tuple) and like else float  # a list that is empty by default: of numbers
    try:
        return tuple(_item(v, kind) for v in _items(value)) if isinstance(like, tuple) else _scalar(value, like)
    except ValueError:
        expected = _EXPECTED_LIST[kind] if isinstance(like, tuple) else _EXPECTED[type(like)]
        raise ValueError(f"{key}: expected {expected}, got {_shown(value)}") from None


def _scalar(value: object, like: object) -> object:
    """A text as the type of `like`. Raises ValueError when it does not fit."""
    if not isinstance(value, str):
        raise ValueError
    if isinstance(like, str):
        if value in _NOTHING[1:]:
            raise ValueError
        return value
    if isinstance(like, bool):
        if value.lower() not in _BOOLS:
            raise ValueError
        return _BOOLS[value.lower()]
    number = int(value) if isinstance(like, int) else float(value)
    if not math.isfinite(number):
        raise ValueError
    return number


def _item(value: object, kind: type) -> object:
    """One entry of a list; a number is no name."""
    if kind is str and (value == "" or _is_number(value)):
        raise ValueError
    return _scalar(value, kind())


def _items(value: object) -> list[object]:
    """The entries of a list, as texts. Python's way of writing it, `(800,)`, is text to YAML."""
    if not isinstance(value, str):
        return list(value) if isinstance(value, list) else [value]
    try:
        literal = ast.literal_eval(value.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        if value.startswith("["):
            return _items(_parse("x: " + value, "")["x"])
        if value.startswith("("):
            raise ValueError from None
        return [value]
    entries = literal if isinstance(literal, tuple | list) else [literal]
    return [str(v) if isinstance(v, str | int | float) else v for v in entries]


def _is_number(value: object) -> bool:
    try:
        float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False
    return True


def _set(cfg: CfgNode, key: str, value: object) -> None:
    *path, leaf = key.split(".")
    for name in path:
        cfg = cfg[name]
    cfg[leaf] = value


def _near(key: str, known: Mapping[str, Any]) -> list[str]:
    """The known keys most like an unknown one: spelled alike, or with the same last part."""
    same_leaf = [k for k in known if k.split(".")[-1] == key.upper().split(".")[-1]]
    return list(dict.fromkeys([*get_close_matches(key.upper(), known, n=3, cutoff=0.75), *same_leaf]))[:3]


def _shown(value: object) -> str:
    return "nothing" if value == "" else repr(value)


def _report(problems: Mapping[str, Sequence[str]]) -> str:
    """One line for one problem, else a list of them under each file."""
    lines = [f"{source}: {text}" for source, texts in problems.items() for text in texts]
    if len(lines) == 1:
        return lines[0]
    listed = [line for source, texts in problems.items() for line in (f"{source}:", *(f"  {text}" for text in texts))]
    return "\n".join([f"{len(lines)} problems in the config", *listed])
