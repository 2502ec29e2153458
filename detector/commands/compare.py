"""Compare backbones and heads, or detectors by their detections: differences with intervals, ties called ties."""

import argparse
from collections.abc import Sequence

from detector.commands.base import expanded, run, tool_parser
from detector.commands.compare_cells import add_flags, begin_cells
from detector.commands.compare_runs import begin_results, begin_runs
from detector.commands.output import place
from detector.config import get_defaults

EXAMPLE = """\
detector compare --config-file bccd/fcos_resnet18 --backbones resnet18 iresnet18 --steps 1000 --output compared
detector compare --results ours.json theirs.json --truth voc:bccd:test --output ours_theirs"""

SOURCES = {
    "--config-file": "FILE to train",
    "--runs": "FOLDER .. of runs that exist",
    "--results": "FILE FILE .. of detections",
}
"""What can be compared, one of them at a time."""

TRAINING = ("--backbones", "--heads", "--seeds", "--steps", "--images", "--hours", "--plan")
"""Flags that mean something where trainings are made."""

LEAST = 100
"""Replicates: the ends of a 95 % interval are the 2.5 % on either side, two or three of a hundred."""


def main(argv: Sequence[str] | None = None) -> None:
    """`--config-file FILE --backbones .. --heads .. [KEY VALUE ..] | --runs FOLDER .. | --results FILE ..`."""
    parser = tool_parser(__doc__, "compare", EXAMPLE)
    add_flags(parser)
    add = parser.add_argument
    add(
        "--results", nargs="+", type=expanded, metavar="FILE",
        help="detections in COCO's results format, of any framework; all are compared with the first",
    )  # fmt: skip
    add(
        "--runs", nargs="+", type=expanded, metavar="FOLDER",
        help="runs that exist, or folders of runs; those that differ in SEED alone are seeds of one architecture",
    )  # fmt: skip
    add("--truth", type=expanded, metavar="JSON|ENTRY", help="of --results: annotations, or an entry as in DATASETS")
    add("--output", required=True, type=place, metavar="FOLDER", help="report.html, .md and .json go there")
    add(
        "--replicates", type=_number, metavar="N",
        help=f"of the bootstrap over the images, {LEAST} or more; None: 10000 for results, 1000 for trainings",
    )  # fmt: skip
    add("--root", type=expanded, default=get_defaults().DATASETS.ROOT, metavar="FOLDER", help="of --truth")
    add("opts", nargs="*", metavar="KEY VALUE", help="overrides of the config, for all trainings")
    args = parser.parse_intermixed_args(argv)
    if wrong := _wrong(args):
        parser.error(wrong)
    begin = begin_cells if args.config_file else begin_runs if args.runs else begin_results
    run(lambda: begin(args))


def _wrong(args: argparse.Namespace) -> str:
    """What does not fit together, "" if all does."""
    given = [flag for flag in SOURCES if getattr(args, _name(flag))]
    if not given:
        return "name what is compared: " + ", or ".join(f"{flag} {what}" for flag, what in SOURCES.items())
    if len(given) > 1:
        return f"{' and '.join(given)}: give only one of them, they are comparisons of different things"
    if args.results and not args.truth:
        return "--results needs --truth JSON|ENTRY, the objects that were to be found"
    if args.truth and not args.results:
        return f"--truth is for --results alone: what {given[0]} compares knows its test set"
    if args.root != get_defaults().DATASETS.ROOT and not args.results:
        return f"--root is for --truth alone: what {given[0]} compares knows its test set (DATASETS.ROOT)"
    if args.config_file:
        return ""
    if trained := [flag for flag in TRAINING if getattr(args, _name(flag))]:
        return f"{', '.join(trained)}: for trainings, with --config-file; {given[0]} compares what exists"
    return f"{args.opts[0]}: KEY VALUE are for trainings, with --config-file" if args.opts else ""


def _name(flag: str) -> str:
    return flag.removeprefix("--").replace("-", "_")


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 9 or int(text) < LEAST:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of replicates from {LEAST} to 999999999")
    return int(text)
