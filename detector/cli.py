"""What the tools share: the command line, plugins, and errors in one line."""

import argparse
import sys
from collections.abc import Callable

from yacs.config import CfgNode

from detector.config import load_config
from detector.engine.log import setup_logging
from detector.engine.trainer import NonFiniteError
from detector.plugins import load_plugins


def config_parser(description: str | None) -> argparse.ArgumentParser:
    """A parser of `--config-file FILE [--import PACKAGE] [KEY VALUE ...]`."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--config-file", required=True, metavar="FILE", help="YAML file, see configs/")
    parser.add_argument(
        "--import", dest="imports", action="append", default=[], metavar="PACKAGE",
        help="Python package that registers further parts; may be repeated",
    )  # fmt: skip
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="overrides, e.g. MODEL.BACKBONE.NAME sreresnet50")
    return parser


def read_config(args: argparse.Namespace) -> CfgNode:
    """Load plugins, then the config that the arguments name."""
    load_plugins(args.imports)
    return load_config(args.config_file, args.opts)


def run(action: Callable[[], object]) -> None:
    """Run a tool's work; an expected error is printed without traceback and ends the process with status 1."""
    setup_logging()
    try:
        action()
    except (OSError, ValueError, KeyError, ImportError, NonFiniteError) as error:
        text = error.args[0] if isinstance(error, KeyError) and error.args else error
        sys.exit(f"error: {text}")
    except KeyboardInterrupt:
        sys.exit("interrupted; --resume continues from the newest checkpoint")
