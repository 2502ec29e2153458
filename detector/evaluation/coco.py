"""The COCO measures. faster-coco-eval computes them, pycocotools defines them; a test holds both equal."""

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgspec
import numpy as np
from faster_coco_eval import COCO, COCOeval_faster

from detector.data.index import PackedIndex
from detector.evaluation.report import MEASURES, PER_CLASS, Measure, write_atomic
from detector.structures import Detection, Target

_log = logging.getLogger("detector")


class Indexed(Protocol):
    """What is evaluated on: any data set that has the packed annotations of its file."""

    @property
    def index(self) -> PackedIndex:
        """The annotations."""


class _Boxes(NamedTuple):
    """Detections as arrays: image [D] position in the index, xywh [D, 4] float64, labels [D], scores [D] float64."""

    image: np.ndarray
    xywh: np.ndarray
    labels: np.ndarray
    scores: np.ndarray


class CocoEvaluator:
    """Gathers the detections of a data set's images and measures them against all its annotations.

    Images that were never given to `update` count as images without detections.
    """

    def __init__(self, dataset: Indexed) -> None:
        """An evaluator without detections."""
        self._index = dataset.index
        self._position = {image_id: i for i, image_id in enumerate(self._index.image_ids.tolist())}
        self._given: dict[int, _Boxes] = {}

    def update(self, detections: list[Detection], targets: list[Target]) -> None:
        """Add the detections of some images: boxes in pixels of the original image, on the CPU.

        targets: of the same images; only their image_id is read. Raises KeyError for an image that the data set does
        not have, ValueError for one that was given before and for boxes, scores or labels that are no such thing.
        """
        for detection, target in zip(detections, targets, strict=True):
            image_id = target["image_id"]
            if image_id not in self._position:
                raise KeyError(f"image {image_id!r} is not in {self._index.path}")
            position = self._position[image_id]
            if position in self._given:
                raise ValueError(f"image {image_id!r} was evaluated before; an evaluator takes each image once")
            self._given[position] = self._checked(position, detection)

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
            iscrowd=index.crowd.astype(np.int64),
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

    def results(self) -> list[dict[str, Any]]:
        """The detections in COCO's results format, with the ids of the annotation file and exactly these numbers."""
        index, found = self._index, self._stacked()
        image_ids = index.image_ids[found.image].tolist()
        category_ids = np.array(index.category_ids)[found.labels].tolist()
        rows = zip(image_ids, category_ids, found.xywh.tolist(), found.scores.tolist(), strict=True)
        return [{"image_id": i, "category_id": k, "bbox": box, "score": score} for i, k, box, score in rows]

    def save_results(self, path: str | Path) -> None:
        """Write `results` as one JSON file, which pycocotools reads. The file is whole at every moment."""
        write_atomic(path, msgspec.json.encode(self.results()))

    def _checked(self, position: int, detection: Detection) -> _Boxes:
        """A copy of one image's detections, or ValueError."""
        boxes = detection["boxes"].numpy().astype(np.float64)
        labels = detection["labels"].numpy().astype(np.int64)
        scores = detection["scores"].numpy().astype(np.float64)
        name = f"image {self._index.image_id(position)!r}"
        if boxes.shape != (len(scores), 4) or labels.shape != scores.shape or scores.ndim != 1:
            shapes = f"boxes {boxes.shape}, labels {labels.shape}, scores {scores.shape}"
            raise ValueError(f"{name}: expected boxes [D, 4], labels [D] and scores [D], got {shapes}")
        if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
            raise ValueError(f"{name}: a detected box or score is not finite")
        if len(labels) and not 0 <= labels.min() <= labels.max() < len(self._index.classes):
            raise ValueError(
                f"{name}: labels reach from {labels.min()} to {labels.max()}, but {self._index.path} has "
                f"{len(self._index.classes)} classes; is it the data set that the model was trained for?"
            )
        xywh = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
        return _Boxes(np.full(len(scores), position), xywh, labels, scores)

    def _stacked(self) -> _Boxes:
        """All detections, in the order in which they came."""
        empty = _Boxes(np.empty(0, np.int64), np.empty((0, 4)), np.empty(0, np.int64), np.empty(0))
        return _Boxes(*(np.concatenate(parts) for parts in zip(empty, *self._given.values(), strict=True)))

    def _class_names(self) -> list[str]:
        """The names of the classes; one that occurs twice is followed by its category id."""
        counts = Counter(self._index.classes)
        pairs = zip(self._index.classes, self._index.category_ids, strict=True)
        return [name if counts[name] == 1 else f"{name} #{category_id}" for name, category_id in pairs]


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
