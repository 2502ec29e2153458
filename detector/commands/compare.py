"""Compare backbones and heads, or detectors by their detections: differences with intervals, ties called ties."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from detector.commands.base import expanded, run, show, tool_parser
from detector.commands.compare_cells import add_flags, begin_cells
from detector.commands.compare_runs import begin_runs
from detector.config import get_defaults
from detector.errors import UserError
from detector.plugins import load_plugins

EXAMPLE = """\
detector compare --config-file bccd/fcos_resnet18 --backbones resnet18 iresnet18 --steps 1000 --output compared
detector compare --runs output/a output/b output/c --output compared
detector compare --results ours.json theirs.json --truth voc:bccd:test --output ours_theirs"""


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
    add("--output", required=True, type=expanded, metavar="FOLDER", help="report.html, .md and .json go there")
    add(
        "--replicates", type=_number, metavar="N",
        help="of the bootstrap over the images; None: 10000 for results, 1000 for trainings",
    )  # fmt: skip
    add("--root", type=expanded, default=get_defaults().DATASETS.ROOT, metavar="FOLDER", help="of --truth")
    add("opts", nargs="*", metavar="KEY VALUE", help="overrides of the config, for all trainings")
    args = parser.parse_intermixed_args(argv)
    if sum(map(bool, (args.results, args.runs, args.config_file))) != 1:
        parser.error("give --config-file FILE to train, --runs FOLDER .. that exist, or --results FILE FILE")
    if bool(args.results) != bool(args.truth):
        parser.error("--results needs --truth JSON|ENTRY, and it alone: runs know their test set")
    if args.opts and not args.config_file:
        parser.error(f"{args.opts[0]}: KEY VALUE are for trainings, with --config-file")
    run(lambda: begin_cells(args) if args.config_file else begin_runs(args) if args.runs else begin(args))


def _number(text: str) -> int:
    if not text.isdigit() or int(text) < 2:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 1")
    return int(text)


def begin(args: argparse.Namespace) -> None:
    """Load plugins, read, compare, print and write."""
    load_plugins(args.imports)
    from detector.report.results import results_document
    from detector.report.write import write_report
    from detector.tasks.examined import load_truth

    folder = Path(args.output)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--output {folder} is a file; name a folder")
    document = results_document(args.results, load_truth(args.truth, args.root).index, args.replicates or 10_000)
    written = write_report(document, folder)
    show((folder / "report.md").read_text(encoding="utf-8"))
    show(f"written to {folder}: {', '.join(path.name for path in written)}")
