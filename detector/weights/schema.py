"""What the entries of our own checkpoints are, checked before anything is made of them.

A file may be sound and still hold something else: written by another program, or changed by hand.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from detector.errors import UserError, cut
from detector.weights.read import WeightFile, odd_kind

_INT64 = 2**63


class _Entry(NamedTuple):
    """What stands under a key, in words and as a test."""

    words: str
    holds: Callable[[Any], bool]


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < _INT64


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]


def _all(kind: type, value: object) -> bool:
    return isinstance(value, list | tuple) and all(type(item) is kind for item in value)


def _is_table(value: object) -> bool:
    return isinstance(value, Mapping) and all(isinstance(key, str) for key in value)


def _is_scaler(value: object) -> bool:
    """What GradScaler keeps; empty where a run was not in fp16."""
    if not isinstance(value, Mapping) or not value:
        return isinstance(value, Mapping)
    numbers = [value.get(key) for key in ("scale", "growth_factor", "backoff_factor")]
    counts = [value.get(key) for key in ("growth_interval", "_growth_tracker")]
    return all(_is_number(one) and one > 0 for one in numbers) and all(map(_is_count, counts))  # type: ignore[operator]


def _is_level(value: object) -> bool:
    """What is infinite as long as there was no loss."""
    return _is_number(value) or value == math.inf


_COUNT = _Entry("a whole number, 0 or more", _is_count)
_TEXT = _Entry("a text", lambda v: isinstance(v, str))
_TABLE = _Entry("a table with texts as keys", _is_table)
_TABLE_OR_NONE = _Entry("None, or a table with texts as keys", lambda v: v is None or _is_table(v))

ENTRIES: dict[str, _Entry] = {
    "step": _COUNT,
    "evaluated": _COUNT,
    "best": _Entry("a finite number", _is_number),
    "best_step": _COUNT,
    "stale": _COUNT,
    "best_by": _TEXT,
    "tests": _Entry("a list of texts", lambda v: _all(str, v)),
    "skipped": _COUNT,
    "left_out": _COUNT,
    "resumes": _COUNT,
    "sound": _COUNT,
    "level": _Entry("a number", _is_level),
    "recent": _Entry("a list of finite numbers", lambda v: isinstance(v, list) and all(map(_is_number, v))),
    "metrics": _TABLE_OR_NONE,
    "config": _TEXT,
    "classes": _Entry("a list of texts", lambda v: _all(str, v)),
    "category_ids": _Entry("a list of whole numbers", lambda v: _all(int, v)),
    "settings": _TABLE,
    "backbone": _TEXT,
    "norm": _TEXT,
    "passes": _COUNT,
    "crop": _COUNT,
    "average": _TABLE_OR_NONE,
    "optimizer": _TABLE,
    "scaler": _Entry("the state of a scaler of losses, or nothing in it", _is_scaler),
}
"""What may stand beside the tensors in a checkpoint of ours; other keys are left as they are."""

MOMENTS = {"AdamW": {"step", "exp_avg", "exp_avg_sq"}, "SGD": {"momentum_buffer"}}
"""Optimiser -> what it keeps for each parameter."""


def check_entries(file: WeightFile) -> WeightFile:
    """The file, when everything beside its tensors is what a checkpoint of ours has there.

    Raises ValueError naming file and key.
    """
    content = file.content
    for key in ENTRIES.keys() & content.keys():
        if not ENTRIES[key].holds(content[key]):
            raise _wrong(file.path, key, content[key], ENTRIES[key].words)
    names, ids = content.get("classes"), content.get("category_ids")
    if names is not None and ids is not None and len(names) != len(ids):
        raise UserError(f"{file.path}: it has {len(names)} 'classes' and {len(ids)} 'category_ids'; one for each class")
    return file


def _check_average(file: WeightFile, average: Mapping[str, Any]) -> None:
    inner = {f"module.{key}": key for key in file.state}
    if differing := sorted(inner.keys() ^ (average.keys() - {"n_averaged"})):
        raise UserError(f"{file.path}: its entry 'average' is of other tensors than 'model': {cut(differing[0])}")
    _check_tensor(file.path, "average.n_averaged", average.get("n_averaged"), torch.tensor(0))
    for there, key in inner.items():
        _check_tensor(file.path, f"average.{there}", average[there], file.state[key])


def check_run(file: WeightFile, optimizer: torch.optim.Optimizer, averaged: bool) -> None:
    """Raises ValueError, naming the entry, when a checkpoint does not hold what this run goes on with.

    optimizer: of the run; that it is of another kind or has other groups is for the caller to say. averaged: whether
    the run keeps an average of its weights, which has to be of the same tensors as the model.
    """
    path, content = file.path, file.content
    needs = ("step", "evaluated", "best", "optimizer", "scaler", *(("average",) if averaged else ()))
    if missing := [key for key in needs if content.get(key) is None]:
        raise UserError(f"{path} is no checkpoint to resume from: it has no {', '.join(map(repr, missing))}")
    if averaged:
        _check_average(file, content["average"])
    kind, own_kind = content["optimizer"].get("kind"), type(optimizer).__name__
    if not isinstance(kind, str | None):
        raise _wrong(path, "optimizer.kind", kind, "a text")
    groups, moments = content["optimizer"].get("param_groups"), content["optimizer"].get("state")
    if not isinstance(groups, list) or not all(_is_table(group) and _all(int, group.get("params")) for group in groups):
        raise _wrong(path, "optimizer.param_groups", groups, "a list of tables, each with a list of 'params'")
    if not isinstance(moments, Mapping):
        raise _wrong(path, "optimizer.state", moments, "a table")
    own = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    places = [place for group in groups for place in group["params"]]
    if len(own) != len(places) or len(set(places)) != len(places) or kind not in (None, own_kind):
        return
    parameters = dict(zip(places, own, strict=True))
    wanted = MOMENTS.get(own_kind)
    for place, kept in moments.items():
        where = f"optimizer.state.{cut(place)}"
        if type(place) is not int or place not in parameters:
            raise UserError(f"{path}: its entry {where} is of no parameter that 'param_groups' names")
        if not _is_table(kept) or (wanted is not None and kept.keys() != wanted):
            raise _wrong(path, where, kept, f"a table of {', '.join(sorted(wanted or ()))}")
        for name, value in kept.items():
            if value is not None or name != "momentum_buffer":  # None where there is no momentum
                like = torch.zeros(()) if name == "step" else parameters[place]
                _check_tensor(path, f"{where}.{name}", value, like)
    buffers = {kept.get("momentum_buffer") is None for kept in moments.values()}
    if wanted == MOMENTS["SGD"] and len(buffers) > 1:
        raise UserError(f"{path}: some 'momentum_buffer' in its entry 'optimizer.state' are None and some are not")


def _check_tensor(path: Path, key: str, value: object, like: Tensor) -> None:
    """A plain tensor of the shape and type of another one, whose numbers are finite."""
    words = f"a tensor of {str(like.dtype).removeprefix('torch.')} of shape {tuple(like.shape)}"
    if not isinstance(value, Tensor):
        raise _wrong(path, key, value, words)
    if kind := odd_kind(value):
        raise UserError(f"{path}: its entry {key!r} is {kind}; a checkpoint has {words} there")
    if value.dtype != like.dtype or value.shape != like.shape:
        kind = f"of {str(value.dtype).removeprefix('torch.')} of shape {tuple(value.shape)}"
        raise UserError(f"{path}: its entry {key!r} is {kind}; a checkpoint has {words} there")
    if not torch.isfinite(value).all():
        raise UserError(f"{path}: its entry {key!r} holds values that are infinite or no number; take an earlier one")


def _wrong(path: Path, key: str, value: object, words: str) -> UserError:
    shown = f"a {type(value).__name__}" if isinstance(value, Tensor | Mapping) else cut(value)
    return UserError(f"{path}: its entry {key!r} is {shown}; a checkpoint has {words} there")
