"""The picture of several runs' curves: a panel for each of loss, measures, loss terms and rate."""

from collections.abc import Iterator, Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from detector.analysis.charts import COLORS, DASHES, GREY, in_points, new_figure, plain, save_figure
from detector.report.curves import Curve, Family
from detector.text import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MEASURES = ("AP", "AP50")
"""Curves of evaluations, whose points are shown."""

_COLUMNS = 3
_STEEP = 20  # times the median: from such a first value on the axis is logarithmic
_FREE = 0.05  # of the height, beyond the highest value and one that is not above 0: lines and points are whole
_FINE = 20  # lines of a log, of which a smoothed curve takes about one in


class _Style(NamedTuple):
    color: str
    dash: str


def save_curves_chart(path: Path, families: Sequence[Family]) -> None:
    """Draws all curves over the steps, a colour for each family, and writes a PNG.

    Of a family of several runs the mean is drawn, and the range from the lowest to the highest as a band; of a single
    one the curve. Losses are smoothed lightly, the values themselves are pale behind them. Evaluations have points.
    Raises ImportError without matplotlib, OSError when it cannot be written.
    """
    last = max(run.history.steps for family in families for run in family.runs)
    names = list(dict.fromkeys(name for family in families for run in family.runs for name in run.curves()))
    names = [name for name in names if name != "lr"] + [name for name in names if name == "lr"]
    columns = min(_COLUMNS, len(names))
    lines = -(-len(names) // columns)
    figure = new_figure(max(4.6 * columns, 6.0), 3.2 * lines + 0.6, "constrained")
    grid = [*figure.subplots(lines, columns, squeeze=False).flat]
    for axes, name in zip(grid, names, strict=False):
        for style, family in zip(_styles(), families, strict=False):
            _draw(axes, name, family, style)
        axes.set_title(name, fontsize="medium")
        if name in MEASURES:
            in_points(axes.yaxis)
        axes.set_xlabel("step")
        axes.grid(color=GREY, linewidth=0.5)
        axes.set_xlim(0, 1.03 * last)
        _scale(axes, [value for family in families for run in family.runs for _, value in run.curves().get(name, [])])
    for axes in grid[len(names) :]:
        axes.remove()
    handles = [
        grid[0].plot([], [], color=style.color, linestyle=style.dash, label=plain(printable(_label(family))))[0]
        for style, family in zip(_styles(), families, strict=False)
    ]
    longest = max(len(_label(family)) for family in families)
    across = max(1, int(4.6 * columns / (0.08 * longest + 0.6)))
    figure.legend(handles=handles, loc="outside lower center", ncols=min(across, len(families)), frameon=False)
    save_figure(figure, path)


def smoothed(values: np.ndarray) -> np.ndarray:
    """[P] the mean of each value [P] and its neighbours, a twentieth of all; at the ends of as many as there are.

    Values that are no numbers are left out, and stay none where all are.
    """
    half = len(values) // (2 * _FINE)
    known = ~np.isnan(values)
    sums, counts = np.cumsum(np.r_[0, np.where(known, values, 0)]), np.cumsum(np.r_[0, known])
    places = np.arange(len(values))
    reach = np.minimum(half, np.minimum(places, len(values) - 1 - places))  # even on both sides: no shift at the ends
    begin, end = places - reach, places + reach + 1
    number = counts[end] - counts[begin]
    return np.where(number > 0, (sums[end] - sums[begin]) / np.maximum(number, 1), np.nan)


def _draw(axes: "Axes", name: str, family: Family, style: _Style) -> None:
    points = {"marker": "o", "markersize": 3.5} if name in MEASURES else {}
    look: dict[str, Any] = {"color": style.color, "linestyle": style.dash, "linewidth": 1.4, **points}
    if name in family.bands:
        steps, mean, low, high = family.bands[name]
        axes.fill_between(steps, low, high, color=style.color, alpha=0.18, linewidth=0)
        axes.plot(steps, mean, **look)
        return
    for run in family.runs:
        if curve := run.curves().get(name):
            _line(axes, name, curve, style, look)


def _line(axes: "Axes", name: str, curve: Curve, style: _Style, look: dict[str, Any]) -> None:
    steps, values = np.array(curve).T
    if name.startswith("loss"):
        axes.plot(steps, values, color=style.color, alpha=0.3, linewidth=0.9)
        values = smoothed(values)
    if len(steps) == 1:
        look = {**look, "marker": "o", "markersize": 3.5}
    axes.plot(steps, values, **look)


def _scale(axes: "Axes", values: Sequence[float]) -> None:
    """Logarithmic where a few large values would press all others to the bottom."""
    known = np.array([value for value in values if not np.isnan(value)])
    if len(known) and known.min() > 0 and known.max() > _STEEP * np.median(known):
        axes.set_yscale("log")
    else:
        bottom, top = min(0.0, float(known.min(initial=0.0))), float(known.max(initial=0.0))
        free = _FREE * (top - bottom or 1)
        axes.set_ylim(bottom - free * (float(known.min(initial=1.0)) <= 0), top + free)


def _styles() -> Iterator[_Style]:
    """A colour and a dash each; broken lines let an equal line below show through."""
    return map(_Style, cycle(COLORS), cycle(DASHES))


def _label(family: Family) -> str:
    return family.runs[0].name if len(family.runs) == 1 else f"{family.name} ({len(family.runs)} runs)"
