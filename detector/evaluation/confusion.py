"""Which class is taken for which: objects by their class and by that of the detection in their place.

In each image the detections take objects by falling score, each the one of the largest IoU that is left and reaches the
threshold, whatever the classes, so that each has one partner at most and a detection of a lower score changes nothing
for those of higher ones. Of equal scores the larger IoU comes first, then a pair of one class, then the order of the
file. What has no partner belongs to the background. Crowds and difficult objects are no partners; a detection without
one that lies in such an object of its own class is left out, as in COCO's average precision.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from detector.data.packed import PackedIndex
from detector.evaluation.base import Found
from detector.evaluation.matching import Guesses, Truth, overlaps


class Confusion(NamedTuple):
    """Counts of C classes.

    matrix [C + 1, C + 1] int64: the rows are the classes of the objects, the columns those of the detections, the last
    of each is the background: objects that were missed are in the last column, false alarms in the last row.
    left_out: detections in crowds and difficult objects.
    """

    matrix: np.ndarray
    left_out: int


class Mistake(NamedTuple):
    """Objects of one class in whose place another was detected, and their share of all objects of that class."""

    truth: int
    detected: int
    objects: int
    share: float


def confusion_of(index: PackedIndex, found: Found, thresholds: np.ndarray, iou: float = 0.5) -> Confusion:
    """The confusion of detections of an index's images; thresholds [C]: the lowest score of each class that counts."""
    truth = Truth(index.image_of(), index.labels, index.boxes_xywh, index.areas, index.crowd | index.difficult)
    kept = found.scores >= thresholds[found.labels]
    guesses = Guesses(found.image[kept], found.labels[kept], found.xywh[kept], found.scores[kept])
    return confuse(truth, guesses, len(index.classes), iou)


def confuse(truth: Truth, guesses: Guesses, classes: int, iou: float = 0.5) -> Confusion:
    """The confusion of all of these detections; see the head of this file."""
    partner = np.full(len(guesses.image), -1)
    spared = np.zeros(len(guesses.image), bool)
    for objects, detections in _images(truth.image, guesses.image):
        crowd, same = truth.crowd[objects], truth.labels[objects] == guesses.labels[detections][:, None]
        shape = len(detections), len(objects)
        d, o = np.divmod(np.arange(shape[0] * shape[1]), max(shape[1], 1))
        shares = overlaps(guesses.xywh[detections[d]], truth.xywh[objects[o]], crowd[o]).reshape(shape)
        near = shares >= iou
        d, o = np.nonzero(near & ~crowd)
        taken = _taken(guesses.scores[detections[d]], shares[d, o], same[d, o], d, o)
        partner[detections[[*taken]]] = objects[[*taken.values()]]
        spared[detections] = (near & crowd & same).any(1)
    spared &= partner < 0
    found = partner >= 0
    missed = ~truth.crowd
    missed[partner[found]] = False
    rows = np.r_[truth.labels[partner[found]], truth.labels[missed], np.full((~found & ~spared).sum(), classes)]
    columns = np.r_[guesses.labels[found], np.full(missed.sum(), classes), guesses.labels[~found & ~spared]]
    cells = np.bincount(rows * (classes + 1) + columns, minlength=(classes + 1) ** 2)
    return Confusion(cells.reshape(classes + 1, classes + 1), int(spared.sum()))


def _images(of_objects: np.ndarray, of_detections: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Places of the objects and of the detections of each image that has both."""
    common = np.intersect1d(of_objects, of_detections)
    parts = []
    for images in (of_objects, of_detections):
        order = np.argsort(images, kind="stable")
        edges = [np.searchsorted(images[order], common, side) for side in ("left", "right")]
        parts.append([order[a:b] for a, b in zip(*edges, strict=True)])
    return [*zip(*parts, strict=True)]


def _taken(scores: np.ndarray, iou: np.ndarray, same: np.ndarray, d: np.ndarray, o: np.ndarray) -> dict[int, int]:
    """The object of each detection that takes one, from pairs [P] of detections d and objects o."""
    taken: dict[int, int] = {}
    gone = set()
    for i in np.lexsort((o, d, ~same, -iou, -scores)).tolist():
        detection, object_ = int(d[i]), int(o[i])
        if detection not in taken and object_ not in gone:
            taken[detection] = object_
            gone.add(object_)
    return taken


def mistakes(matrix: np.ndarray) -> list[Mistake]:
    """Classes taken for others, the most frequent first, then by the share; without the background."""
    rows, columns = np.nonzero(matrix[:-1, :-1] * ~np.eye(len(matrix) - 1, dtype=bool))
    objects = matrix.sum(1)
    found = [
        Mistake(r, c, int(matrix[r, c]), float(matrix[r, c] / objects[r]))
        for r, c in zip(rows.tolist(), columns.tolist(), strict=True)
    ]
    return sorted(found, key=lambda one: (-one.objects, -one.share, one.truth, one.detected))


def shares(matrix: np.ndarray) -> np.ndarray:
    """[C + 1, C + 1] the rows of classes as shares of their objects, that of the background as shares of the columns.

    So a cell of the last row says which part of a class's detections are false alarms. nan where there is none.
    """
    rows = np.maximum(matrix[:-1].sum(1, keepdims=True), 1)
    columns = np.maximum(matrix.sum(0), 1)
    found = np.concatenate([matrix[:-1] / rows, matrix[-1:] / columns])
    found[:-1][matrix[:-1].sum(1) == 0] = np.nan
    found[-1, matrix.sum(0) == 0] = np.nan
    found[-1, -1] = np.nan
    return found


def most_confused(matrix: np.ndarray, number: int) -> Sequence[int]:
    """The classes most often taken for others or others for them, as many as asked for, in the order of the classes."""
    others = matrix[:-1, :-1] * ~np.eye(len(matrix) - 1, dtype=bool)
    order = np.argsort(-(others.sum(0) + others.sum(1)), kind="stable")
    return sorted(order[:number].tolist())
