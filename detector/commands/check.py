"""Examine data sets before a training: everything that is wrong with them, and what a detector can reach."""

import argparse
import json
import sys
from collections.abc import Sequence

import msgspec

from detector.commands.base import add_config_file, run, show, tool_parser
from detector.commands.output import folder
from detector.commands.studies.drawing import asked
from detector.config import KEY, get_defaults, load_config, no_value_text
from detector.config.tasks import require_boxes
from detector.errors import UserError
from detector.files import json_bytes, user_path
from detector.plugins import load_plugins

EXAMPLE = """\
detector check birds/images:birds/train.json birds/images:birds/val.json --charts birds.png
detector check --config-file bccd/fcos_resnet18 --fix output/cleaned"""


def main(argv: Sequence[str] | None = None) -> None:
    """`ENTRY ... [--config-file FILE] [--fix FOLDER] [--json] [--charts FILE] ... [KEY VALUE ...]`."""
    parser = tool_parser(__doc__, "check", EXAMPLE)
    parser.usage = "\n       ".join(
        f"%(prog)s {form}"
        for form in ("ENTRY ... [FLAG ...]", "[ENTRY ...] --config-file FILE [FLAG ...] [KEY VALUE ...]")
    )
    parser.add_argument(
        "words", nargs="*", metavar="ENTRY",
        help="a data set as DATASETS names it, e.g. voc:birds:train; several are examined together; none: the "
        "config's. KEY VALUE: overrides of the config",
    )  # fmt: skip
    add_config_file(parser, note=" whose data sets, sizes and head are examined")
    parser.add_argument("--root", type=user_path, metavar="FOLDER", help="as DATASETS.ROOT; None: the config's")
    parser.add_argument(
        "--pictures", choices=("all", "headers", "none"), default="all",
        help="all: read and decode them, compare them with each other; headers: their size and end only",
    )  # fmt: skip
    parser.add_argument(
        "--fix", type=folder, metavar="FOLDER", help="write cleaned copies there; the data sets stay as they are"
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON document with every example, and nothing else"
    )
    parser.add_argument(
        "--charts", type=user_path, metavar="FILE", help="draw sizes, aspects, counts and places of the boxes (PNG)"
    )
    parser.add_argument("--kinds", action="store_true", help="print what is looked for as a Markdown table, and end")
    args = parser.parse_intermixed_args(argv)
    if args.kinds:
        return run(show_kinds, log=False)
    first = next((place for place, word in enumerate(args.words) if KEY.fullmatch(word)), len(args.words))
    args.entries, args.opts = args.words[:first], args.words[first:]
    if args.opts and not args.config_file:
        parser.error(f"{args.opts[0]} is for a config: give --config-file FILE")
    if len(args.opts) % 2:
        parser.error(no_value_text(args.opts[-1]))
    if not args.entries and not args.config_file:
        parser.error("name data sets, or give --config-file FILE")
    return run(lambda: begin(args), {} if args.config_file else {"DATASETS.ROOT": "--root"}, log=False)


def begin(args: argparse.Namespace) -> None:
    """Examine, write what is wished, print; ends the process with status 1 where an error was found, or is left."""
    load_plugins(args.imports)
    cfg = load_config(args.config_file, args.opts) if args.config_file else None
    if cfg:
        require_boxes(cfg.MODEL.TASK, "detector check")
    from detector.tasks.doctor import check_new, document, errors_left, examine, fix, short_names
    from detector.tasks.doctor_text import text

    if args.fix:
        check_new(args.fix)  # before the work
    if args.charts and args.charts.suffix.lower() != ".png":
        raise UserError(f"--charts {args.charts}: name a file that ends in .png")
    if args.charts:
        asked("--charts")
    root = args.root or (cfg or get_defaults()).DATASETS.ROOT
    diagnosis = examine(args.entries, root, args.pictures, cfg)
    if args.charts and diagnosis.parts:  # without any there is nothing to draw, and an error
        from detector.analysis.data_charts import save_data_charts

        save_data_charts(args.charts, diagnosis.parts, short_names(diagnosis.parts), diagnosis.sides)
    fixes = fix(diagnosis, args.fix) if args.fix else None
    if args.json:
        show(ascii_json(document(diagnosis, fixes)))
    else:
        show(text(diagnosis, fixes))
        if args.charts and diagnosis.parts:
            show(f"The charts are in {args.charts}.")
    if diagnosis.number("error") if fixes is None else errors_left(diagnosis):
        sys.exit(1)


def show_kinds() -> None:
    """All that is looked for, see docs/reference/kinds.md."""
    from detector.tasks.doctor_text import kinds_table

    show(kinds_table())


def ascii_json(obj: object) -> str:
    """`obj` as indented JSON of plain letters, which any terminal and any encoding can hold."""
    return json.dumps(msgspec.json.decode(json_bytes(obj)), indent=2)
