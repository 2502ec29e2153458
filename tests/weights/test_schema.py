"""Checkpoints of ours that hold something else than they should: one line that names the entry."""

import copy
import math
import re

import pytest
import torch
from torch import nn

from detector.engine.ema import average_weights
from detector.engine.optim import make_optimizer
from detector.engine.run import Run
from detector.errors import UserError
from detector.weights.checkpoint import read_checkpoint, save_checkpoint


def network():
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))


def run_of(folder, optimizer="adamw", ema=True, scaled=True):
    """A run of a tiny network."""
    model = network()
    groups = [{"params": list(model.parameters()), "lr": 0.1, "base_lr": 0.1, "weight_decay": 0.0}]
    facts = {"config": "SEED: 1\n", "classes": ["a", "b"], "category_ids": [3, 7]}
    return Run(
        folder,
        model,
        make_optimizer(optimizer, groups, 0.9),
        torch.amp.GradScaler("cpu", enabled=scaled),
        facts,
        average_weights(model, 0.5) if ema else None,
    )


def stepped(folder, *args, **kwargs):
    run = run_of(folder, *args, **kwargs)
    run.scaler.scale(run.model(torch.randn(2, 1, 5, 5)).square().sum()).backward()
    run.scaler.step(run.optimizer)
    run.scaler.update()
    if run.average is not None:
        run.average.update_parameters(run.model)
    run.step, run.metrics = 1, {"val": {"AP": 0.5}}
    return run


def put(content, place, value):
    """The content with another value at a place "a.b.0.c"; `...` takes it away."""
    content = copy.deepcopy(content)
    *way, last = [int(part) if part.isdigit() else part for part in place.split("/")]
    inner = content
    for part in way:
        inner = inner[part]
    if value is ...:
        del inner[last]
    else:
        inner[last] = value(inner[last]) if callable(value) else value
    return content


def resumed(tmp_path, content, *args, **kwargs):
    save_checkpoint(tmp_path / "x.pth", content)
    run = run_of(tmp_path, *args, **kwargs)
    run.restore(read_checkpoint(tmp_path / "x.pth", "step", "optimizer"))
    return run


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("ema", [True, False])
@pytest.mark.parametrize("scaled", [True, False])
def test_what_a_run_writes_is_read(tmp_path, optimizer, ema, scaled):
    first = stepped(tmp_path, optimizer, ema, scaled)
    again = resumed(tmp_path, first.content(), optimizer, ema, scaled).content()
    want = first.content()
    for entry in ("model", "average", "optimizer"):
        assert str(again[entry]) == str(want[entry])
    assert (again["step"], again["metrics"]) == (1, {"val": {"AP": 0.5}})
    before = run_of(tmp_path, optimizer, ema, scaled).content()  # no step yet: no moments
    assert resumed(tmp_path, before, optimizer, ema, scaled).step == 0


def nan(tensor):
    return tensor.flatten().index_fill(0, torch.tensor([0]), math.nan).view(tensor.shape)


@pytest.mark.parametrize(
    ("place", "value", "problem"),
    [
        ("step", True, "its entry 'step' is True; a checkpoint has a whole number, 0 or more there"),
        ("step", 1.0, "its entry 'step' is 1.0; .*"),
        ("step", -1, "its entry 'step' is -1; .*"),
        ("step", 2**64, "its entry 'step' is 18446744073709551616; .*"),
        ("step", torch.tensor(3), "its entry 'step' is a Tensor; .*"),
        ("evaluated", "1", "its entry 'evaluated' is '1'; .*"),
        ("evaluated", ..., "is no checkpoint to resume from: it has no 'evaluated'"),
        ("best", math.nan, "its entry 'best' is nan; a checkpoint has a finite number there"),
        ("best", False, "its entry 'best' is False; .*"),
        ("level", "1", "its entry 'level' is '1'; a checkpoint has a number there"),
        ("sound", -1, "its entry 'sound' is -1; .*"),
        ("recent", [1.0, math.nan], "its entry 'recent' is .1.0, nan.; a checkpoint has a list of finite numbers .*"),
        ("metrics", [1], "its entry 'metrics' is .1.; a checkpoint has None, or a table .*"),
        ("config", {"SEED": 1}, "its entry 'config' is a dict; a checkpoint has a text there"),
        ("classes", "ab", "its entry 'classes' is 'ab'; a checkpoint has a list of texts there"),
        ("classes", ["a"], "it has 1 'classes' and 2 'category_ids'; one for each class"),
        ("category_ids", [1, "2"], "its entry 'category_ids' is .1, '2'.; .*"),
        ("category_ids", [1, True], "its entry 'category_ids' is .1, True.; .*"),
        ("scaler/scale", math.inf, "its entry 'scaler' is a dict; a checkpoint has the state of a scaler .*"),
        ("scaler/scale", ..., "its entry 'scaler' is a dict; .*"),
        ("scaler/growth_interval", 0.5, "its entry 'scaler' is a dict; .*"),
        ("average/n_averaged", torch.tensor(1).to("meta"), "its entry 'average.n_averaged' is a meta tensor, .*"),
        ("scaler/scale", torch.tensor(1.0), "its entry 'scaler' is a dict; .*"),
        (
            "model/0.weight",
            torch.Tensor.half,
            "1 tensor is of another type than the model's, 0.weight .*float16.*",
        ),
        ("model/0.weight", torch.Tensor.bool, "1 tensor is of another type .*bool and has to be float32.*"),
        ("average/module.0.weight", nan, "its entry 'average.module.0.weight' holds values that are infinite or no.*"),
        ("average/module.0.weight", ..., "its entry 'average' is of other tensors than 'model': 'module.0.weight'"),
        ("average/module.0.weight", torch.Tensor.half, "its entry 'average.module.0.weight' is of float16 of shape .*"),
        ("average/n_averaged", "1", "its entry 'average.n_averaged' is '1'; .*"),
        ("average", None, "is no checkpoint to resume from: it has no 'average'"),
        ("optimizer", [1], "its entry 'optimizer' is .1.; .*"),
        ("optimizer/kind", 1, "its entry 'optimizer.kind' is 1; .*"),
        ("optimizer/kind", "SGD", "its optimiser is SGD; .*"),
        ("optimizer/param_groups", {}, "its entry 'optimizer.param_groups' is a dict; .*"),
        ("optimizer/param_groups/0/params", ["a"], "its entry 'optimizer.param_groups' is .*"),
        ("optimizer/param_groups/0/params", [0, 1], "its optimiser does not fit what is trained here: .*"),
        ("optimizer/state", [], "its entry 'optimizer.state' is ..; a checkpoint has a table there"),
        ("optimizer/state/x", {}, "its entry optimizer.state.'x' is of no parameter that 'param_groups' names"),
        (
            "optimizer/state/0/exp_avg",
            ...,
            "its entry 'optimizer.state.0' is a dict; .* exp_avg, exp_avg_sq, step.*",
        ),
        ("optimizer/state/0/exp_avg", nan, "its entry 'optimizer.state.0.exp_avg' holds values that are infinite .*"),
        ("optimizer/state/0/exp_avg", torch.Tensor.bool, "its entry 'optimizer.state.0.exp_avg' is of bool of .*"),
        ("optimizer/state/0/exp_avg", torch.Tensor.half, "its entry 'optimizer.state.0.exp_avg' is of float16 of .*"),
        ("optimizer/state/0/exp_avg", lambda x: x[:1], "its entry 'optimizer.state.0.exp_avg' is of float32 of .*"),
        ("optimizer/state/0/exp_avg", torch.Tensor.to_sparse, "its entry .* is a sparse tensor .sparse_coo.; .*"),
        ("optimizer/state/0/exp_avg", "text", "its entry 'optimizer.state.0.exp_avg' is 'text'; .*"),
        ("optimizer/state/0/step", math.nan, "its entry 'optimizer.state.0.step' is nan; .*"),
        ("optimizer/state/0/step", 1, "its entry 'optimizer.state.0.step' is 1; .*"),
        ("optimizer/state/0/step", torch.ones(2), "its entry 'optimizer.state.0.step' is of float32 of shape .*"),
    ],
)
def test_what_is_not_as_it_should_be_is_one_line(tmp_path, place, value, problem):
    content = put(stepped(tmp_path).content(), place, value)
    with pytest.raises(UserError) as caught:
        resumed(tmp_path, content)
    said = str(caught.value)
    assert "\n" not in said
    assert re.fullmatch(rf"{re.escape(str(tmp_path / 'x.pth'))}:? {problem}", said), said


def test_a_buffer_is_missing_everywhere_or_nowhere(tmp_path):
    content = put(stepped(tmp_path, "sgd").content(), "optimizer/state/0/momentum_buffer", None)
    with pytest.raises(UserError, match=r"some 'momentum_buffer' in its entry 'optimizer.state' are None and some"):
        resumed(tmp_path, content, "sgd")
    for place in ("1", "2", "3"):
        content = put(content, f"optimizer/state/{place}/momentum_buffer", None)
    assert resumed(tmp_path, content, "sgd").step == 1


def test_entries_of_others_are_left_alone(tmp_path):
    save_checkpoint(tmp_path / "x.pth", {"model": {"w": torch.ones(2)}, "epoch": None, "args": [1], "lr": math.nan})
    assert read_checkpoint(tmp_path / "x.pth").content["args"] == [1]
