import math

import pytest
import torch
from torch import nn

from detector.config import load_config
from detector.engine.optim import set_learning_rate
from detector.tasks.solver import build_optimizer, learning_rate_factor


def solver(*opts):
    return load_config(None, opts).SOLVER


def test_multi_step_with_linear_warm_up():
    node = solver("SOLVER.WARMUP_ITERS", "10", "SOLVER.WARMUP_FACTOR", "0.5", "SOLVER.STEPS", "(20, 30)")
    factors = [learning_rate_factor(node, step) for step in (0, 5, 9, 10, 19, 20, 29, 30)]
    assert factors == pytest.approx([0.5, 0.75, 0.95, 1, 1, 0.1, 0.1, 0.01])


def test_constant_warm_up():
    node = solver("SOLVER.WARMUP_METHOD", "constant")
    assert [learning_rate_factor(node, s) for s in (0, 499, 500)] == pytest.approx([1 / 3, 1 / 3, 1])


def test_cosine_ends_near_zero():
    node = solver(
        "SOLVER.SCHEDULE", "cosine", "SOLVER.MAX_ITER", "100", "SOLVER.STEPS", "()", "SOLVER.WARMUP_ITERS", "0"
    )
    factors = [learning_rate_factor(node, s) for s in (0, 25, 50, 100)]
    assert factors == pytest.approx([1, (1 + math.sqrt(0.5)) / 2, 0.5, 0])


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_biases_have_their_own_rate_and_decay(optimizer):
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    model[0].weight.requires_grad_(False)
    opts = (
        "SOLVER.BASE_LR",
        "0.1",
        "SOLVER.MOMENTUM",
        "0.7",
        "SOLVER.WEIGHT_DECAY",
        "0.3",
        "SOLVER.WEIGHT_DECAY_BIAS",
        "0.2",
    )
    built = build_optimizer(solver("SOLVER.OPTIMIZER", optimizer, *opts, "SOLVER.BIAS_LR_FACTOR", "3"), model)
    weights, biases = built.param_groups
    assert [p is model[1].weight for p in weights["params"]] == [True]
    assert [any(p is bias for bias in (model[0].bias, model[1].bias)) for p in biases["params"]] == [True, True]
    assert (weights["weight_decay"], biases["weight_decay"]) == (0.3, 0.2)
    assert set_learning_rate(built, 0.5) == pytest.approx(0.05)
    assert biases["lr"] == pytest.approx(0.15)
    assert [group.get("momentum") for group in built.param_groups] == ([0.7, 0.7] if optimizer == "sgd" else [None] * 2)
    assert isinstance(built, torch.optim.SGD if optimizer == "sgd" else torch.optim.AdamW)
