"""Looks into the pictures that matplotlib draws."""

from itertools import combinations

import pytest


def kept_figures(monkeypatch, module):
    """Every figure that a module saves from now on; the files are written as well."""
    pytest.importorskip("matplotlib")
    seen, save = [], module.save_figure

    def keep(figure, path):
        save(figure, path)
        seen.append(figure)

    monkeypatch.setattr(module, "save_figure", keep)
    return seen


def texts(figure):
    """All texts that are drawn, with the rectangle of each in pixels."""
    from matplotlib.text import Text

    hidden = set()  # labels of ticks beyond the ends of an axis
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        low, high = sorted(axis.get_view_interval())
        hidden |= {label for tick in axis.get_major_ticks() if not low <= tick.get_loc() <= high
                   for label in (tick.label1, tick.label2)}  # fmt: skip
    found = [text for text in figure.findobj(Text) if text.get_text() and text.get_visible() and text not in hidden]
    return [(text.get_text(), text.get_window_extent()) for text in found]


def check_texts(figure):
    """No text leaves the picture, none lies on another."""
    width, height = figure.bbox.size
    drawn = [(text, box) for text, box in texts(figure) if box.width > 0]
    for text, box in drawn:
        assert box.x0 >= 0, text
        assert box.y0 >= 0, text
        assert box.x1 <= width + 0.5, text
        assert box.y1 <= height + 0.5, text
    for (a, box), (b, other) in combinations(drawn, 2):
        assert not box.overlaps(other), (a, b)
