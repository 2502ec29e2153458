"""Precision, recall and F1 of each class from every score on, and the score from which on F1 is the highest.

What counts is what counts in COCO's average precision: at most `matching.DETECTIONS` detections of an image and a
class; those that took a crowd or a difficult object are neither right nor wrong, and such objects need not be found.
A threshold keeps all detections of one score or none of them, so equal scores are one cut here, where an average
precision takes them one by one.
"""

import math
from typing import NamedTuple

import numpy as np

from detector.data.packed import PackedIndex
from detector.evaluation.base import Found, class_names
from detector.evaluation.coco import match_with
from detector.evaluation.matching import IOUS, Matching
from detector.evaluation.precision import RECALLS, accumulate


class Curve(NamedTuple):
    """The detections of a class, or of several, cut at each of their S scores.

    objects: to be found; scores [S] falling, each once; kept [S] int64: detections that count and have that score or a
    higher one; right [S] int64: those of them that found an object.
    """

    objects: int
    scores: np.ndarray
    kept: np.ndarray
    right: np.ndarray

    @property
    def detections(self) -> int:
        """All that count."""
        return int(self.kept[-1]) if len(self.kept) else 0

    @property
    def f1(self) -> np.ndarray:
        """[S] 2 * right / (kept + objects), the harmonic mean of precision and recall."""
        return 2 * self.right / (self.kept + self.objects)


class Best(NamedTuple):
    """The cut of the highest F1.

    threshold: detections of this score or a higher one are kept, see `between`; f1, precision, recall: there; kept,
    right: detections that count, and those that found an object.
    """

    threshold: float
    f1: float
    precision: float
    recall: float
    kept: int
    right: int


def class_curves(matching: Matching, labels: np.ndarray, classes: int, iou: int = 0) -> list[Curve]:
    """A curve for each class. labels [M]: of the objects; iou: place in `matching.IOUS`."""
    objects = np.bincount(labels[matching.counts[0]], minlength=classes)
    right, counted = matching.right()[iou], ~matching.ignored[0, iou]
    starts = np.searchsorted(matching.labels, np.arange(classes + 1))
    curves = []
    for k in range(classes):
        part = slice(starts[k], starts[k + 1])
        curves.append(_curve(matching.scores[part], right[part], counted[part], int(objects[k])))
    return curves


def pooled_curve(matching: Matching, labels: np.ndarray, classes: int, iou: int = 0) -> Curve:
    """One curve of all classes with an object to be found; detections of others are left out, as in COCO's AP."""
    objects = np.bincount(labels[matching.counts[0]], minlength=classes)
    there = np.flatnonzero((objects > 0)[matching.labels])
    order = there[np.argsort(-matching.scores[there], kind="stable")]
    right, counted = matching.right()[iou], ~matching.ignored[0, iou]
    return _curve(matching.scores[order], right[order], counted[order], int(objects.sum()))


def _curve(scores: np.ndarray, right: np.ndarray, counted: np.ndarray, objects: int) -> Curve:
    """From detections by falling score."""
    scores, right = scores[counted], right[counted]
    ends = np.flatnonzero(np.r_[scores[1:] != scores[:-1], True][: len(scores)])
    return Curve(objects, scores[ends], ends + 1, np.cumsum(right)[ends])


def best_cut(curve: Curve) -> Best | None:
    """The cut of the highest F1, of equal ones that of the fewest detections; None where nothing is right."""
    if not curve.objects or not curve.right[-1:].any():
        return None
    i = int(np.argmax(curve.f1))
    kept, right = int(curve.kept[i]), int(curve.right[i])
    low = float(curve.scores[i + 1]) if i + 1 < len(curve.scores) else None
    threshold = between(low, float(curve.scores[i]))
    return Best(threshold, float(curve.f1[i]), right / kept, right / curve.objects, kept, right)


def between(low: float | None, high: float) -> float:
    """A number above `low` and not above `high`: the middle in the fewest decimal places, two at least, that fit.

    So a threshold neither stands on a score nor needs all of its digits, and float32, in which detectors score, keeps
    the order. None: there is no lower score, and `high` is rounded down. `high` itself where no number lies between.
    """
    for places in range(2, 18):
        if low is None:
            number = math.floor(round(high * 10**places, 6)) / 10**places  # 0.29 * 100 is a little less than 29
            if 0 < number <= high:
                return number
            continue
        number = round((low + high) / 2, places)
        below, here, above = np.array([low, number, high], np.float32)
        if low < number <= high and (below < here <= above or below == above):
            return number
    return high


class Part(NamedTuple):
    """What is known of a class, or of all together.

    precision [101]: the best at each of `RECALLS` or beyond, of all together the mean over the classes; ap: its mean;
    nan without objects. best: None where nothing is right; threshold: its own, else that of all together, nan where
    nothing at all is right.
    """

    name: str
    curve: Curve
    precision: np.ndarray
    ap: float
    best: Best | None
    threshold: float


def parts_of(index: PackedIndex, found: Found, iou: float = 0.5) -> tuple[list[Part], Part]:
    """A part for each class of an index, by its distinct name, and that of all together. iou: one of `IOUS`."""
    names, place = class_names(index), int(np.argmin(np.abs(IOUS - iou)))
    matching = match_with(index, found)
    precision = accumulate(matching, index.labels, len(names)).precision[place, :, :, 0].T
    precision[precision < 0] = np.nan
    whole = pooled_curve(matching, index.labels, len(names), place)
    other = best_cut(whole)
    fallback = other.threshold if other else math.nan
    parts = []
    curves = class_curves(matching, index.labels, len(names), place)
    for name, curve, points in zip(names, curves, precision, strict=True):
        best = best_cut(curve)
        parts.append(Part(name, curve, points, float(points.mean()), best, best.threshold if best else fallback))
    there = precision[[part.curve.objects > 0 for part in parts]]
    mean = there.mean(0) if len(there) else np.full(len(RECALLS), np.nan)
    return parts, Part("all together", whole, mean, float(mean.mean()), other, fallback)
