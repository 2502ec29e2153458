"""What the errors of a detector say: a text with tables, and a document."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from detector.data.packed import PackedIndex
from detector.errors import UserError
from detector.evaluation.base import Found, class_names
from detector.evaluation.coco import matched_with, value_of
from detector.evaluation.errors import BACKGROUND, FOREGROUND, KINDS, SPECIAL, Errors, find_errors
from detector.evaluation.matching import match
from detector.evaluation.precision import accumulate
from detector.evaluation.report import MEASURES
from detector.text import counted, printable

VERSION = 1
"""Of the JSON document."""

CLASSES = 20
"""Rows of the printed table of classes."""

LEAST_WHOLE = 100 - 1e-9
"""From which on an AP50, in points of a hundred, is whole: means of fractions are rounded."""

WORDS = {
    "classification": "right place, wrong class",
    "localisation": f"right class, but an overlap below {FOREGROUND}",
    "both": f"wrong class, and an overlap below {FOREGROUND}",
    "duplicate": "the object was found already",
    "background": "there is no object",
    "missed": "objects that no repair above finds",
    "false positives": "all wrong detections, behind the right ones",
    "false negatives": "all objects that were not found",
}
"""What each kind is, in short."""


class ErrorReport(NamedTuple):
    """Errors on a test set. C classes.

    data: name of the test set; truth: its annotations; images, detections: how many there are; classes: their names;
    found: the errors; measures: AP, AP50 and AP75, fractions.
    """

    data: str
    truth: Path
    images: int
    detections: int
    classes: list[str]
    found: Errors
    measures: dict[str, float]


def report_errors(index: PackedIndex, found: Found, data: str) -> ErrorReport:
    """The errors of some detections on a test set of a name. Raises ValueError where it has no object that counts."""
    counts = ~(index.crowd | index.difficult)
    if not counts.any():
        others = f", but {len(counts)} crowds or difficult ones, which do not count" if len(counts) else ""
        raise UserError(
            f"{index.path} has no object to find in its {counted(len(index), 'image|images')}{others}; without "
            "objects nothing is right, wrong or missed: name a test set that has some"
        )
    truth, guesses = matched_with(index, found)
    matching = match(truth, guesses)
    numbers = accumulate(matching, index.labels, len(index.classes))
    errors = find_errors(truth, guesses, matching, len(index.classes))
    return ErrorReport(
        data, index.path, len(index), len(found.scores), class_names(index), errors,
        {name: value_of(numbers, MEASURES[name]) for name in ("AP", "AP50", "AP75")},
    )  # fmt: skip


def document(report: ErrorReport, name: str) -> dict[str, Any]:
    """Everything, as plain values, fractions as in metrics.json; nan becomes null."""
    found, kinds = report.found, [*KINDS, *SPECIAL]
    by_class, numbers = found.costs(), found.numbers
    costs, in_turn = found.mean(by_class), found.mean(found.in_turn)
    rows: dict[str, dict[str, Any]] = {
        kind: {"number": int(numbers[k].sum()), "cost": float(costs[k])} for k, kind in enumerate(kinds)
    }
    for kind, value in zip(KINDS, in_turn.tolist(), strict=True):
        rows[kind]["in_turn"] = value
    return {
        "version": VERSION,
        "name": name,
        "data": report.data,
        "truth": str(report.truth),
        "images": report.images,
        "objects": int(found.objects.sum()),
        "detections": report.detections,
        "foreground": FOREGROUND,
        "background": BACKGROUND,
        **report.measures,
        "kinds": {kind: rows[kind] for kind in KINDS},
        "special": {kind: rows[kind] for kind in SPECIAL},
        "classes": {
            label: {
                "objects": int(found.objects[c]),
                "AP50": float(found.ap50[c]),
                "chief": chief(report, c),
                "kinds": {
                    kind: {"number": int(numbers[k, c]), "cost": float(by_class[k, c])} for k, kind in enumerate(KINDS)
                },
            }
            for c, label in enumerate(report.classes)
        },
    }


def chief(report: ErrorReport, label: int) -> str | None:
    """The kind of errors whose repair gains most in a class; None where none gains anything."""
    costs = report.found.costs()[: len(KINDS), label]
    return KINDS[int(costs.argmax())] if costs.max() > 0 else None


def by_loss(report: ErrorReport) -> list[int]:
    """Classes that have objects, those of the lowest AP50 first; as they stand among equals."""
    order = np.argsort(report.found.ap50, kind="stable")
    return order[report.found.objects[order] > 0].tolist()


def text(report: ErrorReport, name: str) -> str:
    """Tables of the kinds and of the classes, and what they say, in points of a hundred."""
    found = report.found
    costs, numbers, in_turn = found.mean(found.costs()), found.numbers.sum(1), found.mean(found.in_turn)
    rows = [["error", "number", "costs", "in turn", ""]]
    for k, kind in enumerate([*KINDS, *SPECIAL]):
        reached = f"{100 * in_turn[k]:.1f}" if k < len(KINDS) else ""
        rows.append([kind, str(numbers[k]), f"{100 * costs[k]:.1f}", reached, WORDS[kind]])
    head = (
        f"{printable(name)} on {printable(report.data)}: {counted(report.images, 'image|images')}, "
        f"{counted(found.objects.sum(), 'object|objects')}, {counted(report.detections, 'detection|detections')}"
    )
    return "\n".join([head, "", *_columns(rows), "", *sentences(report), "", *_classes(report)]) + "\n"


def sentences(report: ErrorReport) -> list[str]:
    """What AP50 and AP are lost to, in words."""
    ap50, ap75, ap = (100 * report.measures[name] for name in ("AP50", "AP75", "AP"))
    costs = 100 * report.found.mean(report.found.costs())[: len(KINDS)]
    order = [k for k in np.argsort(-costs, kind="stable").tolist() if costs[k] > 0]
    lines = [f"AP50 is {ap50:.1f}. "]
    if order:
        most = ", then ".join(f"{KINDS[k]} ({costs[k]:+.1f})" for k in order[:3])
        lines[0] += (
            f"Repaired alone, these would gain most: {most}. What they gain overlaps; repaired one after the other, "
            "from the top (in turn), all six leave nothing to gain: 100.0."
        )
    elif ap50 < LEAST_WHOLE:
        lines[0] += "No repair gains anything alone; one after the other (in turn), they leave nothing to gain: 100.0."
    else:
        lines[0] += "There is nothing to gain."
    if ap50 > 0:
        lines.append(
            f"Held to stricter overlaps, AP75 is {ap75:.1f} and AP, the mean of 0.50 to 0.95, {ap:.1f}: the "
            f"{ap50 - ap:.1f} points between AP50 and AP are lost by boxes that are right at {FOREGROUND} and not "
            "exact enough beyond it, which no kind above counts."
        )
    if not report.detections:
        lines.append("There are no detections at all: every object is missed.")
    if len(report.classes) == 1:
        lines.append("With one class, none can be taken for another: classification and both are 0.")
    return lines


def _classes(report: ErrorReport) -> list[str]:
    costs = report.found.costs()
    order = by_loss(report)
    rows = [["class", "objects", "AP50", *KINDS, "chief"]]
    for c in order[:CLASSES]:
        numbers = [f"{100 * value:.1f}" for value in (report.found.ap50[c], *costs[: len(KINDS), c])]
        rows.append([printable(report.classes[c]), str(report.found.objects[c]), *numbers, chief(report, c) or "-"])
    lines = ["What each kind costs a class, in points of its AP50:", *_columns(rows)]
    if len(order) > CLASSES:
        lines.append(f"These are the {CLASSES} of the lowest AP50; errors.json has all {len(order)}.")
    return lines


def _columns(rows: list[list[str]]) -> list[str]:
    """Columns of one width each, the first and the last to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            f"{cell:<{width}}" if place in (0, len(cells) - 1) else f"{cell:>{width}}"
            for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ).rstrip()
        for cells in rows
    ]
