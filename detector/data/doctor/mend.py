"""A cleaned copy of annotations: what can be mended without looking at pictures with one's own eyes."""

import os
from collections import Counter
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from detector.data import shares
from detector.data.areas import UNLIKE
from detector.data.catalog import Source
from detector.data.doctor import balance, boxes, classes, folder, pictures, seen, sets
from detector.data.doctor.part import Part
from detector.data.formats import ids
from detector.data.packed import BEYOND, FAR, FLAT, OUTSIDE, PackedIndex
from detector.data.plausible import CORNERS, FRACTIONS, SCALE, SOME_FRACTIONS, TWICE, corners
from detector.data.problems import KINDS, SHOWN, Finding
from detector.errors import UserError
from detector.text import counted, none_of

MENDED = {
    FLAT, OUTSIDE, BEYOND, FAR, TWICE, FRACTIONS, boxes.REPEATED, pictures.OUTSIDE,
    seen.MISSING, seen.UNREADABLE, seen.CUT, seen.RESIZED,
}  # fmt: skip
"""The kinds that a cleaned copy is free of, as it is of what readers leave out or take as something else."""

STAYS = {
    CORNERS, SCALE, SOME_FRACTIONS, UNLIKE, shares.CROWDS, shares.DIFFICULT, shares.WITHOUT,
    boxes.OVERLAID, boxes.OTHER_CLASS, boxes.WHOLE, boxes.ONE_PIXEL,
    boxes.CROWD, pictures.TWICE, pictures.LEAK, pictures.SAME_SET, pictures.UNNAMED,
    pictures.ALIKE, pictures.LEAK_ALIKE, seen.UNENDED, seen.TURNED_BY_TAG,
    classes.UNUSED, classes.CROWDS_ONLY, classes.FROM_ONE, classes.SINGLE, classes.ALIKE, classes.ONE_SIDED,
    balance.SKEWED,
    sets.UNREADABLE, sets.TWICE, sets.EMPTY, sets.TEST_EMPTY, sets.LISTS_DIFFER, folder.PASSED_OVER,
}  # fmt: skip
"""The kinds that only a person can mend."""

_EMPTIED = "picture|pictures lost all its|their boxes, and counts|count as without objects now"


class Mended(NamedTuple):
    """source: the data set without what is broken; done: a line for each kind of thing that was done.

    emptied: names of the pictures that lost all their boxes, and would be taken for pictures without objects.
    """

    source: Source
    done: list[str]
    emptied: list[str]


def mend(part: Part) -> Mended:
    """The data set without what is broken, and what was done.

    Boxes that are all fractions of their picture become pixels; pictures that cannot be used, and boxes without an area
    inside their picture, are left out; boxes that reach out are clipped, unless they look like corners; several records
    of one picture become one; of boxes that are equal, with equal class, one is kept. What the reader left out, or took
    as something else, is among what was done. Raises ValueError when no picture is left, or classes seem
    to start at 1, or ids are shifted or names, so that what is left would be of other classes or pictures than it says.
    """
    index, done = part.index, list[str]()
    usable = ~pictures.outside(part)
    if part.seen:
        usable &= ~part.seen.unusable
    if not usable.any():
        raise UserError(
            f"{index.path}: {none_of(len(index), 'picture|pictures')} can be used, so there is nothing to write"
        )

    if shifted := classes.from_one([part]):
        raise UserError(f"{shifted[0].text}. No copy is written, which would hide it: subtract 1 from each class first")

    wrong = next((one for one in part.told if one.kind in (ids.SHIFTED, ids.BY_NAME)), None)
    if wrong:
        raise UserError(f"{wrong.text}. No copy is written, which would hide it: mend the ids first")

    def note(number: int, what: str) -> None:
        if number:
            done.append(counted(number, what))

    note(part.uncrowded, "crowd region|regions is|are taken as objects, by DATASETS.CROWDS")
    limits = np.stack([index.widths, index.heights], 1)[part.image_of].astype(np.float64)
    sides, areas = index.boxes_xywh, index.areas
    if are_fractions(index):
        sides = sides * np.tile(limits, 2)
        areas = sides[:, 2:].prod(1)
        note(len(sides), "box|boxes was|were fractions of its|their picture|pictures and is|are now pixels")
    low, high = np.clip(sides[:, :2], 0, limits), np.clip(sides[:, :2] + sides[:, 2:], 0, limits)
    good = (high.astype(np.float32) > low.astype(np.float32)).all(1) & (sides[:, 2:] > 0).all(1)  # as readers decide
    clipped = np.concatenate([low, high - low], 1)
    changed = np.abs(clipped - sides).max(1, initial=0) > 1e-9
    if corners(index):  # to clip them would hide it
        changed[:] = False
    clipped = np.where(changed[:, None], clipped, sides)  # what is inside stays to the last digit
    areas = np.where(changed, np.minimum(areas, clipped[:, 2:].prod(1)), areas)
    first = _first_records(part, usable)
    image_of = first[part.image_of]
    kept = good & usable[image_of]
    repeated = kept & _repeated(image_of, clipped, index, kept)
    unread = [one for one in part.told if _unread(one, index.kind)]
    lost = counted(int((~usable[image_of]).sum()), "box|boxes")
    note(int((~usable).sum()), f"picture|pictures cannot be used and is|are left out, with {lost}")
    flat = int((usable[image_of] & ~good).sum()) + len(unread)
    note(flat, "box|boxes without an area inside its|their picture|pictures is|are left out")
    note(
        int((kept & changed & ~repeated).sum()),
        "box|boxes reached out of its|their picture|pictures and is|are clipped",
    )
    further = int((usable & (first != np.arange(len(index)))).sum())
    note(further, "further record|records of a picture is|are merged into the first")
    note(int(repeated.sum()), "box|boxes that repeats|repeat another one is|are left out")
    done += _as_read(part)
    images = np.flatnonzero(usable & (first == np.arange(len(index))))
    rows = np.flatnonzero(kept & ~repeated)
    rows = rows[np.argsort(image_of[rows], kind="stable")]
    emptied = _emptied(part, images, image_of[kept], image_of[~good])
    if emptied:
        named = ", ".join(emptied[:SHOWN]) + (", .." if len(emptied) > SHOWN else "")
        done.append(f"{counted(len(emptied), _EMPTIED)}: {named}")
    return Mended(replace(part.source, index=_chosen(index, images, rows, image_of, clipped, areas)), done, emptied)


def is_left_out(finding: Finding) -> bool:
    """Whether a copy lacks the record of what a reader found, since nothing can be made of it."""
    if finding.kind == ids.TWICE:
        return ": annotations[" not in finding.record
    known = MENDED | STAYS | {ids.MIXED}
    return KINDS[finding.kind].severity == "error" and finding.kind not in known


def _unread(finding: Finding, form: str) -> bool:
    """Whether a box without an area inside its picture was left out by the reader, and so is not in the index."""
    if finding.kind not in (FLAT, OUTSIDE) or finding.box is None:
        return False
    return form == "voc" or (form == "coco" and min(finding.box[2:]) < 0)


def _as_read(part: Part) -> list[str]:
    """A line for each kind of what the reader left out, or took for something else."""
    told = [one for one in part.told if one.kind not in (FLAT, OUTSIDE, BEYOND) and one.kind not in STAYS]
    lines = []
    for (kind, left), number in Counter((one.kind, is_left_out(one) or one.kind == FAR) for one in told).items():
        fate = "left out" if left else "numbered anew" if kind == ids.TWICE else "the copy has what was read"
        lines.append(f"{kind} ({number}): {fate}")
    return lines


def _emptied(part: Part, images: np.ndarray, left: np.ndarray, dropped: np.ndarray) -> list[str]:
    """The names of those of some images that have no box left, and had one.

    left, dropped: the images of the boxes that are kept, and of those that are not.
    """
    names = part.index.file_names.tolist()
    told = {one.picture for one in part.told if _unread(one, part.index.kind) or is_left_out(one) or one.kind == FAR}
    exact = told & set(names)
    loose = {_base(name) for name in told - exact}  # names as they were written, of files found under another one
    has = set(left.tolist())
    had = set(dropped.tolist()) | {i for i, name in enumerate(names) if name in exact or _base(name) in loose}
    return [names[image] for image in images.tolist() if image in had and image not in has]


def _base(name: str) -> str:
    return name.replace("\\", "/").rpartition("/")[2]


def are_fractions(index: PackedIndex) -> bool:
    """Whether the boxes of a COCO file, all of them, are fractions of their pictures."""
    boxes_xywh = index.boxes_xywh
    if index.kind != "coco" or not len(boxes_xywh) or min(index.heights.min(), index.widths.min()) < 4:
        return False
    ends = boxes_xywh[:, :2] + boxes_xywh[:, 2:]
    return bool((boxes_xywh > -0.01).all() and (ends < 1.01).all() and (boxes_xywh % 1).any())


def _first_records(part: Part, usable: np.ndarray) -> np.ndarray:
    """[N] int64: the place of the first record, among the usable ones, of each image's picture and size."""
    first: dict[object, int] = {}
    index = part.index
    places = np.arange(len(index))
    for image in np.flatnonzero(usable).tolist():
        key = os.path.normpath(str(index.file_names[image])), index.size(image)
        places[image] = first.setdefault(key, image)
    return places


def _repeated(image_of: np.ndarray, boxes_xywh: np.ndarray, index: PackedIndex, kept: np.ndarray) -> np.ndarray:
    """[M] bool: objects whose picture, class and box are those of one before."""
    rows = np.flatnonzero(kept & ~index.crowd)
    keys = np.concatenate([np.stack([image_of, index.labels], 1)[rows], boxes_xywh[rows]], 1)
    _, places = np.unique(keys, axis=0, return_index=True)
    repeated = np.zeros(len(image_of), bool)
    repeated[rows] = True
    repeated[rows[places]] = False
    return repeated


def _chosen(
    index: PackedIndex,
    images: np.ndarray,
    rows: np.ndarray,
    image_of: np.ndarray,
    boxes_xywh: np.ndarray,
    areas: np.ndarray,
) -> PackedIndex:
    """The index of some images and annotations; rows stand in the order of their images."""
    counts = np.bincount(image_of[rows], minlength=len(index))[images]
    some = boxes_xywh[rows]
    return replace(
        index,
        image_ids=index.image_ids[images],
        file_names=index.file_names[images],
        heights=index.heights[images],
        widths=index.widths[images],
        offsets=np.concatenate([[0], np.cumsum(counts)]),
        annotation_ids=index.annotation_ids[rows],
        labels=index.labels[rows],
        boxes_xywh=some,
        areas=areas[rows],
        crowd=index.crowd[rows],
        boxes=np.concatenate([some[:, :2], some[:, :2] + some[:, 2:]], 1).astype(np.float32),
        usable=np.ones(len(rows), bool),
        difficult=index.difficult[rows],
        measured=None if index.measured is None else index.measured[images],
    )
