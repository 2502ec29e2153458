"""The studies of the SReResNet article: how alike filters are, and how feature maps change within a stage."""

import argparse
import csv
import io
import logging
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from detector.commands.base import output_folder
from detector.commands.output import folder
from detector.commands.studies import Adder
from detector.commands.studies.drawing import asked, picture
from detector.config import config_from_text
from detector.errors import UserError
from detector.files import user_path, write_atomic
from detector.text import counted

if TYPE_CHECKING:
    from detector.models.backbones import Backbone, Pixels
    from detector.models.deform import Deformation
    from detector.weights.read import WeightFile

log = logging.getLogger("detector")

EXAMPLES = (
    "detector analyze correlation resnet50 mine:sreresnet50=output/sre/model_final.pth --layer conv1",
    "detector analyze channels resnet50 resnet50=random --image photo.jpg --stage 3",
)

PUBLISHED, RANDOM = "imagenet", "random"
SEED = 0  # of random weights, the same for each network: those with the same layers then differ in nothing else
PROBE = 64  # pixels; a square of this side shows in which order convolutions run


class Network(NamedTuple):
    """A backbone with its weights, in eval mode; label: how it is called in tables and pictures."""

    label: str
    backbone: "Backbone"
    pixels: "Pixels"


def add(command: Adder) -> None:
    """The commands `correlation` and `channels`."""
    one = _with_networks(
        command("correlation", "mean absolute correlation between the filters of each convolution", EXAMPLES[0])
    )
    one.add_argument("--layer", metavar="LAYER", help="draw this convolution's matrix too, e.g. layer3.0.conv2")
    one.set_defaults(study=lambda args: correlation(_networks(args), args))
    text = "feature maps of single channels, block by block within a stage, for one image"
    two = _with_networks(command("channels", text, EXAMPLES[1]))
    two.add_argument("--image", required=True, type=user_path, metavar="FILE", help="a picture")
    two.add_argument("--stage", type=int, default=3, metavar="N", help="1 to 4")
    which = two.add_mutually_exclusive_group()
    which.add_argument("--channels", type=int, nargs="+", metavar="N", help="rows of the picture, from 0")
    which.add_argument(
        "--num-channels", type=int, default=8, metavar="COUNT", help="as many, the most active in the first network"
    )
    two.add_argument(
        "--size", type=int, default=224, metavar="PIXELS", help="shorter side of the image as the networks see it"
    )
    two.set_defaults(study=lambda args: channels(_networks(args), args))


def _with_networks(one: argparse.ArgumentParser) -> argparse.ArgumentParser:
    one.add_argument(
        "networks", nargs="+", metavar="NETWORK",
        help="a backbone with its published weights; NAME=FILE (or address) with those of a classifier or a "
        "detector; NAME=random; LABEL: in front names it in tables and pictures",
    )  # fmt: skip
    one.add_argument("--output", type=folder, default="output/analysis", metavar="FOLDER", help="for CSV and PNG")
    return one


def _networks(args: argparse.Namespace) -> list[Network]:
    """Those of the arguments, after the folder was made sure of."""
    if getattr(args, "layer", None):
        asked("--layer")
    output_folder(args.output)
    networks = [open_network(text) for text in args.networks]
    labels = [network.label for network in networks]
    if twice := next((label for label in labels if labels.count(label) > 1), None):
        raise UserError(f"two networks are called {twice!r}; put LABEL: in front of one, e.g. mine:{args.networks[0]}")
    return networks


def open_network(text: str) -> Network:
    """The network of one argument, `[LABEL:]NAME[=FILE|=ADDRESS|=random]`.

    Norm and passes are those that a weight file of this framework names, else frozen_bn and as registered.
    Raises KeyError for an unknown name, ValueError or OSError for weights that are not there or do not fit.
    """
    import torch

    from detector.models.backbones import BACKBONES, build_backbone, find_weights, load_backbone
    from detector.weights.address import is_address
    from detector.weights.read import read_file

    left, given, weight = text.partition("=")
    label, _, name = left.rpartition(":")
    entry, weight = BACKBONES[name], weight if given else PUBLISHED
    torch.manual_seed(SEED)
    if weight == RANDOM:
        return Network(label or f"{name} {RANDOM}", build_backbone(name).eval(), entry.weights.pixels)
    if weight == PUBLISHED and not entry.weights.urls:
        raise UserError(f"{text}: no weights are published for {name}; write {name}=FILE or {name}={RANDOM}")
    if weight != PUBLISHED and not is_address(weight) and not user_path(weight).is_file():
        raise UserError(f"{text}: there is no file {weight!r}; write {name}=FILE, {name}={RANDOM} or {name} alone")
    file = read_file(find_weights(name, weight))
    norm, passes, rule = recorded(file)
    backbone = build_backbone(name, norm, passes=passes, deformation=rule)
    report = load_backbone(backbone, entry.weights, file)
    log.info(
        "%s: %s of %s, %d left out", text, counted(len(report.loaded), "tensor|tensors"), file.path, len(report.dropped)
    )
    return Network(
        label or (name if weight == PUBLISHED else f"{name} {'/'.join(file.path.parts[-2:])}"),
        backbone.eval(),
        entry.weights.pixels,
    )


def recorded(file: "WeightFile") -> tuple[str, int, "Deformation | None"]:
    """Norm, passes and deformation of the network that a file was trained with, as `build_backbone` takes them.

    A detector's checkpoint says so in its config, a file of the pre-training beside its tensors; frozen_bn, 0 and none
    for any other.
    """
    from detector.models.build import deformation
    from detector.tasks.classifier_weights import read_facts

    if facts := read_facts(file):
        # batch norms of the pre-training are written for frozen_bn to read
        return "gn" if facts["norm"] == "gn" else "frozen_bn", facts["passes"], None
    config = file.content.get("config")
    if not isinstance(config, str):
        return "frozen_bn", 0, None
    node = config_from_text(config, str(file.path)).MODEL.BACKBONE
    return node.NORM, node.PASSES, deformation(node)


def correlation(networks: Sequence[Network], args: argparse.Namespace) -> None:
    """Print the table; write correlation.csv, correlation.png and, with --layer, correlation_LAYER.png."""
    import torch

    from detector.analysis.charts import save_layer_chart, save_matrix_chart
    from detector.analysis.filters import as_matrix, convolutions, filter_correlations, find_layer, layer_correlation

    probe = torch.zeros(1, 3, PROBE, PROBE)
    convs = {network.label: convolutions(network.backbone, probe) for network in networks}
    chosen = {label: find_layer(found, args.layer, label) for label, found in convs.items()} if args.layer else {}
    studied = {label: [layer_correlation(*item) for item in found.items()] for label, found in convs.items()}
    means = {label: {row.layer: row.mean for row in rows} for label, rows in studied.items()}
    # Layers in the order of the deepest network; one that has them under other names adds its own below.
    layers = dict.fromkeys(layer for rows in sorted(means.values(), key=len, reverse=True) for layer in rows)
    lines = [[layer, *(number(means[label].get(layer)) for label in means)] for layer in layers]
    lines.append(["mean over layers", *(number(average(values.values())) for values in means.values())])
    lines.append(["constant filters", *(str(sum(row.constant for row in rows)) for rows in studied.values())])
    print(table([["mean |correlation|", *means], *lines]))
    write_csv(
        args.output / "correlation.csv",
        ("network", "index", "layer", "filters", "groups", "constant", "correlation"),
        ((label, i, *row[:-1], row.mean) for label, rows in studied.items() for i, row in enumerate(rows, start=1)),
    )
    with picture(args.output / "correlation.png"):
        save_layer_chart(args.output / "correlation.png", means)
    if chosen:
        path = args.output / f"correlation_{args.layer}.png"
        matrices = {
            label: as_matrix(filter_correlations(conv.weight, conv.groups)).numpy() for label, conv in chosen.items()
        }
        with picture(path):
            save_matrix_chart(path, f"Correlation between the filters of {args.layer}", matrices)


def channels(networks: Sequence[Network], args: argparse.Namespace) -> None:
    """Print the table; write channels_stageN.csv, with all channels, and channels_stageN.png."""
    from detector.analysis.channels import map_correlations, most_active, network_input, resize_short, stage_maps
    from detector.analysis.charts import MapPanel, save_maps_chart
    from detector.data.images import read_rgb

    if args.image.is_dir():
        raise UserError(f"--image {args.image} is a folder; name a picture in it")
    image = resize_short(read_rgb(args.image), args.size)
    found = {n.label: stage_maps(n.backbone, network_input(image, n.pixels), args.stage) for n in networks}
    # the same rows in every network, so that only channels that all of them have come into question
    common = min(outputs.maps.shape[1] for outputs in found.values())
    chosen = args.channels or most_active(found[networks[0].label].maps[:, :common], args.num_channels)
    for channel in chosen:
        if not 0 <= channel < common:
            raise UserError(f"--channels {channel}: all networks have the channels 0 to {common - 1} in this stage")
    values = {label: map_correlations(outputs.maps[0], outputs.maps[-1]) for label, outputs in found.items()}
    means = {label: number(numbers.nanmean().item()) for label, numbers in values.items()}
    dead = {label: f"{int(numbers.isnan().sum())} of {len(numbers)}" for label, numbers in values.items()}
    rows = [[str(c), *(number(numbers[c].item()) for numbers in values.values())] for c in chosen]
    rows += [["mean over channels", *means.values()], ["constant, left out", *dead.values()]]
    print(f"correlation between the maps of the first and the last block of stage {args.stage}")
    print(table([["channel", *values], *rows]))
    write_csv(
        args.output / f"channels_stage{args.stage}.csv",
        ("network", "channel", "correlation"),
        ((label, i, value) for label, numbers in values.items() for i, value in enumerate(numbers.tolist())),
    )
    panels = [
        MapPanel(
            f"{label}: mean r of all channels {means[label]}, constant {dead[label]}",
            outputs.steps, chosen, outputs.maps[:, chosen].numpy(), values[label][chosen].tolist(),
        )
        for label, outputs in found.items()
    ]  # fmt: skip
    path = args.output / f"channels_stage{args.stage}.png"
    with picture(path):
        save_maps_chart(path, f"Feature maps behind the blocks of stage {args.stage}", image, panels)


def average(values: Iterable[float]) -> float:
    """The mean of the values that are numbers; NaN when there is none."""
    numbers = [value for value in values if not math.isnan(value)]
    return sum(numbers) / len(numbers) if numbers else math.nan


def number(value: float | None) -> str:
    """Three digits; "-" where there is no value."""
    return "-" if value is None or math.isnan(value) else f"{value:.3f}"


def points(value: float | None) -> str:
    """A fraction in points of a hundred, as studies and comparisons show measures; "-" where there is no value."""
    return "-" if value is None or math.isnan(value) else f"{100 * value:.1f}"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Columns of one width each, names left, numbers right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        f"{first:<{widths[0]}}  " + "  ".join(f"{cell:>{width}}" for cell, width in zip(cells, widths[1:], strict=True))
        for first, *cells in rows
    )


def write_csv(path: Path, head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Numbers in full; an empty cell where there is none."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows([["" if cell != cell else cell for cell in row] for row in rows])
    write_atomic(path, text.getvalue().encode())
    log.info("-> %s", path)
