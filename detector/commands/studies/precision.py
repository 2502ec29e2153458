"""`detector analyze pr`: precision and recall of each class, and the threshold of its best F1."""

import argparse
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from detector.commands.base import show
from detector.commands.studies import Adder
from detector.commands.studies.drawing import picture
from detector.commands.studies.networks import number, points, table, write_csv
from detector.commands.studies.words import add_detections, add_iou, read_detections
from detector.files import write_json
from detector.text import printable

if TYPE_CHECKING:
    from detector.evaluation.curves import Part
    from detector.tasks.examined import Examined

log = logging.getLogger("detector")

EXAMPLE = "detector analyze pr output/quickstart"

FEW = 10
"""Objects of a class below which its threshold hangs on single pictures."""

_SHOWN = 8  # names of classes in a sentence


def add(command: Adder) -> None:
    """The command "pr"."""
    text = "precision and recall of each class, and the threshold of its best F1"
    one = add_iou(add_detections(command("pr", text, EXAMPLE)))
    one.set_defaults(study=study)


def study(args: argparse.Namespace) -> None:
    """Print the table; write pr.json, pr.csv and pr.png, and thresholds.json into a run's folder."""
    from detector.evaluation.curves import parts_of

    examined, folder = read_detections(args)
    parts, whole = parts_of(examined.source.index, examined.found, args.iou)
    measure = f"AP{round(100 * args.iou)}"
    head = ["class", "objects", "detections", measure, "best F1", "precision", "recall", "threshold"]
    seen = [part for part in parts if part.curve.objects or part.curve.detections]
    show(table([head, *map(_row, [*seen, whole])]))
    for sentence in sentences(parts):
        show(sentence)
    _write_numbers(folder, examined, args.iou, parts, whole)
    if examined.run is not None:
        _write_thresholds(examined.run, examined, args.iou, parts, whole)
    _draw(folder / "pr.png", f"{examined.name} on {examined.source.name}, IoU {args.iou:g}", measure, parts, whole)


def sentences(parts: Sequence["Part"]) -> list[str]:
    """What has to be said of the thresholds: whose are not their own, and whose stand on little."""
    absent = [part.name for part in parts if not part.curve.objects]
    never = [part.name for part in parts if part.curve.objects and not part.best]
    few = [part.name for part in parts if part.best and part.curve.objects < FEW]
    said = [
        (absent, "without an object", "the threshold of all together"),
        (never, "of which nothing was found", "the threshold of all together"),
        (few, f"with fewer than {FEW} objects", "a threshold that hangs on single pictures"),
    ]
    return [f"{_classes(names)} {what}, so with {which}: {_listed(names)}" for names, what, which in said if names]


def _classes(names: Sequence[str]) -> str:
    return f"{len(names)} class{'es' * (len(names) > 1)}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(printable, names[:_SHOWN])) + ", .." * (len(names) > _SHOWN)


def _numbers(part: "Part") -> dict[str, float]:
    best = part.best
    f1, precision, recall = (best.f1, best.precision, best.recall) if best else (math.nan,) * 3
    return {"f1": f1, "precision": precision, "recall": recall, "threshold": part.threshold}


def _row(part: "Part") -> list[str]:
    *measures, threshold = (part.ap, *_numbers(part).values())
    counts = (str(part.curve.objects), str(part.curve.detections))
    return [printable(part.name), *counts, *map(points, measures), number(threshold)]


def _write_numbers(folder: Path, examined: "Examined", iou: float, parts: Sequence["Part"], whole: "Part") -> None:
    def described(part: "Part") -> dict[str, object]:
        counts = {"objects": part.curve.objects, "detections": part.curve.detections}
        kept = part.best.kept if part.best else None
        points = part.precision.tolist() if part.curve.objects else None
        return {**counts, "AP": part.ap, **_numbers(part), "kept": kept, "precision_at_recalls": points}

    write_json(
        folder / "pr.json",
        {
            "version": 1,
            "name": examined.name,
            "data": examined.source.name,
            "images": len(examined.source.index),
            "iou": iou,
            "all": described(whole),
            "classes": {part.name: described(part) for part in parts},
        },
    )
    log.info("-> %s", folder / "pr.json")
    names = ("class", "objects", "detections", "AP", *_numbers(whole))
    rows = ((part.name, part.curve.objects, part.curve.detections, part.ap, *_numbers(part).values()) for part in parts)
    write_csv(folder / "pr.csv", names, rows)


def _write_thresholds(run: Path, examined: "Examined", iou: float, parts: Sequence["Part"], whole: "Part") -> None:
    from detector.tasks.retest import repeated
    from detector.tasks.thresholds import known_iou, write_thresholds

    if whole.best is None:
        log.warning("%s: nothing was found, so there are no thresholds for --threshold auto", run)
        return
    before = known_iou(run)
    path = write_thresholds(run, examined, iou, parts, whole.threshold)
    log.info("-> %s, for %s", path, repeated(run, "predict", " PHOTOS --threshold auto"))
    if before not in (None, iou):
        log.warning(
            "%s: the thresholds at IoU %g took the place of those at IoU %g, which `detector analyze pr %s --iou %g` "
            "writes again",
            *(path, iou, before, run, before),
        )


def _draw(path: Path, title: str, measure: str, parts: Sequence["Part"], whole: "Part") -> None:
    from detector.analysis.precision_chart import ClassLine, save_precision_chart

    def line(part: "Part", name: str) -> ClassLine:
        best = part.best and (part.best.threshold, part.best.f1, part.best.precision, part.best.recall)
        return ClassLine(name, part.ap, part.precision, part.curve.scores, part.curve.f1, best)

    lines = [line(part, part.name) for part in parts if part.curve.objects]
    with picture(path):
        save_precision_chart(path, title, measure, lines, line(whole, "mean (right: all together)"))
