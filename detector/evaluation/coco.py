"""The COCO measures. faster-coco-eval computes them, pycocotools defines them; a test holds both equal."""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster

from detector.evaluation.base import Evaluator
from detector.evaluation.report import MEASURES, PER_CLASS, Measure

_log = logging.getLogger("detector")


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
        index = self._index
        # Ties of the scores fall in the order of the images, which in pycocotools is that of their ids.
        rank = np.argsort(np.argsort(index.image_ids, kind="stable"), kind="stable")
        images = [{"id": i, "height": 0, "width": 0} for i in range(len(index))]
        categories = [{"id": k, "name": name} for k, name in enumerate(index.classes)]
        truth = _annotations(
            rank[np.repeat(np.arange(len(index)), np.diff(index.offsets))],
            index.boxes_xywh,
            index.labels,
            index.areas,
            iscrowd=(index.crowd | index.difficult).astype(np.int64),
        )
        found = self._stacked()
        areas = found.xywh[:, 2] * found.xywh[:, 3]
        guesses = _annotations(rank[found.image], found.xywh, found.labels, areas, score=found.scores)
        evaluation = COCOeval_faster(
            _coco(images, categories, truth),
            _coco(images, categories, guesses),
            iouType="bbox",
            print_function=_log.debug,
        )
        evaluation.evaluate()
        evaluation.accumulate()
        precision = np.asarray(evaluation.eval["precision"])  # [threshold, recall, class, area, detections]
        numbers = {name: _measure(evaluation, measure) for name, measure in MEASURES.items()}
        for k, name in enumerate(self._class_names()):
            numbers[PER_CLASS + name] = _mean(precision[:, :, k, 0, -1])
        return numbers


def _annotations(
    images: np.ndarray, xywh: np.ndarray, labels: np.ndarray, areas: np.ndarray, **extra: np.ndarray
) -> list[dict[str, Any]]:
    """Records as pycocotools has them; `extra` holds one more column. Ids count from 1: it takes 0 for unmatched."""
    ((name, column),) = extra.items()
    rows = zip(*(a.tolist() for a in (images, labels, xywh, areas, column)), strict=True)
    return [
        {"id": i, "image_id": image, "category_id": label, "bbox": box, "area": area, "iscrowd": 0, name: value}
        for i, (image, label, box, area, value) in enumerate(rows, start=1)
    ]


def _coco(images: Sequence[object], categories: Sequence[object], annotations: Sequence[object]) -> Any:  # noqa: ANN401
    coco = COCO()
    coco.dataset = {"images": images, "categories": categories, "annotations": annotations}
    coco.createIndex()
    return coco


def _measure(evaluation: Any, measure: Measure) -> float:  # noqa: ANN401
    params = evaluation.params
    values = np.asarray(evaluation.eval["recall" if measure.recall else "precision"])
    values = values[..., params.areaRngLbl.index(measure.area), params.maxDets.index(measure.detections)]
    if measure.iou is not None:
        values = values[np.isclose(params.iouThrs, measure.iou)]
    return _mean(values)


def _mean(values: np.ndarray) -> float:
    """The mean of the defined values; -1 without any."""
    defined = values[values > -1]
    return float(defined.mean()) if defined.size else -1.0
