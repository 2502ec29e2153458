"""The measures of Pascal VOC (Everingham et al. 2010, sec. 4.2): AP by eleven points, as until 2009, and by all."""

from typing import NamedTuple

import numpy as np

from detector.evaluation.base import Evaluator, Found
from detector.evaluation.report import VOC, VOC_MEASURES

THRESHOLDS = np.arange(50, 100, 5) / 100
"""IoUs of COCO's average; VOC's own is the first."""

POINTS = 10  # the eleven recalls are 0, 1 / POINTS, .. 1


class _Matched(NamedTuple):
    """Detections by falling score. labels [D]; iou [D] with, and row [D] of, the most overlapping object of the class.

    The row is that of the index, -1 without such an object.
    """

    labels: np.ndarray
    iou: np.ndarray
    rows: np.ndarray


class VocEvaluator(Evaluator):
    """VOC's measures. Difficult objects, and COCO's crowds, are ignored: neither found nor missed.

    A detection belongs to the object of its class that it overlaps most, and is right if their IoU reaches the
    threshold and no detection of a higher score has that object. Boxes are continuous here; in the pixels of VOC's
    files, which count from 1 and include the last one, that is VOC's own IoU.
    """

    def names(self) -> list[str]:
        """Of the means, then of every class by all points, then by eleven."""
        kinds = f"{VOC}AP50/", f"{VOC}AP50_11point/"
        return [*VOC_MEASURES, *(kind + name for kind in kinds for name in self._class_names())]

    def compute(self) -> dict[str, float]:
        """The measures of `report.VOC_MEASURES`: means over the classes, and those at IoU 0.5 for every class.

        -1 where a class has no object that counts; the means are over the others.
        """
        matched = self._match()
        classes = len(self._index.classes)
        eleven, every = np.full((2, classes, len(THRESHOLDS)), -1.0)
        ignored = self._index.crowd | self._index.difficult
        objects = np.bincount(self._index.labels[~ignored], minlength=classes)
        by_class = np.argsort(matched.labels, kind="stable")  # and in each by falling score
        starts = np.searchsorted(matched.labels[by_class], np.arange(classes + 1))
        for t, threshold in enumerate(THRESHOLDS):
            right, counted = _judge(matched, threshold, ignored)
            for label in np.flatnonzero(objects):
                of_class = by_class[starts[label] : starts[label + 1]]
                found = np.cumsum(right[of_class[counted[of_class]]])
                eleven[label, t] = eleven_point_ap(found, objects[label])
                every[label, t] = all_point_ap(found, objects[label])
        numbers = {
            f"{VOC}AP": _mean(every.mean(1)),
            f"{VOC}AP50": _mean(every[:, 0]),
            f"{VOC}AP_11point": _mean(eleven.mean(1)),
            f"{VOC}AP50_11point": _mean(eleven[:, 0]),
        }
        for name, values in ((f"{VOC}AP50/", every[:, 0]), (f"{VOC}AP50_11point/", eleven[:, 0])):
            numbers |= {name + one: value for one, value in zip(self._class_names(), values.tolist(), strict=True)}
        return numbers

    def _match(self) -> _Matched:
        """All detections, equal scores in the order of the images, with their objects."""
        found = self.stacked()
        found = Found(*(part[np.argsort(found.image, kind="stable")] for part in found))
        iou, rows = np.zeros(len(found.scores)), np.full(len(found.scores), -1)
        ends = np.searchsorted(found.image, np.arange(len(self._index) + 1))
        for image in np.unique(found.image):
            mine, truth = slice(ends[image], ends[image + 1]), self._index.rows(image)
            if truth.stop > truth.start:
                same = found.labels[mine, None] == self._index.labels[truth]
                table = np.where(same, _iou(found.xywh[mine], self._index.boxes_xywh[truth]), -1)
                best = table.argmax(1)
                iou[mine] = table[np.arange(len(best)), best]
                rows[mine] = np.where(iou[mine] >= 0, truth.start + best, -1)
        order = np.argsort(-found.scores, kind="stable")
        return _Matched(found.labels[order], iou[order], rows[order])


def all_point_ap(found: np.ndarray, objects: int) -> float:
    """The area under the precision that falls with recall: at each recall, the best at that recall or a higher one.

    found [D]: right detections among the first 1, 2, .. by score; objects: how many there are to find, 1 or more.
    """
    best = _best_after(found)
    gained = np.diff(found, prepend=0)
    return float((best * gained).sum() / objects)


def eleven_point_ap(found: np.ndarray, objects: int) -> float:
    """The mean, over the recalls 0, 0.1, .. 1, of the best precision at that recall or a higher one; as above."""
    best = np.append(_best_after(found), 0.0)
    # In whole numbers, since 3 of 10 is not at least 0.1 + 0.1 + 0.1.
    first = np.searchsorted(found * POINTS, np.arange(POINTS + 1) * objects)
    return float(best[first].mean())


def _best_after(found: np.ndarray) -> np.ndarray:
    """[D]: the best precision of the first n detections and more."""
    precision = found / np.arange(1, len(found) + 1)
    return np.maximum.accumulate(precision[::-1])[::-1]


def _judge(matched: _Matched, threshold: float, ignored: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which detections are right, and which count at all: those on ignored objects do not; bool [D] both."""
    hit = (matched.rows >= 0) & (matched.iou >= threshold)
    counted = ~hit
    counted[hit] = ~ignored[matched.rows[hit]]
    candidates = np.flatnonzero(hit & counted)
    _, first = np.unique(matched.rows[candidates], return_index=True)
    right = np.zeros(len(hit), bool)
    right[candidates[first]] = True
    return right, counted


def _iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """[D, M] of boxes [D, 4] and [M, 4], xywh; 0 for two boxes without area."""
    low = np.maximum(boxes[:, None, :2], others[:, :2])
    high = np.minimum(boxes[:, None, :2] + boxes[:, None, 2:], others[:, :2] + others[:, 2:])
    common = np.maximum(high - low, 0).prod(2)
    union = boxes[:, 2:].prod(1)[:, None] + others[:, 2:].prod(1) - common
    return common / np.where(union > 0, union, 1)


def _mean(values: np.ndarray) -> float:
    """The mean of the classes that have objects; -1 without any."""
    defined = values[values >= 0]
    return float(defined.mean()) if defined.size else -1.0
