"""`detector analyze curves`: its table, its files, and runs that have little to show."""

import json
import sys

import pytest

from detector.__main__ import main
from detector.engine.records import NAME


def call(*words):
    main(["analyze", "curves", *map(str, words)])


def log(folder, *records, end="\n"):
    folder.mkdir(parents=True)
    (folder / NAME).write_text("\n".join(json.dumps(one) for one in records) + end)
    return folder


def line(step, loss):
    return {"step": step, "lr": 0.1, "loss": loss, "step_s": 3.6, "memory_mb": 1234.5}


def of_test(step, ap):
    return {"step": step, "event": "evaluation", "metrics": {"val": {"AP": ap, "AP50": ap + 0.5}}}


START = {"step": 0, "event": "start"}


@pytest.fixture
def runs(tmp_path):
    return [
        log(
            tmp_path / f"net_seed{k}", START, line(20, 3.0), of_test(20, 0.3 + k / 10), line(40, 1.5), of_test(40, 0.25)
        )
        for k in (0, 1)
    ]


def test_the_table_and_the_files(runs, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    call(*runs, "--output", tmp_path / "out")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == "run steps loss best AP at step last AP last AP50 s/step hours MiB".split()
    assert lines[1].split() == "net_seed0 40 1.500 30.0 20 25.0 75.0 3.600 0.04 1234".split()
    assert lines[2].split()[:5] == "net_seed1 40 1.500 40.0 20".split()
    assert lines[3] == "net: AP 25.0 (25.0 to 25.0), AP50 75.0 (75.0 to 75.0), mean and range of 2 runs at step 40"
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"curves.json", "curves.csv", "curves.png"}
    assert json.loads((tmp_path / "out" / "curves.json").read_text())["runs"][1]["best"] == {"step": 20, "AP": 0.4}


def test_without_matplotlib_the_other_files_are_there(runs, tmp_path, capsys, monkeypatch):
    for module in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, module, None)
    call(*runs, "--output", tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"curves.json", "curves.csv"}
    assert 'pip install "residet[plots]"' in capsys.readouterr().out


@pytest.fixture
def drawn(monkeypatch):
    """Where pictures would be written, in place of them."""
    paths = []
    monkeypatch.setattr("detector.report.curve_charts.save_curves_chart", lambda path, families: paths.append(path))
    return paths


def test_a_single_run_keeps_its_files(runs, drawn):
    call(runs[0])
    assert (runs[0] / "analysis" / "curves.csv").exists()
    assert drawn == [runs[0] / "analysis" / "curves.png"]


@pytest.mark.usefixtures("drawn")
def test_what_is_odd_in_a_log_is_said(tmp_path, capsys):
    half = log(tmp_path / "half", line(20, 1.0), end='\n{"step": 40, "lo')
    begun = log(tmp_path / "begun", START)
    resumed = log(tmp_path / "resumed", line(20, 1.0), {"step": 20, "event": "resume"}, of_test(20, -1))
    call(half, begun, resumed, "--output", tmp_path / "out")
    out = capsys.readouterr().out
    for text in (
        "half: 1 line of log.jsonl not written to the end, left out",
        "half: no evaluation",
        "begun: no losses are logged yet",
        "resumed: resumed at step 20",
        "resumed: evaluations without an AP: 1",
    ):
        assert text in out.splitlines()
    assert next(row for row in out.splitlines() if row.startswith("begun ")).split()[1:] == ["0", *["-"] * 8]


@pytest.mark.parametrize(
    ("name", "said"),
    [("gone", "there is no such folder"), ("empty", "nothing is logged yet"), ("none", "holds no log")],
)
def test_runs_without_curves_stop_in_one_line(tmp_path, name, said):
    log(tmp_path / "empty", end="")
    (tmp_path / "none").mkdir()
    with pytest.raises(SystemExit) as stop:
        call(tmp_path / name, "--output", tmp_path / "out")
    assert said in str(stop.value.code)
    assert "\n" not in str(stop.value.code)
    assert not (tmp_path / "out").exists()
