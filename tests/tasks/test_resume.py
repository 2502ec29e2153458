"""A killed run, resumed, ends with the same bits as an uninterrupted one."""

import torch
from helpers.kills import run_killed
from helpers.runs import read, same_bits

from detector.tasks.detection import train

SCRIPT = """
from detector.config import load_config
from detector.evaluation.coco import CocoEvaluator
from detector.tasks.detection import train

def in_the_middle_of_an_epoch():
    die_after_step(7)

def during_an_evaluation():
    calls = []
    real = CocoEvaluator.add
    def update(self, *given):
        calls.append(1)
        if len(calls) == 3:  # the second batch of the second evaluation
            die()
        real(self, *given)
    CocoEvaluator.add = update

def train_in(name):
    train(load_config("config.yaml", ["OUTPUT_DIR", folder_of(name)]))

def folder_of(name):
    return name
"""

PLACES = ("in_the_middle_of_an_epoch", "while_a_checkpoint_is_written", "during_an_evaluation")
RUN = (
    *("SOLVER.MAX_ITER", 9, "SOLVER.CHECKPOINT_PERIOD", 3, "SOLVER.TEST_PERIOD", 3, "DATALOADER.NUM_WORKERS", 1),
    *("SOLVER.EMA_DECAY", 0.8),
)


def test_killed_and_resumed_runs_end_with_the_same_bits(tiny, tmp_path):
    cfg = tiny(*RUN, "OUTPUT_DIR", tmp_path / "whole")
    train(cfg)
    uninterrupted = read(tmp_path / "whole" / "model_final.pth")
    (tmp_path / "config.yaml").write_text(cfg.dump())
    rows, told = run_killed(tmp_path, SCRIPT, PLACES)
    assert [(name, status) for name, status, _ in rows] == [(name, -9) for name in PLACES], told[-2000:]
    for name in PLACES:
        assert not (tmp_path / name / "model_final.pth").exists()
        train(tiny(*RUN, "OUTPUT_DIR", tmp_path / name), resume=True)
        resumed = read(tmp_path / name / "model_final.pth")
        assert same_bits(resumed["model"], uninterrupted["model"])
        assert same_bits(resumed["average"], uninterrupted["average"])
        moments, wanted = (
            [state["momentum_buffer"] for state in content["optimizer"]["state"].values()]
            for content in (resumed, uninterrupted)
        )
        assert len(moments) == len(wanted) > 10
        assert all(torch.equal(a, b) for a, b in zip(moments, wanted))
        assert resumed["best"] == uninterrupted["best"], name
    train(tiny(*RUN, "OUTPUT_DIR", tmp_path / "other", "SEED", 1))
    other = read(tmp_path / "other" / "model_final.pth")
    assert not torch.equal(other["model"]["head.cls_logits.weight"], uninterrupted["model"]["head.cls_logits.weight"])


def test_a_checkpoint_of_the_form_before_is_resumed(tiny, tmp_path):
    """They held random state, and neither an average nor the last measures."""
    opts = ("SOLVER.MAX_ITER", 4, "SOLVER.CHECKPOINT_PERIOD", 2)
    train(tiny(*opts))
    content = read(tmp_path / "out" / "model_0000002.pth")
    del content["average"], content["metrics"]
    content["random"] = {"cpu": torch.get_rng_state(), "cuda": []}
    (tmp_path / "old").mkdir()
    torch.save(content, tmp_path / "old" / "model_0000002.pth")
    train(tiny(*opts, "OUTPUT_DIR", tmp_path / "old"), resume=True)
    whole, resumed = (read(tmp_path / name / "model_final.pth")["model"] for name in ("out", "old"))
    assert same_bits(resumed, whole)
