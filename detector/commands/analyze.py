"""Look into networks and into what detectors found: filters, channels, kinds of errors, thresholds, worst pictures."""

import argparse
from collections.abc import Sequence

from detector.commands.base import plain_parser, run, tool_parser
from detector.commands.studies import confusion, curves, errors, networks, precision, worst
from detector.plugins import load_plugins

STUDIES = (errors, precision, confusion, worst, curves, networks)
"""The modules that declare the commands, in the order of the help."""

FLAGS = {"MODEL.BACKBONE.NAME": "NAME", "MODEL.WEIGHT": "FILE", "DATASETS.ROOT": "--root"}
"""Config keys that an error may name, as they are called here."""


def main(argv: Sequence[str] | None = None) -> None:
    """`COMMAND ARGUMENT ...`: see `parse`."""
    args = parse(argv)
    run(lambda: begin(args), FLAGS)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line; `study` is the function that its command names."""
    examples: list[str] = []
    parser = plain_parser(__doc__, "analyze")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, text: str, example: str) -> argparse.ArgumentParser:
        examples.append(example)
        like = tool_parser(text, example=example)
        # -h comes with the parent
        return commands.add_parser(
            name, help=text, description=text, parents=[like], add_help=False, formatter_class=like.formatter_class,
            epilog=like.epilog, allow_abbrev=False,
        )  # fmt: skip

    for study in STUDIES:
        study.add(command)
    parser.epilog = "\n  ".join(["example:", *examples[:2]])
    return parser.parse_args(argv)


def begin(args: argparse.Namespace) -> None:
    """Load plugins, then carry out the study."""
    load_plugins(args.imports)
    args.study(args)
