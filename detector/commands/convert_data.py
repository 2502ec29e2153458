"""Write a data set in another format, COCO's, VOC's or YOLO's: pictures and boxes."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from detector.commands.base import expanded, run, show, tool_parser
from detector.commands.output import REFUSED, STANDARD
from detector.config import get_defaults
from detector.errors import UserError
from detector.plugins import load_plugins
from detector.text import counted

if TYPE_CHECKING:
    from detector.data.convert import Form

EXAMPLE = "detector convert-data voc:cells:trainval voc:cells:test yolo cells_yolo --split train --split val"

FORMS: tuple["Form", ...] = ("coco", "voc", "yolo")
"""The formats of `detector.data.convert.FORMS`, which needs the packages that read data."""

SPLITS = ("train", "val", "test")
"""What the entries become, in their order, unless --split says otherwise."""

_OUTSIDE = ", or write DATASETS.ALLOW_OUTSIDE True if you trust the annotations"


def main(argv: Sequence[str] | None = None) -> None:
    """`ENTRY [ENTRY ...] coco|voc|yolo FOLDER [--split NAME ...] [--link] [--root FOLDER]`."""
    parser = tool_parser(__doc__, "convert-data", EXAMPLE)
    parser.usage = "%(prog)s ENTRY [ENTRY ...] {coco,voc,yolo} FOLDER [FLAG ...]"
    parser.add_argument(
        "words", nargs="+", metavar="ENTRY coco|voc|yolo FOLDER",
        help="ENTRY as in DATASETS.TRAIN, several for the splits of one folder; FOLDER is new or empty",
    )  # fmt: skip
    parser.add_argument(
        "--split", dest="splits", action="append", default=[], metavar="NAME",
        help=f"what an entry becomes; once for each; without: {', '.join(SPLITS)}",
    )  # fmt: skip
    parser.add_argument("--link", action="store_true", help="hard links to the pictures instead of copies")
    parser.add_argument(
        "--root", type=expanded, default=get_defaults().DATASETS.ROOT, metavar="FOLDER", help="as DATASETS.ROOT"
    )
    args = parser.parse_intermixed_args(argv)
    *entries, last, folder = args.words if len(args.words) > 2 else ["", "", ""]
    form = next((form for form in FORMS if form == last), None)
    if form is None:
        parser.error(f"write ENTRY {'|'.join(FORMS)} FOLDER, e.g. {EXAMPLE.removeprefix('detector ')}")
    if folder == STANDARD:
        parser.error(f"FOLDER: {REFUSED}")
    run(lambda: begin(args, entries, form, expanded(folder)), {_OUTSIDE: ""})


def begin(args: argparse.Namespace, entries: Sequence[str], form: "Form", folder: str) -> None:
    """Load plugins, then read, then write; prints what was written, what was not, and the entries to read it by."""
    load_plugins(args.imports)
    splits = args.splits or SPLITS[: len(entries)]
    if len(splits) != len(entries) or len(set(splits)) < len(splits):
        raise UserError(
            f"--split: {counted(len(entries), 'entry|entries wants|want')} as many different names, got "
            f"{', '.join(splits) or 'none'}"
        )
    from detector.data.catalog import load_dataset
    from detector.data.convert import write_datasets
    from detector.data.plausible import check_units

    sources = {split: load_dataset(entry, args.root) for split, entry in zip(splits, entries, strict=True)}
    for source in sources.values():
        check_units(source.index)
    written = write_datasets(sources, form, folder, args.link)
    pictures, boxes = counted(written.pictures, "picture|pictures"), counted(written.boxes, "box|boxes")
    show(f"{folder}: {pictures} with {boxes}, in {form.upper()}'s format")
    for loss in written.losses:
        show(f"not kept: {loss}")
    for entry in written.entries:
        show(f"entry for DATASETS: {entry}")
