"""A cleaned copy of annotations: what can be mended without looking at pictures with one's own eyes."""

import os
from dataclasses import replace

import numpy as np

from detector.data.catalog import Source
from detector.data.doctor import balance, boxes, classes, folder, pictures, seen, sets
from detector.data.doctor.part import Part
from detector.data.packed import BEYOND, FAR, FLAT, OUTSIDE, PackedIndex
from detector.data.plausible import CORNERS, CROWDS, FRACTIONS, TWICE
from detector.errors import UserError

MENDED = {
    FLAT, OUTSIDE, BEYOND, FAR, TWICE, FRACTIONS, boxes.REPEATED, pictures.OUTSIDE,
    seen.MISSING, seen.UNREADABLE, seen.CUT, seen.RESIZED,
}  # fmt: skip
"""The kinds that a cleaned copy is free of, as it is of what readers leave out or take as something else."""

STAYS = {
    CORNERS, CROWDS, boxes.OVERLAID, boxes.OTHER_CLASS, boxes.WHOLE, boxes.ONE_PIXEL, boxes.CROWD,
    pictures.TWICE, pictures.LEAK, pictures.ALIKE, pictures.LEAK_ALIKE, seen.UNENDED, seen.TURNED_BY_TAG,
    classes.UNUSED, classes.SINGLE, classes.ALIKE, classes.ONE_SIDED, balance.SKEWED,
    sets.UNREADABLE, sets.TWICE, sets.LISTS_DIFFER, folder.PASSED_OVER,
}  # fmt: skip
"""The kinds that only a person can mend."""


def mend(part: Part) -> tuple[Source, list[str]]:
    """The data set without what is broken, and a line for each thing that was done.

    Boxes that are all fractions of their picture become pixels; pictures that cannot be used, and boxes without an area
    inside their picture, are left out; boxes that reach out are clipped; several records of one picture become one; of
    boxes that are equal, with equal class, one is kept. Raises ValueError when no picture is left.
    """
    index, done = part.index, list[str]()
    usable = ~pictures.outside(part)
    if part.seen:
        usable &= ~part.seen.unusable
    if not usable.any():
        raise UserError(f"{index.path}: none of its {len(index)} pictures can be used, so there is nothing to write")

    def note(number: int, what: str) -> None:
        if number:
            done.append(f"{number} {what}")

    note(part.uncrowded, "crowd regions are objects, by DATASETS.CROWDS")
    limits = np.stack([index.widths, index.heights], 1)[part.image_of].astype(np.float64)
    sides, areas = index.boxes_xywh, index.areas
    if are_fractions(index):
        sides = sides * np.tile(limits, 2)
        areas = sides[:, 2:].prod(1)
        note(len(sides), "boxes were fractions of their pictures and are now pixels")
    low, high = np.clip(sides[:, :2], 0, limits), np.clip(sides[:, :2] + sides[:, 2:], 0, limits)
    clipped = np.concatenate([low, high - low], 1)
    good = (clipped[:, 2:] > 0).all(1) & (sides[:, 2:] > 0).all(1)
    changed = np.abs(clipped - sides).max(1, initial=0) > 1e-9
    clipped = np.where(changed[:, None], clipped, sides)  # what is inside stays to the last digit
    areas = np.where(changed, np.minimum(areas, clipped[:, 2:].prod(1)), areas)
    first = _first_records(part, usable)
    image_of = first[part.image_of]
    kept = good & usable[image_of]
    repeated = kept & _repeated(image_of, clipped, index, kept)
    note(int((~usable).sum()), f"pictures cannot be used and are left out, with {int((~usable[image_of]).sum())} boxes")
    note(int((usable[image_of] & ~good).sum()), "boxes without an area inside their pictures are left out")
    note(int((kept & changed & ~repeated).sum()), "boxes reached out of their pictures and are clipped")
    note(
        int((usable & (first != np.arange(len(index)))).sum()), "further records of a picture are merged into its first"
    )
    note(int(repeated.sum()), "boxes that repeat another one are left out")
    images = np.flatnonzero(usable & (first == np.arange(len(index))))
    rows = np.flatnonzero(kept & ~repeated)
    rows = rows[np.argsort(image_of[rows], kind="stable")]
    return replace(part.source, index=_chosen(index, images, rows, image_of, clipped, areas)), done


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
    )
