"""The study of single images: which are the worst, what is wrong in each, and how they look."""

import argparse
import logging
import math
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from detector.commands.base import show
from detector.commands.studies import Adder
from detector.commands.studies.networks import table
from detector.commands.studies.words import add_detections, read_detections
from detector.errors import UserError
from detector.files import write_atomic, write_json
from detector.text import agreeing, counted, printable

if TYPE_CHECKING:
    from detector.evaluation.worst import Mistakes
    from detector.structures import Detection, Size, Target
    from detector.tasks.examined import Examined

log = logging.getLogger("detector")

EXAMPLE = "detector analyze worst output/quickstart --number 12"

MEASURES = ("share", "errors", "missed", "false")  # of detector/evaluation/worst.py, which needs torch
KINDS = {"missed": "missed objects", "false": "false detections"}  # that a measure is of alone
VERSION = 1
SHEET, PICTURES = "worst.jpg", "worst"
LETTERS = 40  # of a file name in the table


def add(command: Adder) -> None:
    """The command `worst`."""
    one = add_detections(command("worst", "the images with most mistakes, drawn with truth and detections", EXAMPLE))
    one.add_argument("--number", type=int, default=12, metavar="COUNT", help="images in the table and on the sheet")
    one.add_argument("--threshold", type=float, default=0.3, metavar="SCORE", help="from which a detection counts")
    one.add_argument(
        "--by", choices=MEASURES, default=MEASURES[0],
        help="share: errors / (errors + objects found + 1), errors being missed objects and false detections, each of "
        "these as much as its score; errors: their sum; missed or false: one kind alone",
    )  # fmt: skip
    one.add_argument("--pictures", action="store_true", help="write the worst images in full size too, to worst/")
    one.set_defaults(study=worst)


class Image(NamedTuple):
    """An image with its mistakes.

    place: in the index; rank: 1 for the worst; missed: classes of the missed objects, with how many of each; surest:
    class and score of the false detection of the highest score, None without any.
    """

    place: int
    rank: int
    file: str
    value: float
    missed: dict[str, int]
    surest: tuple[str, float] | None


def worst(args: argparse.Namespace) -> None:
    """Print the worst images; write worst.json with all of them, worst.jpg and, with --pictures, worst/.

    Where no picture is there, table and worst.json are made all the same, but for --pictures, which then is an error.
    """
    from detector.analysis.sheet import MOST
    from detector.evaluation.worst import mistakes

    if not 1 <= args.number <= MOST:
        raise UserError(f"--number {args.number}: write 1 to {MOST}")
    if not math.isfinite(args.threshold):
        raise UserError(f"--threshold {args.threshold}: write a score, such as 0.3")
    examined, output = read_detections(args)
    found = mistakes(examined.source.index, examined.found, args.threshold)
    ranked = rank(examined, found, args.by)
    chosen = [one for one in ranked[: args.number] if one.value > 0]
    lost = _lost(examined, chosen)
    if lost and args.pictures:
        raise UserError(lost)
    show(_summary(examined, found, args))
    show(_table(chosen, found, args.by))
    document = _document(examined, found, ranked, args)
    write_json(output / "worst.json", document)
    log.info("-> %s", output / "worst.json")
    (output / SHEET).unlink(missing_ok=True)  # of another ranking
    if lost:
        log.warning("%s", lost)
    elif chosen:
        _draw(examined, found, chosen, output, args)


def rank(examined: "Examined", found: "Mistakes", by: str) -> list[Image]:
    """All images, the worst first."""
    from detector.evaluation.base import class_names
    from detector.evaluation.worst import worst_first

    index, guesses = examined.source.index, examined.found
    names, values = class_names(index), found.measure(by)
    images = []
    for number, place in enumerate(worst_first(index, values).tolist(), start=1):
        rows = index.rows(place)
        missed = Counter(names[label] for label in index.labels[rows][found.lost[rows]].tolist())
        best = int(found.surest[place])
        surest = None if best < 0 else (names[guesses.labels[best]], float(guesses.scores[best]))
        file = str(index.file_names[place])
        images.append(Image(place, number, file, float(values[place]), dict(missed.most_common()), surest))
    return images


def _document(examined: "Examined", found: "Mistakes", ranked: list[Image], args: argparse.Namespace) -> dict[str, Any]:
    index = examined.source.index
    return {
        "version": VERSION,
        "name": examined.name,
        "data": examined.source.name,
        "truth": str(index.path),
        "threshold": args.threshold,
        "iou": 0.5,
        "by": args.by,
        "images": [
            {
                "rank": one.rank,
                "file": one.file,
                "id": index.image_id(one.place),
                "value": one.value,
                "objects": int(found.objects[one.place]),
                "found": int(found.right[one.place]),
                "missed": int(found.missed[one.place]),
                "missed_classes": one.missed,
                "false": int(found.false[one.place]),
                "false_scores": float(found.blame[one.place]),
                "surest_false": None if one.surest is None else {"class": one.surest[0], "score": one.surest[1]},
            }
            for one in ranked
        ],
    }


def _summary(examined: "Examined", found: "Mistakes", args: argparse.Namespace) -> str:
    bad, what = int(np.count_nonzero(found.measure(args.by) > 0)), KINDS.get(args.by, "mistakes")
    return printable(
        f"{examined.name} on {examined.source.name}: {found.right.sum()} of "
        f"{counted(found.objects.sum(), 'object|objects')} {agreeing(found.right.sum(), 'is|are')} found by "
        f"detections of {args.threshold:g} or more (IoU 0.5); false detections: {found.false.sum()}; images with "
        f"{what}: {bad} of {len(examined.source.index)}"
    )


def _table(images: list[Image], found: "Mistakes", by: str) -> str:
    if not images:
        return "no image has any"
    measure = {"missed": [], "false": ["sum of scores"]}.get(by, [by])  # the number of missed objects stands there
    head = ["", *measure, "objects", "missed", "false", "surest false"]
    rows = [
        [
            f"{one.rank:>3} {_short(one.file)}",
            *[f"{one.value:.3f}"] * len(measure),
            *(str(counts[one.place]) for counts in (found.objects, found.missed, found.false)),
            "-" if one.surest is None else f"{printable(one.surest[0])} {one.surest[1]:.2f}",
        ]
        for one in images
    ]
    return table([head, *rows])


def _short(file: str) -> str:
    """A file name as the table shows it: its end, which tells it from others."""
    text = printable(file)
    return text if len(text) <= LETTERS else f"..{text[2 - LETTERS :]}"


def _lost(examined: "Examined", chosen: list[Image]) -> str:
    """What to say where none of the pictures is there, "" where one is, or none is needed."""
    folder = examined.source.folder
    if not chosen or any((folder / one.file).is_file() for one in chosen):
        return ""
    where = "name their folder: --truth FOLDER:FILE.json"
    remedy = f"put them back, or write --results {examined.run}/results.json and {where}" if examined.run else where
    return f"none of the {len(chosen)} worst pictures is in {folder}, so there is no sheet; {remedy}"


def _draw(examined: "Examined", found: "Mistakes", chosen: list[Image], output: Path, args: argparse.Namespace) -> None:
    """Write the sheet, and the pictures that are asked for. Those that cannot be read are said and left out."""
    from detector.analysis.sheet import Cell, contact_sheet, fitted, shown_size
    from detector.data.images import read_rgb
    from detector.evaluation.base import class_names
    from detector.visualize import draw

    index, folder = examined.source.index, examined.source.folder
    classes, cells = class_names(index), []
    for one in chosen:
        size = index.size(one.place)
        try:
            image = read_rgb(folder / one.file, size, index.upright(one.place))
        except (OSError, UserError) as error:
            log.warning("left out: %s", error)
            continue
        marks: dict[str, Any] = {
            "untrue": found.untrue[_detections(examined, found, one.place)].tolist(),
            "lost": found.lost[_objects(examined, one.place)[0]].tolist(),
        }
        detections, targets = _boxes(examined, found, one.place, shown_size(size))
        cells.append(Cell(draw(fitted(image), detections, classes, targets, **marks), _caption(one, found)))
        if args.pictures:
            detections, targets = _boxes(examined, found, one.place, size)
            path = output / PICTURES / f"{one.rank:03}_{printable(Path(one.file).stem)[:80]}.jpg"
            _write_jpeg(path, draw(image, detections, classes, targets, **marks))
    if not cells:
        text = f"none of the {len(chosen)} worst pictures in {folder} can be read, so there is no sheet"
        if args.pictures:
            raise UserError(text)
        log.warning("%s", text)
        return
    title = f"{examined.name}: solid = found (x: false), dashes = truth (red: missed), scores from {args.threshold:g}"
    _write_jpeg(output / SHEET, contact_sheet(title, cells))
    log.info("-> %s", output / SHEET)
    if args.pictures:
        log.info("-> %s: %s", output / PICTURES, counted(len(cells), "picture|pictures"))


def _caption(one: Image, found: "Mistakes") -> list[str]:
    lost = ", ".join(f"{count} {name}" for name, count in one.missed.items())
    missed = f"missed {found.missed[one.place]} of {found.objects[one.place]}{': ' * bool(lost)}{lost}"
    if not found.objects[one.place]:
        missed = "nothing to find"
    false = f"false {found.false[one.place]}"
    if one.surest is not None:
        false += f", the surest: {one.surest[0]} {one.surest[1]:.2f}"
    return [f"{one.rank}. {one.file}", missed, false]


def _detections(examined: "Examined", found: "Mistakes", place: int) -> np.ndarray:
    """Places of the detections of an image that are shown."""
    return np.flatnonzero((examined.found.image == place) & found.shown)


def _objects(examined: "Examined", place: int) -> tuple[np.ndarray, np.ndarray]:
    """Places of the objects of an image, and of its regions that count for nothing."""
    index = examined.source.index
    rows = index.rows(place)
    counted = ~(index.crowd[rows] | index.difficult[rows])
    return rows.start + np.flatnonzero(counted), rows.start + np.flatnonzero(~counted)


def _boxes(examined: "Examined", found: "Mistakes", place: int, size: "Size") -> "tuple[Detection, Target]":
    """Detections and truth of an image, in pixels of a picture of this size."""
    import torch

    index, guesses = examined.source.index, examined.found
    original = index.size(place)
    scale = np.array([size[1] / original[1], size[0] / original[0]] * 2)
    shown, (objects, ignored) = _detections(examined, found, place), _objects(examined, place)
    xywh = guesses.xywh[shown]
    corners = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1) * scale
    detections: Detection = {
        "boxes": torch.from_numpy(corners),
        "labels": torch.from_numpy(guesses.labels[shown]),
        "scores": torch.from_numpy(guesses.scores[shown]),
    }
    targets: Target = {
        "boxes": torch.from_numpy(index.boxes[objects] * scale),
        "labels": torch.from_numpy(index.labels[objects]),
        "ignore": torch.from_numpy(index.boxes[ignored] * scale),
        "image_id": index.image_id(place),
        "original": original,
        "draw": 0,
    }
    return detections, targets


def _write_jpeg(path: Path, picture: np.ndarray) -> None:
    import cv2

    write_atomic(path, cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes())
