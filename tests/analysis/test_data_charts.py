"""The page of charts of data sets."""

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from detector.analysis import data_charts
from detector.data.doctor.balance import Sides
from detector.data.doctor.sets import read_sets


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """drawn(sets): the axes of the page, by their titles; sides: as for `save_data_charts`."""
    figures = []
    monkeypatch.setattr(data_charts, "save_figure", lambda figure, path: figures.append(figure))

    def draw(sets, names=("train", "val"), sides=None):
        parts, _ = read_sets([(entry, "") for entry in sets.write()], sets.folder)
        data_charts.save_data_charts(tmp_path / "page.png", parts, names, sides)
        figures[-1].draw_without_rendering()
        return {axes.get_title(loc="left").strip(): axes for axes in figures[-1].axes}

    return draw


def test_the_page_shows_what_is_in_the_sets(sets, drawn):
    axes = drawn(sets)
    bars = axes["Objects of each class"].patches
    assert [bar.get_width() for bar in bars[:6]] == [10, 10, 10, 6, 6, 6]
    assert [label.get_text() for label in axes["Objects of each class"].get_yticklabels()] == ["cat", "dog", "bird"]
    (heat,) = axes["Centres of the boxes"].images
    assert heat.get_array().sum() == 48
    rows, columns = np.nonzero(heat.get_array())
    assert {(int(row) // 8, int(column) // 8) for row, column in zip(rows, columns)} == {(0, 0), (0, 1), (1, 2)}
    for name in ("Objects an image", "Sizes", "Aspect ratios"):
        values = axes[name].patches[0].get_data().values
        assert values.sum() == pytest.approx(100)
    counts, edges, _ = axes["Objects an image"].patches[0].get_data()
    assert edges[np.argmax(counts)] == 2.5


def test_sizes_are_those_of_pictures_as_they_are_unless_a_config_resizes_them(sets, drawn):
    """Boxes of 20 to 22 x 22 pixels in pictures of 96 x 128."""
    for sides, title, named in ((None, "Sizes", True), (Sides(192, 1000), "Sizes after the resize", False)):
        axes = drawn(sets, sides=sides)[title]
        counts, edges, _ = axes.patches[0].get_data()
        assert edges[np.argmax(counts)] < (44 if sides else 22) < edges[np.argmax(counts) + 2]
        assert ("small" in [text.get_text() for text in axes.texts]) is named


def test_names_are_shown_as_they_are_and_many_classes_are_cut(sets, drawn):
    for part, content in sets.content.items():
        content["categories"][0]["name"] = "\x1b$x$ " + "long" * 20
        for i in range(40):
            number = sets.category(f"class {i}", part)
            sets.box(part, [60, 70, 9, 9], number)
    axes = drawn(sets, ("$a$", "\x1b"))
    title = "Objects of each class, the first 30 of 43"
    assert len(axes[title].get_yticklabels()) == 30
    assert any(label.get_text().startswith("\\x1b\\$x\\$ long") for label in axes[title].get_yticklabels())


def test_sets_without_a_box_have_a_page_too(sets, drawn):
    for content in sets.content.values():
        content["annotations"] = []
    assert "Aspect ratios" in drawn(sets)
