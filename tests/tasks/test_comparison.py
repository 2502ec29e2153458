"""Whole comparisons of trainings: planned, trained, measured, reported; by one process and by several."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from helpers import environment
from helpers.runs import read, same_bits

from detector.__main__ import main

TINY = [
    *("MODEL.NUM_CLASSES", "2", "MODEL.NECK.OUT_CHANNELS", "32", "MODEL.FCOS.NUM_CONVS", "1"),
    *("INPUT.MIN_SIZE_TRAIN", "64", "INPUT.MAX_SIZE_TRAIN", "96", "INPUT.MIN_SIZE_TEST", "64"),
    *("INPUT.MAX_SIZE_TEST", "96", "DATALOADER.NUM_WORKERS", "0", "DATALOADER.FILTER_EMPTY_ANNOTATIONS", "False"),
]


@pytest.fixture
def words(tmp_path, data):
    """words(*more): a comparison of two small backbones on the pictures of `data`."""

    def make(*more):
        base = ["compare", "--config-file", "quickstart", "--backbones", "resnet10"]
        base += ["wide: resnet10 MODEL.NECK.OUT_CHANNELS 48", *map(str, more), "--output", str(tmp_path / "out")]
        return [*base, *TINY, *data]

    return make


def test_a_plan_writes_nothing(words, tmp_path, capsys):
    main(words("--steps", 8, "--seeds", 2, "--plan"))
    said = capsys.readouterr().out
    assert "fcos resnet10      8" in said
    assert "2 arms with 2 seeds: 4 trainings" in said
    assert not (tmp_path / "out").exists()


def test_a_comparison_from_the_plan_to_the_report(words, tmp_path, capsys):
    """Then once more: nothing is trained again, and other settings are refused."""
    main(words("--steps", 4, "--seeds", 1, "--replicates", 100))
    out = tmp_path / "out"
    report = json.loads((out / "report.json").read_text())
    assert list(report["models"]) == ["fcos resnet10", "fcos wide"]
    assert [pair["models"] for pair in report["differences"]] == [["fcos wide", "fcos resnet10"]]
    facts = [model["facts"] for model in report["models"].values()]
    assert facts[0]["params"] < facts[1]["params"]
    assert facts[0]["macs"] < facts[1]["macs"]
    speed = json.loads((out / "speed.json").read_text())["arms"]
    assert [one["step_s"] for one in facts] == [speed[name]["step_s"] for name in report["models"]]
    assert {path.name for path in out.glob("report.*")} == {"report.json", "report.md", "report.html"}
    weights = [path.stat().st_mtime_ns for path in sorted(out.glob("*/model_final.pth"))]
    assert len(weights) == 2
    capsys.readouterr()
    main(words("--steps", 4, "--seeds", 1, "--replicates", 100))
    assert "0 trainings (2 are done)" in capsys.readouterr().out
    assert [path.stat().st_mtime_ns for path in sorted(out.glob("*/model_final.pth"))] == weights
    with pytest.raises(SystemExit, match=r"began with other settings \(.*SOLVER.MAX_ITER 4 -> 5"):
        main(words("--steps", 5, "--seeds", 1))


@pytest.mark.slow
def test_two_processes_share_the_cells_and_one_is_killed(words, tmp_path):
    """Whoever trained what, the weights are those of a training alone."""
    command = [sys.executable, "-m", "detector", *words("--steps", 60, "--seeds", 2, "--replicates", 100)]
    command += ["SOLVER.CHECKPOINT_PERIOD", "7"]
    settings = dict(env=environment(), cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    first = subprocess.Popen(command, **settings)
    deadline = time.monotonic() + 120
    while not [*(tmp_path / "out").glob("*/model_0000007.pth")] and time.monotonic() < deadline:
        time.sleep(0.1)
    second = subprocess.Popen(command, **settings)
    while len([*(tmp_path / "out").glob("*/log.jsonl")]) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    assert second.wait(300) == 0, second.stderr.read()
    runs = sorted((tmp_path / "out").glob("*_seed*"))
    assert len(runs) == 4
    assert (tmp_path / "out" / "report.html").exists()
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / "config.yaml").write_text((runs[0] / "config.yaml").read_text())
    subprocess.run([sys.executable, "-m", "detector", "train", str(alone), "--resume"], check=True, **settings)
    assert same_bits(read(alone / "model_final.pth")["model"], read(runs[0] / "model_final.pth")["model"])
