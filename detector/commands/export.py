"""Write a trained detector as one file for onnxruntime, OpenVINO or torch, selection and pixel statistics included."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from detector.commands.base import expanded, read_trained, run, split_words, trained_parser
from detector.config.tasks import require_boxes
from detector.inference.formats import EXPORTS

EXAMPLE = """\
detector export output/quickstart --format onnx --output model.onnx
detector export --config-file tv.yaml --format openvino --output tv.xml MODEL.WEIGHT tv.pth"""

NOTES = """
The file takes uint8 pictures [N, 3, H, W], RGB, padded right and bottom, and their sizes [N, 2] (height, width); it
gives boxes [N, D, 4] in their pixels, scores [N, D], labels [N, D] and counts [N], any N, H and W. It holds names, ids,
sizes, thresholds and the config as JSON; `detector test FILE` evaluates it, `detector predict FILE SOURCE` uses it.
OpenVINO writes FILE.xml and FILE.bin; torch FILE.pt2, for a process that has torch but not this package. All but the
last need `pip install 'residet[export]'`."""


def main(argv: Sequence[str] | None = None) -> None:
    """`RUN | --config-file FILE`, `--output FILE [--format FORMAT] [--split] [--which newest|best] [KEY VALUE ...]`."""
    parser = trained_parser(f"{__doc__}\n{NOTES}", "export", EXAMPLE, "RUN", "--config-file FILE")
    parser.add_argument("--format", choices=tuple(EXPORTS), default="onnx", help="of the file")
    parser.add_argument(
        "--output", type=expanded, required=True, metavar="FILE",
        help="FILE.onnx; for openvino FILE.xml, for torch FILE.pt2; what is there is replaced",
    )  # fmt: skip
    parser.add_argument(
        "--split", action="store_true",
        help="the network alone, in front of the selection (fcos and refinedet), which needs NumPy alone",
    )  # fmt: skip
    args = parser.parse_intermixed_args(argv)
    words, opts = split_words(parser, args.words, [] if args.config_file else ["RUN"])
    run(lambda: begin(args, next(iter(words), None), opts))


def begin(args: argparse.Namespace, trained: str | None, opts: Sequence[str]) -> None:
    """Read the config, then export."""
    cfg, weight = read_trained(args, trained, opts)
    require_boxes(cfg.MODEL.TASK, "detector export")
    from detector.tasks.export import export_run

    export_run(cfg, args.format, Path(args.output), weight, args.which or "newest", split=args.split)
