"""What the tools share: the command line, plugins, and errors in one line."""

import argparse
import sys
from collections.abc import Callable, Mapping

from yacs.config import CfgNode

from detector.config import load_config
from detector.engine.log import setup_logging
from detector.errors import NonFiniteError
from detector.plugins import load_plugins

CLASSIFIER_FLAGS = {
    "MODEL.BACKBONE.NAME": "--backbone",
    "MODEL.BACKBONE.NORM": "--norm",
    "MODEL.BACKBONE.PASSES": "--passes",
    "MODEL.WEIGHT": "--weight",
    "MODEL.DEVICE": "--device",
    "OUTPUT_DIR": "--output",
}
"""Config key -> what it is called in the tools for classifiers, which have flags and no config."""


def tool_parser(description: str | None) -> argparse.ArgumentParser:
    """A parser of `[--import PACKAGE]`."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "--import", dest="imports", action="append", default=[], metavar="PACKAGE",
        help="Python package that registers further parts; may be repeated",
    )  # fmt: skip
    return parser


def config_parser(description: str | None) -> argparse.ArgumentParser:
    """A parser of `--config-file FILE [--import PACKAGE] [KEY VALUE ...]`."""
    parser = tool_parser(description)
    parser.add_argument("--config-file", required=True, metavar="FILE", help="YAML file, see configs/")
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="overrides, e.g. MODEL.BACKBONE.NAME sreresnet50")
    return parser


def read_config(args: argparse.Namespace) -> CfgNode:
    """Load plugins, then the config that the arguments name."""
    load_plugins(args.imports)
    return load_config(args.config_file, args.opts)


def run(action: Callable[[], object], flags: Mapping[str, str] | None = None) -> None:
    """Run a tool's work; an expected error is printed without traceback and ends the process with status 1.

    flags: config keys that an error may name, and what the user of this tool writes instead.
    """
    setup_logging()
    try:
        action()
    except (OSError, ValueError, KeyError, ImportError, NonFiniteError) as error:
        text = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
        for key, flag in (flags or {}).items():
            text = text.replace(key, flag)
        sys.exit(f"error: {text}")
    except KeyboardInterrupt:
        sys.exit("interrupted; training continues from its newest checkpoint with --resume")
