"""Half precision in a training: updates that are left out, and what is said of machines that gain no time."""

import pytest
import torch
from helpers.runs import move_run, read, records, same_bits

from detector.engine import device
from detector.tasks.detection import test as run_test  # under its own name pytest would collect it
from detector.tasks.detection import train

QUICK = ("DATASETS.TEST", "()", "SOLVER.STEPS", "()", "INPUT.MIN_SIZE_TRAIN", 32, "SOLVER.CHECKPOINT_PERIOD", 3)


@pytest.fixture
def overflowing(monkeypatch):
    """overflowing(1, 3): the gradients of these updates, counted from 1, are infinite when they are scaled."""
    unscale, number = torch.amp.GradScaler.unscale_, []

    def after(*updates):
        number.clear()

        def unscaled(scaler, optimizer):
            number.append(1)
            if len(number) in updates:
                optimizer.param_groups[0]["params"][0].grad.fill_(float("inf"))
            unscale(scaler, optimizer)

        monkeypatch.setattr(torch.amp.GradScaler, "unscale_", unscaled)

    return after


def test_updates_that_fp16_leaves_out_are_counted_over_the_run(tiny, tmp_path, overflowing, monkeypatch, caplog):
    caplog.set_level("INFO", "detector")
    monkeypatch.setattr("detector.engine.log.PERIOD", 1)
    opts = (*QUICK, "SOLVER.AMP", "fp16", "SOLVER.MAX_ITER", 5)
    overflowing(1, 3, 4)
    train(tiny(*opts, "OUTPUT_DIR", tmp_path / "whole"))
    whole = read(tmp_path / "whole" / "model_final.pth")
    assert [r["skipped"] for r in records(tmp_path / "whole") if "loss" in r] == [1, 1, 2, 3, 3]
    assert "fp16 left out 3 of 5 updates, as gradients were infinite" in caplog.messages
    assert (whole["left_out"], whole["skipped"], whole["scaler"]["scale"]) == (3, 0, 65536 / 8)

    caplog.clear()
    overflowing(1)  # the fourth of the run
    move_run(tmp_path / "whole" / "model_0000003.pth", tmp_path / "again")
    train(tiny(*opts, "OUTPUT_DIR", tmp_path / "again"), resume=True)
    assert [m.partition("model_0000003.pth ")[2] for m in caplog.messages if m.startswith("resuming from")] == [
        "at step 3 of 5; fp16 left out 2 of 3 updates, as gradients were infinite"
    ]
    again = read(tmp_path / "again" / "model_final.pth")
    assert again["left_out"] == 3
    assert [r["skipped"] for r in records(tmp_path / "again") if "loss" in r] == [3, 3]
    assert same_bits(again["model"], whole["model"])


def test_nothing_is_counted_where_nothing_is_left_out(tiny, tmp_path, caplog):
    caplog.set_level("INFO", "detector")
    train(tiny(*QUICK, "SOLVER.MAX_ITER", 1))
    assert "skipped" not in records(tmp_path / "out")[-1]
    assert "left out" not in caplog.text


def test_a_machine_that_gains_no_time_is_told_so_before_the_first_step(tiny, monkeypatch, caplog):
    caplog.set_level("INFO", "detector")
    monkeypatch.setattr(device, "slow_precision", lambda _, precision: "" if precision == "off" else "slow here")
    cfg = tiny("SOLVER.AMP", "bf16", "TEST.AMP", "bf16", "SOLVER.MAX_ITER", 2, "SOLVER.TEST_PERIOD", 1)
    train(cfg)
    warned = [i for i, text in enumerate(caplog.messages) if "slow here" in text]
    assert [caplog.messages[i] for i in warned] == ["SOLVER.AMP bf16, TEST.AMP bf16: slow here"]
    assert warned[0] < next(i for i, text in enumerate(caplog.messages) if text.startswith("training\n"))
    caplog.clear()
    run_test(cfg)
    assert [text for text in caplog.messages if "slow here" in text] == ["TEST.AMP bf16: slow here"]
