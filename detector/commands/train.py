"""Train a detector and evaluate it at the end."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from yacs.config import CfgNode

from detector.commands.base import add_config_file, read_config, run, split_words, tool_parser
from detector.config import load_config
from detector.errors import MissingFileError, UserError
from detector.plugins import load_plugins

EXAMPLE = """\
detector train --config-file fcos/resnet50_1080 MODEL.BACKBONE.NAME sreresnet50 OUTPUT_DIR output/sre
detector train output/sre --resume"""


def main(argv: Sequence[str] | None = None) -> None:
    """`--config-file FILE [--resume] | RUN --resume`, then `[--batch auto] [--import PACKAGE] [KEY VALUE ...]`."""
    parser = tool_parser(__doc__, "train", EXAMPLE)
    parser.usage = "\n       ".join(
        f"%(prog)s {form} [FLAG ...] [KEY VALUE ...]" for form in ("--config-file FILE", "RUN --resume")
    )
    add_config_file(parser)
    parser.add_argument(
        "--resume", action="store_true", help="continue from the newest checkpoint of RUN, or of OUTPUT_DIR"
    )
    parser.add_argument(
        "--batch", choices=("auto",),
        help="auto: as many images a step as the device has memory for, at most SOLVER.REFERENCE_BATCH, or 64 where "
        "that is 0; rate (adamw: by the square root) and steps follow; a resumed run keeps its number",
    )  # fmt: skip
    parser.add_argument(
        "words", nargs="*", metavar="KEY VALUE",
        help="overrides, e.g. MODEL.BACKBONE.NAME sreresnet50; where --config-file is left out, the first word is RUN, "
        "a run's folder, which holds its config",
    )  # fmt: skip
    args = parser.parse_intermixed_args(argv)
    names = [] if args.config_file else ["--config-file FILE, or RUN --resume"]
    words, args.opts = split_words(parser, args.words, names)
    run(lambda: begin(args, next(iter(words), None)))


def begin(args: argparse.Namespace, resumed: str | None) -> None:
    """Read the config, which takes no time, then train. resumed: the folder of a run that goes on; None: a config's."""
    cfg = read_config(args) if resumed is None else read_run(resumed, args)
    from detector.tasks.detection import train

    train(cfg, resume=args.resume, auto_batch=args.batch == "auto")


def read_run(name: str, args: argparse.Namespace) -> CfgNode:
    """Load plugins, then the config that a run's folder holds, with overrides on top.

    It is that of the newest checkpoint, or config.yaml where the run ended before its first one.
    Raises ValueError or OSError, with what to write instead, for what is no run to continue.
    """
    folder = Path(name)
    if not name or not folder.exists():
        raise MissingFileError(
            f"RUN {name}: there is no such folder; write output/NAME, or --config-file FILE to start a new run"
        )
    if folder.suffix in (".yaml", ".yml"):
        raise UserError(f"RUN {folder} is a config: write --config-file {folder} to start a run")
    if not folder.is_dir():
        raise UserError(
            f"RUN {folder} is a file: write the run's folder to continue it, or --config-file FILE "
            f"MODEL.WEIGHT {folder} to start from its weights"
        )
    if not args.resume:
        raise UserError(f"RUN {folder}: write {folder} --resume to continue it, or --config-file FILE to start anew")
    if "OUTPUT_DIR" in args.opts[::2]:
        raise UserError(
            f"RUN {folder} goes on in its own folder: leave out OUTPUT_DIR, or start anew from its weights by "
            f"--config-file FILE MODEL.WEIGHT {folder}"
        )
    load_plugins(args.imports)
    from detector.tasks.trained import run_config
    from detector.weights.checkpoint import by_step

    written = folder / "config.yaml"
    if written.is_file() and not by_step(folder):
        return load_config(written, ["OUTPUT_DIR", str(folder), *args.opts])
    return run_config(folder, args.opts)
