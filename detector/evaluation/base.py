"""What every evaluator does: it gathers the detections of a data set's images, checks them, and files them."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from detector.data.packed import PackedIndex
from detector.errors import UserError
from detector.files import json_bytes, write_atomic
from detector.structures import Detection, Target
from detector.text import counted


class Indexed(Protocol):
    """What is evaluated on: any data set that has the packed annotations of its file."""

    @property
    def index(self) -> PackedIndex:
        """The annotations."""


class Found(NamedTuple):
    """Detections as arrays: image [D] position in the index, xywh [D, 4] float64, labels [D], scores [D] float64."""

    image: np.ndarray
    xywh: np.ndarray
    labels: np.ndarray
    scores: np.ndarray


class Evaluator:
    """Gathers the detections of a data set's images; a subclass measures them against all its annotations.

    Images that were never given to `add` count as images without detections. kept: what `save_results` writes.
    """

    kept = "detections"

    def __init__(self, dataset: Indexed) -> None:
        """An evaluator without detections."""
        self._index = dataset.index
        self._position = {image_id: i for i, image_id in enumerate(self._index.image_ids.tolist())}
        self._given: dict[int, Found] = {}

    def add(self, detections: list[Detection], targets: list[Target]) -> None:
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

    @property
    def given(self) -> Mapping[int, Found]:
        """The detections so far, by the image's position in the index."""
        return self._given

    def merge(self, others: Iterable[Mapping[int, Found]]) -> None:
        """Add what evaluators of the same data set in other processes were `given`.

        Raises ValueError for an image that two of them were given.
        """
        for other in others:
            if twice := self._given.keys() & other.keys():
                name = self._index.image_id(min(twice))
                raise ValueError(f"image {name!r} was evaluated by two processes; an evaluator takes each image once")
            self._given.update(other)

    def compute(self) -> dict[str, float]:
        """Measures by name, fractions in 0..1; -1 where there is nothing to find."""
        raise NotImplementedError

    def names(self) -> list[str]:
        """The names that `compute` gives, in its order."""
        raise NotImplementedError

    def results(self) -> list[dict[str, Any]]:
        """The detections in COCO's results format, with the ids of the annotation file and exactly these numbers."""
        index, found = self._index, self.stacked()
        image_ids = index.image_ids[found.image].tolist()
        category_ids = np.array(index.category_ids)[found.labels].tolist()
        rows = zip(image_ids, category_ids, found.xywh.tolist(), found.scores.tolist(), strict=True)
        return [{"image_id": i, "category_id": k, "bbox": box, "score": score} for i, k, box, score in rows]

    def save_results(self, path: str | Path) -> None:
        """Write `results` as one JSON file, which pycocotools reads. The file is whole at every moment."""
        write_atomic(path, json_bytes(self.results()))

    def _checked(self, position: int, detection: Detection) -> Found:
        """A copy of one image's detections, or ValueError."""
        boxes = detection["boxes"].numpy().astype(np.float64)
        labels = detection["labels"].numpy().astype(np.int64)
        scores = detection["scores"].numpy().astype(np.float64)
        name = f"image {self._index.image_id(position)!r}"
        if boxes.shape != (len(scores), 4) or labels.shape != scores.shape or scores.ndim != 1:
            shapes = f"boxes {boxes.shape}, labels {labels.shape}, scores {scores.shape}"
            raise ValueError(f"{name}: expected boxes [D, 4], labels [D] and scores [D], got {shapes}")
        if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
            raise UserError(f"{name}: a detected box or score is not finite")
        if len(labels) and not 0 <= labels.min() <= labels.max() < len(self._index.classes):
            raise UserError(
                f"{name}: labels reach from {labels.min()} to {labels.max()}, but {self._index.path} has "
                f"{counted(len(self._index.classes), 'class|classes')}; is it the data set that the model was trained "
                "for?"
            )
        xywh = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
        return Found(np.full(len(scores), position), xywh, labels, scores)

    def stacked(self) -> Found:
        """All detections, in the order of the images in the annotation file."""
        empty = Found(np.empty(0, np.int64), np.empty((0, 4)), np.empty(0, np.int64), np.empty(0))
        given = [self._given[position] for position in sorted(self._given)]
        return Found(*(np.concatenate(parts) for parts in zip(empty, *given, strict=True)))

    def _class_names(self) -> list[str]:
        return class_names(self._index)


def class_names(index: PackedIndex) -> list[str]:
    """The names of the classes, see `distinct_names`."""
    return distinct_names(index.classes, index.category_ids)


def distinct_names(classes: Sequence[str], category_ids: Sequence[int]) -> list[str]:
    """The names; one that occurs twice is followed by its category id."""
    counts = Counter(classes)
    pairs = zip(classes, category_ids, strict=True)
    return [name if counts[name] == 1 else f"{name} #{category_id}" for name, category_id in pairs]
