"""A training takes the batch that fits, and keeps it when it goes on."""

import logging

import pytest
import torch

from detector.engine.memory import GIB
from detector.tasks import plan as plan_module
from detector.tasks.detection import train


@pytest.fixture
def free(monkeypatch):
    """free(bytes): what the device has."""

    def change(number):
        monkeypatch.setattr(plan_module, "free_memory", lambda device: number)

    return change


def batch_of(path):
    content = torch.load(path, weights_only=True)
    return int(content["config"].partition("IMS_PER_BATCH: ")[2].split()[0]), content


def test_a_run_takes_what_fits_scales_its_schedule_and_keeps_its_batch(tiny, tmp_path, free, caplog):
    free(64 * GIB)
    cfg = tiny("SOLVER.REFERENCE_BATCH", 4, "SOLVER.MAX_ITER", 3, "SOLVER.STEPS", "()", "SOLVER.CHECKPOINT_PERIOD", 2)
    with caplog.at_level(logging.INFO, "detector"):
        train(cfg, auto_batch=True)
    said = [record.getMessage() for record in caplog.records]
    assert any(text.startswith("--batch auto: SOLVER.IMS_PER_BATCH 4, whose tensors take") for text in said)
    batch, content = batch_of(tmp_path / "out" / "model_final.pth")
    assert (batch, content["step"]) == (4, 3)
    (tmp_path / "out" / "model_final.pth").unlink()
    free(1)  # nothing would fit
    caplog.clear()
    with caplog.at_level(logging.INFO, "detector"):
        train(cfg, resume=True, auto_batch=True)
    said = [record.getMessage() for record in caplog.records]
    assert any("it stays SOLVER.IMS_PER_BATCH 4" in text for text in said)
    assert not any("other settings" in text for text in said)
    assert batch_of(tmp_path / "out" / "model_final.pth")[0] == 4


def test_the_schedule_follows_the_batch(tiny, tmp_path, free, caplog):
    free(64 * GIB)
    cfg = tiny("SOLVER.MAX_ITER", 10, "SOLVER.STEPS", "()", "SOLVER.WARMUP_ITERS", 0)  # for 2 images a step
    with caplog.at_level(logging.INFO, "detector"):
        train(cfg, auto_batch=True)
    assert "batch 5 for a reference of 2: BASE_LR 0.002 -> 0.005, MAX_ITER 10 -> 4" in caplog.text
    assert batch_of(tmp_path / "out" / "model_final.pth")[1]["step"] == 4


def test_without_memory_nothing_is_written(tiny, tmp_path, free):
    free(GIB // 4)
    with pytest.raises(ValueError, match=r"--batch auto: 0\.25 GiB are free on cpu, and the smallest batch needs"):
        train(tiny(), auto_batch=True)
    assert not (tmp_path / "out").exists()
