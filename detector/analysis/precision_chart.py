"""The picture of precision and recall: a curve for each class, and F1 over the threshold."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from detector.analysis.charts import COLORS, DASHES, GREY, in_points, new_figure, plain, save_figure
from detector.text import counted, printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAMED = 6
"""Classes that have a colour each; of more, the worst three and the best three have."""

_HUES, _BOLD = COLORS[:NAMED], COLORS[NAMED]  # black stands for all classes
_STRETCHES = 390  # of scores, each with a point of a curve of F1, which may have as many as there are detections


class ClassLine(NamedTuple):
    """A class in the picture.

    name; ap: average precision; precision [101]: the best at each of the recalls 0, 0.01 .. 1 or beyond, whose mean is
    the ap; scores, f1 [S]: the F1 of all detections of a score or a higher one, the scores falling; best: (threshold,
    f1, precision, recall) where F1 is the highest, None where nothing is right.
    """

    name: str
    ap: float
    precision: np.ndarray
    scores: np.ndarray
    f1: np.ndarray
    best: tuple[float, float, float, float] | None


def save_precision_chart(path: Path, title: str, measure: str, lines: Sequence[ClassLine], whole: ClassLine) -> None:
    """Precision over recall on the left, F1 over the threshold on the right; dots stand where F1 is the highest.

    measure: name of the ap, e.g. AP50; lines: of the classes that have objects; whole, drawn bold: the mean of their
    curves on the left, all of their detections together on the right. Of many classes the rest is grey. Errors as
    `charts.save_layer_chart`.
    """
    order = sorted(range(len(lines)), key=lambda k: lines[k].ap)
    named = order if len(lines) <= NAMED else [*order[: NAMED // 2], *order[-NAMED // 2 :]]
    figure = new_figure(11, 5.2, "constrained")
    left, right = figure.subplots(1, 2)
    for k in order:
        if k not in named:
            _draw(left, right, lines[k], GREY, "-", 0.7)
    for i, k in enumerate(reversed(named)):
        _draw(left, right, lines[k], _HUES[i], DASHES[i % len(DASHES)], 1.4, measure)
        if best := lines[k].best:
            _dot(left, best[3], best[2], _HUES[i])
    _draw(left, right, whole, _BOLD, "-", 2.6, measure)
    for line, color in [*zip((lines[k] for k in reversed(named)), _HUES, strict=False), (whole, _BOLD)]:
        if line.best:
            _dot(right, line.best[0], line.best[1], color)
    left.set_xlabel("recall, %")
    left.set_ylabel("precision, %, the best at this recall or beyond")
    right.set_xlabel("threshold: lowest score that is kept")
    right.set_ylabel("F1, %")
    for axis in (left.xaxis, left.yaxis, right.yaxis):
        in_points(axis)
    for axes in (left, right):
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1.01)
        axes.grid(color=GREY, linewidth=0.6)
    scores = np.concatenate([line.scores for line in (*lines, whole)])
    right.set_xlim(scores.min(initial=0), scores.max(initial=1))  # other frameworks' may be above 1, or below 0
    figure.suptitle(plain(printable(title)))
    others = counted(len(lines) - len(named), "other class|classes")
    if len(lines) > len(named):
        left.plot([], [], color=GREY, linewidth=0.7, label=others)
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    save_figure(figure, path)


def _draw(
    left: "Axes", right: "Axes", line: ClassLine, color: str, dashes: str, width: float, measure: str = ""
) -> None:
    """One line on each side. measure: name of the ap in the legend, "" for a line that is not named."""
    label = f"{_short(line.name)}: {measure} {100 * line.ap:.1f}" if measure else None
    style: dict[str, Any] = {"color": color, "linestyle": dashes, "linewidth": width}
    left.plot(np.linspace(0, 1, len(line.precision)), line.precision, label=label and plain(label), **style)
    # a threshold between two scores keeps what the higher one keeps
    some = _thinned(line.scores, line.f1)
    right.plot(line.scores[some][::-1], line.f1[some][::-1], drawstyle="steps-pre", **style)


def _thinned(scores: np.ndarray, f1: np.ndarray) -> np.ndarray:
    """The places of at most _STRETCHES + 3 points of a curve, apart in score as far as can be seen, and of its top.

    By score, as most detections have a low one: every n-th of them would leave out the few that make the top.
    """
    if len(scores) <= _STRETCHES:
        return np.arange(len(scores))
    span = (scores[0] - scores[-1]) or 1
    ends = np.flatnonzero(np.diff(np.floor((scores - scores[-1]) / span * _STRETCHES)))  # the last one of each stretch
    return np.unique([0, *ends, int(np.argmax(f1)), len(scores) - 1])


def _dot(axes: "Axes", x: float, y: float, color: str) -> None:
    axes.plot([x], [y], color=color, marker="o", markersize=6, markeredgecolor="white", linestyle="", clip_on=False)


def _short(name: str) -> str:
    shown = printable(name)
    return shown if len(shown) <= 40 else f"{shown[:38]}.."
