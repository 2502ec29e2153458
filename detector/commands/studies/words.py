"""The words of a study of detections: RUN, or --results FILE --truth JSON|ENTRY; and where its files go."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from detector.commands.base import expanded, output_folder
from detector.commands.output import folder
from detector.config import get_defaults
from detector.errors import UserError
from detector.files import user_path

if TYPE_CHECKING:
    from detector.tasks.examined import Examined


def add_detections(one: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """`RUN | --results FILE --truth JSON|ENTRY [--root FOLDER]`, and `--output FOLDER`."""
    add = one.add_argument
    add("run", nargs="?", type=user_path, metavar="RUN", help="a run's folder, with the results of its newest test")
    add("--results", type=expanded, metavar="FILE", help="detections in COCO's results format, of any framework")
    add("--truth", type=expanded, metavar="JSON|ENTRY", help="of --results: annotations, or an entry as in DATASETS")
    add("--root", type=expanded, default=get_defaults().DATASETS.ROOT, metavar="FOLDER", help="of --truth")
    add("--output", type=folder, metavar="FOLDER", help="None: RUN/analysis, or output/analysis")
    return one


def add_iou(one: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """`--iou IOU`, one of COCO's ten."""
    one.add_argument(
        "--iou", type=_iou, default=0.5, metavar="IOU", help="overlap that makes a match: 0.5, 0.55, .. 0.95"
    )
    return one


def _iou(text: str) -> float:
    try:
        steps = float(text) * 20
    except ValueError:
        steps = 0
    if not (10 <= steps <= 19.5 and abs(steps - round(steps)) < 1e-6):
        raise argparse.ArgumentTypeError(f"{text!r} is none of 0.5, 0.55, .. 0.95")
    return round(steps) / 20


def read_detections(args: argparse.Namespace) -> "tuple[Examined, Path]":
    """What the words name, and the folder for files, which is made. Raises ValueError for words that do not fit."""
    from detector.tasks.examined import examine_file, examine_run

    if args.run is None and not (args.results and args.truth):
        raise UserError("name a run's folder, or both --results FILE and --truth JSON|ENTRY")
    if args.run is not None and (args.results or args.truth or args.root != get_defaults().DATASETS.ROOT):
        raise UserError(
            f"RUN {args.run} has its own results and test set: leave it out, or --results, --truth and --root"
        )
    found = examine_run(args.run) if args.run is not None else examine_file(args.results, args.truth, args.root)
    output = args.output or (args.run / "analysis" if args.run is not None else Path("output/analysis"))
    return found, output_folder(output)
