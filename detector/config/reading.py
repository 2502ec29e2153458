"""YAML files and what they are based on: from a path to layers of keys and values, the first of which counts least."""

import os
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml  # type: ignore[import-untyped]

from detector.config.defaults import flat, get_defaults
from detector.config.shipped import in_checkout, near_text, shipped_config, shipped_name
from detector.errors import MissingFileError, UserError


class Layer(NamedTuple):
    """What one source sets: dotted keys with values, still as texts, in the order of the source.

    source: the file, or "command line"; written: a program wrote every key of it, so it says nothing of what a person
    wanted.
    """

    source: str
    pairs: list[tuple[str, object]]
    written: bool = False


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


def read_layers(path: Path) -> list[Layer]:
    """A file and its bases, each once: the bases before what is based on them, in the order in which they are named.

    Raises FileNotFoundError for a missing base, ValueError for YAML that cannot be read and bases in a circle.
    """
    layers: list[Layer] = []
    _walk(path, (), set(), layers)
    return layers


def parse(text: str | bytes, source: str) -> dict[str, Any]:
    """A YAML text as nested dicts; an empty text is an empty dict."""
    try:
        tree = yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UserError(f"{source}{line}: not valid YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise UserError(f"{source}: not valid YAML: {error}") from error
    if tree in (None, ""):
        return {}
    if not isinstance(tree, dict):
        raise UserError(f"{source}: expected KEY: VALUE lines, got {tree!r}")
    return tree


def leaves(tree: Mapping[str, Any], source: str) -> list[tuple[str, object]]:
    """(dotted key, value) pairs of nested sections. Raises ValueError naming `source` for a key that stands twice."""
    known = flat(get_defaults())

    def walk(node: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, object]]:
        for name, value in node.items():
            key = prefix + name
            if isinstance(value, Mapping) and value and key not in known:
                yield from walk(value, key + ".")
            else:
                yield key, value

    pairs = list(walk(tree, ""))
    if twice := next((key for key, count in Counter(key for key, _ in pairs).items() if count > 1), None):
        raise UserError(f"{source}: key {twice!r} stands twice, nested and dotted")
    return pairs


def _walk(path: Path, above: tuple[Path, ...], done: set[Path], layers: list[Layer]) -> None:
    source, place = _shown(path), path.resolve()
    if place in [p.resolve() for p in above]:
        raise UserError(f"_BASE_ goes round in a circle: {' -> '.join(map(_shown, (*above, path)))}")
    if place in done:
        return
    tree = parse(place.read_bytes(), source)
    for base in _bases(tree, source):
        _walk(_find_base(base, path), (*above, path), done, layers)
    done.add(place)
    pairs = leaves(tree, source)
    # No person writes half of all keys into one file; versions and plugins may differ, so `save_config` wrote them all.
    written = len({key for key, _ in pairs} & set(flat(get_defaults()))) > len(flat(get_defaults())) / 2
    layers.append(Layer(source, pairs, written))


def _bases(tree: dict[str, Any], source: str) -> list[str]:
    """Take `_BASE_` out of a file's tree: no, one or several entries."""
    if "_BASE_" not in tree:
        return []
    value = tree.pop("_BASE_")
    entries = value if isinstance(value, list) else [value]
    if not entries or not all(isinstance(entry, str) and entry for entry in entries):
        raise UserError(f"{source}: _BASE_: expected the path of one YAML file, or a list of them, got {value!r}")
    return entries


def _find_base(entry: str, path: Path) -> Path:
    """The file that a base of `path` is: beside it, else the shipped one of that name."""
    beside = path.parent / entry
    near = next((p for p in (beside, Path(f"{beside}.yaml")) if p.resolve().is_file()), None)
    found = near or shipped_config(entry)
    if found is None:
        raise MissingFileError(f"{_shown(beside)}: no such config file; _BASE_ of {_shown(path)}{near_text(entry)}")
    return found


def _shown(path: Path) -> str:
    """A path as messages name it: by its name if it is shipped, short where it lies below the current folder."""
    here = path.is_relative_to(Path.cwd())
    if (name := shipped_name(path)) and not (here and in_checkout()):
        return name
    return os.path.normpath(path.relative_to(Path.cwd()) if here else path)
