"""One page of charts of data sets: classes, objects an image, sizes, aspect ratios, and where the boxes lie."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from detector.analysis.charts import COLORS, GREY, new_figure, plain, save_figure
from detector.data.doctor.balance import MEDIUM, SMALL, Sides, areas, classes_table
from detector.data.doctor.part import Part
from detector.text import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_BARS = 30
"""Classes that are named; the others are left out, and counted in the title."""

_HEAT = 24  # cells a side
_LETTERS = 24  # of a class name
_PER_IMAGE = 40  # bars of the histogram of objects an image


def save_data_charts(path: Path, parts: Sequence[Part], names: Sequence[str], sides: Sides | None = None) -> None:
    """Draws a page for several data sets, a colour each, and writes it as PNG.

    names: of the data sets; sides: how pictures are resized for the sizes of the boxes, None: not at all.
    Raises ImportError without matplotlib, OSError when it cannot be written.
    """
    rows = classes_table(parts)
    figure = new_figure(13.0, 7.6, "constrained")
    grid = figure.add_gridspec(2, 3)
    _classes(figure.add_subplot(grid[:, 0]), parts, rows[:MOST_BARS], len(rows))
    _per_image(figure.add_subplot(grid[0, 1]), parts)
    _sizes(figure.add_subplot(grid[0, 2]), parts, sides)
    _aspects(figure.add_subplot(grid[1, 1]), parts)
    _centres(figure.add_subplot(grid[1, 2]), parts)
    handles = [
        figure.axes[0].barh([0], [0], color=_color(place), label=plain(printable(name)))
        for place, name in enumerate(names)
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=min(len(names), 4), frameon=False)
    save_figure(figure, path)


def _color(place: int) -> str:
    return COLORS[place % len(COLORS)]


def _finish(axes: "Axes", title: str, across: str, up: str = "") -> None:
    axes.set_title(title, loc="left", fontsize="medium")
    axes.set_xlabel(across, fontsize="small")
    axes.set_ylabel(up, fontsize="small")
    axes.tick_params(labelsize="small")
    axes.spines[["top", "right"]].set_visible(False)


def _classes(axes: "Axes", parts: Sequence[Part], rows: Sequence, whole: int) -> None:
    """Objects of each class, on a logarithmic scale where they differ much."""
    height = 0.8 / len(parts)
    for place in range(len(parts)):
        values = [row.objects[place] for row in rows]
        offsets = np.arange(len(rows)) + (place - (len(parts) - 1) / 2) * height
        axes.barh(offsets, values, height=height, color=_color(place))
    found = [number for row in rows for number in row.objects if number]
    if found and max(found) > 50 * min(found):
        axes.set_xscale("log")
        axes.set_xlim(left=0.7)
    shown = [name if len(name) <= _LETTERS else f"{name[:_LETTERS]}.." for name in (printable(r.name) for r in rows)]
    axes.set_yticks(range(len(rows)), [plain(name) for name in shown])
    axes.set_ylim(max(len(rows), 6) - 0.4, -0.6)  # the first on top
    axes.grid(axis="x", color=GREY, linewidth=0.6)
    axes.set_axisbelow(True)
    more = f", the first {len(rows)} of {whole}" if whole > len(rows) else ""
    _finish(axes, f"Objects of each class{more}", "objects")


def _steps(axes: "Axes", parts: Sequence[Part], values: Sequence[np.ndarray], edges: np.ndarray) -> None:
    """Histograms in percent, so that data sets of any size can be compared."""
    for place, one in enumerate(values):
        if len(one):
            counts, _ = np.histogram(np.clip(one, edges[0], edges[-1]), edges)
            axes.stairs(100 * counts / len(one), edges, color=_color(place), linewidth=1.4)
            axes.stairs(100 * counts / len(one), edges, color=_color(place), fill=True, alpha=0.12)
    axes.set_ylim(bottom=0)


def _per_image(axes: "Axes", parts: Sequence[Part]) -> None:
    counts = [np.bincount(part.image_of[part.objects], minlength=len(part.index)) for part in parts]
    most = max(int(one.max(initial=0)) for one in counts)
    width = max(1, -(-most // _PER_IMAGE))
    _steps(axes, parts, counts, np.arange(0, most + 1.5 * width + 0.5, width) - 0.5)
    _finish(axes, "Objects an image", "objects", "% of the images")


def _logarithmic(axes: "Axes", ticks: Sequence[float], names: Sequence[str]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, names)
    axes.minorticks_off()


def _sizes(axes: "Axes", parts: Sequence[Part], sides: Sides | None) -> None:
    """Square roots of areas with COCO's limits, which have names in pictures as they are."""
    values = [np.sqrt(areas(part, sides)[part.objects]) for part in parts]
    _steps(axes, parts, values, 2.0 ** np.arange(1, 11.01, 0.25))
    ticks = [4, 8, 16, 32, 64, 128, 256, 512, 1024]
    _logarithmic(axes, ticks, [str(tick) for tick in ticks])
    for limit in (SMALL, MEDIUM):
        axes.axvline(limit**0.5, color="grey", linewidth=0.9, linestyle="--")
    top = axes.get_xaxis_transform()
    for place, name in () if sides else ((8, "small"), (55, "medium"), (380, "large")):
        axes.text(place, 1.0, name, transform=top, ha="center", va="bottom", fontsize="x-small", color="grey")
    axes.margins(y=0.1)
    title, how = ("Sizes after the resize", f"\n({sides})") if sides else ("Sizes\n", " of the picture as it is")
    _finish(axes, title, f"square root of the area, pixels{how}", "% of the boxes")


def _aspects(axes: "Axes", parts: Sequence[Part]) -> None:
    values = []
    for part in parts:
        boxes = part.index.boxes[part.objects].astype(np.float64)
        values.append((boxes[:, 2] - boxes[:, 0]) / (boxes[:, 3] - boxes[:, 1]))
    _steps(axes, parts, values, 2.0 ** np.arange(-4, 4.01, 0.2))
    _logarithmic(axes, [1 / 16, 1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8, 16], "1:16 1:8 1:4 1:2 1:1 2:1 4:1 8:1 16:1".split())
    axes.axvline(1, color="grey", linewidth=0.9, linestyle="--")
    _finish(axes, "Aspect ratios", "width : height", "% of the boxes")


def _centres(axes: "Axes", parts: Sequence[Part]) -> None:
    """Where the centres of the boxes of all data sets lie in their pictures."""
    heat = np.zeros((_HEAT, _HEAT))
    for part in parts:
        boxes, images = part.index.boxes[part.objects].astype(np.float64), part.image_of[part.objects]
        sides = np.stack([part.index.widths, part.index.heights], 1)[images]
        cells = np.minimum((_HEAT * (boxes[:, :2] + boxes[:, 2:]) / 2 / sides).astype(int), _HEAT - 1)
        np.add.at(heat, (cells[:, 1], cells[:, 0]), 1)
    shown = axes.imshow(heat, extent=(0, 100, 100, 0), cmap="viridis", aspect=0.75, interpolation="bicubic", vmin=0)
    axes.figure.colorbar(shown, ax=axes, label="boxes", pad=0.02, shrink=0.8)
    axes.set_xticks([0, 50, 100])
    axes.set_yticks([0, 50, 100])
    _finish(axes, "Centres of the boxes", "% of the width", "% of the height")
