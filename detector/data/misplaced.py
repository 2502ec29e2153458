"""Boxes that would lie inside their pictures if their numbers were taken otherwise than the format has them."""

from pathlib import Path
from typing import Literal

import numpy as np

from detector.data.problems import Problems, declare

MISPLACED = declare(
    "boxes-misplaced",
    "warning",
    "sets have boxes that would lie inside their pictures if their numbers were meant otherwise",
    "Look at some boxes, and write them as the format has them.",
)

_WRONG = 0.1  # share of the boxes that lie wrong, from which on their numbers may mean something else
_FEW = 5  # boxes that lie wrong, of which nothing is concluded
_NEARLY_ALL = 0.95  # share of the boxes that must lie right by another meaning
_MOST = 0.8  # share of those that lie wrong
_MANY = 0.3  # share of the boxes that lie beyond, from which on all may be too large
_LARGEST_FACTOR = 20  # of the picture that boxes were drawn on; beyond that they are no pixels

Form = Literal["coco", "voc", "yolo"]


def tell_misplaced(
    path: Path, form: Form, boxes_xywh: np.ndarray, limits: np.ndarray, wrong: np.ndarray, problems: Problems
) -> None:
    """Tells `problems` what the numbers of boxes [M, 4] inside limits [M, 2] (width, height) may mean instead.

    wrong [M] bool: those that have no area inside, or reach out.
    """
    number = int(wrong.sum())
    if number < max(_FEW, _WRONG * len(wrong)) or not (said := _meant(form, boxes_xywh, limits, wrong)):
        return
    problems.note(
        MISPLACED,
        f"{path}: {number} of {len(wrong)} boxes lie outside their image, reach out of it or have no side above zero, "
        f"and nearly all would lie inside {said}",
    )


def _meant(form: Form, boxes: np.ndarray, limits: np.ndarray, wrong: np.ndarray) -> str:
    """A clause on what the numbers may mean; empty where nothing fits, or where they are corners, which others tell."""
    low, sides = boxes[:, :2], boxes[:, 2:]
    middle = low + sides / 2

    def fits(low: np.ndarray, sides: np.ndarray) -> bool:
        fit = ((sides > 0) & (low >= -1) & (low + sides <= limits + 1)).all(1)
        return bool(fit.mean() >= _NEARLY_ALL and fit[wrong].mean() >= _MOST)

    if form == "voc":
        if fits(low, low + sides):
            return "if xmax and ymax were width and height: write xmin + width and ymin + height there"
    else:
        first = middle if form == "yolo" else low  # what the file has in front
        if fits(first, sides - first):
            return ""
        if form == "yolo" and fits(middle, sides):
            return "if the lines had the upper left corner in front: write the centre, x + width / 2, y + height / 2"
        if form == "coco" and fits(low - sides / 2, sides):
            return "if x, y were the centre: subtract half of width and height from them"
    if form != "yolo" and fits(low[:, ::-1], sides[:, ::-1]):
        return "if y stood before x: exchange x and y" + (", width and height" if form == "coco" else "")
    shares = ((low + sides) / limits).max(1)
    factor = float(np.quantile(shares, 0.99))
    if (shares > 1).mean() >= _MANY and factor <= _LARGEST_FACTOR and fits(low / factor, sides / factor):
        return (
            f"if the pictures were {factor:.1f} times as large: were they made smaller after they were labelled? Then "
            "scale the boxes too"
        )
    return ""
