"""The picture of errors: its bars, its names, and that no text is cut off."""

from itertools import pairwise

import cv2
import pytest
from helpers.drawn import kept_figures

from detector.analysis import error_charts
from detector.analysis.error_charts import save_errors_chart

KINDS = ("classification", "localisation", "both", "duplicate", "background", "missed")
COSTS = dict(zip(KINDS, (1.0, 2.5, 0.0, 4.0, 8.0, 0.5)))
SPECIAL = {"false positives": 12.0, "false negatives": 30.0}


@pytest.fixture
def draw(monkeypatch, tmp_path):
    """draw(classes): the axes of the picture; it is written as well."""
    figures = kept_figures(monkeypatch, error_charts)

    def run(classes, title="run on test", costs=COSTS):
        save_errors_chart(tmp_path / "errors.png", title, costs, SPECIAL, classes)
        assert cv2.imread(str(tmp_path / "errors.png")).size
        check_inside(figures[-1])
        return figures[-1].axes

    return run


def check_inside(figure):
    """No text reaches out of the picture."""
    from matplotlib.text import Text

    hidden = {label for axes in figure.axes for label in axes.get_xticklabels()}  # some are of ticks beyond the ends
    for text in figure.findobj(Text):
        if text.get_visible() and text.get_text() and text not in hidden:
            place = text.get_window_extent()
            assert place.x0 >= 0, text
            assert place.x1 <= figure.bbox.width, text
            assert place.y0 >= 0, text
            assert place.y1 <= figure.bbox.height, text


def names(axes):
    return [label.get_text() for label in axes.get_yticklabels()]


def test_a_bar_for_each_kind_and_parts_for_each_class(draw):
    classes = {"cat": [1.0, 2, 3, 4, 5, 6], "$a$ dog\n": [6.0, 0, 0, 0, 0, 1]}
    top, below = draw(classes)
    assert names(top) == [*KINDS, *SPECIAL]
    assert [bar.get_width() for bar in top.patches] == [*COSTS.values(), *SPECIAL.values()]
    assert [text.get_text() for text in top.texts] == ["1.0", "2.5", "0.0", "4.0", "8.0", "0.5", "12.0", "30.0"]
    assert len({bar.get_facecolor() for bar in top.patches[:6]}) == 6
    assert names(below) == ["cat", r"\$a\$ dog\x0a"]
    bars = [(bar.get_x(), bar.get_width(), round(bar.get_y() + bar.get_height() / 2)) for bar in below.patches]
    assert [bar[:2] for bar in bars if bar[2] == 0] == [(0, 1), (1, 2), (3, 3), (6, 4), (10, 5), (15, 6)]
    assert [bar[:2] for bar in bars if bar[2] == 1] == [(0, 6), (6, 0), (6, 0), (6, 0), (6, 0), (6, 1)]
    assert below.yaxis_inverted()
    for kind in range(6):  # the same colour above and below
        assert below.patches[2 * kind].get_facecolor() == top.patches[kind].get_facecolor()


def test_one_class_is_not_drawn_again(draw):
    assert len(draw({"cat": [1.0] * 6})) == 1


def test_nothing_to_repair(draw):
    top, below = draw({"cat": [0.0] * 6, "dog": [0.0] * 6}, costs=dict.fromkeys(KINDS, 0.0))
    assert not any(bar.get_width() for bar in [*top.patches[:6], *below.patches])


def test_many_classes_and_long_names(draw, monkeypatch):
    monkeypatch.setattr(error_charts, "ROWS", 25)
    classes = {f"class {i} {'long' * 30}": [1.0] * 6 for i in range(1203)}
    _, below = draw(classes, title="name " * 40)
    assert below.get_title(loc="left") == "What each kind costs the 25 of 1203 classes"
    assert len(names(below)) == 25
    assert names(below)[24] == "class 24 longlonglonglonglonglonglonglon.."
    rows = sorted(label.get_window_extent().y0 for label in below.get_yticklabels())
    height = below.get_yticklabels()[0].get_window_extent().height
    assert min(b - a for a, b in pairwise(rows)) > height * 0.9  # the lines of names do not lie on each other
