"""Tabulate what networks cost: parameters, MACs, FLOPs and activations of backbones, or of whole detectors by part."""

import argparse
import csv
import glob
import io
import re
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from detector.commands.base import expanded, run, show, tool_parser
from detector.commands.output import STANDARD, text_place, write_text
from detector.config import load_config
from detector.config.tasks import BOXES
from detector.console import progress
from detector.errors import FileAccessError
from detector.files import user_path
from detector.plugins import load_plugins

if TYPE_CHECKING:
    from detector.analysis.counts import Counts
    from detector.structures import Size

EXAMPLE = """\
detector info resnet50 sreresnet50 --format markdown
detector info --config-file fcos/sreresnet50_1x"""

Row = dict[str, str]
"""Cells by heading; "" where nothing is known."""

PUBLISHED = "bn"
"""The norm of the classifiers whose parameters are published."""

FLAGS = {"MODEL.BACKBONE.NORM": "--norm", "MODEL.BACKBONE.PASSES": "--passes"}
"""Config keys that an error may name, as this command calls them."""

NAMES = ("backbone", "config", "name")
TEXTS = (*NAMES, "part", "norm", "licence of weights")

DEFINITIONS = (
    "Counts are of one image. MACs: multiply-adds of convolutions and linear layers; norms, biases, pooling and sums "
    "are left out. FLOPs = 2 x MACs. Activations: output elements of the same layers. A layer that runs several times "
    "counts as often."
)
ACCURACY = "top-1, top-5: ImageNet accuracy as published with the weights, on this crop; nothing here is measured."
FROZEN = "Weights and biases of a frozen_bn are buffers, not parameters; the published parameters are those with bn."
LICENCE = "Licence of weights: of those that are published for the backbone (MODEL.WEIGHT imagenet)."
CLASSES = 80  # COCO's
OPEN = f"Where a config leaves MODEL.NUM_CLASSES to the data, {CLASSES} classes are counted."
IRESNET = (
    "The FLOPs that the iResNet authors publish (9.277 G for iresnet50) are another quantity: thop's operations (MACs, "
    "4 for each element that a batch norm puts out, global pooling) x 20/9."
)
BIG_LITTLE = (
    "bL nets have alpha 2 and beta 4. For blresnext101_64x4d at 224x224 their authors publish 7.97 G; their network "
    "has 7.142 G. The Res2Net article leaves width, alpha and beta of its bLRes2Net-50 open and publishes no weights: "
    "blres2net50_26w_4s takes 26, 2 and 4."
)


def main(argv: Sequence[str] | None = None) -> None:
    """`NAME .. | --all | --config-file FILE [KEY VALUE ..]`, then `[--size HxW] [--format ..] [--output FILE]`."""
    parser = tool_parser(__doc__, "info", EXAMPLE)
    parser.add_argument(
        "words", nargs="*", default=[], metavar="NAME",
        help="registered backbones, counted with a classifier of 1000 classes; with --config-file: KEY VALUE overrides",
    )  # fmt: skip
    parser.add_argument("--all", action="store_true", help="every registered backbone")
    parser.add_argument(
        "--config-file", type=expanded, action="append", default=[], metavar="FILE",
        help="count this detector, or network of salient objects, part by part; a YAML file, a quoted glob, or a "
        "shipped name; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--size", type=parse_size, metavar="HxW",
        help="input in pixels, 800x1344, or 224 for a square; None: 224, or the largest input of a detector's test",
    )  # fmt: skip
    parser.add_argument("--norm", default=PUBLISHED, help="norm of the backbones, as MODEL.BACKBONE.NORM")
    parser.add_argument("--passes", type=int, default=0, metavar="N", help="run every stage N times; 0: as registered")
    parser.add_argument("--format", choices=("table", "csv", "markdown"), default="table", help="CSV is without notes")
    parser.add_argument("--output", type=text_place, metavar="FILE", help="write the table there too")
    args = parser.parse_intermixed_args(argv)
    if args.config_file and (args.all or args.norm != PUBLISHED or args.passes):
        parser.error("--all, --norm and --passes are for backbones; a detector has MODEL.BACKBONE.NORM and .PASSES")
    if args.all and args.words:
        parser.error(f"--all counts every backbone; leave out {' '.join(args.words)}")
    if not (args.all or args.words or args.config_file):
        parser.error("name backbones, or give --all or --config-file FILE")
    run(lambda: report(args), {} if args.config_file else FLAGS, log=False)


def report(args: argparse.Namespace) -> None:
    """Count, print the table and write it to --output. Raises OSError where that cannot be written."""
    load_plugins(args.imports)
    exact = args.format == "csv"
    if args.config_file:
        rows, notes = count_detectors(find_configs(args.config_file), args.words, args.size, exact)
    else:
        rows, notes = count_backbones(args.words, args.size or (224, 224), args.norm, args.passes, exact)
    text = render(rows, notes, args.format)
    show(text)
    if args.output not in (None, STANDARD):  # where it is already
        try:
            write_text(args.output, text)
        except OSError as error:
            raise FileAccessError(f"--output {user_path(args.output)} cannot be written: {error.strerror}") from error


def parse_size(text: str) -> "Size":
    """Height and width of "800x1344", or of "224" for a square."""
    if not re.fullmatch(r"\d+(x\d+)?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no size: write a side, or HEIGHTxWIDTH, in pixels")
    sides = [int(side) for side in text.split("x")]
    return sides[0], sides[-1]


def find_configs(patterns: Sequence[str]) -> list[str]:
    """The files that paths and globs name; a path without match stays, for the error of whoever reads it."""
    return [path for pattern in patterns for path in sorted(glob.glob(pattern, recursive=True)) or [pattern]]


def count_backbones(
    names: Sequence[str], size: "Size", norm: str, passes: int, exact: bool
) -> tuple[list[Row], list[str]]:
    """A row for each backbone, and footnotes. names: none are all of them; passes: 0 is as registered."""
    from detector.analysis.counts import count_classifier
    from detector.models.backbones import BACKBONES

    entries = [BACKBONES[name] for name in names or BACKBONES]
    rows = []
    with progress(entries, desc="count", unit="network", leave=False) as bar:
        counted = [count_classifier(entry.name, size, norm=norm, passes=passes) for entry in bar]
    for (name, _, weights), counts in zip(entries, counted, strict=True):
        row = {"backbone": name, "input": f"{size[0]}x{size[1]}", **numbers(counts, exact)}
        row |= {"norm": norm} if norm != PUBLISHED else {}
        row |= {"passes": str(passes)} if passes else {}
        for heading, accuracy in (("top-1 (%)", weights.top1), ("top-5 (%)", weights.top5)):
            # Weights of batch norms serve neither other passes nor group norm.
            known = accuracy is not None and not passes and norm != "gn"
            row[heading] = (f"{accuracy:g}") if known else ""
        row["crop"] = str(weights.crop) if row["top-1 (%)"] else ""
        rows.append({**row, "licence of weights": weights.licence})
    notes = [DEFINITIONS, ACCURACY]
    notes += [FROZEN] * (norm == "frozen_bn")
    notes += [IRESNET] * any(entry.name.startswith("iresnet") for entry in entries)
    notes += [BIG_LITTLE] * any(entry.name.startswith(("blres", "blseres")) for entry in entries)
    return rows, notes


def count_detectors(
    files: Sequence[str], overrides: Sequence[str], size: "Size | None", exact: bool
) -> tuple[list[Row], list[str]]:
    """Rows for the backbone, the neck, the head and the whole of each detector, and footnotes.

    A network of salient objects has no neck.
    """
    from detector.analysis.counts import Counts, count_detector, largest_test_size
    from detector.models.backbones import BACKBONES
    from detector.tasks.resolve import resolve_model

    rows, norms = [], set()
    with progress(files, desc="count", unit="detector", leave=False) as bar:
        read = [load_config(file, overrides) for file in files]
        configs = [resolve_model(cfg, CLASSES) for cfg in read]
        sizes = [size or largest_test_size(cfg) for cfg in configs]
        counted = [count_detector(configs[i], sizes[i]) for i, _ in enumerate(bar)]
    for file, cfg, (height, width), parts in zip(files, configs, sizes, counted, strict=True):
        boxes, backbone = cfg.MODEL.TASK == BOXES, cfg.MODEL.BACKBONE.NAME
        keys = {"backbone": "BACKBONE", "neck": "NECK", "head": "HEAD" if boxes else "SALIENCY"}
        names = {part: cfg.MODEL[keys[part]].NAME for part in parts}
        parts["total"], names["total"] = sum(parts.values(), Counts(0, 0, 0)), " + ".join(names.values())
        for part, counts in parts.items():
            row = {"config": file, "part": part, "name": names[part], "input": f"{height}x{width}"}
            licence = BACKBONES[backbone].weights.licence if part == "backbone" else ""
            rows.append({**row, **numbers(counts, exact), "licence of weights": licence})
        norms.add(cfg.MODEL.BACKBONE.NORM)
    is_open = any(cfg.MODEL.NUM_CLASSES == 0 and cfg.MODEL.TASK == BOXES for cfg in read)
    return rows, [DEFINITIONS, LICENCE, *[FROZEN] * ("frozen_bn" in norms), *[OPEN] * is_open]


def numbers(counts: "Counts", exact: bool) -> Row:
    """The counts in units of 10^6 (M) and 10^9 (G): to the last digit if exact, else to three or four decimals."""
    return {
        "params (M)": f"{counts.params / 1e6:.{6 if exact else 3}f}",
        "MACs (G)": f"{counts.macs / 1e9:.{9 if exact else 4}f}",
        "FLOPs (G)": f"{counts.flops / 1e9:.{9 if exact else 3}f}",
        "activations (M)": f"{counts.activations / 1e6:.{6 if exact else 3}f}",
    }


def render(rows: Sequence[Row], notes: Sequence[str], style: str) -> str:
    """Rows of the same headings as an aligned table, as Markdown, both with footnotes, or as CSV without."""
    headings = list(rows[0])
    if style == "csv":
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerows([headings, *(row.values() for row in rows)])
        return out.getvalue()
    code = "`{}`" if style == "markdown" else "{}"
    cells = [[code.format(cell) if h in NAMES else cell or "-" for h, cell in row.items()] for row in rows]
    widths = [max(map(len, column)) for column in zip(headings, *cells, strict=True)]
    rule = ["-" * w if h in TEXTS else "-" * (w - 1) + ":" for h, w in zip(headings, widths, strict=True)]
    lines = [headings, *([rule] if style == "markdown" else []), *cells]
    padded = [
        [cell.ljust(w) if h in TEXTS else cell.rjust(w) for h, cell, w in zip(headings, line, widths, strict=True)]
        for line in lines
    ]
    if style == "markdown":
        return "\n".join([*(f"| {' | '.join(line)} |" for line in padded), "", *(f"- {note}" for note in notes), ""])
    return "\n".join(["  ".join(line).rstrip() for line in padded] + ["", *(textwrap.fill(n, 120) for n in notes), ""])
