"""Compare detectors by their detections on one test set: differences with intervals, ties called ties."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from detector.commands.base import expanded, run, show, tool_parser
from detector.config import get_defaults
from detector.errors import UserError
from detector.files import write_atomic, write_json
from detector.plugins import load_plugins

EXAMPLE = """\
detector compare --results fcos/results.json refinedet/results.json --truth voc:bccd:test --output fcos_refinedet
detector compare --results ours.json theirs.json --truth instances_val2017.json --output compared"""


def main(argv: Sequence[str] | None = None) -> None:
    """`--results FILE FILE [FILE ...] --truth JSON|ENTRY --output FOLDER [--replicates 10000] [--root FOLDER]`."""
    parser = tool_parser(__doc__, "compare", EXAMPLE)
    add = parser.add_argument
    add(
        "--results", nargs="+", required=True, type=expanded, metavar="FILE",
        help="detections in COCO's results format, of any framework; all are compared with the first",
    )  # fmt: skip
    add("--truth", required=True, type=expanded, metavar="JSON|ENTRY", help="annotations, or a data set as in DATASETS")
    add("--output", required=True, type=expanded, metavar="FOLDER", help="report.md and report.json go there")
    add("--replicates", type=_number, default=10_000, metavar="N", help="of the bootstrap over the images")
    add("--root", type=expanded, default=get_defaults().DATASETS.ROOT, metavar="FOLDER", help="as DATASETS.ROOT")
    args = parser.parse_args(argv)
    run(lambda: begin(args))


def _number(text: str) -> int:
    if not text.isdigit() or int(text) < 2:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 1")
    return int(text)


def begin(args: argparse.Namespace) -> None:
    """Load plugins, read, compare, print and write."""
    load_plugins(args.imports)
    from detector.report.results import markdown, results_document
    from detector.tasks.examined import load_truth

    folder = Path(args.output)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--output {folder} is a file; name a folder")
    document = results_document(args.results, load_truth(args.truth, args.root).index, args.replicates)
    page = markdown(document)
    show(page)
    write_json(folder / "report.json", document)
    write_atomic(folder / "report.md", page.encode())
    show(f"written to {folder}: report.md, report.json")
