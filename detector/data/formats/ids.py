"""Ids of a COCO file: numbers or texts, unique, and those of one list found in another."""

import os
import re
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from detector.data.problems import Finding, Problems, declare
from detector.errors import cut
from detector.text import counted

TWICE = declare("id-twice", "error", "records have the id of another one", "Give each its own id.")
UNKNOWN = declare(
    "id-unknown",
    "error",
    "annotations name an image or category that is not there",
    "Remove them or add the missing record.",
)
SHIFTED = declare(
    "id-shifted",
    "error",
    "annotations name an image or category that is not there, while with 1 more or less all of them would",
    "Add or subtract 1 in every annotation: whoever removes these leaves the others with the wrong image or category.",
)
BY_NAME = declare(
    "id-is-name",
    "error",
    "annotations name an image or category by its name, where its id belongs",
    "Write the ids of these records.",
)
NUMBERED = declare(
    "id-numbered",
    "note",
    "annotations have no id, or all the same",
    "They are numbered; give each its own id for other readers of the file.",
)
UNCLEAR = declare(
    "id-unclear",
    "error",
    "annotations have the id of several images or categories, so that nobody knows which is meant",
    "Give each image and category its own id, here and in the annotations.",
)
MIXED = declare("id-types-mixed", "error", "ids are partly numbers, partly texts", "Write all of them in one way.")
TEXT = declare(
    "id-as-text",
    "note",
    "ids are texts where numbers are meant",
    "They are taken as the same; other readers of the file may not do that.",
)

NO_ID = -(2**63)
"""Stands for the id of an annotation that has none."""

_TABLE = 1 << 22  # between the smallest and the largest number: where it is not more, all stand in a table
_WHOLE = re.compile(r"-?[0-9]{1,18}(\.0+)?\Z")

Place = Callable[[int], int]
"""Where a row's record stands in the file's list."""


def whole_number(text: str) -> int | None:
    """The whole number that a text is, None where it is none."""
    return int(text.split(".")[0]) if _WHOLE.match(text) else None


def joined(parts: Sequence[np.ndarray]) -> np.ndarray:
    """One array of several of numbers or texts; objects where both occur."""
    parts = [part for part in parts if len(part)] or [*parts[:1]]
    if len({part.dtype.kind for part in parts}) > 1:
        parts = [part.astype(object) for part in parts]
    return np.concatenate(parts)


def unified(path: Path, key: str, ids: np.ndarray, place: Place, problems: Problems) -> np.ndarray:
    """The ids of a list as int64 or as text, where the texts among numbers are whole numbers that no other record has.

    Raises ValueError for other mixtures; where everything is wanted, these become text.
    """
    if ids.dtype.kind != "O":
        return ids
    texts = [i for i, value in enumerate(ids.tolist()) if isinstance(value, str)]
    numbers = [value if isinstance(value, int) else whole_number(value) for value in ids.tolist()]
    if None not in numbers and len(set(numbers)) == len(numbers):
        problems.note(
            TEXT,
            f"{path}: {len(texts)} of {len(ids)} ids of `{key}` are texts beside numbers, e.g. {ids[texts[0]]!r} of "
            f"{key}[{place(texts[0])}]; taken as numbers",
        )
        return np.array(numbers, np.int64)
    problems.error(
        Finding(
            MIXED,
            f"{path}: the ids of `{key}` are partly numbers, partly texts (that of {key}[{place(texts[0])}] is the "
            f"text {cut(ids[texts[0]])}); write all of them in one way",
        )
    )
    return np.array([str(value) for value in ids.tolist()])


def check_unique(path: Path, key: str, ids: np.ndarray, place: Place, problems: Problems) -> np.ndarray:
    """[n] bool: the first record of each id; the others are errors. ids [n]: int64 or text."""
    ordered = np.sort(ids)
    if not (ordered[1:] == ordered[:-1]).any():
        return np.ones(len(ids), bool)
    order = np.argsort(ids, kind="stable")
    again = np.concatenate([[False], ids[order][1:] == ids[order][:-1]])
    first = np.empty(len(ids), np.int64)
    first[order] = order[np.maximum.accumulate(np.where(again, 0, np.arange(len(ids))))]
    keep = first == np.arange(len(ids))
    for row in np.flatnonzero(~keep).tolist():
        both = f"{key}[{place(int(first[row]))}] and {key}[{place(row)}]"
        text = f"{path}: {both} both have id {ids[row].item()!r}; ids must differ"
        problems.error(Finding(TWICE, text, record=f"{path}: {key}[{place(row)}]"))
    return keep


def renumbered(ids: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """[n] the ids, with others that no record has in place of those not to keep."""
    if keep.all():
        return ids
    if ids.dtype.kind == "i":
        ids = ids.copy()
        ids[~keep] = max(int(ids.max()), 0) + 1 + np.arange(int((~keep).sum()))
        return ids
    values, taken = ids.tolist(), set(ids.tolist())
    for row in np.flatnonzero(~keep).tolist():
        number = 2
        while (new := f"{values[row]}_{number}") in taken:
            number += 1
        values[row] = new
        taken.add(new)
    return np.array(values)


def numbered(path: Path, ids: np.ndarray, problems: Problems) -> np.ndarray:
    """[n] the ids of annotations, with numbers for those that have none, and for all where these have the same one."""
    same = len(ids) > 2 and bool((ids == ids[0]).all())
    lacking = np.ones(len(ids), bool) if same else ids == NO_ID if ids.dtype.kind == "i" else np.zeros(0, bool)
    number = int(lacking.sum())
    if number:
        what = f"have the same id, {cut(ids[0].item())}" if same and ids[0] != NO_ID else "have no id"
        problems.note(
            NUMBERED, f"{path}: {number} of {counted(len(ids), 'annotation|annotations')} {what}; they are numbered"
        )
        start = 0 if lacking.all() else max(int(ids.max()), 0)
        numbers = start + 1 + np.arange(number)
        ids = numbers if lacking.all() else ids.copy()
        ids[lacking] = numbers
    return ids


def unclear_ids(ids: np.ndarray, keep: np.ndarray, names: np.ndarray) -> set[Any]:
    """The ids of several records that are not the same again. keep [n]: as of `check_unique`; names [n]: theirs."""
    if keep.all():
        return set()
    first: dict[Any, Any] = {}
    rows = np.flatnonzero(np.isin(ids, ids[~keep])).tolist()
    return {ids[row].item() for row in rows if first.setdefault(ids[row].item(), names[row]) != names[row]}


def only_clear(
    path: Path, field: str, found: np.ndarray, unclear: np.ndarray, place: Place, problems: Problems
) -> np.ndarray:
    """The places that `matched` found, with -1, an error, where several records have that id. unclear: [known] bool."""
    if not unclear.any():
        return found
    bad = (found >= 0) & unclear[np.maximum(found, 0)]
    key = "images" if field == "image_id" else "categories"
    for row in np.flatnonzero(bad).tolist():
        record = f"{path}: annotations[{place(row)}]"
        text = f"{record} has a {field} that several records of `{key}` have as their id; it is left out"
        problems.error(Finding(UNCLEAR, text, record=record))
    return np.where(bad, -1, found)


def positions(ids: np.ndarray, known: np.ndarray) -> np.ndarray:
    """[M] int64: the place of each id among the unique known ones, -1 where it is none. Both int64, or both text."""
    if not len(known) or not len(ids):
        return np.full(len(ids), -1, np.int64)
    if known.dtype.kind == "i":
        low, high = int(known.min()), int(known.max())
        if high - low < max(_TABLE, len(ids)):
            table = np.full(high - low + 1, -1, np.int64)
            table[known - low] = np.arange(len(known))
            inside = (ids >= low) & (ids <= high)
            return table[ids - low] if inside.all() else np.where(inside, table[np.where(inside, ids, low) - low], -1)
    order = np.argsort(known, kind="stable")
    found = order[np.minimum(np.searchsorted(known, ids, sorter=order), len(known) - 1)]
    return np.where(known[found] == ids, found, -1)


def matched(
    path: Path,
    field: str,
    ids: np.ndarray,
    known: np.ndarray,
    place: Place,
    problems: Problems,
    lost: Collection[Any] = (),
    names: Sequence[str] | np.ndarray = (),
) -> np.ndarray:
    """[M] int64: the place of each annotation's id among those of its list, -1 where it is not there, an error.

    A text is the same as a number where it is that whole number, and no other of the known ids is.
    lost: ids of records that were errors themselves, which is not said again; names [known]: of files or classes.
    """
    key = "images" if field == "image_id" else "categories"
    if ids.dtype.kind == known.dtype.kind or not len(ids):
        found = positions(ids, known)
    else:
        found, alike = _positions_of_both(ids, known)
        if len(alike):
            ours, theirs = _kind(ids[alike[0]]), _kind(known[0])
            problems.note(
                TEXT,
                f"{path}: {counted(len(alike), 'annotation|annotations has|have')} {field} as {ours}, where an id of "
                f"`{key}` is {theirs} (the "
                f"first: {ids.tolist()[alike[0]]!r} of annotations[{place(int(alike[0]))}]); taken as the same",
            )
    missing = np.flatnonzero(found < 0)
    if lost:
        missing = np.array([row for row in missing.tolist() if ids[row] not in lost], np.int64)
    if not len(missing):
        return found
    shift, meant = _shift(ids, known), _by_name(known, names, key)
    such = counted(len(missing), "such annotation|annotations")
    for row in missing.tolist():
        value = ids[row].item() if isinstance(ids[row], np.generic) else ids[row]
        record = f"{path}: annotations[{place(row)}]"
        ours, theirs = _kind(value), _kind(known[0]) if len(known) else ""
        kinds = f"; it is {ours}, an id of `{key}` is {theirs}" if theirs not in ("", ours) else ""
        kind, remedy = UNKNOWN, f"remove them or add the missing {key}"
        if shift:
            change = "add 1 to" if shift > 0 else "subtract 1 from"
            kind = SHIFTED
            remedy = (
                f"{change} the {field} of every annotation, then each of the {len(ids)} has one: to remove some may "
                f"leave the others with the wrong one of `{key}`"
            )
        elif value in meant:
            kind, remedy = BY_NAME, f"it is the name of the record with id {cut(meant[value])}: write ids, not names"
        text = f"{record} has {field} {cut(value)}, which no record of `{key}` has as its id ({such}{kinds}); {remedy}"
        problems.error(Finding(kind, text, record=record))
    return found


def _shift(ids: np.ndarray, known: np.ndarray) -> int:
    """1 or -1 where all of the ids are known once that is added to them, else 0."""
    numbers = [[whole_number(one) if isinstance(one, str) else one for one in some.tolist()] for some in (ids, known)]
    if None in numbers[0] or None in numbers[1]:
        return 0
    there = set(numbers[1])
    used = set(numbers[0])
    return next((shift for shift in (1, -1) if all(number + shift in there for number in used)), 0)  # type: ignore[operator]


def _by_name(known: np.ndarray, names: Sequence[str] | np.ndarray, key: str) -> dict[Any, Any]:
    """What may stand for an id by mistake -> that id: the name, and of a file that without folders or suffix."""
    meant: dict[Any, Any] = {}
    for id_, name in zip(known.tolist(), map(str, names), strict=False):
        forms = [name]
        if key == "images":
            for one in (name, str(id_)):
                base = one.replace("\\", "/").rpartition("/")[2]
                forms += [base, os.path.splitext(base)[0]]
        for form in forms:
            meant[form] = id_ if meant.setdefault(form, id_) == id_ else None
    return {form: id_ for form, id_ in meant.items() if id_ is not None}


def _positions_of_both(ids: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`positions` where numbers stand for texts, or texts for numbers; and the rows [m] where they do."""
    table: dict[int | str, int] = {value: i for i, value in enumerate(known.tolist())}
    numbers: dict[int, int] = {}
    for value, i in table.items():
        number = whole_number(value) if isinstance(value, str) else value
        if number is not None:
            numbers[number] = -1 if number in numbers else i  # "1" and "01": no number says which
    found = np.full(len(ids), -1, np.int64)
    alike = []
    for row, value in enumerate(ids.tolist()):
        if (at := table.get(value)) is None:
            number = whole_number(value) if isinstance(value, str) else value
            at = -1 if number is None else numbers.get(number, -1)
            if at >= 0:
                alike.append(row)
        found[row] = at
    return found, np.array(alike, np.int64)


def _kind(value: object) -> str:
    return "a text" if isinstance(value, str) else "a number"
