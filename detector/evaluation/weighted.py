"""COCO's measures where each image counts any number of times: what a bootstrap over images and a jackknife need.

Matching does not depend on how often an image counts, so it is done once. A weight w_i of image i multiplies its
objects and its detections: precision and recall at a detection are sums of weights, and an average precision is the
mean over 101 recalls as ever. With all weights 1 the numbers are those of `precision.accumulate`.

Detections of one score are ranked as in `Matching`, and an image of weight 2 has each of its detections count twice at
its place. Written out twice, the image would have the second copies after all of the first, so where scores within an
image are equal pycocotools on such a copy gives another number, by up to 0.12 on a dozen images full of ties.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from detector.evaluation.matching import AREAS, IOUS, Matching
from detector.evaluation.precision import KEPT, RECALLS
from detector.evaluation.report import MEASURES

_CELLS = 1 << 22  # of a table of replicates and detections that is worked on at once
_REACHED = np.arange(101) / 100 >= RECALLS
"""Whether a recall of q / 100 reaches the q-th of `RECALLS`, some of which are an ulp above it, as pycocotools' are."""


class Weighted(NamedTuple):
    """COCO's measures [B, 12] and the AP of classes [B, C] in B replicates; -1 where nothing is to be found.

    parts [B, 12, C]: each measure of each class, whose mean it is; nan where nothing is to be found.
    """

    measures: np.ndarray
    classes: np.ndarray
    parts: np.ndarray


def weighted(matching: Matching, image: np.ndarray, labels: np.ndarray, classes: int, weights: np.ndarray) -> Weighted:
    """Measures of each replicate.

    image, labels [M]: of the objects; weights [B, I] whole numbers: how often each image counts in each replicate, in
    the order of `Matching.image`'s ranks. A class without an object that counts is left out of a replicate's means.
    """
    number, ranges = len(weights), len(AREAS)
    precision = np.full((number, ranges, len(IOUS), classes), np.nan)
    recall = np.full((number, ranges, len(KEPT), classes), np.nan)
    starts = np.searchsorted(matching.labels, np.arange(classes + 1))
    for k in range(classes):
        of_class = np.flatnonzero(labels == k)
        if not len(of_class):
            continue
        part = slice(starts[k], starts[k + 1])
        for r in range(ranges):
            chosen = image[of_class[matching.counts[r, of_class]]]
            if len(chosen):
                _class(matching, part, r, chosen, weights, precision[:, r, :, k], recall[:, r, :, k])
    parts = _parts(precision, recall)
    known = ~np.isnan(parts)
    measures = np.where(known, parts, 0).sum(2) / np.where(known.any(2), known.sum(2), np.nan)
    return Weighted(_filled(measures), _filled(precision[:, 0].mean(1)), parts)


def _class(
    matching: Matching,
    part: slice,
    r: int,
    chosen: np.ndarray,
    weights: np.ndarray,
    precision: np.ndarray,
    recall: np.ndarray,
) -> None:
    """Fills precision [B, T] and recall [B, 3] of a class and a range of areas. chosen: images of its objects."""
    object_, ignored = matching.object[r, :, part], matching.ignored[r, :, part]
    image, rank = matching.image[part], matching.rank[part]
    plain = (object_ < 0).all(0)  # they count, or not, whatever the IoU
    special, counted = np.flatnonzero(~plain), np.flatnonzero(plain & ~ignored[0])
    before = np.searchsorted(counted, special)
    counts = ~ignored[:, special]
    right = (object_[:, special] >= 0) & counts
    kept = right[:, None] & (rank[special] < np.array(KEPT)[:, None])
    sums = kept.reshape(len(IOUS) * len(KEPT), len(special)).T.astype(np.float64)
    step = max(1, _CELLS // max(len(image), 1))
    for begin in range(0, len(weights), step):
        some = slice(begin, begin + step)
        drawn = weights[some]
        objects = drawn[:, chosen].sum(1, dtype=np.int64)
        defined = objects > 0
        objects = np.maximum(objects, 1)
        others = np.zeros((len(drawn), len(counted) + 1), np.int32)
        np.cumsum(drawn[:, image[counted]], axis=1, out=others[:, 1:], dtype=np.int32)
        others, own = others[:, before], drawn[:, image[special]]
        found = (own @ sums).reshape(len(drawn), len(IOUS), len(KEPT)).mean(1) / objects[:, None]
        recall[some] = np.where(defined[:, None], found, np.nan)
        for t in range(len(IOUS)):
            at = np.flatnonzero(right[t])
            total = (others + np.cumsum(own * counts[t], axis=1, dtype=np.int32))[:, at]
            value = area_under(np.cumsum(own[:, at], axis=1, dtype=np.int64), total, objects)
            precision[some, t] = np.where(defined, value, np.nan)


def area_under(right: np.ndarray, counted: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """[B] mean over 101 recalls of the best precision at each or beyond.

    right, counted [B, n]: sums of weights, up to each right detection, of the right ones and of those that count;
    objects [B]: of all objects, above 0.
    """
    if not right.shape[1]:
        return np.zeros(len(right))
    best = np.maximum.accumulate((right / (counted + np.spacing(1)))[:, ::-1], axis=1)[:, ::-1]
    whole, rest = np.divmod(100 * right, objects[:, None])
    reached = whole + 1 - ((rest == 0) & ~_REACHED[whole])  # of the 101 recalls, by this detection
    return (best * np.diff(reached, axis=1, prepend=0)).sum(1) / len(RECALLS)


def _parts(precision: np.ndarray, recall: np.ndarray) -> np.ndarray:
    """[B, 12, C] from precision [B, R, T, C] and recall [B, R, 3, C], nan where there is nothing to find."""
    columns = []
    for measure in MEASURES.values():
        r = list(AREAS).index(measure.area)
        if measure.recall:
            values = recall[:, r, KEPT.index(measure.detections)]
        else:
            chosen: Sequence[int] | slice = slice(None)
            if measure.iou is not None:
                chosen = np.flatnonzero(np.isclose(IOUS, measure.iou)).tolist()
            values = precision[:, r, chosen].mean(1)
        columns.append(values)
    return np.stack(columns, 1)


def _filled(values: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(values), -1, values)
