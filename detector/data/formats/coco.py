"""Files in COCO's format: read in pieces, checked and packed."""

from collections.abc import Sequence
from functools import cached_property
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np

from detector.data.areas import fill_areas
from detector.data.formats.ids import (
    TEXT,
    check_unique,
    joined,
    matched,
    numbered,
    only_clear,
    renumbered,
    unclear_ids,
    unified,
    whole_number,
)
from detector.data.formats.mending import FIELD, Mending
from detector.data.formats.other_json import other_key, whose
from detector.data.formats.pieces import read_pieces
from detector.data.formats.records import DECODERS, LAYOUT, Annotation
from detector.data.formats.write_coco import write
from detector.data.names import real_names
from detector.data.packed import PackedIndex, check_coordinates, clip_to_images
from detector.data.problems import Finding, Problems, declare, named
from detector.errors import UserError
from detector.text import counted, none_of

__all__ = ["read", "write"]

NO_SIZE = declare(
    "size-missing",
    "note",
    "pictures have no size in their record",
    "It is measured from the picture; write it into the record for other readers.",
)
UNMEASURED = declare(
    "size-unknown",
    "error",
    "pictures have no size in their record, and it cannot be measured",
    "Write height and width into the record, or bring the picture.",
)


class _Column:
    """A field of all records. Numbers stand in an array that doubles, of which only what is used takes memory."""

    def __init__(self) -> None:
        self.numbers: np.ndarray | None = None
        self.rows = 0
        self.others: list[np.ndarray] = []

    def append(self, array: np.ndarray) -> None:
        if self.others or array.dtype.kind not in "ifb":
            self.others.append(array)
            return
        rows = self.rows + len(array)
        if self.numbers is None or rows > len(self.numbers):
            larger = np.empty((2 * rows, *array.shape[1:]), array.dtype)
            if self.numbers is not None:
                larger[: self.rows] = self.numbers[: self.rows]
            self.numbers = larger
        self.numbers[self.rows : rows] = array
        self.rows = rows

    def array(self) -> np.ndarray:
        """One array of all."""
        first = [] if self.numbers is None else [self.numbers[: self.rows]]
        return joined([*first, *self.others]) if self.others else first[0]


class _Columns:
    """What the pieces of a list of records hold, as arrays.

    seen: records so far; dropped: places of those that were left out; listed: whether the file has the list.
    """

    def __init__(self) -> None:
        self.columns: dict[str, _Column] = {}
        self.seen = 0
        self.dropped: list[int] = []
        self.listed = False

    def add(self, **arrays: np.ndarray) -> None:
        for name, array in arrays.items():
            self.columns.setdefault(name, _Column()).append(array)

    def take(self, name: str) -> np.ndarray:
        """One array of all pieces, which are let go."""
        return self.columns.pop(name).array()

    def place(self, row: int) -> int:
        """Where a row's record stands in the file's list."""
        return int(row + np.searchsorted(self.before, row, side="right"))

    @cached_property
    def before(self) -> np.ndarray:
        """Of each record that was left out, how many rows stand before it; once all are read."""
        return np.array(self.dropped, np.int64) - np.arange(len(self.dropped))


def read(path: str | Path, folder: Path | None = None, problems: Problems | None = None) -> PackedIndex:
    """Reads an annotation file in COCO format, in pieces.

    folder: of the pictures, of which a size that is missing, null or 0 is measured; problems: what is told of values
    that are taken though they are not of COCO's type, and of boxes that cannot be trained on, or reach out of their
    image by more than a pixel. Raises ValueError, naming file, record and remedy, when the file is no JSON, a field is
    missing or of the wrong type, an id occurs twice, or an annotation names an image or category that is not there.
    """
    path, problems = Path(path), problems or Problems()
    mending = Mending(path, problems)
    lists = {key: _Columns() for key in DECODERS}
    for piece in read_pieces(path, DECODERS):
        columns, records = lists[piece.key], piece.records
        if records is None:
            records, dropped = mending.records(piece)
            columns.dropped += dropped
        mending.look(piece.key, records)
        columns.listed = True
        columns.seen += max(len(records), len(piece.raw))
        _ADD[piece.key](columns, records)
        del piece, records  # before the next one is decoded
    mending.tell()
    for key, remedy in (
        ("images", "a data set needs at least one image"),
        ("categories", "list every class as {'id': .., 'name': ..}"),
    ):
        if not lists[key].listed:
            raise UserError(f"{path}: Object missing required field `{key}`; {whose(path) or LAYOUT}")
        if lists[key].seen == len(lists[key].dropped):
            what = "has no record that can be used" if lists[key].seen else "is empty"
            raise UserError(f"{path}: `{key}` {what}; {remedy}")
    if not lists["annotations"].listed:  # test-dev files have none
        if key := other_key(path):
            raise UserError(f"{path}: it has a list under `{key}` and none under `annotations`: call it so")
        _add_annotations(lists["annotations"], [])
    return _pack(path, lists, folder, mending, problems)


# ---------------------------------------------------------------------------- from records to arrays


def _column(records: Sequence[Any], name: str, kind: type = np.int64) -> np.ndarray:
    return np.fromiter(map(attrgetter(name), records), kind, len(records))


def _ids(records: Sequence[Any], name: str) -> np.ndarray:
    """int64 or text, or objects where both occur."""
    values = list(map(attrgetter(name), records))
    kinds = set(map(type, values))
    if kinds <= {int}:
        return np.array(values, np.int64)
    return np.array(values) if kinds == {str} else np.array(values, object)


def _add_images(columns: _Columns, records: Sequence[Any]) -> None:
    columns.add(
        id=_ids(records, "id"),
        file_name=np.array(list(map(attrgetter("file_name"), records)), np.str_),
        height=_column(records, "height"),
        width=_column(records, "width"),
    )


def _add_annotations(columns: _Columns, records: Sequence[Any]) -> None:
    ids = _column if not records or type(records[0]) is Annotation else _ids  # all are of one type
    numbers = chain.from_iterable(map(attrgetter("bbox"), records))
    try:
        areas = _column(records, "area", np.float64)
    except TypeError:  # some are null
        areas = np.array(list(map(attrgetter("area"), records)), np.float64)
    columns.add(
        id=ids(records, "id"),
        image_id=ids(records, "image_id"),
        category_id=ids(records, "category_id"),
        bbox=np.fromiter(numbers, np.float64, 4 * len(records)).reshape(-1, 4),
        area=areas,
        iscrowd=_column(records, "iscrowd", bool),
    )


def _add_categories(columns: _Columns, records: Sequence[Any]) -> None:
    columns.add(id=_ids(records, "id"), name=np.array([record.name for record in records], object))


_ADD = {"images": _add_images, "annotations": _add_annotations, "categories": _add_categories}


# ---------------------------------------------------------------------------- from arrays to an index


def _pack(
    path: Path, lists: dict[str, _Columns], folder: Path | None, mending: Mending, problems: Problems
) -> PackedIndex:
    category_ids, keys, classes, unclear = _categories(path, lists["categories"], mending, problems)
    image_ids, file_names, heights, widths, sized, measured, unclear_images = _images(
        path, lists["images"], folder, problems
    )
    rows = lists["annotations"]

    def match(field: str, key: str, known: np.ndarray, names: Sequence[str] | np.ndarray) -> np.ndarray:
        return matched(path, field, rows.take(field), known, rows.place, problems, mending.lost[key], names)

    ids = numbered(path, unified(path, "annotations", rows.take("id"), rows.place, problems), problems)
    ids = renumbered(ids, check_unique(path, "annotations", ids, rows.place, problems))
    image_of = match("image_id", "images", image_ids, file_names)
    labels = match("category_id", "categories", keys, classes)
    keep = np.ones(len(ids), bool)
    arrays = {
        "image_of": only_clear(path, "image_id", image_of, unclear_images, rows.place, problems),
        "annotation_ids": ids,
        "labels": only_clear(path, "category_id", labels, unclear, rows.place, problems),
        "boxes_xywh": rows.take("bbox"),
        "areas": rows.take("area"),
        "crowd": rows.take("iscrowd"),
    }
    if problems.findings:
        names = dict(zip(image_ids.tolist(), file_names.tolist(), strict=True))
        _name_pictures(path, names, image_of, rows, mending, problems)
    del ids, image_of, labels
    kept: np.ndarray | None = None  # where some rows are left out

    def where(row: int) -> tuple[str, str]:
        image, place = arrays["image_of"][row], rows.place(row if kept is None else kept[row])
        record = f"{path}: annotations[{place}], id {arrays['annotation_ids'][row].item()!r}"
        return str(file_names[image]) if image >= 0 else "", record

    keep &= check_coordinates(arrays["boxes_xywh"], where, problems)
    keep &= (arrays["image_of"] >= 0) & (arrays["labels"] >= 0)
    if not sized.all():
        keep &= sized[arrays["image_of"]]
        arrays["image_of"] = (np.cumsum(sized) - 1)[arrays["image_of"]]
        several = image_ids, file_names, heights, widths, measured
        image_ids, file_names, heights, widths, measured = (x[sized] for x in several)
    if not keep.all():
        kept = np.flatnonzero(keep)
        _select(arrays, kept)
    fill_areas(path, arrays["areas"], arrays["boxes_xywh"], arrays["annotation_ids"], where, problems)
    limits = np.stack([widths, heights], 1)[arrays["image_of"]]
    arrays["boxes"], arrays["usable"] = clip_to_images(
        path, arrays["boxes_xywh"], limits, arrays["annotation_ids"], where, problems
    )
    del limits
    negative = arrays["boxes_xywh"][:, 2:].min(initial=0) < 0
    order = _order(arrays["image_of"])
    if order is not None or negative:
        order = np.arange(len(arrays["labels"])) if order is None else order
        _select(arrays, order[(arrays["boxes_xywh"][order, 2:] >= 0).all(1)] if negative else order)
    counts = np.bincount(arrays["image_of"], minlength=len(image_ids))
    return PackedIndex(
        path=path,
        classes=classes,
        category_ids=category_ids.tolist(),
        image_ids=image_ids,
        file_names=file_names,
        heights=heights,
        widths=widths,
        offsets=np.concatenate([[0], np.cumsum(counts)]),
        difficult=np.zeros(len(arrays["labels"]), bool),
        annotation_ids=arrays["annotation_ids"],
        labels=arrays["labels"],
        boxes_xywh=arrays["boxes_xywh"],
        areas=arrays["areas"],
        crowd=arrays["crowd"],
        boxes=arrays["boxes"],
        usable=arrays["usable"],
        measured=measured if measured.any() else None,
    )


def _name_pictures(
    path: Path,
    names: dict[Any, str],
    image_of: np.ndarray,
    rows: _Columns,
    mending: Mending,
    problems: Problems,
) -> None:
    """Adds the picture to findings on annotations that were told before it was known. names: image id -> file."""
    start, files = f"{path}: annotations[", [*names.values()]
    for i, finding in enumerate(problems.findings):
        if finding.picture or not finding.record.startswith(start):
            continue
        place = int(finding.record[len(start) :].partition("]")[0])
        if place in mending.image_ids:
            picture = names.get(mending.image_ids[place], "")
        else:
            at = int(image_of[place - int(np.searchsorted(rows.dropped, place))])
            picture = files[at] if at >= 0 else ""
        problems.findings[i] = finding._replace(picture=picture)


def _select(arrays: dict[str, np.ndarray], rows: np.ndarray) -> None:
    """Some rows of all arrays; one after the other, so that of millions of boxes there is no second copy of all."""
    for name in arrays:
        arrays[name] = arrays[name].take(rows, 0)


def _order(image_of: np.ndarray) -> np.ndarray | None:
    """The rows by image, then as they stand; None where they stand so."""
    if (image_of[1:] >= image_of[:-1]).all():
        return None
    bits = len(image_of).bit_length()
    if bits + int(image_of.max()).bit_length() > 62:
        return np.argsort(image_of, kind="stable")
    keys = (image_of << bits) | np.arange(len(image_of))  # sorted in a fifth of the time of a stable argsort
    keys.sort()
    return keys & ((1 << bits) - 1)


def _categories(
    path: Path, columns: _Columns, mending: Mending, problems: Problems
) -> tuple[np.ndarray, np.ndarray, list[str], np.ndarray]:
    """Ids [C] int64 and as they stand in the file, names, and which ids others have too; sorted by id."""
    keys, names = unified(path, "categories", columns.take("id"), columns.place, problems), columns.take("name")
    numbers = [whole_number(key) if isinstance(key, str) else key for key in keys.tolist()]
    rows = np.array([row for row, number in enumerate(numbers) if number is not None], np.int64)

    def record(row: int) -> str:
        return f"{path}: categories[{columns.place(row)}]"

    for row in sorted({*range(len(keys))} - {*rows.tolist()}):
        mending.lost["categories"].add(keys[row].item())
        text = (
            f"{record(row)} has the text {keys[row].item()!r} as its id; number the classes, here and in `annotations`"
        )
        problems.error(Finding(FIELD, text, record=record(row)))
    if keys.dtype.kind == "U":
        line = f"{path}: {len(rows)} ids of `categories` are texts; taken as the numbers that they are"
        problems.several(
            line, rows.tolist(), lambda row: Finding(TEXT, f"{record(row)} has a text as its id", record=record(row))
        )
    ids = np.array([numbers[row] for row in rows.tolist()], np.int64)
    keep = check_unique(path, "categories", ids, lambda row: columns.place(rows[row]), problems)
    unclear = unclear_ids(ids, keep, names[rows])
    rows, ids = rows[keep], ids[keep]
    if not len(ids):
        raise UserError(f"{path}: no record of `categories` can be used; {LAYOUT}")
    order = np.argsort(ids)
    rows, ids = rows[order], ids[order]
    return ids, keys[rows], names[rows].tolist(), np.isin(ids, [*unclear])


def _images(path: Path, columns: _Columns, folder: Path | None, problems: Problems) -> tuple[np.ndarray, ...]:
    """Ids, names, heights, widths, which have a size, of which it is measured, whose id others have too: [N] each."""
    ids, names = unified(path, "images", columns.take("id"), columns.place, problems), columns.take("file_name")
    keep = check_unique(path, "images", ids, columns.place, problems)
    unclear, kept = unclear_ids(ids, keep, names), np.flatnonzero(keep)
    ids, names, heights, widths = ids[kept], names[kept], *(columns.take(name)[kept] for name in ("height", "width"))
    doubled = np.isin(ids, [*unclear])
    sized = (heights > 0) & (widths > 0)
    lacking = np.flatnonzero(~sized)
    if not len(lacking):
        return ids, names, heights, widths, sized, ~sized, doubled

    def record(row: int) -> str:
        return f"{path}: images[{columns.place(kept[row])}], id {ids[row].item()!r}"

    if folder is None:
        raise UserError(
            f"{record(lacking[0])}: {str(names[lacking[0]])!r} has no height and width "
            f"({counted(len(lacking), 'such image|images')}); "
            "name the folder of the pictures, where they can be measured, or write them into the record"
        )
    from detector.data.sizes import measured  # loads Pillow, which most files do not need

    heights[lacking], widths[lacking] = measured(folder, real_names(folder, names[lacking])[0].tolist()).T
    problems.lasting = False
    lacks = ~sized
    sized = (heights > 0) & (widths > 0)
    found = lacking[sized[lacking]].tolist()
    what = "images have no height and width; they are measured from the pictures"
    problems.several(
        named(path, len(found), what, ids[found].tolist(), "image ids"),
        found,
        lambda row: Finding(NO_SIZE, f"{record(row)} has no height and width", str(names[row]), record(row)),
    )
    for row in np.flatnonzero(~sized).tolist():
        text = (
            f"{record(row)} has no height and width, and they cannot be measured: {folder / str(names[row])} is "
            "missing or no picture; bring it, or write them into the record"
        )
        problems.error(Finding(UNMEASURED, text, str(names[row]), record(row)))
    if not sized.any():
        raise UserError(f"{path}: {none_of(len(ids), 'picture|pictures')} can be measured; are they in {folder}?")
    return ids, names, heights, widths, sized, lacks, doubled
