"""`detector compare`: two results files on one truth."""

import json
import math

import numpy as np
import pytest
from helpers.arms import write_run, write_truth

from detector.__main__ import main
from detector.evaluation.report import MEASURES
from detector.report.results import short_names


def call(*words):
    main(["compare", *map(str, words)])


def fails(*words):
    with pytest.raises(SystemExit) as stop:
        call(*words)
    return str(stop.value.code)


@pytest.fixture
def hits(tmp_path):
    """400 images of one box, and two models that find 60 and 70 % of them; their hits."""
    rng = np.random.default_rng(0)
    both = {name: rng.random(400) < share for name, share in (("a", 0.6), ("b", 0.7))}
    images = [{"id": i + 1, "file_name": f"{i}.jpg", "height": 100, "width": 100} for i in range(400)]
    box = {"category_id": 1, "bbox": [10, 10, 50, 50]}
    truth = [{"id": i + 1, "image_id": i + 1, "area": 2500, "iscrowd": 0, **box} for i in range(400)]
    content = {"images": images, "annotations": truth, "categories": [{"id": 1, "name": "thing"}]}
    (tmp_path / "t.json").write_text(json.dumps(content))
    for name, found in both.items():
        rows = [{"image_id": int(i) + 1, "score": 0.9, **box} for i in np.flatnonzero(found)]
        (tmp_path / f"{name}.json").write_text(json.dumps(rows))
    return both


def test_a_difference_has_its_exact_standard_error(hits, tmp_path, capsys):
    files = [tmp_path / "a.json", tmp_path / "b.json"]
    call("--results", *files, "--truth", tmp_path / "t.json", "--output", tmp_path / "r")
    report = json.loads((tmp_path / "r" / "report.json").read_text())
    (pair,) = report["differences"]
    assert pair["models"] == ["b", "a"]
    exact = np.std(hits["b"].astype(float) - hits["a"]) / math.sqrt(400)
    assert pair["AR100"]["se"] == pytest.approx(exact, rel=0.03)
    assert pair["AR100"]["value"] == pytest.approx(hits["b"].mean() - hits["a"].mean())
    assert not pair["AR100"]["tie"]
    nothing = {"se": None, "interval95": [None] * 2, "bca95": [None] * 2, "p": None}
    assert pair["APl"] == {"value": None, **nothing, "tie": True, "images": nothing, "seeds": None}
    assert set(pair) == {"models", *MEASURES, "AP/thing"}
    assert pair["AP/thing"]["p_holm"] == pair["AP/thing"]["p"]
    assert set(report["models"]) == {"a", "b"}
    assert report["models"]["a"]["AR100"]["value"] == pytest.approx(hits["a"].mean())
    assert report["models"]["a"]["AR100"]["interval95"][0] < hits["a"].mean()
    assert (report["truth"], report["images"], report["objects"], report["replicates"]) == ("t", 400, 400, 10_000)
    page = (tmp_path / "r" / "report.md").read_text()
    out = capsys.readouterr().out
    assert out.startswith("2 detectors on t: 400 images with 400 objects.\n\nb is better than a: AP ")
    assert f"every measure, class and setting, and how to read them: {tmp_path / 'r' / 'report.html'}, or as" in out
    assert "|" not in out
    assert "#" not in out
    assert f"written to {tmp_path / 'r'}: report.json, report.md, report.html" in out
    assert '<p class="answer">b is better than a: AP ' in (tmp_path / "r" / "report.html").read_text()
    assert "| AR100 | +" in page
    assert "| b is better |" in page


def test_a_file_ties_with_itself(hits, tmp_path, capsys):
    files = [tmp_path / "a.json"] * 2
    call("--results", *files, "--truth", tmp_path / "t.json", "--output", tmp_path / "r", "--replicates", 100)
    report = json.loads((tmp_path / "r" / "report.json").read_text())
    assert all(report["differences"][0][name]["tie"] for name in MEASURES)
    assert report["differences"][0]["models"] == ["a (2)", "a (1)"]
    assert "is better" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            (),
            "name what is compared: --config-file FILE to train, or --runs FOLDER .. of runs that exist, or --results",
        ),
        (("--config-file", "a", "--runs", "b"), "--config-file and --runs: give only one of them"),
        (("--runs", "b", "--results", "a"), "--runs and --results: give only one of them"),
        (("--results", "a", "b"), "--results needs --truth JSON|ENTRY"),
        (("--runs", "a", "--truth", "t"), "--truth is for --results alone: what --runs compares knows its test set"),
        (("--config-file", "a", "--truth", "t"), "--truth is for --results alone: what --config-file compares"),
        (("--runs", "a", "--root", "t"), "--root is for --truth alone: what --runs compares knows its test set"),
        (("--runs", "a", "--steps", "9", "--plan"), "--steps, --plan: for trainings, with --config-file; --runs"),
        (("--results", "a", "b", "--truth", "t", "--heads", "fcos"), "--heads: for trainings, with --config-file"),
        (("SEED", "1", "--runs", "a"), "SEED: KEY VALUE are for trainings, with --config-file"),
        (("--runs", "a", "--seed", "1"), "unrecognized arguments: --seed"),
        (("--runs",), "argument --runs: expected at least one argument"),
    ],
)
def test_words_that_do_not_fit_are_answered_in_one_line(words, said, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        call(*words, "--output", tmp_path / "r")
    assert stop.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith(f"detector compare: error: {said}")
    assert err.endswith(" (all flags: `detector compare --help`)\n")
    assert err.count("\n") == 1


def test_what_is_wrong_is_one_line(hits, tmp_path):
    good, truth, out = tmp_path / "a.json", tmp_path / "t.json", tmp_path / "r"
    assert "two files or more" in fails("--results", good, "--truth", truth, "--output", out)
    missing = fails("--results", good, tmp_path / "c.json", "--truth", truth, "--output", out)
    assert "there is no such file of detections" in missing
    assert "unknown dataset" in fails("--results", good, good, "--truth", "nothing", "--output", out)
    assert "is a file" in fails("--results", good, good, "--truth", truth, "--output", good)
    assert not out.exists()


@pytest.mark.parametrize("number", ["2", "99", "0", "-5", "1e3", "many", "³", "9" * 5000])
def test_too_few_replicates_are_refused(number, capsys):
    with pytest.raises(SystemExit) as stop:
        call("--results", "a", "b", "--truth", "t", "--output", "r", f"--replicates={number}")
    assert stop.value.code == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert f"argument --replicates: '{number}' is no whole number of replicates from 100" in line


def test_names_are_short_and_unlike(tmp_path):
    files = [tmp_path / "x" / "results.json", tmp_path / "y" / "results.json"]
    assert short_names(files) == ["x", "y"]
    assert short_names([tmp_path / "x" / "a.json", tmp_path / "y" / "a.json"]) == ["x/a", "y/a"]
    assert short_names([tmp_path / "a.json", tmp_path / "b.json"]) == ["a", "b"]


@pytest.fixture
def runs(tmp_path):
    """Two architectures with two seeds each."""
    entry = write_truth(tmp_path / "data")
    for seed in range(2):
        write_run(tmp_path / "runs" / f"a{seed}", entry, hits=0.4, seed=seed)
        write_run(tmp_path / "runs" / f"b{seed}", entry, "SOLVER.BASE_LR", 0.5, hits=0.9, seed=seed)
    return tmp_path / "runs"


def test_runs_that_exist(runs, tmp_path, capsys):
    (runs / "speed.json").write_text('{"arms": {"fast": {"image_s": 0.125}, "SOLVER.BASE_LR 0.01": {"image_s": 9}}}')
    (runs / "comparison.json").write_text('{"version": 1, "arms": {"fast": {"steps": 60}}}')
    for seed in range(2):
        (runs / f"b{seed}").rename(runs / f"fast_seed{seed}")
    call("--runs", runs, "--output", tmp_path / "r", "--replicates", 100)
    report = json.loads((tmp_path / "r" / "report.json").read_text())
    assert [*report["models"]] == ["SOLVER.BASE_LR 0.01", "SOLVER.BASE_LR 0.5"]
    assert report["models"]["SOLVER.BASE_LR 0.5"]["facts"]["image_s"] == 0.125
    assert report["models"]["SOLVER.BASE_LR 0.01"]["facts"]["image_s"] is None
    assert (report["kind"], report["replicates"]) == ("runs", 100)
    assert report["differences"][0]["AR100"]["seeds"]["n"] == 2
    out = capsys.readouterr().out
    title, *rows = [line.split() for line in out.split("\n\n")[2].splitlines()]
    assert [title[0], title[-1]] == ["model", "image"]
    assert [row[1] for row in rows] == ["0.01", "0.5"]
    assert f"text {tmp_path / 'r' / 'report.md'}" in out


def test_ways_to_compare_exclude_each_other(runs, tmp_path, capsys):
    for words in (["--results", "x", "y"], ["--truth", "t"], ["SOLVER.MAX_ITER", "3"], ["--config-file", "quickstart"]):
        with pytest.raises(SystemExit) as stop:
            call("--runs", runs, "--output", tmp_path / "r", *words)
        assert stop.value.code == 2
    capsys.readouterr()
    assert "no such folder" in fails("--runs", tmp_path / "gone", "--output", tmp_path / "r")
    assert "is a file" in fails("--runs", runs, "--output", runs / "a0" / "results.json")
