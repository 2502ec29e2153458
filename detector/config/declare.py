"""Keys that plugins add."""

import re
from collections.abc import Callable
from typing import Any

from yacs.config import CfgNode

from detector.config import defaults
from detector.config.checks import RULES, Rule
from detector.config.values import sections_of
from detector.errors import UserError


def declare(key: str, default: Any, words: str = "", test: Callable[[Any], bool] | None = None) -> None:  # noqa: ANN401
    """Add a key of a plugin, e.g. `declare("MODEL.MY_HEAD.WIDTH", 64, "1 or more", test=lambda v: v >= 1)`.

    Files, the command line and checkpoints may set it from then on, so a plugin declares its keys when it is imported.
    default: text, number, True or False, or a tuple of texts, integers or numbers; every value has its type (an empty
    tuple: numbers). words: what is allowed, for the message about a value that `test` refuses.
    Raises ValueError for a key that exists, is a section or lies below a key, for another type, a test without words
    or a default that it refuses.
    """
    known = defaults.flat(defaults.get_defaults())
    if not re.fullmatch(r"[A-Z][A-Z0-9_]*(\.[A-Z][A-Z0-9_]*)+", key):
        raise UserError(f"declared key {key!r}: write a section and a name in capitals, such as MODEL.MY_HEAD.WIDTH")
    if key in known:
        raise UserError(f"declared key {key} exists already; choose another name")
    if key in sections_of(known):
        raise UserError(f"declared key {key} is a section of keys; choose another name")
    if above := sections_of({key: None}) & set(known):
        raise UserError(f"declared key {key} lies below {min(above)}, which is a key with a value; choose another name")
    kinds = {type(v) for v in default} if isinstance(default, tuple) else {type(default)}
    if not kinds <= {str, int, float, bool} or len(kinds) > 1 or (isinstance(default, tuple) and bool in kinds):
        raise UserError(
            f"declared key {key}: its default {default!r} must be text, a number, True or False, or a tuple of texts, "
            "of integers or of numbers"
        )
    if test is not None and (not words or not test(default)):
        raise UserError(f"declared key {key}: a test needs words that say what is allowed, and a default that passes")
    node = defaults.DEFAULTS
    *path, leaf = key.split(".")
    for name in path:
        node = node.setdefault(name, CfgNode())
    node[leaf] = default
    if test is not None:
        RULES[key] = Rule(words, test)
