"""What is wrong with boxes that their readers take as they are. What lies outside a picture, readers tell."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from detector.data import areas
from detector.data.doctor.part import Part
from detector.data.plausible import corners, fractions, like_fractions, not_to_scale, some_fractions
from detector.data.problems import Finding, declare
from detector.data.shares import many_crowds

REPEATED = declare("box-repeated", "warning", "boxes repeat another one of the same class exactly", "Keep one of each.")
OVERLAID = declare(
    "box-twice",
    "warning",
    "boxes lie on another one of the same class (IoU above 0.95)",
    "Keep one of each, unless there are really two objects.",
)
OTHER_CLASS = declare(
    "box-of-two-classes",
    "warning",
    "boxes lie on one of another class (IoU above 0.95)",
    "Decide for one class; of nested classes keep the narrower one.",
)
WHOLE = declare(
    "box-of-whole-picture",
    "note",
    "boxes are as large as their picture",
    "Look at some: labels of whole pictures are no boxes.",
)
ONE_PIXEL = declare(
    "box-one-pixel",
    "warning",
    "boxes are one pixel wide or high, or less",
    "Delete them, or draw them anew: they are slips of the mouse, or were scaled down too far.",
)

CROWD = declare(
    "crowd-region",
    "note",
    "annotations are crowd regions (iscrowd 1): neither objects nor background, in training and in tests",
    "Nothing, if they mark groups; if they are single objects, as some tools export masks, set iscrowd to 0.",
)

SAME_IOU = 0.95
"""IoU above which two boxes are taken for one object."""

WHOLE_SHARE = 0.99
"""Share of each side of its picture from which a box is as large as it."""


def pairs(part: Part) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Places of all pairs (first, second) of objects in the same image, in blocks; vectorised over the images."""
    rows = np.flatnonzero(part.objects)
    image = part.image_of[rows]
    left, step = np.arange(len(rows)), 1
    while len(left):
        left = left[left < len(rows) - step]
        left = left[image[left] == image[left + step]]
        if len(left):
            yield rows[left], rows[left + step]
        step += 1


def iou(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """[P] float64: of boxes [P, 4] x, y, width, height with areas, row by row."""
    low = np.maximum(one[:, :2], other[:, :2])
    high = np.minimum(one[:, :2] + one[:, 2:], other[:, :2] + other[:, 2:])
    inner = np.clip(high - low, 0, None).prod(1)
    return inner / (one[:, 2:].prod(1) + other[:, 2:].prod(1) - inner)


def same_objects(parts: Sequence[Part]) -> list[Finding]:
    """Boxes that lie on one that stands before them in the same image; each is told once of a kind."""
    return [finding for part in parts for finding in _same_objects(part)]


def _same_objects(part: Part) -> Iterator[Finding]:
    boxes, labels = part.index.boxes_xywh, part.index.labels
    before: dict[str, dict[int, int]] = {REPEATED: {}, OVERLAID: {}, OTHER_CLASS: {}}
    for one, other in pairs(part):
        near = iou(boxes[one], boxes[other]) > SAME_IOU
        one, other = one[near], other[near]
        equal, alike = (boxes[one] == boxes[other]).all(1), labels[one] == labels[other]
        for kind, chosen in ((REPEATED, equal & alike), (OVERLAID, alike), (OTHER_CLASS, ~alike)):
            for first, second in zip(one[chosen].tolist(), other[chosen].tolist(), strict=True):
                before[kind][second] = min(first, before[kind].get(second, first))
    for kind, found in before.items():
        for second, first in sorted(found.items()):
            if kind == OVERLAID and second in before[REPEATED]:
                continue
            there = "the same as" if kind == REPEATED else f"of {part.name(second)!r} lies on"
            id_ = part.index.annotation_ids[first].item()
            said = f"{there} that of {id_} ({part.name(first)!r}), {list(part.box(first))}"
            yield part.on_box(kind, second, said if kind != REPEATED else f"is {said}")


def _each(kind: str, parts: Sequence[Part], chosen: Callable[[Part], np.ndarray], said: str) -> list[Finding]:
    """A finding for every object that is chosen."""
    return [part.on_box(kind, row, said) for part in parts for row in np.flatnonzero(chosen(part)).tolist()]


def crowds(parts: Sequence[Part]) -> list[Finding]:
    """Crowd regions, unless they are so many that the whole data set is told of."""
    some = [part for part in parts if not many_crowds(part.index)]
    return _each(CROWD, some, lambda part: part.index.crowd, "is a crowd region")


def whole_picture(parts: Sequence[Part]) -> list[Finding]:
    """Boxes as large as their picture."""

    def chosen(part: Part) -> np.ndarray:
        index = part.index
        sides = np.stack([index.widths, index.heights], 1)[part.image_of]
        return part.objects & ((index.boxes[:, 2:] - index.boxes[:, :2]) >= WHOLE_SHARE * sides).all(1)

    return _each(WHOLE, parts, chosen, "is as large as its picture")


def other_units(parts: Sequence[Part]) -> list[Finding]:
    """Boxes that are fractions or corners; an example for each data set."""
    return [
        finding
        for part in parts
        for check in (fractions, some_fractions, corners, not_to_scale, areas.unlike_boxes)
        for finding in check(part.index)
    ]


def one_pixel(parts: Sequence[Part]) -> list[Finding]:
    """Boxes with a side of one pixel or less, without those that are told as fractions. Of VOC's the reader tells."""

    def chosen(part: Part) -> np.ndarray:
        index = part.index
        if index.kind == "voc" or fractions(index):
            return np.zeros(len(index.labels), bool)
        flat = part.objects & (index.boxes_xywh[:, 2:] <= 1).any(1)
        return flat & ~like_fractions(index) if some_fractions(index) else flat

    return _each(ONE_PIXEL, parts, chosen, "is one pixel wide or high, or less")
