"""What is said about an evaluation: the names of the measures and printed tables."""

from collections.abc import Mapping
from typing import NamedTuple

from detector.text import printable

PER_CLASS = "AP/"
"""What the keys of a class's AP begin with: "AP/person"."""

VOC = "VOC/"
"""What the keys of VOC's measures begin with."""

_WIDTH = 120
_COLUMNS = {PER_CLASS: "AP", f"{VOC}AP50/": "AP50", f"{VOC}AP50_11point/": "11-pt"}


class Measure(NamedTuple):
    """One number of the COCO evaluation.

    recall: average recall, else average precision; iou: its threshold, None for the mean over 0.50:0.05:0.95;
    area: all | small (< 32^2 pixels) | medium | large (>= 96^2); detections: how many count in an image.
    """

    recall: bool
    iou: float | None
    area: str
    detections: int


MEASURES = {
    "AP": Measure(False, None, "all", 100),
    "AP50": Measure(False, 0.5, "all", 100),
    "AP75": Measure(False, 0.75, "all", 100),
    "APs": Measure(False, None, "small", 100),
    "APm": Measure(False, None, "medium", 100),
    "APl": Measure(False, None, "large", 100),
    "AR1": Measure(True, None, "all", 1),
    "AR10": Measure(True, None, "all", 10),
    "AR100": Measure(True, None, "all", 100),
    "ARs": Measure(True, None, "small", 100),
    "ARm": Measure(True, None, "medium", 100),
    "ARl": Measure(True, None, "large", 100),
}
"""The twelve numbers of COCO, in its order."""

VOC_MEASURES = {
    f"{VOC}AP": ("0.50:0.95", "all points"),
    f"{VOC}AP50": ("0.50", "all points"),
    f"{VOC}AP_11point": ("0.50:0.95", "11 points"),
    f"{VOC}AP50_11point": ("0.50", "11 points"),
}
"""Mean APs over the classes by VOC's matching: their IoU, and the recalls that the AP is taken from."""


SALIENCY = ("max_f", "mae")
"""The measures of salient objects that stand above a table."""


def of_class(name: str) -> bool:
    """Whether a measure is that of one class."""
    return name.startswith(tuple(_COLUMNS))


def headline(metrics: Mapping[str, float], name: str, step: int | None) -> str:
    """The line above a table: "step 500 | shapes_val | AP 0.412 | AP50 0.634"; step: of the training, None unknown."""
    chief = [key for key in ("AP", "AP50", *SALIENCY) if key in metrics] or [f"{VOC}AP", f"{VOC}AP50"]
    numbers = [f"{key} {_number(metrics[key]).strip()}" for key in chief if key in metrics]
    return " | ".join([*[f"step {step}"] * (step is not None), name, *numbers])


def summary_text(metrics: Mapping[str, float]) -> str:
    """The COCO measures in COCO's words, VOC's likewise, then other numbers, then a table of the APs of each class.

    Numbers are fractions as in `metrics`; "-" stands for -1: there is nothing to find.
    """
    lines = [_sentence(MEASURES[name], metrics[name]) for name in MEASURES if name in metrics]
    lines += [
        f" Average Precision (VOC) @[ IoU={iou:<9} | {points:>10} ] = {_number(metrics[name])}"
        for name, (iou, points) in VOC_MEASURES.items()
        if name in metrics
    ]
    special = (*MEASURES, *VOC_MEASURES)
    others = {k: v for k, v in metrics.items() if k not in special and not of_class(k)}
    lines += [f" {name} = {_number(value)}" for name, value in others.items()]
    classes = {
        prefix: {k.removeprefix(prefix): v for k, v in metrics.items() if k.startswith(prefix)} for prefix in _COLUMNS
    }
    table = _table({_COLUMNS[prefix]: values for prefix, values in classes.items() if values})
    return "\n".join([*lines, *([""] if lines and table else []), *table])


def _sentence(measure: Measure, value: float) -> str:
    title = "Average Recall     (AR)" if measure.recall else "Average Precision  (AP)"
    iou = "0.50:0.95" if measure.iou is None else f"{measure.iou:.2f}"
    return f" {title} @[ IoU={iou:<9} | area={measure.area:>6} | maxDets={measure.detections:>3} ] = {_number(value)}"


def _number(value: float) -> str:
    return "    -" if value == -1 else f"{value:.3f}"


def _table(columns: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Names and their numbers under each title; read downwards, as many side by side as a line holds."""
    if not columns:
        return []
    names = {name: printable(name) for name in next(iter(columns.values()))}
    name_width = max(len("class"), *map(len, names.values()))
    cells = [
        "  ".join([f"{shown:<{name_width}}", *(_number(c[name]) for c in columns.values())])
        for name, shown in names.items()
    ]
    beside = min(max(1, (_WIDTH - 1) // (len(cells[0]) + 3)), -(-len(cells) // 5))
    rows = -(-len(cells) // beside)
    beside = -(-len(cells) // rows)
    head = "   ".join(["  ".join([f"{'class':<{name_width}}", *(f"{title:>5}" for title in columns)])] * beside)
    return [" " + "   ".join(line) for line in ([head], *(cells[row::rows] for row in range(rows)))]
