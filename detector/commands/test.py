"""Evaluate a run's newest checkpoint, an exported file, or the weights that are named, on DATASETS.TEST."""

import argparse
from collections.abc import Sequence

from detector.commands.base import expanded, exported_path, read_trained, run, split_words, trained_parser
from detector.inference.formats import exported_form
from detector.plugins import load_plugins

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
    """Read the config, then evaluate; an exported file by its own runtime."""
    if trained is not None and exported_form(expanded(trained)):
        from detector.tasks.export import evaluate_exported

        load_plugins(args.imports)
        evaluate_exported(exported_path(trained, args.which, opts), opts)
        return
    cfg, weight = read_trained(args, trained, opts)
    from detector.tasks.detection import test

    test(cfg, weight=weight, which=args.which or "newest")
