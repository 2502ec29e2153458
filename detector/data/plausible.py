"""Data that is legal and yet hardly what was meant: pictures that stand in it twice, boxes in other units."""

import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from detector.data.areas import unlike_boxes
from detector.data.packed import PackedIndex, shown
from detector.data.problems import KINDS, SHOWN, Finding, declare
from detector.data.shares import crowd_classes, many_crowds, many_difficult, many_repeated, many_without
from detector.errors import UserError
from detector.text import agreeing, counted, printable

TWICE = declare(
    "file-twice",
    "error",
    "pictures are named by several records",
    "Join the records of each picture into one, or keep one where each has all objects, as two people's annotations "
    "have: what only the other record holds counts as background.",
)
SHARED = declare(
    "file-in-both",
    "error",
    "pictures are in two data sets, such as the training and the test",
    "Take them out of one: measures on pictures that were trained on say little.",
)
FRACTIONS = declare(
    "boxes-as-fractions",
    "error",
    "sets have boxes as fractions of the picture",
    "Multiply x and width by the picture's width, y and height by its height.",
)
SOME_FRACTIONS = declare(
    "boxes-partly-fractions",
    "warning",
    "sets have some boxes that look like fractions of the picture, beside others in pixels",
    "Multiply x and width by the picture's width, y and height by its height, where they are fractions.",
)
CORNERS = declare(
    "boxes-as-corners",
    "warning",
    "sets have boxes that look like corners x1, y1, x2, y2",
    "COCO's boxes are x, y, width, height, YOLO's centre x, centre y, width, height: write them so.",
)
SCALE = declare(
    "boxes-not-to-scale",
    "warning",
    "sets have all their boxes in the upper left part of the pictures, as if drawn on smaller ones",
    "Scale the boxes to the size of the pictures where that is not what was meant.",
)
_NEARLY_ALL = 0.95  # share of the boxes that look like fractions, corners or percent
_SOME = 0.01  # share of the boxes that look like fractions, from which a part of them may be such
_SMALL = 2.0  # pixels; no side of a fraction is as long
_MOST = 0.8  # share of the boxes beyond an edge that must lie inside as corners
_BEYOND = 0.1  # share of the boxes beyond the right or lower edge, from which on they may be corners
_CORNER = 0.55  # share of width and height within which boxes lie that were drawn on smaller pictures
_PERCENT = 100.5  # where boxes in percent end at most
_ENOUGH = 20  # boxes of pictures in 5 or more, to say so

_log = logging.getLogger("detector")


class Pictures(Protocol):
    """A source or a data set made of one: annotations, and the folder of the pictures."""

    @property
    def folder(self) -> Path:
        """Of the pictures."""

    @property
    def index(self) -> PackedIndex:
        """Of the annotations."""


def check_plausible(
    part: str, sources: Sequence[Pictures], crowds: bool = True, difficult: Sequence[bool] = ()
) -> None:
    """What the commands say of the sources of DATASETS.TRAIN or TEST before they use them: a line for each kind.

    crowds: whether many crowds are worth a word; difficult: whether the difficult objects of each source are trained
    on. Raises ValueError for boxes as fractions: nothing is learnt of them.
    """
    for number, source in enumerate(sources):
        index = source.index
        check_units(index)
        many = many_crowds(index) if crowds else []
        found = [*many, *([] if any(difficult[number : number + 1]) else many_difficult(index)), *many_without(index)]
        for finding in found:
            _log.warning("%s", printable(finding.text))
        if said := many_repeated(index):
            _log.warning("%s", printable(said))
        if crowds and not many and (names := crowd_classes(index)):
            _log.warning(
                "%s: all objects of %s are crowds (iscrowd 1), which are neither trained on nor looked for; where they "
                "are single objects, write DATASETS.CROWDS objects",
                *(index.path, printable(shown(names))),
            )
    _say(f"DATASETS.{part}", TWICE, "is|are named by several records", named_twice(sources))


def check_units(index: PackedIndex) -> None:
    """Says where boxes seem to be of another kind than their format's. Raises ValueError for boxes as fractions."""
    for finding in fractions(index):
        raise UserError(finding.text)
    for finding in (*some_fractions(index), *corners(index), *not_to_scale(index), *unlike_boxes(index)):
        _log.warning("%s", printable(finding.text))


def check_apart(train: Sequence[Pictures], test: Sequence[Pictures]) -> None:
    """Says which pictures are in the training and in the test."""
    _say("DATASETS.TRAIN and TEST", SHARED, "is|are in both", shared(train, test))


def named_twice(sources: Sequence[Pictures]) -> list[Finding]:
    """The pictures that several records name, in one source or in several; an example a picture.

    A source that is listed again as it is, to be seen more often, counts once.
    """
    sources = [one for i, one in enumerate(sources) if not any(_same(one, other) for other in sources[:i])]
    hashes = _hashes(sources)
    values, counts = np.unique(hashes, return_counts=True)
    if len(values) == len(hashes):
        return []
    found = []
    for places in _places(sources, np.isin(hashes, values[counts > 1])).values():
        if len(places) > 1:
            records = [sources[number].index.record(row) for number, row in places]
            more = f" and {len(places) - SHOWN} more" if len(places) > SHOWN else ""
            number, row = places[0]
            file = sources[number].folder / str(sources[number].index.file_names[row])
            text = f"{file} is named by {len(places)} records: {' and '.join(records[:SHOWN])}{more}"
            found.append(Finding(TWICE, text, str(sources[number].index.file_names[row]), records[0]))
    return found


def shared(train: Sequence[Pictures], test: Sequence[Pictures]) -> list[Finding]:
    """The pictures that are in both; an example a picture."""
    ours, theirs = _hashes(train), _hashes(test)
    both = np.isin(theirs, ours)
    if not both.any():
        return []
    trained, found = _places(train, np.isin(ours, theirs)), []
    for path, [(number, row), *_] in _places(test, both).items():
        if path in trained:
            at, place = trained[path][0]
            first, second = train[at].index.record(place), test[number].index.record(row)
            file = test[number].folder / str(test[number].index.file_names[row])
            text = f"{file} is in the training ({first}) and in the test ({second})"
            found.append(Finding(SHARED, text, str(test[number].index.file_names[row]), second))
    return found


def like_fractions(index: PackedIndex) -> np.ndarray:
    """[M] bool: boxes with sides below two pixels that lie within 0 and 1; not only whole numbers."""
    boxes = index.boxes_xywh
    shift = 1 if index.kind == "voc" else 0  # its pixels count from 1, the last one included
    small = (boxes[:, 2] - shift < _SMALL) & (boxes[:, 3] - shift < _SMALL)
    if not small.any():  # as in nearly all data
        return small
    low = boxes[:, :2] + shift
    return small & ((low > -0.5) & (low < 1.5)).all(1)


def fractions(index: PackedIndex) -> list[Finding]:
    """Whether the boxes are fractions of the picture: nearly all are within 0 and 1, and few are whole numbers."""
    small = like_fractions(index)
    if not len(small) or small.mean() < _NEARLY_ALL or _whole(index)[small].mean() > 0.5:
        return []
    row = int(np.argmax(small))
    text = (
        f"{index.path}: {int(small.sum())} of {counted(len(small), 'box|boxes')} "
        f"{agreeing(int(small.sum()), 'has|have')} sides below two pixels and {agreeing(int(small.sum()), 'lies|lie')} "
        "within 0 and 1, "
        f"as if they were fractions of the picture: {_box(index, row)}; multiply x and width by the picture's "
        "width, y and height by its height (where x, y are a centre, as in YOLO's files, take half the sides off)"
    )
    return [_box_finding(index, FRACTIONS, text, row)]


def some_fractions(index: PackedIndex) -> list[Finding]:
    """Whether a part of the boxes, not nearly all, seem to be fractions: two of them, and a hundredth."""
    small = like_fractions(index)
    if not small.any() or fractions(index):
        return []
    small &= ~_whole(index)
    if small.sum() < max(2, _SOME * len(small)):
        return []
    row = int(np.argmax(small))
    text = (
        f"{index.path}: {int(small.sum())} of {counted(len(small), 'box|boxes')} "
        f"{agreeing(int(small.sum()), 'has|have')} sides below two pixels and {agreeing(int(small.sum()), 'lies|lie')} "
        "within 0 and 1, "
        f"as if they were fractions of the picture, and the others are in pixels: {_box(index, row)}; multiply x and "
        "width of these by the picture's width, y and height by its height"
    )
    return [_box_finding(index, SOME_FRACTIONS, text, row)]


def corners(index: PackedIndex) -> list[Finding]:
    """Whether boxes of COCO's or YOLO's files look like x1, y1, x2, y2.

    That is where many reach beyond an edge, and hardly one would if the last numbers were a corner.
    """
    if index.kind == "voc" or not len(index.boxes_xywh):
        return []
    yolo = index.kind == "yolo"
    low, sides = index.boxes_xywh[:, :2], index.boxes_xywh[:, 2:]
    point = low + sides / 2 if yolo else low  # what the file has in front
    ordered = (sides > point).all(1)
    if ordered.mean() < _NEARLY_ALL:  # as in nearly all data
        return []
    limits = np.stack([index.widths, index.heights], 1).repeat(np.diff(index.offsets), 0) + 1
    beyond: np.ndarray = np.any(low + sides > limits, axis=1) | np.any(low < -1, axis=1)
    fit: np.ndarray = np.all((sides > point) & (sides <= limits), axis=1)
    if beyond.mean() < _BEYOND or fit.mean() < _NEARLY_ALL or fit[beyond].mean() < _MOST:
        return []
    row = int(np.argmax(beyond & fit))
    remedy = (
        "since YOLO's lines are class, centre x, centre y, width, height, write the middle of the corners and "
        "what lies between them"
        if yolo
        else "subtract x from the third number and y from the fourth, since COCO's boxes are x, y, width, height"
    )
    text = (
        f"{index.path}: {int(beyond.sum())} of {counted(len(beyond), 'box|boxes')} "
        f"{agreeing(int(beyond.sum()), 'reaches|reach')} beyond "
        f"{'an' if yolo else 'the right or lower'} edge, and {_of(fit)} would lie inside if they were "
        f"corners x1, y1, x2, y2: {_box(index, row)}; if so, {remedy}"
    )
    return [_box_finding(index, CORNERS, text, row)]


def not_to_scale(index: PackedIndex) -> list[Finding]:
    """Whether nearly all boxes lie in the upper left part of the pictures: in percent, or as of smaller pictures."""
    boxes = index.boxes_xywh
    if len(boxes) < _ENOUGH or np.count_nonzero(np.diff(index.offsets)) < _ENOUGH // 4 or fractions(index):
        return []
    limits = np.stack([index.widths, index.heights], 1).repeat(np.diff(index.offsets), 0)
    ends = boxes[:, :2] + boxes[:, 2:]
    if any(2 * len(np.unique(boxes[:, axis])) < len(boxes) for axis in (0, 1)):  # at a few fixed places
        return []
    near = (ends <= _CORNER * limits).all(1)
    hundred = (ends <= _PERCENT).all(1)
    large = (limits > _PERCENT / _CORNER).all(1)  # in smaller pictures percent are not near the corner
    percent = hundred.mean() >= _NEARLY_ALL and ends[hundred].max() > 80 and large.mean() > 0.5
    fit = hundred if percent and (near | ~large).mean() >= _NEARLY_ALL else near
    if fit.mean() < _NEARLY_ALL:
        return []
    row = int(np.argmax(np.where(fit, ends.sum(1), -np.inf)))
    shares = (ends / limits)[fit].max(0)
    seen = (
        f"{_of(fit)} end within 100, as if they were percent of the picture"
        if fit is hundred
        else (
            f"{_of(fit)} end within {shares[0]:.0%} of the width and {shares[1]:.0%} of the height of their picture, "
            "as if they were drawn on smaller pictures"
        )
    )
    text = f"{index.path}: of {counted(len(boxes), 'box|boxes')} {seen}: {_box(index, row)}; scale them if so"
    return [_box_finding(index, SCALE, text, row)]


def _of(chosen: np.ndarray) -> str:
    """How many of them are chosen."""
    return "all" if chosen.all() else f"all but {int((~chosen).sum())}"


def _whole(index: PackedIndex) -> np.ndarray:
    """[M] bool: boxes of whole numbers."""
    return (index.boxes_xywh == np.round(index.boxes_xywh)).all(1)


def _image(index: PackedIndex, row: int) -> int:
    return int(np.searchsorted(index.offsets, row, side="right")) - 1


def _box(index: PackedIndex, row: int) -> str:
    image = _image(index, row)
    numbers, id_ = [round(x, 4) for x in index.boxes_xywh[row].tolist()], index.annotation_ids[row].item()
    height, width = index.size(image)
    return f"{numbers} of annotation {id_!r} in {index.file_names[image]} ({width} wide, {height} high)"


def _box_finding(index: PackedIndex, kind: str, text: str, row: int) -> Finding:
    image = _image(index, row)
    x, y, width, height = index.boxes_xywh[row].tolist()
    return Finding(kind, text, str(index.file_names[image]), index.record(image), (x, y, width, height))


def _say(where: str, kind: str, clause: str, found: Sequence[Finding]) -> None:
    if found:
        names = ", ".join([*(one.picture for one in found[:SHOWN]), *[".."] * (len(found) > SHOWN)])
        text = f"{counted(len(found), f'picture|pictures {clause}')} ({names}); {found[0].text}"
        _log.warning("%s: %s. %s", where, printable(text), KINDS[kind].remedy)


def _same(one: Pictures, other: Pictures) -> bool:
    return one.index.path == other.index.path and np.array_equal(one.index.image_ids, other.index.image_ids)


def _paths(source: Pictures) -> Iterator[str]:
    folder = str(source.folder.resolve())
    for name in source.index.file_names.tolist():
        path = f"{folder}/{name}"
        yield os.path.normpath(path) if name[:1] == "." or "/." in name or "//" in name else path


def _hashes(sources: Sequence[Pictures]) -> np.ndarray:
    """[N] int64: of the paths of all records, which for millions of them take a fraction of the memory."""
    each = [np.fromiter(map(hash, _paths(source)), np.int64, len(source.index)) for source in sources]
    return np.concatenate([*each, np.empty(0, np.int64)])


def _places(sources: Sequence[Pictures], chosen: np.ndarray) -> dict[str, list[tuple[int, int]]]:
    """Path -> source and row of the records that are chosen [N] among those of all sources."""
    places: dict[str, list[tuple[int, int]]] = {}
    start = 0
    for number, source in enumerate(sources):
        part = chosen[start : start + len(source.index)]
        start += len(part)
        if part.any():
            for row, path in enumerate(_paths(source)):
                if part[row]:
                    places.setdefault(path, []).append((number, row))
    return places
