"""SOLVER.PATIENCE and --patience, from the config and the flags to what is left and said."""

import multiprocessing

import pytest
from helpers.runs import read, records

from detector.tasks.detection import DetectionTask, train

EVERY = ("SOLVER.MAX_ITER", 9, "SOLVER.TEST_PERIOD", 1, "MODEL.NECK.OUT_CHANNELS", 32, "INPUT.MIN_SIZE_TRAIN", 32)


@pytest.fixture(autouse=True)
def scores(monkeypatch):
    """What the evaluations find after 1, 2, .. steps."""
    values = [0.5, 0.4, 0.5, 0.9, 0.1]
    monkeypatch.setattr(DetectionTask, "measures", lambda self, run: {"val": {"AP": values[run.step - 1]}})
    return values


def test_a_training_ends_early_and_goes_on_with_more_patience(tiny, tmp_path, caplog):
    caplog.set_level("INFO", "detector")
    out = tmp_path / "out"
    assert train(tiny(*EVERY, "SOLVER.PATIENCE", 2, "DATALOADER.NUM_WORKERS", 1)) == {"val": {"AP": 0.5}}
    assert not multiprocessing.active_children()
    final = read(out / "model_final.pth")
    assert [final[key] for key in ("step", "best", "best_step", "stale")] == [3, 0.5, 1, 2]
    assert final["optimizer"]["state"]
    assert read(out / "model_best.pth")["step"] == 1
    assert records(out)[-1] == {"step": 3, "event": "patience", "evaluations": 2, "best_step": 1}
    assert "a test every step, the best by AP, the end after 2 tests without a better one" in caplog.text
    end = caplog.messages[-1]
    assert "model_final.pth  weights and optimiser after the last step, as patience ended" in end
    assert f"detector test {out} --which best" in end
    assert f"detector train {out} --resume SOLVER.PATIENCE 4" in end
    held = {path.name: path.stat().st_mtime_ns for path in out.glob("*.pth")}
    train(tiny(*EVERY, "SOLVER.PATIENCE", 2), resume=True)
    assert {path.name: path.stat().st_mtime_ns for path in out.glob("*.pth")} == held
    assert "SOLVER.PATIENCE 4" in caplog.messages[-1]
    train(tiny(*EVERY, "SOLVER.PATIENCE", 3, "SOLVER.MAX_ITER", 5), resume=True)
    assert read(out / "model_final.pth")["step"] == 5
    assert "SOLVER.PATIENCE" not in caplog.messages[-1]
