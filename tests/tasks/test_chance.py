"""What a step leaves to the global state is made of the seed and the step, so checkpoints need no random state."""

import pytest
import torch

from detector.engine.log import TrainLog
from detector.tasks.detection import train


def weights(path):
    content = torch.load(path, weights_only=True)
    assert "random" not in content
    return content["model"]


@pytest.fixture
def run(tiny, tmp_path):
    """run(name, ..): the weights after three steps of a Faster R-CNN, which samples, under that folder."""

    def start(name, *opts):
        small = ("MODEL.ROI_BOX_HEAD.MLP_HEAD_DIM", 16, "MODEL.RPN.POST_NMS_TOP_N_TRAIN", 50, "MODEL.FCOS.NUM_CONVS", 1)
        few = ("MODEL.RPN.BATCH_SIZE_PER_IMAGE", 8, "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", 8, "SOLVER.MAX_ITER", 3)
        train(tiny("MODEL.HEAD.NAME", "faster_rcnn", *small, *few, "OUTPUT_DIR", tmp_path / name, *opts))
        return weights(tmp_path / name / "model_final.pth")

    return start


@pytest.fixture
def drop_out(monkeypatch):
    """A head that drops a part of its features at random, from the global state, in every step; what it dropped."""
    from detector.models.heads.rpn import RPN

    forward, seen = RPN.forward, []

    def dropped(self, features):
        if self.training:
            kept = torch.rand(1).item()
            seen.append(kept)
            features = {name: x * kept for name, x in features.items()}
        return forward(self, features)

    monkeypatch.setattr(RPN, "forward", dropped)
    return seen


def same(a, b):
    return all(torch.equal(value, b[key]) for key, value in a.items())


def test_what_others_draw_in_between_changes_nothing(run, drop_out, monkeypatch):
    quiet = run("quiet")
    first, drop_out[:] = list(drop_out), []
    step = TrainLog.step

    def noisy(self, number, *rest):
        torch.rand(number + 3)
        step(self, number, *rest)

    monkeypatch.setattr(TrainLog, "step", noisy)
    assert same(run("noisy"), quiet)
    assert drop_out == first
    assert len(set(first)) == 3  # each step has its own


def test_another_seed_draws_otherwise(run, drop_out):
    run("one")
    first, drop_out[:] = list(drop_out), []
    run("other", "SEED", 1)
    assert not set(first) & set(drop_out)
