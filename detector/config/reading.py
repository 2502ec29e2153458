"""YAML files and what they are based on: from a path to layers of keys and values, the first of which counts least."""

import codecs
import os
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml  # type: ignore[import-untyped]

from detector.config.defaults import flat, get_defaults
from detector.config.moved import is_answered_by_key
from detector.config.shipped import in_checkout, near_text, shipped_config, shipped_name
from detector.errors import MissingFileError, UserError, cut
from detector.files import user_path

MAX_BYTES = 1 << 20
"""The largest YAML file; the longest shipped one has two thousand bytes."""

MAX_DEPTH = 32
"""How deep sections and lists may nest, aliases expanded."""

MAX_NODES = 10_000
"""How many keys and values a file may have, aliases expanded."""

MAX_BASES = 32
"""How many files a chain of `_BASE_` may have."""


class Layer(NamedTuple):
    """What one source sets: dotted keys with values, still as texts, in the order of the source.

    source: the file, or "command line"; written: a program wrote every key of it, so it says nothing of what a person
    wanted; shipped: it came with the package.
    """

    source: str
    pairs: list[tuple[str, object]]
    written: bool = False
    shipped: bool = False


class _LimitError(Exception):
    """A file is larger than any config, at `mark`."""

    def __init__(self, text: str, mark: yaml.Mark) -> None:
        super().__init__(text)
        self.mark = mark


class _Loader(yaml.BaseLoader):
    """Leaves scalars as text and builds no objects; refuses a key that stands twice, where YAML drops the first.

    Counts while it composes: an alias is one node in memory, and as many as it stands for to all who walk the tree.
    """

    def __init__(self, text: str, nodes: int) -> None:
        super().__init__(text)
        self.most = nodes
        self.level = self.composed = 0
        self.extents: dict[int, tuple[int, int]] = {}
        """id of a finished node -> (nodes, depth) of what it comes to."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> Any:  # noqa: ANN401 - as in the base class
        mark = self.peek_event().start_mark
        alias = self.check_event(yaml.AliasEvent)
        self.level, self.composed = self.level + 1, self.composed + 1
        self._limit(self.composed, self.most, "keys and values", mark)
        self._limit(self.level, MAX_DEPTH, "levels deep", mark)
        node = super().compose_node(parent, index)
        self.level -= 1
        if alias and id(node) not in self.extents:
            raise _LimitError("an alias stands inside what it names", mark)
        if not alias:
            parts = node.value if isinstance(node, yaml.CollectionNode) else []
            inner = [part for pair in parts for part in pair] if isinstance(node, yaml.MappingNode) else parts
            extents = [self.extents[id(part)] for part in inner]
            self.extents[id(node)] = (1 + sum(n for n, _ in extents), 1 + max((d for _, d in extents), default=0))
        nodes, depth = self.extents[id(node)]
        self._limit(nodes, self.most, "keys and values", mark)
        self._limit(depth, MAX_DEPTH, "levels deep", mark)
        return node

    def _limit(self, number: int, most: int, what: str, mark: yaml.Mark) -> None:
        if number > most:
            raise _LimitError(f"more than {most} {what}, which no config needs", mark)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key, value in node.value:
            if node.flow_style and _ends_tuple(key, value):
                problem = "in braces a comma ends a value: write a tuple as a list, [..] in place of (..)"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            if not isinstance(key, yaml.ScalarNode) or key.value in seen:
                problem = (
                    f"key {cut(key.value)} stands twice" if isinstance(key, yaml.ScalarNode) else "a key must be text"
                )
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _ends_tuple(key: yaml.Node, value: yaml.Node) -> bool:
    """Whether YAML has taken the end of a tuple in braces, "2)" of `{STEPS: (1, 2)}`, for a key without value."""
    plain = isinstance(key, yaml.ScalarNode) and not key.style and value.value == ""
    return plain and key.value.endswith(")") and "(" not in key.value


def read_layers(path: Path) -> list[Layer]:
    """A file and its bases, each once: the bases before what is based on them, in the order in which they are named.

    Raises FileNotFoundError for a missing base, ValueError for YAML that cannot be read, bases in a circle, and what is
    beyond MAX_BYTES, MAX_DEPTH, MAX_NODES or MAX_BASES.
    """
    layers: list[Layer] = []
    _walk(path, (), set(), layers)
    return layers


def parse(text: str | bytes, source: str, nodes: int | None = None) -> dict[str, Any]:
    """A YAML text as nested dicts of texts; an empty text is an empty dict. Errors as `read_layers` has them.

    nodes: how many keys and values it may have, None for MAX_NODES.
    """
    if len(text) > MAX_BYTES:
        raise UserError(f"{source}: more than {MAX_BYTES} bytes, which no config needs; is it another file?")
    try:
        tree = _Loader(_decoded(text, source), MAX_NODES if nodes is None else nodes).get_single_data()
    except _LimitError as error:
        raise UserError(f"{source}, line {error.mark.line + 1}: {error}") from None
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UserError(f"{source}{line}: not valid YAML: {error.problem}") from error
    except yaml.reader.ReaderError as error:
        raise UserError(
            f"{source}: not valid YAML: character {error.position + 1} is {error.character:#x}, as in no text; "
            "a config is a text file"
        ) from error
    if tree in (None, ""):
        return {}
    if not isinstance(tree, dict):
        raise UserError(f"{source}: expected KEY: VALUE lines, got {cut(tree)}")
    return tree


def leaves(tree: Mapping[str, Any], source: str) -> list[tuple[str, object]]:
    """(dotted key, value) pairs of nested sections. Raises ValueError naming `source` for a key that stands twice."""
    known = flat(get_defaults())

    def walk(node: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, object]]:
        for name, value in node.items():
            key = prefix + name
            if isinstance(value, Mapping) and value and is_answered_by_key(key, value, key in known):
                yield from walk(value, key + ".")
            else:
                yield key, value

    pairs = list(walk(tree, ""))
    if twice := next((key for key, count in Counter(key for key, _ in pairs).items() if count > 1), None):
        raise UserError(f"{source}: key {twice!r} stands twice, nested and dotted")
    return pairs


def is_whole(pairs: Sequence[tuple[str, object]]) -> bool:
    """Whether a file is what `save_config` wrote: no person sets half of all keys. Versions and plugins may differ."""
    known = flat(get_defaults())
    return len({key for key, _ in pairs} & known.keys()) > len(known) / 2


def _walk(path: Path, above: tuple[Path, ...], done: set[Path], layers: list[Layer]) -> None:
    source, place = _shown(path), path.resolve()
    if place in [p.resolve() for p in above]:
        raise UserError(f"_BASE_ goes round in a circle: {' -> '.join(map(_shown, (*above, path)))}")
    if place in done:
        return
    if len(above) >= MAX_BASES:
        raise UserError(f"{source}: more than {MAX_BASES} files are based on each other, beginning with {above[0]}")
    with place.open("rb") as file:
        tree = parse(file.read(MAX_BYTES + 1), source)
    for base in _bases(tree, source):
        _walk(_find_base(base, path), (*above, path), done, layers)
    done.add(place)
    pairs = leaves(tree, source)
    layers.append(Layer(source, pairs, is_whole(pairs), shipped=bool(shipped_name(path))))


def _bases(tree: dict[str, Any], source: str) -> list[str]:
    """Take `_BASE_` out of a file's tree: no, one or several entries."""
    if "_BASE_" not in tree:
        return []
    value = tree.pop("_BASE_")
    entries = value if isinstance(value, list) else [value]
    if not entries or not all(isinstance(entry, str) and entry for entry in entries):
        raise UserError(f"{source}: _BASE_: expected the path of one YAML file, or a list of them, got {cut(value)}")
    return entries


def _find_base(entry: str, path: Path) -> Path:
    """The file that a base of `path` is: beside it, else the shipped one of that name."""
    beside = path.parent / user_path(entry)
    near = next((p for p in (beside, Path(f"{beside}.yaml")) if p.resolve().is_file()), None)
    found = near or shipped_config(entry)
    if found is None:
        raise MissingFileError(
            f"{_shown(beside)}: no such config file; _BASE_ of {_shown(path)}{near_text(entry, beside)}"
        )
    return found


def _decoded(text: str | bytes, source: str) -> str:
    """The text of a file, in UTF-8 or, where it says so, UTF-16, as YAML has it."""
    if isinstance(text, str):
        return text
    encoding = "utf-16" if text.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8"
    try:
        return text.decode(encoding)
    except UnicodeDecodeError as error:
        raise UserError(
            f"{source}: not valid YAML: byte {error.start + 1} is {text[error.start]:#x}, which is not {encoding}; "
            "a config is a text file"
        ) from None


def _shown(path: Path) -> str:
    """A path as messages name it: by its name if it is shipped, short where it lies below the current folder."""
    here = path.is_relative_to(Path.cwd())
    if (name := shipped_name(path)) and not (here and in_checkout()):
        return name
    return os.path.normpath(path.relative_to(Path.cwd()) if here else path)
