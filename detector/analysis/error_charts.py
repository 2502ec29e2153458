"""The picture of a detector's errors: what each kind costs, and what it costs each class."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING

from detector.analysis.charts import COLORS, GREY, new_figure, plain, save_figure
from detector.text import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROWS = 100
"""Classes that are drawn."""

_LETTERS = 40  # of a name


def save_errors_chart(
    path: Path,
    title: str,
    costs: Mapping[str, float],
    special: Mapping[str, float],
    classes: Mapping[str, Sequence[float]],
) -> None:
    """Bars of what each kind costs, and a bar for each class of what each kind costs it, one after the other.

    costs: of each kind, special: of all wrong detections and of all objects not found, in points of a hundred;
    classes: name -> the costs of the kinds; drawn in this order from the top, no more than `ROWS`; one alone is not.
    Writes a PNG. Raises ImportError without matplotlib, OSError when it cannot be written.
    """
    shown = [*classes.items()][:ROWS] if len(classes) > 1 else []
    height = 0.28 * (len(costs) + len(special)) + 1.1
    below = 0.17 * len(shown) + 1.4 if shown else 0
    figure = new_figure(8.0, height + below, "constrained")
    grid = figure.add_gridspec(2 if shown else 1, 1, height_ratios=[height, below] if shown else [1])
    _kinds(figure.add_subplot(grid[0]), costs, special)
    if shown:
        axes = figure.add_subplot(grid[1])
        _classes(axes, [*costs], shown)
        several = f"the {len(shown)} of {len(classes)} classes" if len(shown) < len(classes) else "each class"
        axes.set_title(f"What each kind costs {several}", loc="left")
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=len(costs), frameon=False)
    figure.suptitle(plain(fill(printable(title), 70)))
    save_figure(figure, path)


def _kinds(axes: "Axes", costs: Mapping[str, float], special: Mapping[str, float]) -> None:
    values = [*costs.values(), *special.values()]
    # a gap before those that are not kinds of their own
    places = [place + (0.5 if place >= len(costs) else 0) for place in range(len(values))]
    colors = [*COLORS[: len(costs)], *["grey"] * len(special)]
    axes.barh(places, values, color=colors, height=0.75)
    for place, value in zip(places, values, strict=True):
        axes.annotate(f"{value:.1f}", (value, place), (4, 0), textcoords="offset points", va="center", fontsize="small")
    axes.set_yticks(places, [*costs, *special])
    axes.invert_yaxis()
    axes.set_xlim(0, max(*values, 1) * 1.1)
    axes.set_xlabel("points of AP50 that its repair alone would gain")
    axes.grid(axis="x", color=GREY, linewidth=0.6)
    axes.set_axisbelow(True)


def _classes(axes: "Axes", kinds: Sequence[str], rows: Sequence[tuple[str, Sequence[float]]]) -> None:
    left = [0.0] * len(rows)
    for k, kind in enumerate(kinds):
        widths = [values[k] for _, values in rows]
        axes.barh(range(len(rows)), widths, left=left, color=COLORS[k], height=0.8, label=kind)
        left = [before + width for before, width in zip(left, widths, strict=True)]
    names = [printable(name) for name, _ in rows]
    shown = [plain(name if len(name) <= _LETTERS else f"{name[:_LETTERS]}..") for name in names]
    axes.set_yticks(range(len(rows)), shown, fontsize="small")
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(0, max(*left, 1) * 1.02)
    axes.set_xlabel("points of its AP50, each kind repaired alone: gains overlap")
    axes.grid(axis="x", color=GREY, linewidth=0.6)
    axes.set_axisbelow(True)
