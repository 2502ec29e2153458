"""SOLVER.PATIENCE and --patience, from the config and the flags to what is left and said."""

import json
import multiprocessing
from contextlib import nullcontext

import pytest
from helpers.runs import read, records

from detector.tasks.detection import DetectionTask, train
from detector.tasks.measured import state_digest

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


@pytest.mark.parametrize(
    ("period", "broken", "named"),
    [
        pytest.param(1, 9, "model_final.pth", id="patience"),
        pytest.param(1, 2, "model_0000001.pth", id="kept", marks=pytest.mark.slow),
        pytest.param(2, 4, "model_best.pth", id="best", marks=pytest.mark.slow),
    ],
)
def test_the_last_measures_name_the_file_of_their_weights(tiny, tmp_path, monkeypatch, period, broken, named):
    """Which is written after them, if at all."""
    monkeypatch.undo()  # what is filed is what is measured
    monkeypatch.setattr(DetectionTask, "score", lambda self, metrics: 0.5)
    losses, steps = DetectionTask.losses, []

    def breaking(self, *given):
        steps.append(0)
        if len(steps) == broken:
            raise KeyError
        return losses(self, *given)

    monkeypatch.setattr(DetectionTask, "losses", breaking)
    cfg = tiny(*EVERY, "SOLVER.TEST_PERIOD", period, "SOLVER.PATIENCE", 1, "MODEL.NECK.OUT_CHANNELS", 64)
    with nullcontext() if broken > 8 else pytest.raises(KeyError):
        train(cfg)
    said = json.loads((tmp_path / "out" / "metrics.json").read_text())["measured"]
    assert said["weight"] == str(tmp_path / "out" / named)
    kept = read(said["weight"])
    assert kept["step"] == said["step"]
    assert state_digest(kept["model"]) == said["digest"]
