"""The picture of a confusion matrix: its cells, their texts, and names of any length."""

import numpy as np
import pytest
from helpers.drawn import check_texts, kept_figures

from detector.analysis import confusion_chart
from detector.analysis.confusion_chart import save_confusion_chart


@pytest.fixture
def figures(monkeypatch):
    return kept_figures(monkeypatch, confusion_chart)


def test_cells_show_share_and_count_and_nothing_where_there_is_none(figures, tmp_path):
    shares = np.array([[0.75, 0, 0.25], [np.nan, np.nan, np.nan], [0.2, 1.0, np.nan]])
    counts = np.array([[3, 0, 1], [0, 0, 0], [1, 2, 0]])
    names = ["a", r"$\frac{$b", "(background)"]
    save_confusion_chart(tmp_path / "c.png", "t", names, names, shares, counts)
    (figure,) = figures
    axes = figure.axes[0]
    cells = {text.get_position(): text.get_text() for text in axes.texts}
    assert cells == {(0, 0): "0.75\n3", (2, 0): "0.25\n1", (0, 2): "0.20\n1", (1, 2): "1.00\n2"}
    np.testing.assert_array_equal(axes.images[0].get_array(), np.nan_to_num(shares))
    assert axes.images[0].get_clim() == (0, 1)
    assert axes.get_ylabel() == "truth"
    assert axes.get_xlabel() == "detected"
    check_texts(figure)


@pytest.mark.parametrize(("number", "length"), [(2, 1), (2, 60), (9, 1), (9, 60)])
def test_any_names_fit(figures, tmp_path, number, length):
    names = [f"{k}" + "x" * length for k in range(number - 1)]
    rows, columns = [*names, "(background)"], [*names, "(60 others)", "(background)"]
    counts = np.full((number, number + 1), 5)
    title = "a run with a long name on a data set with a long name, IoU 0.5\nbest F1 of each class \x1b[31m"
    save_confusion_chart(tmp_path / "c.png", title, rows, columns, counts / 37, counts)
    check_texts(figures[0])
    assert figures[0].get_suptitle() == title.replace("\x1b", "\\x1b")
    assert figures[0].axes[0].texts[0].get_text() == (".14" if number > 8 else "0.14\n5")
