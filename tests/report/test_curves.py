"""The curves of runs: names, families of seeds, bands by hand, and files."""

import csv
import io
import json
import math

import numpy as np
import pytest

from detector.engine.records import NAME
from detector.errors import UserError
from detector.report.curve_charts import save_curves_chart, smoothed
from detector.report.curves import as_csv, document, families, read_runs


def run(folder, losses=(), tests=(), **more):
    """A folder with a log: losses {step: loss}, tests {step: AP}."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [{"step": step, "lr": 0.1, "loss": loss, "step_s": 0.5, **more} for step, loss in dict(losses).items()]
    lines += [
        {"step": step, "event": "evaluation", "metrics": {"val": {"AP": ap, "AP50": 2 * ap}}}
        for step, ap in dict(tests).items()
    ]
    (folder / NAME).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.mark.parametrize(
    ("folders", "names", "of"),
    [
        (("a", "b"), ["a", "b"], ["a", "b"]),
        (("x/a", "y/a", "y/b"), ["x/a", "y/a", "y/b"], ["x/a", "y/a", "y/b"]),
        (("r50_fcos_seed0", "r50_fcos_seed1"), ["r50_fcos_seed0", "r50_fcos_seed1"], ["r50_fcos", "r50_fcos"]),
        (("r50/seed0", "r50/seed1"), ["r50/seed0", "r50/seed1"], ["r50", "r50"]),
        (("r50/seed0", "r18/seed0"), ["r50/seed0", "r18/seed0"], ["r50", "r18"]),
        (("r50-Seed-3", "r50.seed_12"), ["r50-Seed-3", "r50.seed_12"], ["r50", "r50"]),
        (("linseed1", "seedless"), ["linseed1", "seedless"], ["lin", "seedless"]),
        (("a_seed1_long", "a"), ["a_seed1_long", "a"], ["a_seed1_long", "a"]),
    ],
)
def test_names_are_short_and_seeds_make_families(tmp_path, folders, names, of):
    runs = read_runs([run(tmp_path / name, {20: 1.0}) for name in folders])
    assert [one.name for one in runs] == names
    assert [one.family for one in runs] == of


def test_a_run_that_is_named_twice_counts_once(tmp_path):
    one, other = run(tmp_path / "a", {20: 1.0}), run(tmp_path / "b", {20: 1.0})
    assert [each.name for each in read_runs([one, other / ".." / "a", other])] == ["a", "b"]


def test_a_band_is_mean_and_range_of_the_seeds(tmp_path):
    one = run(tmp_path / "n_seed0", {20: 4.0, 40: 2.0}, {40: 0.2})
    two = run(tmp_path / "n_seed1", {20: 2.0, 40: 1.0}, {40: 0.3})
    three = run(tmp_path / "n_seed2", {20: 3.0, 40: 1.5}, {40: 0.1})
    other = run(tmp_path / "m", {20: 9.0})
    family, single = families(read_runs([one, two, three, other]))
    assert (family.name, len(family.runs), single.name, single.bands) == ("n", 3, "m", {})
    assert family.bands["loss"].tolist() == [[20, 40], [3.0, 1.5], [2.0, 1.0], [4.0, 2.0]]
    assert family.bands["AP"] == pytest.approx(np.array([[40], [0.2], [0.1], [0.3]]))
    assert family.bands["AP50"] == pytest.approx(np.array([[40], [0.4], [0.2], [0.6]]))


def test_a_band_is_where_all_seeds_have_values(tmp_path):
    one = run(tmp_path / "n_seed0", {20: 4.0, 40: 2.0, 60: 1.0}, {60: 0.5})
    two = run(tmp_path / "n_seed1", {30: 2.0, 40: 4.0, 50: float("nan")})
    (family,) = families(read_runs([one, two]))
    assert family.bands["loss"].tolist() == [[30, 40], [2.5, 3.0], [2.0, 2.0], [3.0, 4.0]]
    assert "AP" not in family.bands
    alone = run(tmp_path / "k_seed0", {20: 1.0}), run(tmp_path / "k_seed1", {40: 1.0})
    (family,) = families(read_runs(alone))
    assert "loss" not in family.bands


def test_curves_without_a_number_are_none(tmp_path):
    (one,) = read_runs([run(tmp_path / "a", {20: float("nan"), 40: 1.0}, {40: -1.0}, loss_cls=float("nan"))])
    assert list(one.curves()) == ["loss", "AP50", "lr"]


def test_the_table_has_every_point(tmp_path):
    runs = read_runs([run(tmp_path / "a", {20: float("nan"), 40: 0.1}, {40: 0.25}), run(tmp_path / "b", {20: 7.0})])
    rows = list(csv.reader(io.StringIO(as_csv(runs).decode())))
    assert rows == [
        ["run", "step", "curve", "value"],
        ["a", "20", "loss", ""],
        ["a", "40", "loss", "0.1"],
        ["a", "40", "AP", "0.25"],
        ["a", "40", "AP50", "0.5"],
        ["a", "20", "lr", "0.1"],
        ["a", "40", "lr", "0.1"],
        ["b", "20", "loss", "7.0"],
        ["b", "20", "lr", "0.1"],
    ]


def test_the_document_holds_runs_and_families(tmp_path):
    folders = [run(tmp_path / f"n_seed{seed}", {20: 1.0 + seed, 40: 0.5}, {40: 0.25}) for seed in (0, 1)]
    found = document(read_runs([*folders, run(tmp_path / "m", {20: 1.0})]))
    first = found["runs"][0]
    assert {key: first[key] for key in ("name", "family", "folder", "steps", "step_s", "train_s", "best")} == {
        "name": "n_seed0", "family": "n", "folder": str(folders[0]), "steps": 40, "step_s": 0.5, "train_s": 20.0,
        "best": {"step": 40, "AP": 0.25},
    }  # fmt: skip
    assert first["curves"]["loss"] == [(20, 1.0), (40, 0.5)]
    (family,) = found["families"]
    assert family["runs"] == ["n_seed0", "n_seed1"]
    assert family["curves"]["loss"] == {"steps": [20, 40], "mean": [1.5, 0.5], "low": [1.0, 0.5], "high": [2.0, 0.5]}


def test_nothing_logged_yet_is_said(tmp_path):
    with pytest.raises(UserError, match=r"nothing is logged yet; a run files its first losses at step 20"):
        read_runs([run(tmp_path / "a"), run(tmp_path / "b")])
    assert len(read_runs([run(tmp_path / "a"), run(tmp_path / "b", {20: 1.0})])) == 2


def test_smoothing_is_a_centred_mean_that_keeps_the_ends():
    values = np.arange(80.0)
    assert smoothed(values) == pytest.approx(values)  # a straight line stays, also at its ends
    spike = np.zeros(80)
    spike[40] = 5.0
    assert smoothed(spike)[37:44] == pytest.approx([0, 1, 1, 1, 1, 1, 0])
    wide = smoothed(spike)
    assert wide.sum() == pytest.approx(5.0)
    assert (wide > 0).sum() == 5
    assert np.array_equal(smoothed(np.array([3.0, 1.0, 2.0])), [3.0, 1.0, 2.0])


def test_smoothing_leaves_out_what_is_no_number():
    values = np.full(80, 2.0)
    values[40] = math.nan
    assert smoothed(values) == pytest.approx(np.full(80, 2.0))
    assert np.isnan(smoothed(np.full(80, math.nan))).all()


def panels(path, found, monkeypatch):
    """The axes that are drawn, by title."""
    kept = []
    monkeypatch.setattr("detector.report.curve_charts.save_figure", lambda figure, path: kept.append(figure))
    save_curves_chart(path, found)
    return {axes.get_title(): axes for axes in kept[0].axes}, kept[0]


def test_every_curve_has_a_panel_and_every_family_a_colour(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    losses = {step: 1.0 + step % 3 for step in range(20, 1620, 20)}
    seeds = [run(tmp_path / f"n_seed{seed}", losses, {40: 0.2, 80: 0.3}, loss_cls=1.0) for seed in (0, 1)]
    found = families(read_runs([*seeds, run(tmp_path / "single", losses, {80: 0.1})]))
    drawn, figure = panels(tmp_path / "c.png", found, monkeypatch)
    assert list(drawn) == ["loss", "AP", "AP50", "loss_cls", "lr"]
    figure.canvas.draw()
    ticks = {name: axes.yaxis.get_ticklabels()[-1].get_text() for name, axes in drawn.items()}
    assert float(ticks["AP"]) >= 30 > float(ticks["loss"])  # points of a hundred
    assert float(ticks["AP50"]) >= 60
    loss = drawn["loss"]
    assert len(loss.collections) == 1  # the band of the family
    mean, raw, smooth, *_ = loss.lines
    assert mean.get_ydata() == pytest.approx(list(losses.values()))
    assert raw.get_ydata() == pytest.approx(list(losses.values()))
    assert raw.get_alpha() == 0.3
    assert np.std(smooth.get_ydata()) < 0.5 * np.std(raw.get_ydata())
    assert mean.get_color() != raw.get_color() == smooth.get_color()
    assert {line.get_marker() for line in drawn["AP"].lines} == {"o"}
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["n (2 runs)", "single"]


def test_a_few_huge_losses_make_the_axis_logarithmic(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    losses = {20: 500.0, **{step: 1.0 for step in range(40, 400, 20)}}
    drawn, _ = panels(tmp_path / "c.png", families(read_runs([run(tmp_path / "a", losses)])), monkeypatch)
    assert drawn["loss"].get_yscale() == "log"
    assert drawn["lr"].get_yscale() == "linear"


@pytest.mark.parametrize("loss", [0.65, 0.0, -3.0])
def test_points_and_level_lines_at_the_edges_are_not_cut(tmp_path, monkeypatch, loss):
    pytest.importorskip("matplotlib")
    one = run(tmp_path / "a", {20: loss, 40: loss}, {20: 0.0, 40: 0.52, 60: 0.52})
    drawn, figure = panels(tmp_path / "c.png", families(read_runs([one])), monkeypatch)
    figure.canvas.draw()
    for axes in drawn.values():
        values = [value for line in axes.lines for value in line.get_ydata()]
        bottom, low, high, top = (
            axes.transData.transform((0, value))[1]
            for value in (axes.get_ylim()[0], min(values), max(values), axes.get_ylim()[1])
        )
        assert min(low - bottom, top - high) > 3.5 / 2 * figure.dpi / 72  # half a marker
        assert axes.get_ylim()[0] == 0 or min(values) <= 0


def test_the_picture_is_written(tmp_path):
    pytest.importorskip("matplotlib")
    import cv2

    one = run(tmp_path / "a$1$", {20: 1.0}, {20: 0.5})
    save_curves_chart(tmp_path / "new" / "c.png", families(read_runs([one])))
    picture = cv2.imread(str(tmp_path / "new" / "c.png"))
    assert picture.shape[0] > 400
    assert picture.shape[1] > 1000
    assert picture.std() > 5
