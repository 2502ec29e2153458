"""Pictures: what is drawn where, on which scale, and that no text is cut off or lies on another."""

import math
import sys

import cv2
import numpy as np
import pytest
from helpers.drawn import check_texts, kept_figures, texts

from detector.analysis import charts
from detector.analysis.charts import MapPanel, save_layer_chart, save_maps_chart, save_matrix_chart

LAYERS = ["conv1", *(f"layer{i}.{j}.conv{k}" for i in (1, 2, 3, 4) for j in range(9) for k in (1, 2, 3))]


@pytest.fixture
def figures(monkeypatch):
    """Every figure that is saved, to look inside; the files are written as well."""
    return kept_figures(monkeypatch, charts)


def panel(steps, rows, title="net", size=(6, 8)):
    maps = np.random.default_rng(0).random((len(steps), rows, *size), np.float32)
    return MapPanel(title, steps, [7 * row for row in range(rows)], maps, [0.5] * (rows - 1) + [math.nan])


def test_layers_are_lines_over_their_index(figures, tmp_path):
    path = tmp_path / "new" / "chart.png"
    save_layer_chart(path, {"a": {"conv1": 0.5, "layer1.0": math.nan, "layer1.1": 0.25}, "b": {"x": 0.1, "y": 0.2}})
    assert cv2.imread(str(path)) is not None
    (figure,) = figures
    (axes,) = figure.axes
    lines = [line for line in axes.lines if line.get_label() in "ab"]
    assert [line.get_xdata().tolist() for line in lines] == [[1, 2, 3], [1, 2]]
    np.testing.assert_array_equal(lines[0].get_ydata(), [0.5, math.nan, 0.25])
    assert lines[0].get_color() != lines[1].get_color()
    assert lines[0].get_linestyle() != lines[1].get_linestyle()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b"]
    assert axes.get_xlabel()
    assert axes.get_ylabel()
    assert axes.get_ylim()[0] == 0
    assert "layer1" not in dict(texts(figure))  # the networks have different layers


@pytest.mark.parametrize("layers", [LAYERS[:5], LAYERS])
def test_parts_are_named_where_the_layers_agree(figures, tmp_path, layers):
    one = {layer: 0.1 for layer in layers}
    save_layer_chart(tmp_path / "chart.png", {"a": one, "b with a long name/and a file.pth": one, "c" * 60: one})
    named = dict(texts(figures[0]))
    assert {"conv1", "layer1"} <= named.keys()
    assert ("layer4" in named) == (layers is LAYERS)
    check_texts(figures[0])


def test_matrices_share_a_scale_that_ends_off_the_diagonal(figures, tmp_path):
    small = np.array([[1, -0.2], [-0.2, 1]])
    large = np.array([[1, 0.4, math.nan], [0.4, 1, math.nan], [math.nan, math.nan, 1]])
    save_matrix_chart(tmp_path / "chart.png", "layer", {"a": small, "b": large})
    images = [axes.images[0] for axes in figures[0].axes if axes.images]
    assert [image.get_clim() for image in images] == [(-0.4, 0.4)] * 2
    np.testing.assert_allclose(images[0].get_array(), np.clip(small, -0.4, 0.4))
    assert images[1].get_array().mask.sum() == 4
    assert len(figures[0].axes) == 3  # two panels and a colour bar
    check_texts(figures[0])


@pytest.mark.parametrize("count", [1, 5])
def test_any_number_of_matrices_fits(figures, tmp_path, count):
    matrices = {f"network {i} of a folder/with a long name.pth": np.eye(30) for i in range(count)}
    save_matrix_chart(tmp_path / "chart.png", "layer", matrices)
    assert len(figures[0].axes) == count + 1
    check_texts(figures[0])


def test_a_row_of_maps_has_a_scale_of_its_own(figures, tmp_path):
    maps = np.zeros((2, 2, 2, 3), np.float32)
    maps[0, 0], maps[1, 0] = 10, [[15, 20, 30], [30, 30, 30]]
    maps[:, 1] = 5  # constant over the whole row
    image = np.zeros((4, 6, 3), np.uint8)
    save_maps_chart(
        tmp_path / "chart.png", "t", image, [MapPanel("n", [(1, 1), (1, 2)], [0, 9], maps, [1.0, math.nan])]
    )
    shown = figures[0].axes[1].images[0].get_array().filled(math.nan)
    nan = math.nan
    want = [
        [0, 0, 0, nan, 0.25, 0.5, 1, nan], [0, 0, 0, nan, 1, 1, 1, nan], [nan] * 8,
        [0, 0, 0, nan, 0, 0, 0, nan], [0, 0, 0, nan, 0, 0, 0, nan], [nan] * 8,
    ]  # fmt: skip
    np.testing.assert_array_equal(shown, want)
    named = dict(texts(figures[0]))
    assert {"r = 1.00", "constant", "channel 0", "channel 9", "pass 1"} <= named.keys()


def test_two_networks_stand_above_each_other_with_blocks_in_line(figures, tmp_path):
    once = [(1, block) for block in range(1, 24)]
    twice = once + [(2, block) for block in range(2, 24)]
    panels = [panel(once, 3, "ResNet"), panel(twice, 3, "SReResNet: " + 60 * "x")]
    save_maps_chart(tmp_path / "chart.png", "Feature maps", np.zeros((50, 80, 3), np.uint8), panels)
    check_texts(figures[0])
    _, upper, lower = figures[0].axes[:3]
    top, bottom = upper.get_window_extent(), lower.get_window_extent()
    assert top.y0 > bottom.y1
    assert top.x0 == pytest.approx(bottom.x0)
    assert top.width / 23 == pytest.approx(bottom.width / 45)
    labels = [text.get_text() for text in lower.get_xticklabels()]
    assert labels == [str(block) for _, block in twice]
    named = dict(texts(figures[0]))
    # the second pass begins at column 23
    assert named["pass 2"].x0 == pytest.approx(bottom.x0 + 23 * bottom.width / 45, abs=10)


@pytest.mark.parametrize("size", [(6, 8), (8, 6), (2, 20), (20, 2)])
@pytest.mark.parametrize("steps", [[(1, 1)], [(1, 1), (1, 2), (2, 2)]])
def test_short_stages_and_long_pictures_fit(figures, tmp_path, size, steps):
    image = np.zeros((size[0] * 10, size[1] * 10, 3), np.uint8)
    save_maps_chart(tmp_path / "chart.png", "Feature maps", image, [panel(steps, 2, 90 * "x", size)])
    check_texts(figures[0])


def test_names_are_shown_as_they_are(figures, tmp_path):
    name = r"$\frac{$_a"
    save_layer_chart(tmp_path / "a.png", {name: {"conv1": 0.1}})
    save_matrix_chart(tmp_path / "b.png", name, {name: np.eye(2)})
    save_maps_chart(tmp_path / "c.png", name, np.zeros((4, 4, 3), np.uint8), [panel([(1, 1)], 1, name)])
    assert len(figures) == 3


def test_without_matplotlib_the_extra_is_named(monkeypatch, tmp_path):
    for module in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r'pip install "residet\[plots\]"'):
        save_layer_chart(tmp_path / "chart.png", {"a": {"conv1": 0.1}})
