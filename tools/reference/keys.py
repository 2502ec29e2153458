"""What the config keys are, read off `detector/config/defaults.py` and off whoever reads them."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from detector.config import get_defaults
from detector.config.defaults import LISTS_OF_NAMES, flat

PACKAGE = Path(__file__).resolve().parents[2] / "detector"

LINE = re.compile(r"^_C\.(?P<key>[A-Z0-9_.]+) = (?P<value>.*?)(?:  # (?P<text>.*))?$")
GOES_ON = re.compile(r"^# {2,}(?P<text>\S.*)$")
UNIT = re.compile(
    r"^[^,;(]*?\b(pixels|seconds|steps|IoU|images|processes|(?<!of )channels|probability|share|factors?"
    r"|height / width)\b|\bin (strides)\b|^[^;(]*?, (pixels)\b"
)
"""What a comment of `defaults.py` calls the unit of a number: in its first clause, by "in ..", or behind a comma."""
TIMES = re.compile(r"^times (?!that\b)")
"""How the comment of a factor of something else begins."""


class Key(NamedTuple):
    """A config key. default: as YAML users write it; unit: "" for a pure number; readers: modules, sorted."""

    name: str
    default: str
    unit: str
    meaning: str
    readers: list[str]

    @property
    def section(self) -> str:
        """All of the name but its last part; "" at the top."""
        return self.name.rpartition(".")[0]


class Section(NamedTuple):
    """A node of keys, with what its own comment says."""

    name: str
    meaning: str


def read_comments() -> dict[str, str]:
    """Key or section -> its comment in `defaults.py`, lines that go on joined; "" without one."""
    found: dict[str, str] = {}
    last = ""
    for line in (PACKAGE / "config/defaults.py").read_text(encoding="utf-8").splitlines():
        if match := LINE.match(line):
            last = match["key"]
            found[last] = match["text"] or ""
        elif (more := GOES_ON.match(line)) and last:
            found[last] += " " + more["text"]
        else:
            last = ""
    return found


def list_sections() -> list[Section]:
    """Every section in the order of `defaults.py`."""
    keys = flat(get_defaults())
    return [Section(name, text) for name, text in read_comments().items() if name not in keys]


def list_keys() -> list[Key]:
    """Every key in the order of `defaults.py`."""
    comments, readers = read_comments(), find_readers()
    return [
        Key(
            name,
            written(name, value),
            unit_of(name, value, comments.get(name, "")),
            comments.get(name, ""),
            readers[name],
        )
        for name, value in flat(get_defaults()).items()
    ]


def written(name: str, value: Any) -> str:  # noqa: ANN401
    """A default as it is written in YAML; of DATASETS.ROOT, which the environment may set, as it stands without."""
    if name == "DATASETS.ROOT":
        return '"datasets"'
    if isinstance(value, float) and value not in (0.0, 1.0) and len(repr(value)) > 10:
        return f"1 / {round(1 / value)}"
    if isinstance(value, tuple):
        return "[" + ", ".join(written("", v) for v in value) + "]"
    return f'"{value}"' if isinstance(value, str) else repr(value)


def unit_of(name: str, value: Any, text: str) -> str:  # noqa: ANN401
    """The unit of a number as its comment names it; what another value is."""
    first = value[0] if isinstance(value, tuple) and value else value
    if isinstance(first, bool):
        return "True or False"
    if isinstance(first, str) or name in LISTS_OF_NAMES:
        return "text"
    if TIMES.match(text):
        return "factor"
    match = UNIT.search(text)
    return match[match.lastindex or 0] if match else "number"


@lru_cache
def find_readers() -> dict[str, list[str]]:
    """Key -> the modules below `detector` that read it; [] where none does.

    A module that is handed a section is known by a last name that no other key has, or by the section's other keys.
    """
    found: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        if PACKAGE / "config" not in path.parents:
            for read in reads(ast.parse(path.read_text(encoding="utf-8"))):
                if read:
                    found.setdefault(read, set()).add(".".join(path.relative_to(PACKAGE).with_suffix("").parts))
    keys = list(flat(get_defaults()))
    leaves = Counter(key.rpartition(".")[2] for key in keys)
    readers: dict[str, set[str]] = {}
    sections: dict[str, set[str]] = {}
    for key in keys:
        section, _, leaf = key.rpartition(".")
        ends = [key.split(".", at)[at] for at in range(key.count(".") + 1)]
        readers[key] = set().union(*(found.get(end, ()) for end in ends if "." in end))
        if not readers[key] and leaves[leaf] == 1:  # a bare NAME may be that of any section
            readers[key] = set(found.get(leaf, ()))
        sections.setdefault(section, set()).update(readers[key])
    for key in keys:
        section, _, leaf = key.rpartition(".")
        readers[key] |= found.get(leaf, set()) & sections[section]  # of a section that it was handed
    return {key: sorted(known) for key, known in readers.items()}


def reads(tree: ast.Module) -> Iterator[str]:
    """The dotted upper-case ends of all accesses, e.g. "SOLVER.AMP"; names given to sections are followed.

    `cfg.DATASETS[part]` reads the keys of that section whose names stand as texts in the same file.
    """
    words = {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and str(n.value).isupper()}
    for statement in tree.body:
        for scope in statement.body if isinstance(statement, ast.ClassDef) else [statement]:
            yield from _reads_in(scope, {str(word) for word in words})


def _reads_in(scope: ast.AST, words: set[str]) -> Iterator[str]:
    sections = {
        node.targets[0].id: _chain(node.value, {})
        for node in ast.walk(scope)
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and _chain(node.value, {})
    }
    for node in ast.walk(scope):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            yield ".".join(_chain(node, sections))
        if isinstance(node, ast.Subscript) and _chain(node.value, sections):
            yield from (".".join([*_chain(node.value, sections), word]) for word in words)


def _chain(node: ast.AST, sections: dict[str, list[str]]) -> list[str]:
    if isinstance(node, ast.Attribute):
        return [*_chain(node.value, sections), node.attr] if node.attr.isupper() else []
    return sections.get(node.id, []) if isinstance(node, ast.Name) else []
