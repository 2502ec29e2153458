"""Say what a training step needs in memory, what fits, and what makes it fit; needs no GPU."""

import argparse
import math
from collections.abc import Sequence

from detector.commands.base import add_config_file, run, show, split_words, tool_parser
from detector.config import load_config
from detector.config.tasks import require_boxes
from detector.plugins import load_plugins

EXAMPLE = "detector plan fcos/resnet50_1x --memory 8 SOLVER.IMS_PER_BATCH 4"


def main(argv: Sequence[str] | None = None) -> None:
    """`CONFIG [--memory GIB] [--import PACKAGE] [KEY VALUE ...]`."""
    parser = tool_parser(__doc__, "plan", EXAMPLE)
    parser.usage = "%(prog)s CONFIG [--memory GIB] [--import PACKAGE] [KEY VALUE ...]"
    parser.add_argument(
        "--memory", type=_gibibytes, default=8.0, metavar="GIB",
        help="memory of the card, or with MODEL.DEVICE cpu of the machine",
    )  # fmt: skip
    add_config_file(parser, note=", in place of CONFIG")
    parser.add_argument(
        "words", nargs="*", metavar="CONFIG",
        help="YAML file, or the name of a shipped one; KEY VALUE: overrides, e.g. MODEL.BACKBONE.NAME sreresnet50",
    )  # fmt: skip
    args = parser.parse_intermixed_args(argv)
    named = args.config_file  # as the other commands have it
    words, args.opts = split_words(parser, args.words, [] if named else ["CONFIG"])
    run(lambda: begin(args, named or words[0]), log=False)


def begin(args: argparse.Namespace, file: str) -> None:
    """Load plugins and the config, then count."""
    load_plugins(args.imports)
    cfg = load_config(file, args.opts)
    require_boxes(cfg.MODEL.TASK, "detector plan")
    from detector.tasks.plan import plan

    show(plan(cfg, args.memory))


def _gibibytes(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of GiB above 0, such as 8")
    return number
