"""Turn a published detector checkpoint into one of ours, with its config: strict, with a report."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from detector.commands.base import add_config_file, run, tool_parser
from detector.commands.output import place
from detector.plugins import load_plugins

EXAMPLE = "detector convert --from torchvision --input fasterrcnn_resnet50_fpn_coco-258fb6c6.pth --output tv.pth"

SOURCES = ("detectron2", "fcos", "maskrcnn-benchmark", "refinedet-pytorch", "torchvision")
"""The names of `detector.conversion.SOURCES`, which needs torch."""


def main(argv: Sequence[str] | None = None) -> None:
    """`--from SOURCE --input FILE --output FILE [--config-file FILE] [KEY VALUE ...]`."""
    parser = tool_parser(__doc__, "convert", EXAMPLE)
    parser.add_argument("--from", dest="source", required=True, metavar="SOURCE", help=", ".join(SOURCES))
    parser.add_argument("--input", required=True, metavar="FILE", help="the published checkpoint: a path or an address")
    parser.add_argument(
        "--output", type=place, required=True, metavar="FILE",
        help="where ours goes; its config goes beside it, FILE.yaml; both replace only what this command wrote",
    )  # fmt: skip
    add_config_file(parser, note=" under what the source does differently")
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="overrides, e.g. MODEL.BACKBONE.NAME sreresnet50")
    args = parser.parse_intermixed_args(argv)
    run(lambda: begin(args), {"MODEL.WEIGHT": "--input"})


def begin(args: argparse.Namespace) -> None:
    """Load plugins, then convert."""
    load_plugins(args.imports)
    from detector.conversion import convert

    convert(args.source, args.input, Path(args.output), args.config_file, args.opts)
