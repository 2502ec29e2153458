"""Write a trained detector as one file for onnxruntime or OpenVINO, selection and pixel statistics included."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from detector.commands.base import expanded, read_trained, run, split_words, trained_parser
from detector.inference.formats import EXPORTS

EXAMPLE = """\
detector export output/quickstart --format onnx --output model.onnx
detector export --config-file tv.yaml --format openvino --output tv.xml MODEL.WEIGHT tv.pth"""

NOTES = """
The file takes uint8 pictures [N, 3, H, W], RGB, padded right and bottom, and their sizes [N, 2] (height, width); it
gives boxes [N, D, 4] in their pixels, scores [N, D], labels [N, D] and counts [N], any N, H and W. It holds names, ids,
sizes, thresholds and the config as JSON; `detector test FILE` evaluates it. OpenVINO writes FILE.xml and FILE.bin.
Needs `pip install 'residet[export]'`."""

INT8 = ("--calibrate", "--aim", "--unmeasured")
"""Flags that mean something beside --int8 alone."""


def main(argv: Sequence[str] | None = None) -> None:
    """`RUN | --config-file FILE`, `--output FILE [--format FORMAT] [--split] [--which newest|best] [KEY VALUE ...]`."""
    parser = trained_parser(f"{__doc__}\n{NOTES}", "export", EXAMPLE, "RUN", "--config-file FILE")
    parser.add_argument("--format", choices=tuple(EXPORTS), default="onnx", help="of the file")
    parser.add_argument(
        "--output", type=expanded, required=True, metavar="FILE",
        help="FILE.onnx or, for openvino, FILE.xml; what is there is replaced",
    )  # fmt: skip
    parser.add_argument(
        "--split", action="store_true",
        help="the network alone, in front of the selection (fcos and refinedet); `detector test` selects in torch",
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
    from detector.tasks.export import export_run
    from detector.tasks.int8 import AIM, CALIBRATE, Wish

    wish = None
    if args.int8:
        wish = Wish(
            CALIBRATE if args.calibrate is None else args.calibrate,
            AIM if args.aim is None else args.aim,
            not args.unmeasured,
        )
    export_run(cfg, args.format, Path(args.output), weight, args.which or "newest", split=args.split, int8=wish)
