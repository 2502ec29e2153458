"""From matched detections to precision at fixed recalls, as COCO accumulates them."""

from typing import NamedTuple

import numpy as np

from detector.evaluation.matching import AREAS, IOUS, Matching

RECALLS = np.linspace(0, 1, 101)
"""Where precision is read off."""

KEPT = (1, 10, 100)
"""Detections of an image and a class that average recall is measured with."""


class Accumulated(NamedTuple):
    """Of T IoUs, C classes and R ranges of areas; -1 where a class has no object to be found.

    precision [T, 101, C, R]: the best at each recall or beyond; recall [T, C, R, 3]: reached with `KEPT` detections.
    """

    precision: np.ndarray
    recall: np.ndarray


def accumulate(matching: Matching, labels: np.ndarray, classes: int) -> Accumulated:
    """Precision and recall of each class, size and IoU. labels [M]: of the objects; ties as in `Matching`."""
    ranges, thresholds = len(AREAS), len(IOUS)
    precision = np.full((ranges, thresholds, classes, len(RECALLS)), -1.0)
    recall = np.full((ranges, thresholds, classes, len(KEPT)), -1.0)
    objects = np.stack([np.bincount(labels[counts], minlength=classes) for counts in matching.counts])
    starts = np.searchsorted(matching.labels, np.arange(classes + 1))
    for r in range(ranges):
        for t in range(thresholds):
            ignored = matching.ignored[r, t]
            found = np.flatnonzero((matching.object[r, t] >= 0) & ~ignored)
            counted = np.cumsum(~ignored)
            counted = counted[found] - np.r_[0, counted][starts[matching.labels[found]]]
            for n, kept in enumerate(KEPT):
                right = np.bincount(matching.labels[found[matching.rank[found] < kept]], minlength=classes)
                recall[r, t, :, n] = np.where(objects[r] > 0, right / np.maximum(objects[r], 1), -1)
            ends = np.searchsorted(found, starts)
            for k in np.flatnonzero(objects[r]).tolist():
                begin, end = ends[k], ends[k + 1]
                precision[r, t, k] = at_recalls(counted[begin:end], int(objects[r, k]))
    return Accumulated(precision.transpose(1, 3, 2, 0), recall.transpose(1, 2, 0, 3))


def at_recalls(counted: np.ndarray, objects: int) -> np.ndarray:
    """[101] the best precision at each recall or beyond it, 0 where that is never reached.

    counted: how many detections count up to each of those that are right, by falling score; objects: to be found.
    """
    right = np.arange(1, len(counted) + 1)
    best = np.maximum.accumulate((right / (counted + np.spacing(1)))[::-1])[::-1]
    return np.append(best, 0)[np.searchsorted(right / objects, RECALLS)]
