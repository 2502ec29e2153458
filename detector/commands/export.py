"""Write a trained detector as one file for onnxruntime, OpenVINO or torch, selection and pixel statistics included."""

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path

from detector.commands.base import expanded, read_trained, run, show, split_words, trained_parser
from detector.commands.output import place
from detector.config.tasks import require_boxes
from detector.extras import to_install
from detector.inference.formats import EXPORTS
from detector.plugins import import_words

EXAMPLE = """\
detector export output/quickstart --format onnx
detector export --config-file tv.yaml --format openvino --output tv.xml MODEL.WEIGHT tv.pth"""

NOTES = f"""
The file takes uint8 pictures [N, 3, H, W], RGB, padded right and bottom, and their sizes [N, 2] (height, width); it
gives boxes [N, D, 4] in their pixels, scores [N, D], labels [N, D] and counts [N], any N, H and W. It holds names, ids,
sizes, thresholds and the config as JSON; `detector test FILE` evaluates it, `detector predict FILE SOURCE` uses it.
OpenVINO writes FILE.xml and FILE.bin; torch FILE.pt2, for a process that has torch but not this package. All but the
last need packages: {to_install("export")};
OpenVINO with --int8: {to_install("export", "int8")}."""

INT8 = ("--calibrate", "--aim", "--unmeasured")
"""Flags that mean something beside --int8 alone."""


def main(argv: Sequence[str] | None = None) -> None:
    """`RUN | --config-file FILE`, then `[--output FILE] [--format FORMAT] [--split] [--int8] [KEY VALUE ...]`."""
    parser = trained_parser(f"{__doc__}\n{NOTES}", "export", EXAMPLE, "RUN", "--config-file FILE")
    parser.add_argument("--format", choices=tuple(EXPORTS), default="onnx", help="of the file")
    parser.add_argument(
        "--output", type=place, metavar="FILE",
        help="FILE.onnx; for openvino FILE.xml, for torch FILE.pt2; what is there is replaced; None: model.onnx, .xml "
        "or .pt2 in the run's folder, with --split and --int8 in its name",
    )  # fmt: skip
    parser.add_argument(
        "--split", action="store_true",
        help="the network alone, in front of the selection, which needs NumPy alone; that of faster_rcnn in two files, "
        "FILE.onnx and FILE.roi_heads.onnx",
    )  # fmt: skip
    add_int8(parser)
    args = parser.parse_intermixed_args(argv)
    given = {flag: getattr(args, flag.removeprefix("--")) for flag in INT8}
    for flag, value in given.items():
        if value is not None and value is not False and not args.int8:
            parser.error(f"{flag} is for --int8")
    words, opts = split_words(parser, args.words, [] if args.config_file else ["RUN"])
    run(lambda: begin(args, next(iter(words), None), opts))


def add_int8(parser: argparse.ArgumentParser) -> None:
    """`[--int8 [--calibrate N] [--aim POINTS] [--unmeasured]]`."""
    parser.add_argument(
        "--int8", action="store_true",
        help="the network in int8, measured against float32 on DATASETS.TEST; layers that hurt stay in float32",
    )  # fmt: skip
    parser.add_argument(
        "--calibrate",
        type=int,
        metavar="N",
        help="of --int8: pictures of DATASETS.TRAIN that it is made with; None: 128",
    )
    parser.add_argument(
        "--aim",
        type=float,
        metavar="POINTS",
        help="of --int8: AP, of 100, that it may cost before layers stay in float32; None: 0.5",
    )
    parser.add_argument(
        "--unmeasured", action="store_true", help="of --int8: without DATASETS.TEST; all layers are in int8"
    )


def begin(args: argparse.Namespace, trained: str | None, opts: Sequence[str]) -> None:
    """Read the config, then export."""
    cfg, weight = read_trained(args, trained, opts)
    require_boxes(cfg.MODEL.TASK, "detector export")
    from detector.tasks.export import export_run
    from detector.tasks.int8 import AIM, CALIBRATE, Wish

    wish = None
    if args.int8:
        wish = Wish(
            CALIBRATE if args.calibrate is None else args.calibrate,
            AIM if args.aim is None else args.aim,
            not args.unmeasured,
        )
    output = Path(args.output) if args.output else Path(cfg.OUTPUT_DIR) / own_name(args, trained)
    export_run(cfg, args.format, output, weight, args.which or "newest", split=args.split, int8=wish)
    name = shlex.quote(str(output)) + import_words()
    show("next" + f"\n  detector test {name}" * bool(cfg.DATASETS.TEST) + f"\n  detector predict {name} PHOTOS")


def own_name(args: argparse.Namespace, trained: str | None) -> str:
    """What the file of these flags is called where nobody says it; that of a checkpoint as the checkpoint."""
    path = Path(expanded(trained or ""))
    first = path.stem if path.is_file() else "model"
    words = [first, "best" * (args.which == "best"), "split" * args.split, "int8" * args.int8]
    return "_".join(filter(None, words)) + EXPORTS[args.format]
