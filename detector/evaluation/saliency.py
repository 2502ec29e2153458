"""Measures of maps of salient objects: F, mean absolute error, structure. They equal those of pysodmetrics 1.6.2."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from detector.errors import UserError
from detector.files import json_bytes, write_atomic

BETA2 = 0.3
"""Squared weight of the recall against the precision in F. Achanta et al. 2009."""

ALPHA = 0.5
"""Weight of the object's part in the S-measure. Fan et al. 2017."""

LEVELS = 256
MEASURES = ("max_f", "max_mean_f", "adaptive_f", "mae", "s_measure")
FALLING = ("mae",)
"""Measures of which less is better."""

_EPS = np.spacing(1)


class Found(NamedTuple):
    """What was measured of one map.

    precision, recall [256]: of the pixels whose level is at least 255, 254, .. 0; the others: fractions in 0..1.
    """

    precision: np.ndarray
    recall: np.ndarray
    adaptive_f: float
    mae: float
    s_measure: float


class SaliencyEvaluator:
    """Gathers what is measured of each picture's map, and averages it over the data set.

    path: of the data set, for messages; image_ids: of all its pictures.
    """

    kept = "measures of each picture"

    def __init__(self, path: Path, image_ids: Sequence[int | str]) -> None:
        self.path, self.image_ids = path, dict.fromkeys(image_ids)  # in order, and quick to ask
        self.given: dict[int | str, Found] = {}

    def add(self, levels: np.ndarray, mask: np.ndarray, image_id: int | str) -> None:
        """Measure a picture's map. levels: uint8 [H, W]; mask: uint8 or bool [H, W], of the same size.

        Raises KeyError for a picture that the data set does not have, ValueError for one that was given before.
        """
        if image_id not in self.image_ids:
            raise KeyError(f"picture {image_id!r} is not in {self.path}")
        if image_id in self.given:
            raise ValueError(f"picture {image_id!r} was evaluated before; an evaluator takes each picture once")
        self.given[image_id] = measure(levels, mask)

    def merge(self, others: Iterable[Mapping[int | str, Found]]) -> None:
        """Add what evaluators of the same data set in other processes were `given`.

        Raises ValueError for a picture that two of them were given.
        """
        for other in others:
            if twice := self.given.keys() & other.keys():
                raise ValueError(f"picture {min(map(str, twice))!r} was evaluated by two processes")
            self.given.update(other)

    def compute(self) -> dict[str, float]:
        """The measures by name, fractions in 0..1, in the order of MEASURES. Raises ValueError without any picture.

        max_f: the largest F over the 256 levels, of precisions and recalls that are means over the pictures;
        max_mean_f: the largest mean of the pictures' F; adaptive_f, mae, s_measure: means over the pictures.
        """
        found = [self.given[image_id] for image_id in self.image_ids if image_id in self.given]
        if not found:
            raise UserError(f"{self.path}: no picture was evaluated, so there are no measures")
        precision, recall = (np.mean([getattr(one, key) for one in found], axis=0) for key in ("precision", "recall"))
        by_picture = np.mean([f_measure(one.precision, one.recall) for one in found], axis=0)
        return {
            "max_f": float(f_measure(precision, recall).max()),
            "max_mean_f": float(by_picture.max()),
            **{key: float(np.mean([getattr(one, key) for one in found])) for key in MEASURES[2:]},
        }

    def names(self) -> list[str]:
        """MEASURES."""
        return list(MEASURES)

    def results(self) -> list[dict[str, Any]]:
        """The measures of each picture: image_id, max_f, adaptive_f, mae, s_measure."""
        rows = []
        for image_id in self.image_ids:
            if one := self.given.get(image_id):
                best = float(f_measure(one.precision, one.recall).max())
                rows.append(
                    {
                        "image_id": image_id,
                        "max_f": best,
                        "adaptive_f": one.adaptive_f,
                        "mae": one.mae,
                        "s_measure": one.s_measure,
                    }
                )
        return rows

    def save_results(self, path: str | Path) -> None:
        """Write `results` as one JSON file. The file is whole at every moment."""
        write_atomic(path, json_bytes(self.results()))


def measure(levels: np.ndarray, mask: np.ndarray) -> Found:
    """All measures of one map.

    levels: uint8 [H, W], 255 where something is surely salient; they are stretched to 0..255 first, unless all are one.
    mask: [H, W], uint8 of 0 and 1 or bool. Raises ValueError for other types and sizes.
    """
    if levels.dtype != np.uint8 or levels.ndim != 2 or levels.shape != mask.shape:
        raise ValueError(
            f"expected levels [H, W] uint8 and a mask of that size, got {levels.dtype} {levels.shape} and {mask.shape}"
        )
    truth = mask.astype(bool)
    map_ = stretched(levels)
    precision, recall = precision_recall(map_, truth)
    return Found(
        precision,
        recall,
        adaptive_f(map_, truth),
        float(np.mean(np.abs(map_ - truth))),
        s_measure(map_, truth),
    )


def stretched(levels: np.ndarray) -> np.ndarray:
    """Levels 0..255 as float64 [H, W] whose least is 0 and largest 1; a map of one level is only divided by 255."""
    found = levels / 255
    low, high = found.min(), found.max()
    return found if low == high else (found - low) / (high - low)


def precision_recall(map_: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Precision and recall [256] of the pixels whose level is at least 255, 254, .. 0.

    Levels are those of the stretched map, times 255 and cut to whole numbers. Where nothing is found, or nothing is to
    be found, both are 0.
    """
    cut = (map_ * 255).astype(np.uint8)
    right, wrong = (np.bincount(cut[where], minlength=LEVELS)[::-1].cumsum() for where in (truth, ~truth))
    return right / np.maximum(right + wrong, 1), right / max(np.count_nonzero(truth), 1)


def f_measure(precision: np.ndarray, recall: np.ndarray) -> np.ndarray:
    """F of precisions and recalls, 0 where both are."""
    above, below = (1 + BETA2) * precision * recall, BETA2 * precision + recall
    return above / np.where(above == 0, 1, below)


def adaptive_f(map_: np.ndarray, truth: np.ndarray) -> float:
    """F of the pixels that are at least twice the map's mean, which is 1 at most."""
    found = map_ >= min(2 * map_.mean(), 1)
    right = np.count_nonzero(found & truth)
    if right == 0:
        return 0.0
    precision, recall = right / np.count_nonzero(found), right / np.count_nonzero(truth)
    return float((1 + BETA2) * precision * recall / (BETA2 * precision + recall))


def s_measure(map_: np.ndarray, truth: np.ndarray) -> float:
    """How alike map and mask are in structure, as an object and by regions. Fan et al. 2017.

    Of a mask without any object the mean of what is dark, of one that is all object the mean of the map.
    """
    share = truth.mean()
    if share in (0, 1):
        return float(map_.mean() if share else 1 - map_.mean())
    whole = _evenness(map_[truth]) * share + _evenness(1 - map_[~truth]) * (1 - share)
    return float(max(0.0, ALPHA * whole + (1 - ALPHA) * _by_regions(map_, truth)))


def _evenness(values: np.ndarray) -> float:
    """How high and even the values inside an object, or outside it, are."""
    mean = values.mean()
    spread = values.std(ddof=1) if values.size > 1 else 0.0
    return float(2 * mean / (mean**2 + 1 + spread + _EPS))


def _by_regions(map_: np.ndarray, truth: np.ndarray) -> float:
    """The likeness of the four parts that the mask's centre of mass divides the picture into, a mean by their area."""
    height, width = truth.shape
    row, column = (int(place) + 1 for place in np.argwhere(truth).mean(axis=0).round())
    total = 0.0
    for rows in (slice(0, row), slice(row, height)):
        for columns in (slice(0, column), slice(column, width)):
            part = map_[rows, columns]
            if part.size:
                total += _likeness(part, truth[rows, columns]) * part.size / truth.size
    return total


def _likeness(map_: np.ndarray, truth: np.ndarray) -> float:
    """Means, contrasts and correlation of two parts in one number, as SSIM has them without its constants."""
    less = map_.size - 1 + _EPS
    x, y = map_.mean(), truth.mean()
    dx, dy = map_ - x, truth - y
    above = 4 * x * y * (dx * dy).sum() / less
    below = (x**2 + y**2) * ((dx**2).sum() + (dy**2).sum()) / less
    if above != 0:
        return float(above / (below + _EPS))
    return float(below == 0)
