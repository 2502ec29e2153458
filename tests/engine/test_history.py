"""A run's log, read once for all who draw or count: each step once, whatever happened to the run."""

import json
import math
import random

import pytest

from detector.engine.history import read_log
from detector.engine.records import NAME
from detector.errors import MissingFileError, UserError


def written(folder, *records, end="\n"):
    folder.mkdir(parents=True, exist_ok=True)
    text = "\n".join(one if isinstance(one, str) else json.dumps(one) for one in records)
    (folder / NAME).write_text(text + end)
    return folder


def line(step, loss, lr=0.1, step_s=0.5, memory_mb=100.0, **terms):
    return {"step": step, "lr": lr, "loss": loss, **terms, "step_s": step_s, "memory_mb": memory_mb}


def of_test(step, **sets):
    metrics = {name: {"AP": ap, "AP50": ap50} for name, (ap, ap50) in sets.items()}
    return {"step": step, "event": "evaluation", "metrics": metrics}


START = {"step": 0, "event": "start", "device": "cpu", "versions": {"torch": "2"}}


def test_all_that_a_log_says(tmp_path):
    folder = written(
        tmp_path / "run",
        START,
        line(20, 2.0, 0.2, 0.5, 100.0, loss_cls=1.5, loss_reg=0.5),
        line(40, 1.0, 0.1, 0.9, 300.0, loss_cls=0.75, loss_reg=0.25),
        of_test(40, val=(0.25, 0.5)),
        line(50, 0.5, 0.05, 0.6, 200.0, loss_cls=0.5, loss_reg=0.0),
        of_test(50, val=(0.2, 0.4)),
    )
    read = read_log(folder)
    assert read.name == "run"
    assert read.steps == 50
    assert read.losses == [(20, 2.0), (40, 1.0), (50, 0.5)]
    assert read.rates == [(20, 0.2), (40, 0.1), (50, 0.05)]
    assert read.terms == {
        "loss_cls": [(20, 1.5), (40, 0.75), (50, 0.5)],
        "loss_reg": [(20, 0.5), (40, 0.25), (50, 0.0)],
    }
    assert read.evaluations == [(40, 0.25, 0.5), (50, 0.2, 0.4)]
    assert read.best() == (40, 0.25)
    assert read.step_s == 0.6  # the median, not the mean
    assert read.train_s == pytest.approx(20 * 0.5 + 20 * 0.9 + 10 * 0.6)
    assert read.memory_mb == 300.0
    assert read.header == {"device": "cpu", "versions": {"torch": "2"}}
    assert read.notes == []


def test_several_test_sets_are_one_number_and_those_without_objects_count_for_nothing(tmp_path):
    run = written(tmp_path / "run", of_test(1, a=(0.2, 0.5), b=(0.4, 0.7), c=(-1, -1)), of_test(2, a=(-1.0, 0.25)))
    first, second = read_log(run).evaluations
    assert first == pytest.approx((1, 0.3, 0.6))
    assert second[0] == 2
    assert math.isnan(second[1])
    assert second[2] == 0.25


def test_other_measures_are_no_ap(tmp_path):
    run = written(tmp_path / "run", {"step": 5, "event": "evaluation", "metrics": {"top1": 40.0, "loss": 1.0}})
    ((step, ap, ap50),) = read_log(run).evaluations
    assert step == 5
    assert math.isnan(ap)
    assert math.isnan(ap50)
    assert read_log(run).best()[0] == 0


@pytest.mark.parametrize("half", ['{"step":60,"loss":0.', '{"step":60,"loss":0.1', '"text"', '{"loss": 1.0}'])
def test_a_line_that_is_no_record_is_left_out_and_counted(tmp_path, half):
    read = read_log(written(tmp_path / "run", line(20, 2.0), half, end=""))
    assert read.losses == [(20, 2.0)]
    assert read.notes == ["1 line of log.jsonl not written to the end, left out"]


def test_what_a_resume_made_again_counts_once(tmp_path):
    run = written(
        tmp_path / "run",
        START,
        line(20, 2.0),
        of_test(20, val=(0.1, 0.2)),
        line(40, 9.0),
        of_test(40, val=(0.9, 0.9)),
        line(60, 9.0),
        {"step": 20, "event": "resume", "device": "cuda"},
        line(40, 1.0),
        of_test(40, val=(0.3, 0.4)),
    )
    read = read_log(run)
    assert read.steps == 40
    assert read.losses == [(20, 2.0), (40, 1.0)]
    assert read.evaluations == [(20, 0.1, 0.2), (40, 0.3, 0.4)]
    assert read.notes == ["resumed at step 20"]
    assert read.header["device"] == "cpu"


def test_what_happened_is_told(tmp_path):
    run = written(
        tmp_path / "run",
        {"step": 12, "event": "nonfinite", "message": "loss_cls"},
        {"step": 15, "event": "stopped", "by": "SIGTERM"},
        {"step": 40, "event": "patience", "evaluations": 5, "best_step": 20},
        {"step": 40, "event": "unheard of"},
    )
    assert read_log(run).notes == [
        "losses that are no numbers after step 12",
        "stopped at step 15 by SIGTERM",
        "ended at step 40 by patience, the best at step 20",
    ]


def test_what_is_no_number_is_nan(tmp_path):
    read = read_log(written(tmp_path / "run", line(20, None, step_s=None, memory_mb=None), line(40, 1.0, step_s=0.25)))
    assert math.isnan(read.losses[0][1])
    assert read.losses[1] == (40, 1.0)
    assert read.step_s == 0.25
    assert read.train_s == 5.0
    assert read.memory_mb == 100.0


def test_lines_in_any_order_are_read_by_their_steps(tmp_path):
    lines = [line(step, 1.0 / step) for step in range(20, 400, 20)]
    random.Random(0).shuffle(lines)
    losses = read_log(written(tmp_path / "run", *lines)).losses
    assert losses == [(step, 1.0 / step) for step in range(20, 400, 20)]


def test_a_run_that_has_just_begun_has_no_lines(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / NAME).touch()
    for read in (read_log(tmp_path / "run"), read_log(written(tmp_path / "begun", START))):
        assert read.losses == read.evaluations == read.notes == []
        assert read.steps == 0
        assert math.isnan(read.step_s)
        assert math.isnan(read.train_s)


def test_what_is_no_log_is_refused_with_what_to_write(tmp_path):
    with pytest.raises(MissingFileError, match=r"gone: there is no such folder; write that of a run"):
        read_log(tmp_path / "gone")
    written(tmp_path / "runs" / "b", START)
    written(tmp_path / "runs" / "a", START)
    with pytest.raises(MissingFileError, match=r"runs holds no log.jsonl; write the runs in it, .*runs/a \.\."):
        read_log(tmp_path / "runs")
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingFileError, match=r"empty holds no log.jsonl; a run's folder has one"):
        read_log(tmp_path / "empty")
    with pytest.raises(UserError, match="none of its 2 lines is a record of a training"):
        read_log(written(tmp_path / "text", "one", "two"))
