"""The COCO measures, as pycocotools defines them; a test holds both equal to the bit of every match."""

import numpy as np

from detector.data.packed import PackedIndex
from detector.evaluation.base import Evaluator, Found
from detector.evaluation.matching import AREAS, IOUS, Guesses, Matching, Truth, match
from detector.evaluation.precision import KEPT, Accumulated, accumulate
from detector.evaluation.report import MEASURES, PER_CLASS, Measure


class CocoEvaluator(Evaluator):
    """COCO's measures. VOC's difficult objects count as crowds: whether they are found or not does not matter."""

    def names(self) -> list[str]:
        """Of the twelve numbers, then of every class."""
        return [*MEASURES, *(PER_CLASS + name for name in self._class_names())]

    def compute(self) -> dict[str, float]:
        """The twelve numbers of `report.MEASURES` and "AP/<class>" of every class, fractions in 0..1.

        -1, as in pycocotools, where nothing is to be found: no annotation of that size or class. Classes of one name
        are told apart by their category id: "AP/person #7".
        """
        found = accumulate(self.matching(), self._index.labels, len(self._index.classes))
        numbers = {name: value_of(found, measure) for name, measure in MEASURES.items()}
        for k, name in enumerate(self._class_names()):
            numbers[PER_CLASS + name] = _mean(found.precision[:, :, k, 0])
        return numbers

    def matching(self) -> Matching:
        """What became of every detection and every object."""
        return match_with(self._index, self.stacked())


def image_ranks(index: PackedIndex) -> np.ndarray:
    """[N] int64: the rank of each image by its id: ties of scores fall in this order, as in pycocotools."""
    return np.argsort(np.argsort(index.image_ids, kind="stable"), kind="stable")


def match_with(index: PackedIndex, found: Found) -> Matching:
    """Detections matched with the objects of an index; images are `image_ranks`."""
    return match(*matched_with(index, found))


def matched_with(index: PackedIndex, found: Found) -> tuple[Truth, Guesses]:
    """What is matched: the objects of an index and some detections; images are `image_ranks`."""
    rank = image_ranks(index)
    image = rank[index.image_of()]
    truth = Truth(image, index.labels, index.boxes_xywh, index.areas, index.crowd | index.difficult)
    return truth, Guesses(rank[found.image], found.labels, found.xywh, found.scores)


def value_of(found: Accumulated, measure: Measure) -> float:
    """One of COCO's numbers."""
    area = list(AREAS).index(measure.area)
    if measure.recall:
        values = found.recall[:, :, area, KEPT.index(measure.detections)]
    else:
        values = found.precision[..., area]
    return _mean(values if measure.iou is None else values[np.isclose(IOUS, measure.iou)])


def _mean(values: np.ndarray) -> float:
    """The mean of the defined values; -1 without any."""
    defined = values[values > -1]
    return float(defined.mean()) if defined.size else -1.0
