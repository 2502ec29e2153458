import math
import re

import pytest
import torch
from torch import nn

from detector.config import load_config
from detector.engine.optim import set_learning_rate
from detector.models.build import build_detector
from detector.tasks.solver import build_optimizer, idle_schedule, learning_rate_factor


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


def test_stages_of_a_detector_have_their_own_rates():
    """SSLD's for detection: the neck and the head are not of the backbone, and biases keep twice the rate."""
    words = ["MODEL.BACKBONE.NAME", "resnet10", "MODEL.BACKBONE.NORM", "bn", "MODEL.BACKBONE.FREEZE_CONV_BODY_AT", "1"]
    cfg = load_config(
        None, [*words, "SOLVER.STAGE_LR_FACTORS", "0.05, 0.05, 0.05, 0.1, 0.15", "SOLVER.BASE_LR", "0.02"]
    )
    with torch.device("meta"):
        model = build_detector(cfg)
    optimizer = build_optimizer(cfg.SOLVER, model)
    assert set_learning_rate(optimizer, 1.0) == 0.02
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    factors = {"conv1": 0.05, "bn1": 0.05, "layer1": 0.05, "layer2": 0.05, "layer3": 0.1, "layer4": 0.15}
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert len(trained) == len(rates)
    assert not any(name.startswith("backbone.conv1") for name in trained)
    for name, parameter in trained.items():
        factor = factors[name.split(".")[1]] if name.startswith("backbone.") else 1
        assert rates[id(parameter)] == pytest.approx(0.02 * factor * (2 if name.endswith("bias") else 1)), name


@pytest.mark.parametrize(
    ("opts", "written"),
    [
        (("MAX_ITER", 90000), []),
        (("MAX_ITER", 80001), []),
        (("MAX_ITER", 80000), ["does not reach 80000, .*; write SOLVER.STEPS \\(53333, 71111\\)$"]),
        (("MAX_ITER", 900), ["does not reach 60000 and 80000, .*; write SOLVER.STEPS \\(600, 800\\)$"]),
        (("MAX_ITER", 900, "SCHEDULE", "cosine"), []),
        (("MAX_ITER", 2, "WARMUP_ITERS", 0), ["write SOLVER.STEPS \\(\\)$"]),
        (("MAX_ITER", 500, "STEPS", "()"), []),
        (("MAX_ITER", 499, "STEPS", "()"), ["WARMUP_ITERS 500 with .*MAX_ITER 499.*; write SOLVER.WARMUP_ITERS 49$"]),
        (("MAX_ITER", 400), ["write SOLVER.STEPS", "write SOLVER.WARMUP_ITERS 40"]),
    ],
)
def test_what_lies_beyond_the_last_step_is_named_with_what_to_write(opts, written):
    keys = [f"SOLVER.{word}" if i % 2 == 0 else str(word) for i, word in enumerate(opts)]
    found = idle_schedule(solver(*keys))
    assert len(found) == len(written)
    for text, pattern in zip(found, written, strict=True):
        assert re.search(pattern, text), text


def test_what_is_to_be_written_is_accepted_in_silence():
    for last in range(1, 40):
        node = solver("SOLVER.MAX_ITER", str(last))
        texts = " ".join(idle_schedule(node))
        words = [
            word for key, value in re.findall(r"write (SOLVER\.\w+) (\(.*?\)|\d+)", texts) for word in (key, value)
        ]
        assert idle_schedule(solver("SOLVER.MAX_ITER", str(last), *words)) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("SOLVER.CHECKPOINT_MILESTONES", "[10, 100]"), []),
        (("SOLVER.CHECKPOINT_MILESTONES", "[10, 101, 200]"), ["CHECKPOINT_MILESTONES .* does not reach 101 and 200"]),
        (("SOLVER.PATIENCE", "8", "SOLVER.TEST_PERIOD", "11"), []),  # it may end at 99, where one is the best at 11
        (
            ("SOLVER.PATIENCE", "9", "SOLVER.TEST_PERIOD", "10"),
            ["PATIENCE 9 .*TEST_PERIOD 10: training is over at .* 100"],
        ),
        (("SOLVER.PATIENCE", "90"), []),  # has no effect, which is said elsewhere
    ],
)
def test_what_is_never_reached_is_said(words, said):
    found = idle_schedule(solver("SOLVER.MAX_ITER", "100", "SOLVER.STEPS", "()", "SOLVER.WARMUP_ITERS", "0", *words))
    assert len(found) == len(said)
    assert all(re.search(words, text) for words, text in zip(said, found))


@pytest.mark.parametrize(
    ("decay", "last", "advice"), [("0.999", 120, "0.917"), ("0.9998", 9000, "0.999"), ("0.9", 29, "0.655")]
)
def test_an_average_longer_than_the_training_is_told(decay, last, advice):
    keys = ("SOLVER.MAX_ITER", str(last), "SOLVER.STEPS", "()", "SOLVER.WARMUP_ITERS", "0", "SOLVER.EMA_DECAY", decay)
    (found,) = idle_schedule(solver(*keys))
    assert f"EMA_DECAY {decay} with SOLVER.MAX_ITER {last}" in found
    assert found.endswith(f"write SOLVER.EMA_WARMUP True, or write SOLVER.EMA_DECAY {advice}")
    assert idle_schedule(solver(*keys, "SOLVER.EMA_WARMUP", "True")) == []


def test_an_average_that_fits_is_silent():
    keys = ("SOLVER.MAX_ITER", "3000", "SOLVER.STEPS", "()", "SOLVER.WARMUP_ITERS", "0")
    assert idle_schedule(solver(*keys, "SOLVER.EMA_DECAY", "0.999")) == []
    assert idle_schedule(solver(*keys, "SOLVER.EMA_DECAY", "0")) == []


def test_modules_may_declare_factors_of_their_rates():
    model = nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 1)))
    model[1].rate_factors = {"1": 0.1}
    groups = build_optimizer(solver("SOLVER.BASE_LR", "0.5", "SOLVER.BIAS_LR_FACTOR", "2"), model).param_groups
    own = {id(p): name for name, p in model.named_parameters()}
    found = {own[id(p)]: (group["base_lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    assert len(groups) == 4
    plain = {f"{name}.{kind}": value for name in ("0", "1.0") for kind, value in (("weight", 0.5), ("bias", 1.0))}
    assert {name: rate for name, (rate, _) in found.items()} == pytest.approx(
        {**plain, "1.1.weight": 0.05, "1.1.bias": 0.1}
    )
    assert {name for name, (_, decay) in found.items() if decay} == {"0.weight", "1.0.weight", "1.1.weight"}
