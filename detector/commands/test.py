"""Evaluate a run's newest checkpoint, or the weights that are named, on DATASETS.TEST."""

import argparse
from collections.abc import Sequence

from detector.commands.base import read_trained, run, split_words, trained_parser

EXAMPLE = """\
detector test output/quickstart --which best TEST.AMP bf16
detector test --config-file fcos/resnet50_1x MODEL.WEIGHT FILE.pth"""


def main(argv: Sequence[str] | None = None) -> None:
    """`RUN | --config-file FILE`, then `[--which newest|best] [--import PACKAGE] [KEY VALUE ...]`."""
    parser = trained_parser(__doc__, "test", EXAMPLE, "RUN", "--config-file FILE")
    args = parser.parse_intermixed_args(argv)
    words, opts = split_words(parser, args.words, [] if args.config_file else ["RUN"])
    run(lambda: begin(args, next(iter(words), None), opts))


def begin(args: argparse.Namespace, trained: str | None, opts: Sequence[str]) -> None:
    """Read the config, then evaluate."""
    cfg, weight = read_trained(args, trained, opts)
    from detector.tasks.detection import test

    test(cfg, weight=weight, which=args.which or "newest")
