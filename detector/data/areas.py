"""Areas of a COCO file that cannot be those of its objects."""

from pathlib import Path

import numpy as np

from detector.data.packed import PackedIndex, Where
from detector.data.problems import Finding, Problems, declare, named
from detector.text import agreeing, counted

NO_AREA = declare(
    "area-not-positive",
    "note",
    "annotations have an area of zero or less",
    "That of the box is taken; write the pixels of the object, or leave `area` out.",
)
UNLIKE = declare(
    "areas-unlike-boxes",
    "warning",
    "sets have areas that cannot be those of objects in their boxes",
    "Write the pixels of each object, or leave `area` out: the measures of small, medium and large objects go by it.",
)

_LEAST, _MOST = 0.01, 1.5  # times the area of the box; what a mask covers is less than that of its box
_HALF = 0.5  # share of the objects, from which on it is said


def fill_areas(
    path: Path, areas: np.ndarray, boxes_xywh: np.ndarray, ids: np.ndarray, where: Where, problems: Problems
) -> None:
    """Puts the area of the box in place of one [M] that is NaN, or of zero or less though the box [M, 4] has some."""
    unknown = np.flatnonzero(np.isnan(areas))
    flat = np.flatnonzero((areas <= 0) & (boxes_xywh[:, 2:] > 0).all(1))
    what = "annotations have an area of zero or less; that of the box is taken"
    problems.several(
        named(path, len(flat), what, ids[flat].tolist()),
        flat.tolist(),
        lambda row: Finding(NO_AREA, f"{where(row)[1]}: its area is {areas[row]:.6g}", *where(row)),
    )
    for rows in (unknown, flat):
        areas[rows] = boxes_xywh[rows, 2:].prod(1)


def unlike_boxes(index: PackedIndex) -> list[Finding]:
    """Whether most areas are far from those of the boxes, as fractions of the picture or of another scale are."""
    boxes = index.boxes_xywh[:, 2:].prod(1)
    if index.kind != "coco" or not len(boxes):
        return []
    rows = np.flatnonzero((boxes > 0) & ((index.areas < _LEAST * boxes) | (index.areas > _MOST * boxes)))
    if len(rows) <= _HALF * len(boxes):
        return []
    row = int(rows[0])
    text = (
        f"{index.path}: {len(rows)} of {counted(len(boxes), 'object|objects')} {agreeing(len(rows), 'has|have')} an "
        "`area` that is less than a hundredth of their box, "
        f"or larger than it: {index.areas[row]:.6g} of annotation {index.annotation_ids[row].item()!r}, whose box has "
        f"{boxes[row]:.6g} pixels; by it objects count as small, medium or large"
    )
    return [Finding(UNLIKE, text)]
