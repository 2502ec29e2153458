"""`detector analyze confusion`: which class is taken for which, with the background."""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from detector.commands.base import AUTO, score_or_auto, show
from detector.commands.studies import Adder
from detector.commands.studies.drawing import picture
from detector.commands.studies.networks import table, write_csv
from detector.commands.studies.words import add_detections, add_iou, read_detections
from detector.errors import UserError
from detector.files import json_bytes, write_atomic
from detector.text import agreeing, counted, printable

if TYPE_CHECKING:
    from detector.tasks.examined import Examined

log = logging.getLogger("detector")

EXAMPLE = "detector analyze confusion output/quickstart --threshold auto"

BACKGROUND = "(background)"
"""The name of the last row and column."""

_WHOLE = 10  # classes whose matrix is printed
_LISTED = 20  # confusions that are printed
_DRAWN = 20  # classes that are drawn; of more, those that are confused most


def add(command: Adder) -> None:
    """The command `confusion`."""
    text = "which class is taken for which: a matrix of truth and detections, with the background"
    one = add_iou(add_detections(command("confusion", text, EXAMPLE)))
    one.add_argument(
        "--threshold", type=score_or_auto, default=0.5, metavar="SCORE|auto",
        help="lowest score that counts; auto: of each class that of its best F1 on these detections",
    )  # fmt: skip
    one.set_defaults(study=study)


def study(args: argparse.Namespace) -> None:
    """Print the matrix or the most frequent confusions; write confusion.json, confusion.csv and confusion.png."""
    from detector.evaluation.base import class_names
    from detector.evaluation.confusion import confusion_of

    examined, folder = read_detections(args)
    names = class_names(examined.source.index)
    thresholds = _thresholds(examined, args.threshold, args.iou)
    matrix, left_out = confusion_of(examined.source.index, examined.found, thresholds, args.iou)
    if len(names) <= _WHOLE:
        show(_matrix_text(names, matrix))
    show(_mistakes_text(names, matrix))
    if left_out:
        show(
            f"{counted(left_out, 'detection|detections')} in crowds or difficult objects "
            f"{agreeing(left_out, 'counts|count')} for nothing"
        )
    chosen = "best F1 of each class" if args.threshold == AUTO else f"score {args.threshold:g}"
    write_atomic(
        folder / "confusion.json",
        json_bytes(
            {
                "version": 1,
                "name": examined.name,
                "data": examined.source.name,
                "images": len(examined.source.index),
                "iou": args.iou,
                "threshold": args.threshold,
                "thresholds": dict(zip(names, thresholds.tolist(), strict=True)),
                "classes": names,
                "matrix": matrix.tolist(),
                "left_out": left_out,
            }
        )
        + b"\n",
    )
    log.info("-> %s", folder / "confusion.json")
    every = [*names, BACKGROUND]
    write_csv(
        folder / "confusion.csv",
        ("truth", *every),
        ((name, *row) for name, row in zip(every, matrix.tolist(), strict=True)),
    )
    _draw(
        folder / "confusion.png",
        f"{printable(examined.name)} on {printable(examined.source.name)}, IoU {args.iou:g}, {chosen}",
        names,
        matrix,
    )


def _thresholds(examined: "Examined", threshold: float | str, iou: float) -> np.ndarray:
    """[C] the lowest score of each class."""
    from detector.evaluation.curves import parts_of

    if not isinstance(threshold, str):
        return np.full(len(examined.source.index.classes), threshold)
    found = np.array([part.threshold for part in parts_of(examined.source.index, examined.found, iou)[0]])
    if np.isnan(found).any():
        raise UserError(f"--threshold auto: nothing was found in {examined.source.name}; write a score")
    return found


def _matrix_text(names: Sequence[str], matrix: np.ndarray) -> str:
    shown = [*map(printable, names), BACKGROUND]
    rows = [[name, *map(str, row)] for name, row in zip(shown, matrix.tolist(), strict=True)]
    return table([["truth \\ detected", *shown], *rows])


def _mistakes_text(names: Sequence[str], matrix: np.ndarray) -> str:
    """Totals, then the most frequent confusions of classes."""
    from detector.evaluation.confusion import mistakes

    found, right = mistakes(matrix), int(np.trace(matrix))
    wrong = sum(one.objects for one in found)
    objects, detections = int(matrix[:-1].sum()), int(matrix[:, :-1].sum())
    total = (
        f"of {counted(objects, 'object|objects')} {right} are found as what they are, {wrong} as another class, "
        f"{matrix[:-1, -1].sum()} not at all; {matrix[-1].sum()} of {counted(detections, 'detection|detections')} "
        + ("is a false alarm" if matrix[-1].sum() == 1 else "are false alarms")
    )
    if not found:
        return total
    head = ["truth -> detected", "objects", "share of truth"]
    rows = [
        [f"{printable(names[one.truth])} -> {printable(names[one.detected])}", str(one.objects), f"{one.share:.3f}"]
        for one in found[:_LISTED]
    ]
    more = f"\nand {len(found) - _LISTED} other pairs of classes" * (len(found) > _LISTED)
    return f"{total}\n{table([head, *rows])}{more}"


def _draw(path: Path, title: str, names: Sequence[str], matrix: np.ndarray) -> None:
    """All classes, or those that are confused most; of these the others are one column."""
    from detector.analysis.confusion_chart import save_confusion_chart
    from detector.evaluation.confusion import most_confused, shares

    chosen, part = list(range(len(names))), shares(matrix)
    columns = [*names, BACKGROUND]
    rows, counts = columns, matrix
    if len(names) > _DRAWN:
        chosen = list(most_confused(matrix, _DRAWN))
        rest = sorted({*range(len(names))} - {*chosen})
        kept = [*chosen, len(names)]
        rows = [columns[k] for k in kept]
        columns = [*rows[:-1], f"({len(rest)} others)", BACKGROUND]
        title += f"\nthe {_DRAWN} of {len(names)} classes that are most often taken for others, or others for them"

        def folded(values: np.ndarray, others: np.ndarray) -> np.ndarray:
            return np.concatenate([values[:, chosen], others[:, None], values[:, -1:]], 1)

        part = folded(part[kept], np.nansum(part[kept][:, rest], 1))
        counts = folded(matrix[kept], matrix[kept][:, rest].sum(1))
        alarms = max(int(matrix[:, rest].sum()), 1)
        part[-1, -2] = counts[-1, -2] / alarms  # as of any other column: a share of its detections
    with picture(path):
        save_confusion_chart(path, title, rows, columns, part, counts)
