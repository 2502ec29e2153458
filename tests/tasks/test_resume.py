"""A killed run, resumed, ends with the same bits as an uninterrupted one."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import ROOT

from detector.tasks.detection import train

# Each kills its own process with SIGKILL at a place that the loop has no say in.
KILLERS = {
    "in the middle of an epoch": """
from detector.engine.log import TrainLog
real = TrainLog.step
def step(self, step, *rest):
    real(self, step, *rest)
    if step == 7:
        os.kill(os.getpid(), signal.SIGKILL)
TrainLog.step = step
""",
    "while a checkpoint is written": """
import torch
real = torch.save
def save(content, file):
    if content.get("step") == 6:
        file.write(b"half a checkpoint")
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    real(content, file)
torch.save = save
""",
    "during an evaluation": """
from detector.evaluation.coco import CocoEvaluator
calls = []
real = CocoEvaluator.update
def update(self, *given):
    calls.append(1)
    if len(calls) == 3:  # the second batch of the second evaluation
        os.kill(os.getpid(), signal.SIGKILL)
    real(self, *given)
CocoEvaluator.update = update
""",
}

MAIN = """
import os, signal
{killer}
from detector.config import load_config
from detector.tasks.detection import train
if __name__ == "__main__":
    train(load_config({config!r}))
"""

RUN = ("SOLVER.MAX_ITER", 9, "SOLVER.CHECKPOINT_PERIOD", 3, "SOLVER.TEST_PERIOD", 3, "DATALOADER.NUM_WORKERS", 2)


@pytest.fixture
def uninterrupted(tiny, tmp_path):
    train(tiny(*RUN, "OUTPUT_DIR", tmp_path / "whole"))
    return torch.load(tmp_path / "whole" / "model_final.pth", weights_only=True)


def test_killed_and_resumed_runs_end_with_the_same_bits(tiny, tmp_path, uninterrupted):
    for number, (where, killer) in enumerate(KILLERS.items()):
        cfg = tiny(*RUN, "OUTPUT_DIR", tmp_path / f"killed{number}")
        config = tmp_path / f"killed{number}.yaml"
        config.write_text(cfg.dump())
        script = tmp_path / f"killed{number}.py"
        script.write_text(MAIN.format(killer=killer, config=str(config)))
        run = subprocess.run([sys.executable, str(script)], cwd=ROOT, env=environment(), capture_output=True, text=True)
        assert run.returncode == -9, (where, run.stderr[-2000:])
        assert not (Path(cfg.OUTPUT_DIR) / "model_final.pth").exists()
        train(cfg, resume=True)
        resumed = torch.load(Path(cfg.OUTPUT_DIR) / "model_final.pth", weights_only=True)
        assert_same_bits(resumed["model"], uninterrupted["model"], where)
        moments, wanted = (
            [state["momentum_buffer"] for state in content["optimizer"]["state"].values()]
            for content in (resumed, uninterrupted)
        )
        assert len(moments) == len(wanted) > 10
        assert all(torch.equal(a, b) for a, b in zip(moments, wanted))
        assert resumed["best"] == uninterrupted["best"], where


def test_another_seed_gives_other_bits(tiny, tmp_path, uninterrupted):
    train(tiny(*RUN, "OUTPUT_DIR", tmp_path / "other", "SEED", 1))
    other = torch.load(tmp_path / "other" / "model_final.pth", weights_only=True)
    assert not torch.equal(other["model"]["head.cls_logits.weight"], uninterrupted["model"]["head.cls_logits.weight"])


def environment():
    import os

    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(torch.get_num_threads())}


def assert_same_bits(got, want, where):
    assert list(got) == list(want)
    different = [key for key in want if not torch.equal(got[key], want[key])]
    assert not different, (where, different)


def test_a_checkpoint_of_the_form_before_is_resumed(tiny, tmp_path):
    """They held random state, and neither an average nor the last measures."""
    opts = ("SOLVER.MAX_ITER", 4, "SOLVER.CHECKPOINT_PERIOD", 2)
    train(tiny(*opts))
    content = torch.load(tmp_path / "out" / "model_0000002.pth", weights_only=True)
    del content["average"], content["metrics"]
    content["random"] = {"cpu": torch.get_rng_state(), "cuda": []}
    (tmp_path / "old").mkdir()
    torch.save(content, tmp_path / "old" / "model_0000002.pth")
    train(tiny(*opts, "OUTPUT_DIR", tmp_path / "old"), resume=True)
    whole, resumed = (
        torch.load(tmp_path / name / "model_final.pth", weights_only=True)["model"] for name in ("out", "old")
    )
    assert_same_bits(resumed, whole, "old")
