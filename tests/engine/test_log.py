"""What a training says on the console, step by step."""

import json
import logging
import re
from types import SimpleNamespace

import pytest

from detector import console
from detector.engine import log as module
from detector.engine.log import TrainLog
from detector.engine.loop import Plan, finish_step


@pytest.fixture
def clock(monkeypatch):
    """A list of one number: the seconds."""
    now = [0.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])
    return now


@pytest.fixture
def run(tmp_path, clock, caplog, capsys):
    """run(start, total, seconds): the lines of a training."""
    caplog.set_level(logging.INFO, "detector")

    def run(start, total, seconds):
        caplog.clear()
        (tmp_path / "log.jsonl").unlink(missing_ok=True)
        report = TrainLog(tmp_path, start, total)
        for step in range(start + 1, total + 1):
            clock[0] += seconds
            values = {"loss": float(step), "loss_cls": 0.25, "loss_box_reg": 0.5, "grad_norm": 1.0, "data_s": 0.125}
            report.step(step, values, 0.0025, 512.4)
        report.close()
        assert capsys.readouterr().err == ""
        return [record.getMessage() for record in caplog.records]

    return run


def steps(lines):
    return [int(re.match(r"step (\d+)/", line)[1]) for line in lines]


def test_a_line_says_what_a_reader_wants(run):
    first, last = run(0, 15, 2.0)
    losses = "(cls 0.250 box_reg 0.500) lr 0.0025 2.000 s/step (data 0.125)"
    assert first == f"step 1/15 loss 1.000 {losses} left 0:28 mem 512M"
    assert last == f"step 15/15 loss 8.000 {losses} left 0:00 mem 512M"


def test_the_peak_of_the_memory_never_falls(tmp_path, caplog):
    caplog.set_level(logging.INFO, "detector")
    report = TrainLog(tmp_path, 0, 3)
    for step, memory in enumerate((1079.0, 1078.4, 1080.0), 1):
        report.step(step, {"loss": 1.0, "loss_cls": 1.0, "grad_norm": 1.0, "data_s": 0.1}, 0.1, memory)
        report.said -= 60  # each has a line
    report.close()
    assert re.findall(r"mem (\d+)M", caplog.text) == ["1079", "1079", "1080"]
    assert '"memory_mb":1080.0' in (tmp_path / "log.jsonl").read_text().replace(" ", "")


def test_fast_steps_have_a_line_every_twenty_slow_ones_every_thirty_seconds(run):
    assert steps(run(0, 65, 0.01)) == [1, 20, 40, 60, 65]
    assert steps(run(0, 12, 10)) == [1, 4, 7, 10, 12]
    assert steps(run(0, 50, 2)) == [1, 16, 31, 46, 50]
    assert steps(run(0, 3, 100)) == [1, 2, 3]
    assert steps(run(7, 41, 0.01)) == [8, 20, 40, 41]
    assert steps(run(40, 61, 0.01)) == [41, 60, 61]
    assert steps(run(4, 5, 0.01)) == [5]


def test_averages_are_of_the_steps_since(run, tmp_path):
    lines = run(0, 45, 0.5)
    shown = [float(re.search(r"loss (\S+)", line)[1]) for line in lines]
    assert shown == [1.0, 10.5, 30.5, 35.5]  # the last one over the last twenty
    records = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [(r["step"], r["loss"], r["step_s"]) for r in records] == [(20, 10.5, 0.5), (40, 30.5, 0.5), (45, 35.5, 0.5)]


def test_the_time_of_a_step_is_without_the_checkpoint_before_it(tmp_path, clock):
    report = TrainLog(tmp_path, 0, 2)

    def save(last):
        clock[0] += 100

    run = SimpleNamespace(step=1, evaluated=0, metrics=None, checkpoint=lambda last: tmp_path / "x.pth", save=save)
    run.out_of_patience = lambda patience: False
    plan = Plan(seed=0, steps=2, rate=lambda step: 1.0, saves=lambda step: True, tests=lambda step: False)
    for step in (1, 2):
        clock[0] += 0.5
        report.step(step, {"loss": 1.0, "data_s": 0.0}, 0.1, 1.0)
        finish_step(run, None, plan, report)
    report.close()
    assert json.loads((tmp_path / "log.jsonl").read_text())["step_s"] == 0.5


def test_a_terminal_has_a_bar_and_no_lines(run, monkeypatch, tmp_path):
    bars = []

    class Bar:
        def __init__(self, *items, **options):
            bars.append(self)
            self.options, self.done, self.text = options, 0, ""

        def update(self):
            self.done += 1

        def set_postfix_str(self, text):
            self.text = text

        def close(self):
            self.closed = True

    monkeypatch.setattr(console, "tqdm", Bar)
    monkeypatch.setattr(console, "watched", lambda: True)
    monkeypatch.setattr(module, "watched", lambda: True)
    assert run(3, 25, 0.5) == []
    (bar,) = bars
    assert (bar.options["initial"], bar.options["total"], bar.done, bar.closed) == (3, 25, 22, True)
    assert bar.text == "loss 15.500 lr 0.0025 mem 512M"
