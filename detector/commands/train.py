"""Train a detector and evaluate it at the end."""

import argparse
from collections.abc import Sequence

from detector.commands.base import config_parser, read_config, run

EXAMPLE = "detector train --config-file fcos/resnet50_1080 MODEL.BACKBONE.NAME sreresnet50 OUTPUT_DIR output/sre"


def main(argv: Sequence[str] | None = None) -> None:
    """`--config-file FILE [--resume] [--import PACKAGE] [KEY VALUE ...]`."""
    parser = config_parser(__doc__, "train", EXAMPLE)
    parser.add_argument("--resume", action="store_true", help="continue from the newest checkpoint of OUTPUT_DIR")
    args = parser.parse_intermixed_args(argv)
    run(lambda: begin(args))


def begin(args: argparse.Namespace) -> None:
    """Read the config, which takes no time, then train."""
    cfg = read_config(args)
    from detector.tasks.detection import train

    train(cfg, resume=args.resume)
