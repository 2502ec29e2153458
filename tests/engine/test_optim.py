"""Optimisers: the fused ones give what the plain ones give."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from detector.engine.optim import by_stage, make_optimizer, set_learning_rate


def groups(dtype: torch.dtype = torch.float32) -> list[dict]:
    torch.manual_seed(0)
    weights = [nn.Parameter(torch.randn(8, 4, 3, 3, dtype=dtype).contiguous(memory_format=torch.channels_last))]
    biases = [nn.Parameter(torch.randn(1000, dtype=dtype))]
    return [
        {"params": weights, "lr": 0.1, "base_lr": 0.1, "weight_decay": 0.01},
        {"params": biases, "lr": 0.2, "base_lr": 0.2, "weight_decay": 0.0},
    ]


def step(optimizer: torch.optim.Optimizer, number: int) -> None:
    torch.manual_seed(number)
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.randn_like(parameter)
    optimizer.step()


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_fused_sgd_is_the_plain_one_bit_for_bit(momentum):
    ours = make_optimizer("sgd", groups(), momentum)
    plain = torch.optim.SGD(groups(), lr=0.1, momentum=momentum, foreach=False)
    for i in range(4):
        step(ours, i), step(plain, i)
    assert all(group["fused"] for group in ours.param_groups)
    for a, b in zip(ours.param_groups, plain.param_groups, strict=True):
        for p, q in zip(a["params"], b["params"], strict=True):
            assert torch.equal(p, q)
            assert set(ours.state[p]) == ({"momentum_buffer"} if momentum else set())
            assert not momentum or torch.equal(ours.state[p]["momentum_buffer"], plain.state[q]["momentum_buffer"])


def test_sgd_goes_on_from_a_state_of_the_plain_one():
    plain = torch.optim.SGD(groups(), lr=0.1, momentum=0.9, foreach=False)
    step(plain, 0)
    ours = make_optimizer("sgd", groups(), 0.9)
    ours.load_state_dict(deepcopy(plain.state_dict()))
    for a, b in zip(ours.param_groups, plain.param_groups, strict=True):
        for p, q in zip(a["params"], b["params"], strict=True):
            p.data.copy_(q.data)
    step(ours, 1), step(plain, 1)
    for a, b in zip(ours.param_groups, plain.param_groups, strict=True):
        assert all(torch.equal(p, q) for p, q in zip(a["params"], b["params"], strict=True))


def test_a_first_step_that_the_scaler_skips_leaves_no_momentum():
    ours = make_optimizer("sgd", groups(), 0.9)
    assert len(ours.state) == 2  # there from the start: what the skipped step makes otherwise is whatever memory held
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale(torch.ones(()))
    for group in ours.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.full_like(parameter, torch.inf)
    before = [p.clone() for group in ours.param_groups for p in group["params"]]
    scaler.unscale_(ours)
    scaler.step(ours)
    after = [p for group in ours.param_groups for p in group["params"]]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert all(not ours.state[p]["momentum_buffer"].any() for p in after)


@pytest.mark.parametrize("factors", [(0.1, 0.2, 0.3, 0.4, 0.5), (0.1, 0.2, 0.3, 0.4, 0.5, 3.0)])
def test_every_part_of_a_backbone_has_its_own_rate_and_the_head_comes_first(factors):
    layers = [nn.Conv2d(1, 1, 1) for _ in range(6)]
    parts = [[layers[0], nn.ReLU()], *([layer] for layer in layers[1:5])]
    weights, biases = ([getattr(layer, name) for layer in layers] for name in ("weight", "bias"))
    weights.remove(layers[2].weight)  # frozen: of a part without groups of its own
    biases.remove(layers[2].bias)
    groups = [
        {"params": weights, "lr": 0.1, "base_lr": 0.1, "weight_decay": 0.01},
        {"params": biases, "lr": 0.2, "base_lr": 0.2, "weight_decay": 0.0},
    ]
    optimizer = make_optimizer("sgd", by_stage(groups, parts, factors), 0.9)
    head = factors[5] if len(factors) == 6 else 1
    assert set_learning_rate(optimizer, 0.5) == pytest.approx(0.05 * head)
    whole = [*factors[:5], head]
    found = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    assert len(found) == 10
    for i, layer in enumerate(layers):
        if i != 2:
            one, other = found[id(layer.weight)], found[id(layer.bias)]
            assert [one["lr"], other["lr"]] == pytest.approx([0.05 * whole[i], 0.1 * whole[i]])
            assert (one["weight_decay"], other["weight_decay"]) == (0.01, 0.0)
