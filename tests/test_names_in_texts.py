"""What docstrings, comments and messages call by name exists."""

import ast
import io
import re
import tokenize
from importlib import import_module

import pytest
from helpers import ROOT

PACKAGE = ROOT / "detector"
DOTTED = re.compile(r"\bdetector(?:\.[A-Za-z_]\w*)+")
TICKED = re.compile(r"`([A-Za-z_][\w.]*)(?:\([^`]*\))?`")
CALLED = re.compile(r"(?<![\w.`])([a-z]+_[a-z_]+)\((?:cfg|model|self)?\)")
FOREIGN = {"_BASE_", "num_batches_tracked", "classes.txt", "detector"}
"""Keys of YAML files and of torch's state dicts, files and commands."""


def texts_of(source):
    """Strings and comments of a file. Of formatted strings the parts between the values."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.string
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def words_of(source):
    """Every name that a file defines or uses."""
    for node in ast.walk(ast.parse(source)):
        for field in ("name", "id", "attr", "arg"):
            if isinstance(word := getattr(node, field, None), str):
                yield word


SOURCES = {path: path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py"))}
WORDS = {word for source in SOURCES.values() for word in words_of(source)} | {path.stem for path in SOURCES}
WORDS |= {path.name for path in SOURCES} | FOREIGN


def resolves(name):
    """Whether a dotted name is a module, or something in one."""
    module, _, attribute = name.rpartition(".")
    try:
        import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name and not name.startswith(f"{error.name}."):
            raise
        return bool(module) and hasattr(import_module(module), attribute)
    return True


def unknown(source):
    """The names in the texts of a file that nothing has."""
    found = []
    for text in texts_of(source):
        found += [name for name in DOTTED.findall(text) if name.count(".") > 1 and not resolves(name)]
        for name in [*TICKED.findall(text), *CALLED.findall(text)]:
            known = name in WORDS or name.rpartition(".")[2] in WORDS
            if not known and not name.isupper() and not name.startswith("detector."):
                found.append(name)
    return found


def test_names_in_texts_exist():
    assert {str(path.relative_to(ROOT)): names for path, source in SOURCES.items() if (names := unknown(source))} == {}


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ('"""See `load_indices`."""', "load_indices"),
        ("x = 1  # as `resolve_partz` has it", "resolve_partz"),
        ('raise ValueError(f"{x}: see detector.models.build.resolve_partz")', "detector.models.build.resolve_partz"),
        ('raise ValueError("it needs the colour: pixel_statistix(cfg)")', "pixel_statistix"),
        ('"""As `Registry.registre` has it."""', "Registry.registre"),
    ],
)
def test_names_that_do_not_exist_are_found(source, name):
    assert unknown(source) == [name]


def test_names_that_exist_are_none():
    assert unknown('"""`load_index`, `Registry.register`, detector.models.build and build_detector(cfg)."""') == []
