"""The charts of a comparison, as SVG that takes its ink from the page around it, light or dark."""

import io
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from detector.analysis.charts import COLORS, DASHES, MARKERS, new_figure, plain
from detector.report.shown import COSTS, TIE, Document, fact, interval, measured
from detector.text import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    Made = tuple[Figure, str]  # a picture, and what it says in words

_INK, _RULE, _SOFT, _BETTER, _WORSE = "#0a0b0c", "#0d0e0f", "#0f1011", "#0b0d0f", "#0c0e10"
_OF_PAGE = {
    _INK: "currentColor",
    _RULE: "var(--rule)",
    _SOFT: "var(--soft)",
    _BETTER: "var(--better)",
    _WORSE: "var(--worse)",
    **{each.lower(): f"var(--k{place})" for place, each in enumerate(COLORS) if each != "#000000"},
}
"""What matplotlib draws with, and what the page makes of it, in light and in dark."""

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: it takes the page's font and any script, and can be searched
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.edgecolor": _SOFT,
    "axes.labelcolor": _SOFT,
    "text.color": _INK,
    "xtick.color": _SOFT,
    "ytick.color": _SOFT,
    "xtick.labelcolor": _SOFT,
    "ytick.labelcolor": _SOFT,
    "axes.titlecolor": _INK,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "grid.color": _RULE,
    "grid.linewidth": 0.7,
}
_WIDTH = 5.4  # inches of a chart; two stand side by side
_NORMAL = 1.96  # less than any quantile of Student's t
_MINUS, _WIDE = "\u2212", "\u2002"
_LONGEST = 34  # letters of a name
_BINS = 120  # points of a curve of losses


class Chart(NamedTuple):
    """A picture. part: of the page where it belongs; alt: what it says, in words; svg: its element."""

    part: str
    title: str
    alt: str
    svg: str


def draw(document: Document) -> list[Chart]:
    """All charts that the document has numbers for. Raises MissingPackageError without matplotlib."""
    charts = []
    for part, title, make in (
        ("differences", "Difference of AP to {first}", _forest),
        ("speed", "AP against the time of an image", _against("image_s", 1000, "milliseconds an image")),
        ("speed", "AP against MACs", _against("macs", 1e-9, "billion multiply-accumulates an image")),
        ("curves", "AP during training", _evaluations),
        ("curves", "Loss during training", _losses),
    ):
        shown = title.format(first=short(next(iter(document["models"]))))
        with _style(part + title):
            made = make(document)
            if made is not None:
                figure, alt = made
                charts.append(Chart(part, shown, f"{shown}. {printable(alt)}", _svg(figure)))
    return charts


def color(place: int) -> str:
    """Of the model at a place; black is the page's ink."""
    found = COLORS[place % len(COLORS)]
    return _INK if found == "#000000" else found


def short(name: str) -> str:
    """A name as it has room in a chart."""
    shown = printable(name)
    return shown if len(shown) <= _LONGEST else f"{shown[: _LONGEST - 1]}…"


@contextmanager
def _style(salt: str) -> Iterator[None]:
    """The look of all charts; and what matplotlib would name by chance is named after a text."""
    new_figure(1, 1, None)  # where matplotlib is missing, this says how to get it
    import matplotlib

    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": salt}), warnings.catch_warnings():
        # letters that its own font lacks are measured as boxes; the page has them in a font of its reader
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def _svg(figure: "Figure") -> str:
    """The element alone: no size, fonts, addresses and names of its own, and the page's inks."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    text = buffer.getvalue()
    head, body = text[text.index("<svg") :].strip().split(">", 1)
    box = head[head.index("viewBox=") :].split('"')[1]
    body = re.sub(r"<style.*?</style>|<!--.*?-->", "", body, flags=re.DOTALL)
    body = re.sub(r"font-family: [^;\"]*; |(?<=<g) id=\"[^\"]*\"", "", body)
    for mark, ink in _OF_PAGE.items():
        body = body.replace(mark, ink)
    return f'<svg viewBox="{box}" aria-hidden="true">{body}'


def _forest(document: Document) -> "Made | None":
    """Paired differences to the first model: a point and its interval, the images' share of it thick; ties are grey."""
    first = next(iter(document["models"]))
    pairs = [pair for pair in document["differences"] if pair["models"][1] == first and interval(pair["AP"])]
    if not pairs:
        return None
    figure = new_figure(1.4 * _WIDTH, 0.65 + 0.32 * len(pairs), "constrained")
    axes = figure.subplots()
    axes.axvline(0, color=_INK, linewidth=0.8)
    told = []
    for place, pair in enumerate(pairs):
        row = pair["AP"]
        ink = _SOFT if row["tie"] else _BETTER if row["value"] > 0 else _WORSE
        low, high = interval(row) or (0.0, 0.0)
        axes.plot([100 * low, 100 * high], [place, place], color=ink, linewidth=1.2, solid_capstyle="butt")
        part = thick(row)
        if part:
            axes.plot([100 * bound for bound in part], [place, place], color=ink, linewidth=4, alpha=0.45)
        axes.plot([100 * row["value"]], [place], "o", color=ink, markersize=5)
        told.append(f"{pair['models'][0]}: {measured(row, sign=True)}{f', {TIE}' * bool(row['tie'])}")
    axes.set_yticks(range(len(pairs)), [plain(short(pair["models"][0])) for pair in pairs], color=_INK)
    axes.set_ylim(len(pairs) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    axes.set_xlabel(f"points of AP more than {plain(short(first))}")
    said = axes.secondary_yaxis("right")
    words = [measured(pair["AP"], sign=True).replace("-", _MINUS) for pair in pairs]
    ties = [f"{_WIDE}{TIE}" * bool(pair["AP"]["tie"]) for pair in pairs]
    said.set_yticks(range(len(pairs)), map("".join, zip(words, ties, strict=True)))
    said.tick_params(length=0)
    said.spines["right"].set_visible(False)
    return figure, "; ".join(told)


def thick(row: Mapping[str, Any]) -> tuple[float, float] | None:
    """What the images alone account for in an interval of both sources: around its middle, as it is, and within it.

    The percentiles of their bootstrap are not: what it draws again has a bias of its own. None for images alone.
    """
    se = (row.get("images") or {}).get("se") if row.get("seeds") else None
    return None if se is None else (row["value"] - _NORMAL * se, row["value"] + _NORMAL * se)


def _against(key: str, factor: float, label: str) -> Callable[[Document], "Made | None"]:
    """AP, with its interval, over a number of the facts; nothing where fewer than two models have it."""

    def make(document: Document) -> "Made | None":
        chosen = [
            (place, name, 100 * model["AP"]["value"], factor * cost)
            for place, (name, model) in enumerate(document["models"].items())
            if (cost := fact(model, key)) is not None and (model.get("AP") or {}).get("value") is not None
        ]
        if len(chosen) < 2:
            return None
        figure = new_figure(_WIDTH, 3.2, "constrained")
        axes = figure.subplots()
        for place, name, value, cost in chosen:
            low, high = (100 * bound for bound in interval(document["models"][name]["AP"]) or (value / 100,) * 2)
            axes.plot([cost, cost], [low, high], color=color(place), linewidth=1.1, alpha=0.7)
            axes.plot([cost], [value], MARKERS[place % len(MARKERS)], color=color(place), markersize=6)
        _frame(axes, label, "AP")
        axes.set_xlim(0, 1.08 * max(cost for *_, cost in chosen))
        text = next(cost.text for cost in COSTS if cost.key == key)
        return figure, "; ".join(
            f"{name}: AP {measured(document['models'][name]['AP'])}, {text(cost / factor)}"
            for _, name, _, cost in chosen
        )

    return make


def _evaluations(document: Document) -> "Made | None":
    """AP over steps: the mean over the seeds, between the lowest and the highest of them."""
    return _curves(document, "evaluations", "AP", 100, bins=None)


def _losses(document: Document) -> "Made | None":
    """The loss over steps, as the AP; averaged over so many steps that it can be read."""
    return _curves(document, "loss", "loss", 1, bins=_BINS)


def _curves(document: Document, key: str, label: str, factor: float, bins: int | None) -> "Made | None":
    lines = {
        place: together([[pair[:2] for pair in curve.get(key) or ()] for curve in model.get("curves") or ()], bins)
        for place, model in enumerate(document["models"].values())
    }
    lines = {place: line for place, line in lines.items() if line.shape[1] > 1}
    if not lines:
        return None
    figure = new_figure(_WIDTH, 3.2, "constrained")
    axes = figure.subplots()
    for place, (steps, mean, low, high) in lines.items():
        ink, dash = color(place), DASHES[place // len(COLORS) % len(DASHES)]
        axes.fill_between(steps, factor * low, factor * high, color=ink, alpha=0.16, linewidth=0)
        axes.plot(steps, factor * mean, dash, color=ink, linewidth=1.3)
    _frame(axes, "step", label)
    every = factor * np.concatenate([line[1] for line in lines.values()])
    if bins and every.min() > 0 and every.max() > 8 * every.min():
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    names = [*document["models"]]
    return figure, "; ".join(
        f"{names[place]}: {factor * line[1, 0]:.3g} at step {line[0, 0]:.0f}, {factor * line[1, -1]:.3g} at step "
        f"{line[0, -1]:.0f}"
        for place, line in lines.items()
    )


def together(curves: Sequence[Sequence[Sequence[float]]], bins: int | None = None) -> np.ndarray:
    """Curves of seeds as one: [4, P] of step, mean, lowest and highest, at the steps that all of them have.

    curves: (step, value) pairs of each seed, those without a value left out; bins: average so many neighbouring steps
    that no more points remain. Without a common step P is 0.
    """
    tables = [{step: value for step, value in curve if value is not None} for curve in curves]
    tables = [table for table in tables if table]
    if not tables:
        return np.empty((4, 0))
    steps = sorted(set.intersection(*map(set, tables)))
    values = np.array([[table[step] for step in steps] for table in tables], np.float64).reshape(len(tables), -1)
    if bins and len(steps) > bins:
        parts = np.array_split(np.arange(len(steps)), bins)
        values = np.stack([values[:, part].mean(axis=1) for part in parts], axis=1)
        steps = [float(np.mean([steps[i] for i in part])) for part in parts]
    return np.stack([np.asarray(steps, np.float64), values.mean(0), values.min(0), values.max(0)])


def _frame(axes: "Axes", x: str, y: str) -> None:
    axes.grid()
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
