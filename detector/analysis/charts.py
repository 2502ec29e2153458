"""The pictures of a study: correlation by layer, a correlation matrix, the feature maps of a stage."""

import math
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from detector.errors import MissingPackageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which differ for colour-blind readers too, without their yellow, which is faint on white
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = "osD^vPX*"
DASHES = ("-", "--", "-.", ":")
DPI = 150
GREY = "#D0D0D0"


class MapPanel(NamedTuple):
    """One network's part of a picture of feature maps.

    title: above it; steps: (pass, block) of each column, both from 1; channels: number of each row; maps [steps,
    rows, H, W]; correlations: of each row's first and last map, NaN where one is constant.
    """

    title: str
    steps: Sequence[tuple[int, int]]
    channels: Sequence[int]
    maps: np.ndarray
    correlations: Sequence[float]


def save_layer_chart(path: Path, series: Mapping[str, Mapping[str, float]]) -> None:
    """Mean absolute correlation (0..1) over the layers in order, a line for each network.

    series: network -> layer -> value, NaN leaves a gap. The parts of the network are named above where all of them
    have the same layers. Writes a PNG. Raises ImportError without matplotlib, OSError when it cannot be written.
    """
    longest = max(len(values) for values in series.values())
    width = min(max(7.0, 0.13 * longest + 4), 18)
    figure = new_figure(width, 4.6, "constrained")
    axes = figure.subplots()
    for i, (name, values) in enumerate(series.items()):
        # broken lines and hollow markers let an equal line below show through
        axes.plot(
            range(1, len(values) + 1), [*values.values()], label=plain(name), color=COLORS[i % len(COLORS)],
            linestyle=DASHES[i % len(DASHES)], linewidth=1.2, marker=MARKERS[i % len(MARKERS)],
            markersize=3 + i % 2, markerfacecolor="none" if i % 2 else None,
        )  # fmt: skip
    axes.set_xlim(0.5, longest + 0.5)
    axes.set_ylim(bottom=0)
    axes.locator_params(axis="x", integer=True)
    axes.set_xlabel("convolution, in order of execution")
    axes.set_ylabel("mean |correlation| between filters")
    axes.grid(axis="y", color=GREY, linewidth=0.6)
    if len({tuple(values) for values in series.values()}) == 1:
        _name_parts(axes, [*next(iter(series.values()))], letter=longest / (width - 1) * 0.09)
    figure.suptitle("Correlation between the filters of each convolution")
    # so many columns as have room, a letter taking about 0.09 inches
    ncols = max(1, int((width - 1) / (0.09 * max(map(len, series)) + 0.5)))
    figure.legend(loc="outside lower center", ncols=min(len(series), ncols), frameon=False)
    save_figure(figure, path)


def save_matrix_chart(path: Path, title: str, matrices: Mapping[str, np.ndarray]) -> None:
    """Correlation matrices [filters, filters] side by side on one colour scale; NaN is grey.

    The scale ends at the largest absolute value off the diagonals, so that small correlations show too.
    Errors as `save_layer_chart`.
    """
    columns = min(len(matrices), 4)
    rows = -(-len(matrices) // columns)
    # inches; a filter gets a pixel where there are not too many
    side = min(max(3.6, max(len(matrix) for matrix in matrices.values()) / DPI + 0.7), 7.5)
    figure = new_figure(side * columns + 1.0, side * rows + 0.3, "constrained")
    grid = [*figure.subplots(rows, columns, squeeze=False).flat]
    limit = max(_largest_off_diagonal(matrix) for matrix in matrices.values()) or 1.0
    for axes, (name, matrix) in zip(grid, matrices.items(), strict=False):
        axes.set_facecolor(GREY)
        # where a filter has a pixel or more it keeps hard edges; clipped, a bright diagonal leaves no halo otherwise
        smoothing = "nearest" if len(matrix) < 400 else "antialiased"
        shown = axes.imshow(
            np.clip(matrix, -limit, limit), cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation=smoothing
        )
        axes.set_title(plain(fill(name, round(10 * side))), fontsize="medium")
        axes.set_xlabel("filter")
        axes.set_ylabel("filter")
        axes.locator_params(integer=True)
    for axes in grid[len(matrices) :]:
        axes.remove()
    figure.colorbar(shown, ax=figure.axes, label="correlation", extend="both" if limit < 1 else "neither")
    figure.suptitle(plain(title))
    save_figure(figure, path)


def save_maps_chart(path: Path, title: str, image: np.ndarray, panels: Sequence[MapPanel]) -> None:
    """Feature maps: a row for each channel, a column for each block that ran, the networks one above the other.

    image uint8 [H, W, 3] RGB: what the networks saw, drawn on top. Each row has a colour scale of its own, from the
    smallest to the largest value in it. Errors as `save_layer_chart`.
    """
    columns = max(len(panel.steps) for panel in panels)
    # All sizes are inches. 45 columns of a SReResNet-101 stay readable, 3 columns of a short stage do not get huge.
    # A row is never lower than its label.
    flat = max(panel.maps.shape[3] / panel.maps.shape[2] for panel in panels)
    cell = max(min(1.0, max(0.45, 12 / columns)), 0.2 * flat)
    left, head, gap, picture = 1.0, 0.45, 0.75, 1.5
    tall = [cell * p.maps.shape[2] / p.maps.shape[3] * len(p.channels) for p in panels]
    widest = max(cell * columns + 0.9, 0.09 * max(len(panel.title) for panel in panels), 6.0)
    width, height = left + widest, head + picture + sum(tall) + gap * len(panels) + 0.15
    figure = new_figure(width, height, None)

    def place(x: float, y: float, w: float, h: float) -> "Axes":
        """Axes of w times h inches, x from the left and y from the top."""
        return figure.add_axes((x / width, 1 - (y + h) / height, w / width, h / height))

    figure.text(left / width, 1 - 0.15 / height, plain(title), va="top", fontsize="large")
    wide = min(picture * image.shape[1] / image.shape[0], 3.5)
    top = place(left, head, wide, picture)
    top.imshow(image)
    top.set_anchor("W")
    top.set_axis_off()
    y = head + picture
    for panel, rows_height in zip(panels, tall, strict=True):
        axes = place(left, y + gap, cell * len(panel.steps), rows_height)
        extent = (0, len(panel.steps), len(panel.channels), 0)
        shown = axes.imshow(_mosaic(panel.maps), extent=extent, aspect="auto", cmap="viridis", interpolation="nearest")
        _label_panel(axes, panel)
        y += gap + rows_height
    scale = place(left + wide + 0.6, head + picture - 0.4, 1.6, 0.15)
    figure.colorbar(shown, cax=scale, orientation="horizontal", ticks=[0, 1])
    scale.set_xticklabels(["smallest", "largest"], fontsize="small")
    scale.set_title("value in its row", fontsize="small")
    save_figure(figure, path)


def _label_panel(axes: "Axes", panel: MapPanel) -> None:
    """Title, number of each row and column, passes above the columns, correlations behind the rows."""
    axes.set_title(plain(panel.title), loc="left", fontsize="medium", pad=30)
    axes.xaxis.tick_top()
    axes.set_xticks(np.arange(len(panel.steps)) + 0.5, [str(block) for _, block in panel.steps])
    axes.set_yticks(np.arange(len(panel.channels)) + 0.5, [f"channel {channel}" for channel in panel.channels])
    axes.tick_params(length=0, labelsize="small")
    axes.spines[:].set_visible(False)
    place: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "fontsize": "small"}
    axes.annotate("block", (0, 1), (-3.5, 5.5), ha="right", **place)
    for column, (number, _) in enumerate(panel.steps):
        if column == 0 or panel.steps[column - 1][0] != number:
            axes.annotate(f"pass {number}", (column, 1), (2, 17), **place)
            axes.axvline(column, color="black", linewidth=2 if column else 0)
    for row, value in enumerate(panel.correlations):
        text = "constant" if np.isnan(value) else f"r = {value:.2f}"
        axes.annotate(
            text, (len(panel.steps), row + 0.5), (4, 0), textcoords="offset points", va="center", fontsize="small"
        )


def _mosaic(maps: np.ndarray) -> np.ndarray:
    """Maps [steps, rows, H, W] -> one picture, rows scaled to 0..1 each, NaN between the maps."""
    low = maps.min(axis=(0, 2, 3), keepdims=True)
    span = maps.max(axis=(0, 2, 3), keepdims=True) - low
    scaled = (maps - low) / np.where(span > 0, span, 1)
    gap = max(1, round(maps.shape[3] / 28))
    framed = np.pad(scaled, ((0, 0), (0, 0), (0, gap), (0, gap)), constant_values=np.nan)
    steps, rows, height, width = framed.shape
    return framed.transpose(1, 2, 0, 3).reshape(rows * height, steps * width)


def _name_parts(axes: "Axes", layers: Sequence[str], letter: float) -> None:
    """Marks where the parts of a network (conv1, layer1, ..) begin, and names those that have room for it.

    letter: width of a letter, in layers.
    """
    start, taken = 0, -math.inf
    for part, group in groupby(layers, key=lambda layer: layer.partition(".")[0]):
        end = start + len([*group])
        middle, half = (start + 1 + end) / 2, letter * len(part) / 2
        if start:
            axes.axvline(start + 0.5, color="grey", linewidth=0.8, linestyle=":")
        if middle - half > taken:
            axes.text(middle, 1.01, part, transform=axes.get_xaxis_transform(), ha="center")
            taken = middle + half + letter
        start = end


def _largest_off_diagonal(matrix: np.ndarray) -> float:
    return float(np.nanmax(np.abs(matrix) * ~np.eye(len(matrix), dtype=bool)))


def in_points(axis: "Axis") -> None:
    """Label an axis of fractions in points of a hundred, as tables show measures."""
    axis.set_major_formatter(lambda value, _: f"{100 * value:g}")


def plain(text: str) -> str:
    """A text that is shown as it is: a pair of dollar signs would make it a formula."""
    return text.replace("$", r"\$")


def figure_class() -> "type[Figure]":
    """Matplotlib's. Raises MissingPackageError, with what to install, without it."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingPackageError(f'pictures need matplotlib ({error}): pip install "residet[plots]"') from None
    return Figure


def new_figure(width: float, height: float, layout: Literal["constrained"] | None) -> "Figure":
    """An empty picture of so many inches, apart from any display or global state."""
    return figure_class()(figsize=(width, height), dpi=DPI, layout=layout)


def save_figure(figure: "Figure", path: Path) -> None:
    """Writes a figure as PNG, and makes its folder if needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.draw_without_rendering()  # settles the ticks, for whose labels the layout then makes room
    figure.savefig(path, format="png")
