"""The picture of precision and recall: the curves, the dots, and which classes have a colour."""

import math

import numpy as np
import pytest
from helpers.drawn import check_texts, kept_figures

from detector.analysis import precision_chart
from detector.analysis.charts import GREY
from detector.analysis.precision_chart import ClassLine, save_precision_chart


@pytest.fixture
def figures(monkeypatch):
    return kept_figures(monkeypatch, precision_chart)


def line(name, ap, scores=(0.9, 0.5), f1=(0.4, 0.6), best=(0.45, 0.6, 0.7, 0.5)):
    return ClassLine(name, ap, np.linspace(1, 2 * ap - 1, 101), np.array(scores), np.array(f1), best)


def named(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_curves_and_dots(figures, tmp_path):
    save_precision_chart(
        tmp_path / "pr.png", "t", "AP50", [line("a", 0.6), line("b", 0.9, best=None)], line("all", 0.7)
    )
    (figure,) = figures
    left, right = figure.axes
    assert named(figure) == ["b: AP50 90.0", "a: AP50 60.0", "all: AP50 70.0"]
    figure.canvas.draw()
    for axis in (left.xaxis, left.yaxis, right.yaxis):
        assert [text.get_text() for text in axis.get_ticklabels()][:6] == ["0", "20", "40", "60", "80", "100"]
    assert right.xaxis.get_ticklabels()[1].get_text() == "0.2"  # scores are no measures
    curves = [one for one in left.lines if len(one.get_xdata()) == 101]
    np.testing.assert_allclose(curves[1].get_xdata(), np.arange(101) / 100)
    np.testing.assert_allclose(curves[1].get_ydata(), np.linspace(1, 0.2, 101))
    assert [one.get_color() for one in curves][2] == "#000000"
    assert curves[2].get_linewidth() > curves[0].get_linewidth()
    dots = [[(one.get_xdata()[0], one.get_ydata()[0]) for one in axes.lines if len(one.get_xdata()) == 1]
            for axes in (left, right)]  # fmt: skip
    # b has no best; the dot of all together is no point of the mean curve on the left
    assert dots == [[(0.5, 0.7)], [(0.45, 0.6), (0.45, 0.6)]]
    steps = next(one for one in right.lines if len(one.get_xdata()) == 2)
    assert steps.get_xdata().tolist() == [0.5, 0.9]
    assert steps.get_ydata().tolist() == [0.6, 0.4]
    assert steps.get_drawstyle() == "steps-pre"  # down to the next lower score a threshold keeps the same
    check_texts(figure)


@pytest.mark.parametrize("count", [6, 7, 80])
def test_of_many_classes_the_best_and_the_worst_have_a_colour(figures, tmp_path, count):
    lines = [line(f"class {k} of a data set with long names indeed", 1 - k / count) for k in range(count)]
    save_precision_chart(tmp_path / "pr.png", "t", "AP50", lines, line("mean", 0.5))
    (figure,) = figures
    grey = [one for one in figure.axes[0].lines if one.get_color() == GREY and len(one.get_xdata()) == 101]
    assert len(grey) == max(count - 6, 0) * (count > 6)
    words = [text.split()[1] for text in named(figure) if text.startswith("class")]
    assert words == [str(k) for k in ([*range(6)] if count == 6 else [0, 1, 2, count - 3, count - 2, count - 1])]
    assert (f"{count - 6} other class{'es' * (count > 7)}" in named(figure)) == (count > 6)
    check_texts(figure)


def test_names_are_shown_as_they_are_and_long_curves_are_thinned(figures, tmp_path):
    many = np.linspace(1, 0.1, 100_000)
    one = line(r"$\frac{$_a" + "\x1b[31m", 0.5, many, many)
    nothing = ClassLine("n", math.nan, np.full(101, np.nan), np.empty(0), np.empty(0), None)
    save_precision_chart(
        tmp_path / "pr.png", r"$\frac{$", "AP50", [one, line("logit", 0.5, [7.5, -1], [0, 0])], nothing
    )
    (figure,) = figures
    drawn = max(figure.axes[1].lines, key=lambda one: len(one.get_xdata()))
    assert len(drawn.get_xdata()) <= 400
    assert (drawn.get_xdata()[0], drawn.get_xdata()[-1]) == (pytest.approx(0.1), 1)
    assert figure.axes[1].get_xlim()[1] >= 7.5


def test_a_thinned_curve_keeps_the_few_detections_of_its_top(figures, tmp_path):
    """Most detections have a low score, so that every n-th of them leaves out the high ones."""
    scores = np.concatenate([np.linspace(0.9, 0.3, 20), np.linspace(0.1, 0.05, 9980)])
    f1 = np.concatenate([np.linspace(0.1, 0.8, 12), np.linspace(0.7, 0.05, 9988)])
    save_precision_chart(tmp_path / "pr.png", "t", "AP50", [], line("all", 0.5, scores, f1))
    drawn = max(figures[0].axes[1].lines, key=lambda one: len(one.get_xdata()))
    assert set(scores[:20]) <= set(drawn.get_xdata())
    exact = f1[np.searchsorted(-scores, -drawn.get_xdata(), side="right") - 1]
    np.testing.assert_array_equal(drawn.get_ydata(), exact)
    middle = drawn.get_xdata()[:-1] + np.diff(drawn.get_xdata()) / 2  # where a step stands for what is left out
    left_out = np.abs(f1[np.searchsorted(-scores, -middle, side="right") - 1] - drawn.get_ydata()[1:])
    assert left_out.max() < 0.05


def test_a_thinned_curve_has_its_top_wherever_that_is(figures, tmp_path):
    f1 = np.full(10_000, 0.5)
    f1[5_003] = 0.9
    save_precision_chart(tmp_path / "pr.png", "t", "AP50", [], line("all", 0.5, np.linspace(1, 0, 10_000), f1))
    drawn = max(figures[0].axes[1].lines, key=lambda one: len(one.get_xdata()))
    assert drawn.get_ydata().max() == 0.9


def test_scores_below_0_are_in_the_picture(figures, tmp_path, recwarn):
    """Where dots stand outside there is no room left for the axes."""
    log_odds = line("a", 0.6, (-2, -1000), best=(-500, 0.6, 0.7, 0.5))
    save_precision_chart(tmp_path / "pr.png", "t", "AP50", [log_odds], log_odds)
    assert figures[0].axes[1].get_xlim() == (-1000, 1)
    assert figures[0].axes[0].get_xlim() == (0, 1)
    assert not [one for one in recwarn if "collapsed" in str(one.message)]


def test_no_class_at_all(figures, tmp_path):
    nothing = ClassLine("n", math.nan, np.full(101, np.nan), np.empty(0), np.empty(0), None)
    save_precision_chart(tmp_path / "pr.png", "t", "AP50", [], nothing)
    assert (tmp_path / "pr.png").stat().st_size
