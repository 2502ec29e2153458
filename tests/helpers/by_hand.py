"""A training spelled out on plain tensors, to hold the loop against."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from detector.data.loader import build_train_dataset, train_loader
from detector.models.build import build_detector, resolve_parts

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}
SCALE = {"fp16": 65536.0}


class Recipe(NamedTuple):
    """The numbers of an optimiser: one rate a step; decays of weights and of biases; clip: the largest norm."""

    rates: Sequence[float]
    bias_factor: float = 1.0
    momentum: float = 0.9
    decays: tuple[float, float] = (0.0, 0.0)
    clip: float = float("inf")
    adamw: bool = False


SETTINGS = (
    *("MODEL.NECK.OUT_CHANNELS", 32, "DATASETS.TEST", "()"),
    *("SOLVER.MAX_ITER", 6, "SOLVER.BASE_LR", 0.02, "SOLVER.BIAS_LR_FACTOR", 3, "SOLVER.MOMENTUM", 0.8),
    *("SOLVER.WEIGHT_DECAY", 0.05, "SOLVER.WEIGHT_DECAY_BIAS", 0.02, "SOLVER.CLIP_GRAD_NORM", 1.5),
    *("SOLVER.WARMUP_METHOD", "linear", "SOLVER.WARMUP_ITERS", 2, "SOLVER.WARMUP_FACTOR", 0.25),
    *("SOLVER.STEPS", "(3, 5)", "SOLVER.GAMMA", 0.5),
)
RATES = [0.005, 0.0125, 0.02, 0.01, 0.01, 0.005]
RECIPE = Recipe(RATES, bias_factor=3, momentum=0.8, decays=(0.05, 0.02), clip=1.5)


class Course(NamedTuple):
    """What a training came to: weights, the optimiser's moments, and of each step the loss terms and gradient norm."""

    model: dict[str, torch.Tensor]
    moments: dict[str, Any]
    terms: list[dict[str, float]]
    norms: list[float]


def train_by_hand(cfg, start, recipe, first=0, moments=None, precision="off"):
    """The course of the steps first, first + 1, .. from the state dict `start` on the batches that the loader gives."""
    cfg = resolve_parts(cfg)
    model = build_detector(cfg)
    model.load_state_dict(start)
    model.train()
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    moments, terms, norms = dict(moments or {}), [], []
    batches = train_loader(cfg, build_train_dataset(cfg), first, first + len(recipe.rates))
    for step, (batch, rate) in enumerate(zip(batches, recipe.rates, strict=True), start=first + 1):
        with torch.autocast("cpu", AUTOCAST.get(precision), enabled=precision in AUTOCAST):
            losses = model(*batch)
        scale = SCALE.get(precision, 1.0)
        total = sum(loss.float() for loss in losses.values()) * scale
        gradients = [g / scale for g in torch.autograd.grad(total, list(parameters.values()))]
        norm = torch.stack([g.norm() for g in gradients]).norm().item()
        with torch.no_grad():
            for (name, p), gradient in zip(parameters.items(), gradients, strict=True):
                bias = name.endswith("bias")
                update = adamw if recipe.adamw else sgd
                pull = gradient * min(1.0, recipe.clip / norm)
                by, moments[name] = update(p, pull, recipe.decays[bias], moments.get(name), recipe.momentum, step)
                p -= rate * (recipe.bias_factor if bias else 1.0) * by
        terms.append({name: loss.item() for name, loss in losses.items()})
        norms.append(norm)
    return Course(model.state_dict(), moments, terms, norms)


def sgd(p, gradient, decay, moment, momentum, step):
    pull = gradient + decay * p
    moment = pull if moment is None else momentum * moment + pull
    return moment, moment


def adamw(p, gradient, decay, moments, momentum, step):
    first, second = moments or (0, 0)
    first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
    root = (second / (1 - 0.999**step)).sqrt() + 1e-8
    return first / (1 - 0.9**step) / root + decay * p, (first, second)


def distance(got, want, start):
    """How far a tensor of `got` is, at most, from that of `want`, as a share of how far that came from `start`."""
    names = [name for name, value in want.items() if value.is_floating_point()]
    assert got.keys() == want.keys()
    return max(((got[k] - want[k]).norm() / ((want[k] - start[k]).norm() + 1e-4)).item() for k in names)
