"""Charts of a comparison: what is drawn, in which ink, and what they say to those who cannot see them."""

import re
import sys

import numpy as np
import pytest
from helpers import comparisons

from detector.errors import MissingPackageError
from detector.evaluation.seeds import combine, of_seeds
from detector.evaluation.significance import Difference
from detector.report.charts import draw, short, thick, together


@pytest.fixture(autouse=True)
def _matplotlib():
    pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def three():
    """The charts of three models."""
    pytest.importorskip("matplotlib")
    return named(comparisons.runs(("a", "b", "c")))


def named(document):
    return {chart.title: chart for chart in draw(document)}


def test_runs_have_all_charts(three):
    assert list(three) == [
        "Difference of AP to a", "AP against the time of an image", "AP against MACs", "AP during training",
        "Loss during training",
    ]  # fmt: skip
    assert [chart.part for chart in three.values()] == ["differences", "speed", "speed", "curves", "curves"]


def test_results_files_have_no_chart_of_times_or_training():
    assert list(named(comparisons.results({"a": 0.5, "b": 0.6}))) == ["Difference of AP to a"]


def test_nothing_to_draw_is_no_chart(empty):
    assert draw(empty) == []
    assert draw(comparisons.results({"a": 0.5})) == []


def test_a_time_that_one_model_alone_has_is_no_chart():
    document = comparisons.runs(("a", "b", "c"))
    for name in ("b", "c"):
        document["models"][name]["facts"]["image_s"] = None
    assert "AP against the time of an image" not in named(document)
    assert "c:" in named(document)["AP against MACs"].alt


def test_alternative_texts_hold_the_numbers(three):
    assert three["Difference of AP to a"].alt == (
        "Difference of AP to a. b: +0.4 (-2.0 .. +2.8), a tie; c: +3.1 (+0.7 .. +5.5)"
    )
    assert three["AP against the time of an image"].alt.endswith("c: AP 63.1 (60.7 .. 65.5), 74 ms")
    assert three["AP against MACs"].alt.endswith("c: AP 63.1 (60.7 .. 65.5), 5.3 G")
    assert "a: 27.9 at step 100, 58.6 at step 600" in three["AP during training"].alt


def test_the_images_part_lies_within_the_whole_around_its_middle():
    """Whatever bias the percentiles of the images have, and however many seeds there are."""
    biased = (0.2, 0.3)
    for gaps in ([0.05] * 3, [0.02, 0.08], [0.049, 0.05, 0.051], [0.05 + 0.001 * k for k in range(-20, 21)]):
        images = Difference(0.05, 0.003, biased, biased, 0.5)
        whole = combine(images, 20_000, of_seeds(gaps))
        row = {"value": whole.value, "images": {"se": 0.003, "interval95": biased}, "seeds": {"n": len(gaps)}}
        low, high = thick(row)
        assert (low + high) / 2 == pytest.approx(0.05)
        assert whole.interval[0] <= low < high <= whole.interval[1]
    assert thick({"value": 0.05, "images": {"se": 0.003}, "seeds": None}) is None
    document = comparisons.runs(("a", "b"))
    before = draw(document)[0].svg
    document["differences"][0]["AP"]["images"]["interval95"] = [0.5, 0.6]
    assert draw(document)[0].svg == before


def test_ties_are_grey_and_the_others_have_a_colour():
    def inks(ap):
        return set(
            re.findall(r"stroke: (var\(--\w+\)|currentColor)", draw(comparisons.results({"a": 0.5, "b": ap}))[0].svg)
        )

    assert inks(0.505) == {"currentColor", "var(--rule)", "var(--soft)"}
    assert "var(--better)" in inks(0.6)
    assert "var(--worse)" in inks(0.4)
    assert "var(--worse)" not in inks(0.6)


def test_svgs_fit_in_a_page_of_any_colour():
    """No colour but those of the page, no address, no name or style of its own that meets another chart's."""
    charts = draw(comparisons.runs(tuple(f"m{place}" for place in range(9))))
    seen = []
    for chart in charts:
        assert chart.svg.startswith("<svg viewBox=")
        assert chart.svg.endswith("</svg>")
        assert not re.search(r"#[0-9a-fA-F]{6}\b", chart.svg)
        assert not re.search("http|<style|<\\?|<!|font-family|<metadata", chart.svg)
        seen += re.findall(r'\bid="([^"]+)"', chart.svg)
        for used in re.findall(r'(?:url\(|href=")#([^")]+)', chart.svg):
            assert f'id="{used}"' in chart.svg
    assert seen
    assert len(seen) == len({*seen})


def test_charts_are_the_same_each_time(three):
    assert named(comparisons.runs(("a", "b", "c"))) == three


def test_hostile_names_are_text(hostile, recwarn):
    charts = draw(hostile)
    for chart in charts:
        assert "<script" not in chart.svg
        assert "<img" not in chart.svg
        assert "\x1b" not in chart.svg + chart.alt
        assert "\u202e" not in chart.svg + chart.alt
    forest = charts[0].svg
    assert "&lt;img src=x onerror=alert(1)&gt;" in forest
    assert "$x$" in forest  # no formula
    assert "$b$|c" in forest
    assert not [warning for warning in recwarn if "Glyph" in str(warning.message)]


def test_drawing_leaves_the_settings_of_matplotlib_alone():
    import matplotlib

    before = dict(matplotlib.rcParams)
    draw(comparisons.runs(("a", "b")))
    assert dict(matplotlib.rcParams) == before


def test_long_names_are_cut():
    assert short("resnet50") == "resnet50"
    assert short("x" * 100) == "x" * 33 + "…"


def test_curves_of_seeds_become_one():
    first, second = [[1, 1.0], [2, 2.0], [3, 5.0]], [[1, 3.0], [2, 4.0], [4, 9.0]]
    assert together([first, second]).tolist() == [[1, 2], [2, 3], [1, 2], [3, 4]]
    assert together([first, [[1, None], [2, 4.0]]]).tolist() == [[2], [3], [2], [4]]
    assert together([first, [[9, 1.0]]]).shape == (4, 0)
    assert together([]).shape == together([[]]).shape == (4, 0)
    assert together([first, []]).tolist()[1] == [1, 2, 5]  # a seed without a curve takes nothing away


def test_long_curves_are_averaged_over_neighbouring_steps():
    curve = [[step, float(step % 2)] for step in range(1000)]
    steps, mean, low, high = together([curve, curve], bins=100)
    assert len(steps) == 100
    assert np.allclose(mean, 0.5)
    assert np.allclose(low, high)
    assert steps[0] == 4.5


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    for module in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingPackageError, match=r'pip install "residet\[plots\]"'):
        draw(comparisons.results({"a": 0.5, "b": 0.6}))
