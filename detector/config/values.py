"""One value: from the text of a YAML file or the command line to the type of its key's default."""

import ast
import math
import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from detector.config.defaults import LISTS_OF_INTEGERS, LISTS_OF_NAMES
from detector.config.moved import what_to_write_now
from detector.config.reading import parse
from detector.errors import UserError, cut

NOTHING = ("", "~", "null", "Null", "NULL")
KEY = re.compile(r"[A-Z][A-Z0-9_]*(\.[A-Z0-9_]+)*")
"""A key, as a word of the command line is recognised as one."""

_BOOLS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_MAX_LITERAL = 100_000  # characters of a list: more than a file of nothing but names of data sets has
_MAX_KEY = 200  # characters of an unknown key in a message
_INT64 = 2**63
_EXPECTED = {bool: "True or False", int: "an integer", float: "a number", str: "text"}
_EXPECTED_LIST = {
    bool: "a list of True and False",
    int: "a list of integers",
    float: "a list of numbers",
    str: "a list of names",
}


def sections_of(known: Mapping[str, Any]) -> set[str]:
    """The dotted names of the sections that the keys lie in."""
    return {key[:i] for key in known for i, c in enumerate(key) if c == "."}


def value_of(key: str, value: object, defaults: Mapping[str, Any], sections: set[str]) -> object:
    """`value` as the type of its key. Raises ValueError with the key and the remedy."""
    if advice := what_to_write_now(key, value, known=key in defaults):
        raise UserError(f"{key}: {advice}")
    if key in sections:
        raise UserError(f"{key}: expected a section of keys, got {_shown(value)}")
    if key not in defaults:
        if "=" in key:
            raise UserError(no_value_text(key))
        name = key if len(key) <= _MAX_KEY else key[:_MAX_KEY] + ".."
        raise UnknownKeyError(f"{name}: unknown key; near: {', '.join(_near(key, defaults)) or 'none'}")
    like = defaults[key]
    empty = str if key in LISTS_OF_NAMES else int if key in LISTS_OF_INTEGERS else float
    kind = type(like[0]) if isinstance(like, tuple) and like else empty
    try:
        return tuple(_item(v, kind) for v in _items(value)) if isinstance(like, tuple) else _scalar(value, like)
    except ValueError:
        expected = _EXPECTED_LIST[kind] if isinstance(like, tuple) else _EXPECTED[type(like)]
        raise UserError(f"{key}: expected {expected}, got {_shown(value)}") from None


def no_value_text(word: str) -> str:
    """What is wrong with a word of the command line that should have been a key and its value."""
    key, equals, value = word.partition("=")
    if equals and KEY.fullmatch(key.upper()):
        return f"{cut(word)}: write {key} {value or 'VALUE'}, with a space"
    return f"{word!r} has no value: write {word if KEY.fullmatch(word) else 'KEY'} VALUE"


class UnknownKeyError(UserError):
    """A key that nobody declared."""


def _scalar(value: object, like: object) -> object:
    """A text as the type of `like`. Raises ValueError when it does not fit."""
    if not isinstance(value, str):
        raise ValueError
    if isinstance(like, str):
        if value in NOTHING[1:]:
            raise ValueError
        return value
    if isinstance(like, bool):
        if value.lower() not in _BOOLS:
            raise ValueError
        return _BOOLS[value.lower()]
    if isinstance(like, int):
        whole = int(value)
        if not -_INT64 <= whole < _INT64:
            raise ValueError
        return whole
    number = float(value)
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
    if len(value) > _MAX_LITERAL:
        raise ValueError
    try:
        literal = ast.literal_eval(value.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        if value.startswith("["):
            return _items(parse("x: " + value, "")["x"])
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


def _near(key: str, known: Mapping[str, Any]) -> list[str]:
    """The known keys most like an unknown one: spelled alike, or with the same last part."""
    section, _, leaf = key.upper().rpartition(".")
    same_leaf = [k for k in known if k.split(".")[-1] == leaf]
    words = {word for word in leaf.split("_") if len(word) > 2}
    share_a_word = [k for k in known if words & set(k.rpartition(".")[2].split("_"))]
    share_a_word.sort(key=lambda k: k.rpartition(".")[0] != section)  # those of the section first
    misspelled, alike = (get_close_matches(key.upper(), known, n=3, cutoff=share) for share in (0.9, 0.75))
    return list(dict.fromkeys([*misspelled, *same_leaf, *share_a_word, *alike]))[:3]


def _shown(value: object) -> str:
    return "nothing" if value == "" else cut(value)
