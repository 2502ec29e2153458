"""Write a model card of a tested run: Markdown with the metadata of the Hugging Face hub, measures with intervals."""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from detector.commands.base import expanded, run, show, tool_parser
from detector.commands.output import STANDARD, text_place, write_text
from detector.config.tasks import BOXES, require_boxes
from detector.errors import UserError
from detector.plugins import load_plugins

EXAMPLE = """\
detector card output/quickstart
detector card output/birds --name birds-fcos --license mit --output card/README.md"""


def main(argv: Sequence[str] | None = None) -> None:
    """`RUN [--output FILE] [--name NAME] [--license ID] [--replicates N]`."""
    parser = tool_parser(__doc__, "card", EXAMPLE)
    parser.add_argument("folder", type=expanded, metavar="RUN", help="a run's folder, tested")
    parser.add_argument(
        "--output", type=text_place, metavar="FILE",
        help="a new file, or this run's card as it was written; -: standard output; None: RUN/README.md",
    )  # fmt: skip
    parser.add_argument("--name", default="", help="of the model; by default the folder's")
    parser.add_argument(
        "--license", type=identifier, metavar="ID",
        help="of the trained weights, an identifier of the hub: mit, apache-2.0, cc-by-nc-4.0, other, ..",
    )  # fmt: skip
    parser.add_argument("--replicates", type=int, default=1000, metavar="N", help="of the bootstrap of the intervals")
    args = parser.parse_args(argv)
    if args.replicates < 100:
        parser.error(f"--replicates {args.replicates}: 100 or more are needed for an interval")
    run(lambda: begin(args), log=args.output != STANDARD)


def identifier(text: str) -> str:
    """A licence as the hub writes it."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no identifier of a licence: small letters, digits, '.' and '-'")
    return text


def with_boxes(folder: Path) -> None:
    """Raise ValueError for a run without boxes, in this command's name."""
    from detector.tasks.examined import MEASURED, read_metrics

    if (folder / "metrics.json").is_file():
        config = read_metrics(folder / "metrics.json")[MEASURED].get("config")
        require_boxes(config.get("MODEL.TASK", BOXES) if isinstance(config, dict) else BOXES, "detector card")


def check_place(path: Path, folder: Path) -> None:
    """Raise ValueError, before the work, where a card would take the place of anything but the run's own untouched one.

    In the run's own folder an untouched card is the run's, whatever the folder was called when it was written.
    """
    if not path.exists():
        return
    remedy = "move it, or name another file with --output"
    if not path.is_file():
        raise UserError(f"{path} is no file: name one with --output")
    from detector.report.card import run_name
    from detector.report.seal import seal_of

    seal = seal_of(path.read_bytes())
    if seal is None:
        raise UserError(f"{path} is there and was not written by `detector card`: {remedy}")
    if not seal.whole:
        raise UserError(f"{path} was changed since `detector card` wrote it, perhaps with words of your own: {remedy}")
    if seal.run != run_name(folder) and path.resolve().parent != folder.resolve():
        raise UserError(f"{path} is the card of another run, {seal.run}: {remedy}")


def begin(args: argparse.Namespace) -> None:
    """Load plugins, make the card, write it and say where it is."""
    load_plugins(args.imports)
    from detector.report.card import card

    output = args.output or str(Path(args.folder) / "README.md")
    if output != STANDARD:
        check_place(Path(output), Path(args.folder))
    with_boxes(Path(args.folder))
    text = card(args.folder, args.name, args.license or "", args.replicates)
    write_text(output, text)
    if output != STANDARD:
        show(f"written to {Path(output)}")
