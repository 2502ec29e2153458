"""`detector plan` and `detector train --batch auto`."""

import pytest

from detector.commands import plan, train
from detector.tasks import detection
from detector.tasks import plan as plan_task


@pytest.fixture
def planned(monkeypatch):
    """What the task was asked for."""
    calls = []
    monkeypatch.setattr(plan_task, "plan", lambda cfg, memory: calls.append((cfg, memory)) or "a table")
    return calls


def test_the_config_the_keys_and_the_memory_reach_the_task(planned, capsys):
    plan.main(["fcos/resnet50_1x", "--memory", "11.5", "SOLVER.IMS_PER_BATCH", "4"])
    plan.main(["fcos/resnet50_1x"])
    assert [(cfg.SOLVER.IMS_PER_BATCH, memory) for cfg, memory in planned] == [(4, 11.5), (16, 8.0)]
    assert capsys.readouterr().out == "a table\na table\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "CONFIG is missing"),
        (["fcos/resnet50_1x", "SOLVER.AMP"], "'SOLVER.AMP' has no value: write SOLVER.AMP VALUE"),
        (["fcos/resnet50_1x", "--memory", "0"], "argument --memory"),
        (["fcos/resnet50_1x", "--memory", "much"], "argument --memory"),
    ],
)
def test_slips_are_answered_in_one_line(planned, capsys, words, said):
    with pytest.raises(SystemExit):
        plan.main(words)
    assert said in capsys.readouterr().err
    assert not planned


def test_an_unknown_part_is_an_error_without_traceback():
    with pytest.raises(SystemExit, match=r"error: MODEL\.BACKBONE\.NAME: unknown backbone 'resnet5'"):
        plan.main(["fcos/resnet50_1x", "MODEL.BACKBONE.NAME", "resnet5"])


@pytest.mark.parametrize(("words", "auto"), [([], False), (["--batch", "auto"], True)])
def test_the_flag_of_the_batch_reaches_the_training(monkeypatch, words, auto):
    calls = []
    monkeypatch.setattr(detection, "train", lambda cfg, **how: calls.append(how))
    train.main(["--config-file", "quickstart", *words])
    assert calls == [{"resume": False, "auto_batch": auto}]


def test_a_number_is_written_as_a_key(capsys):
    with pytest.raises(SystemExit):
        train.main(["--config-file", "quickstart", "--batch", "4"])
    assert "choose from" in capsys.readouterr().err
