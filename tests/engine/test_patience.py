"""The end of a training whose evaluations get no better, on a single weight: counted exactly, whatever kills it."""

from typing import NamedTuple

import pytest
import torch
from helpers.runs import read, records
from torch import nn

from detector.engine import loop
from detector.engine.log import TrainLog
from detector.engine.loop import Plan, due
from detector.engine.run import Run, to_resume
from detector.engine.trouble import Remedies

SCORES = (0.2, 0.5, 0.4, 0.5, 0.3, 0.9, 0.1, 0.1, 0.1)  # after 1, 2, .. steps


class KilledError(BaseException):
    pass


class Batch(NamedTuple):
    x: torch.Tensor


class Task:
    """A weight that is pulled to 0, and whose scores are SCORES."""

    advice, remedies = "", Remedies("", "")

    def __init__(self):
        self.evaluated = []

    def batches(self, start, stop):
        return (Batch(torch.ones(1, 1)) for _ in range(start, stop))

    def parts(self, batch, number):
        return [batch]

    def losses(self, model, batch):
        return {"loss_a": model(batch.x).square().sum()}

    def names(self, batch):
        return []

    def measures(self, run):
        self.evaluated.append(run.step)
        return {"val": {"AP": SCORES[run.step - 1]}}

    def score(self, metrics):
        return metrics["val"]["AP"]

    def pictures(self, run):
        return {}

    def weights(self, run):
        return {"model": run.model.state_dict()}


@pytest.fixture
def train(tmp_path):
    """train(patience=3, saves=2, resume=False, ..): a run of nine steps, its task and what it found."""

    def build(patience, saves=0, tests=1, resume=False):
        torch.manual_seed(0)
        model = nn.Linear(1, 1)
        optimizer = torch.optim.SGD([{"params": list(model.parameters()), "lr": 0.1, "base_lr": 0.1}])
        run = Run(tmp_path, model, optimizer, torch.amp.GradScaler("cpu", enabled=False), {})
        if found := to_resume(tmp_path, resume):
            run.restore(found)
        due_test = lambda step: due(step, tests) or step == 9  # noqa: E731
        task = Task()
        plan = Plan(0, 9, lambda step: 1.0, lambda step: due(step, saves), due_test, patience=patience)
        return run, task, loop.train(run, task, plan)

    return build


def story(folder):
    """Step and event of all lines that are no start, no resume and no numbers."""
    return [(r["step"], r["event"]) for r in records(folder) if r.get("event") in ("evaluation", "patience")]


WHOLE = [*((step, "evaluation") for step in (1, 2, 3, 4, 5)), (5, "patience")]


def test_it_ends_after_so_many_evaluations_without_a_better_one(train, tmp_path, caplog):
    caplog.set_level("INFO", "detector")
    run, task, metrics = train(3, saves=4)
    assert task.evaluated == [1, 2, 3, 4, 5]  # as good as the best is no better
    assert metrics == {"val": {"AP": 0.3}}
    final = read(tmp_path / "model_final.pth")
    assert [final[key] for key in ("step", "evaluated", "best", "best_step", "stale")] == [5, 5, 0.5, 2, 3]
    assert read(tmp_path / "model_best.pth")["step"] == 2
    assert sorted(path.name for path in tmp_path.glob("model_0*")) == ["model_0000004.pth"]
    assert story(tmp_path) == WHOLE
    assert records(tmp_path)[-1] == {"step": 5, "event": "patience", "evaluations": 3, "best_step": 2}
    assert caplog.messages[-1] == (
        "no better one in 3 evaluations in a row, so training ends at step 5 of 9; the best score, 0.5, is that of "
        "step 2"
    )
    assert (run.step, run.out_of_patience(3), run.out_of_patience(4), run.out_of_patience(0)) == (5, True, False, False)


@pytest.mark.parametrize(("patience", "last"), [(0, 9), (1, 3), (2, 4), (4, 9)])
def test_patience_counts_evaluations_in_a_row(train, tmp_path, patience, last):
    _, task, _ = train(patience)
    assert task.evaluated == list(range(1, last + 1))
    assert read(tmp_path / "model_final.pth")["step"] == last
    assert ((last, "patience") in story(tmp_path)) == (last < 9)


def test_steps_between_evaluations_do_not_count(train):
    _, task, _ = train(1, tests=2)
    assert task.evaluated == [2, 4]


def test_a_resume_trains_on_with_more_patience_only(train, tmp_path):
    train(3, saves=1)
    _, task, metrics = train(3, saves=1, resume=True)
    assert (task.evaluated, metrics) == ([], {"val": {"AP": 0.3}})
    _, task, _ = train(4, saves=1, resume=True)
    assert task.evaluated == [6, 7, 8, 9]  # the sixth is better, and three more are not
    assert story(tmp_path) == [*WHOLE, *((step, "evaluation") for step in (6, 7, 8, 9))]


def test_patience_that_ends_with_the_last_step_ends_nothing(train, tmp_path):
    train(3, saves=1)
    _, task, _ = train(0, resume=True)
    assert task.evaluated[-1] == 9
    _, task, _ = train(3, resume=True)
    assert (task.evaluated, [event for event in story(tmp_path) if "patience" in event]) == ([], [(5, "patience")])


@pytest.mark.parametrize("saves", [1, 2, 3, 5])
@pytest.mark.parametrize("place", ["step", "evaluation", "last_evaluation", "last_checkpoint"])
def test_killed_and_resumed_it_ends_at_the_same_step(train, tmp_path, monkeypatch, place, saves):
    """Whether the checkpoint it comes from is older than the evaluation, knows of it or not, or is the last one."""
    step, evaluation, save = TrainLog.step, TrainLog.evaluation, Run.save

    def after_step(self, number, *rest):
        step(self, number, *rest)
        if place == "step" and number == 4:
            raise KilledError

    def after_evaluation(self, number, *rest):
        evaluation(self, number, *rest)
        if (place, number) in (("evaluation", 4), ("last_evaluation", 5)):
            raise KilledError

    def before_save(self, last=False):
        if place == "last_checkpoint" and last:
            raise KilledError
        save(self, last)

    with monkeypatch.context() as patch:
        patch.setattr(TrainLog, "step", after_step)
        patch.setattr(TrainLog, "evaluation", after_evaluation)
        patch.setattr(Run, "save", before_save)
        with pytest.raises(KilledError):
            train(3, saves=saves)
    if not list(tmp_path.glob("model_0*")):
        (tmp_path / "model_best.pth").unlink()  # of a run that has nothing to resume it from
    train(3, saves=saves, resume=True)
    final = read(tmp_path / "model_final.pth")
    assert [final[key] for key in ("step", "best", "best_step", "stale")] == [5, 0.5, 2, 3]
    assert story(tmp_path) == WHOLE
    assert read(tmp_path / "model_best.pth")["step"] == 2


def test_less_patience_than_is_used_up_ends_a_resume_at_once(train, tmp_path, caplog):
    caplog.set_level("INFO", "detector")
    train(0, saves=1)
    (tmp_path / "model_final.pth").unlink()
    for path in tmp_path.glob("model_000000[4-9].pth"):
        path.unlink()
    caplog.clear()
    _, task, metrics = train(1, saves=1, resume=True)
    assert (task.evaluated, metrics) == ([], {"val": {"AP": 0.4}})
    assert read(tmp_path / "model_final.pth")["step"] == 3
    assert caplog.messages[-1].startswith("nothing is left to train: no better one in 1 evaluation in a row, so")


def test_a_checkpoint_of_before_counts_from_zero(train, tmp_path):
    train(0, saves=3)
    for path in (*tmp_path.glob("model_000000[6-9].pth"), tmp_path / "model_final.pth"):
        path.unlink()
    content = read(tmp_path / "model_0000003.pth")
    del content["stale"], content["best_step"]
    torch.save(content, tmp_path / "model_0000003.pth")
    _, task, _ = train(2, saves=3, resume=True)
    assert task.evaluated == [4, 5]


def test_the_best_one_measured_once_more_is_no_worse(tmp_path):
    """As on a resume by another measure, when the step of the best checkpoint is tested again."""
    run = Run.__new__(Run)
    run.folder, run.kept, run.step, run.best, run.best_step, run.stale = tmp_path, "", 4, 0.5, 4, 0
    run.keep_best({}, 0.5, {})
    assert run.stale == 0
    run.step = 6
    run.keep_best({}, 0.5, {})
    assert run.stale == 1
