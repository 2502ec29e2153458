"""From SOLVER to an optimiser and to the rate of every step."""

import math
from bisect import bisect_right
from itertools import pairwise
from typing import cast

import torch
from torch import nn
from yacs.config import CfgNode

from detector.distributed import world_size
from detector.engine.optim import by_stage, make_optimizer
from detector.errors import UserError
from detector.models.backbones import Backbone
from detector.text import agreeing

_LAST_DECAY = 8 / 9  # of a training, where the usual schedules have their last step: 80000 of 90000


def build_optimizer(solver: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """SGD or AdamW over two groups: weights, and biases with their own rate factor and decay.

    Each group's "base_lr" is the rate that `set_learning_rate` multiplies. What the model's modules declare as their
    `rate_factors` has two further groups for each factor. With STAGE_LR_FACTORS each is split as `by_stage` says, and
    the model is a detector: all but its backbone is the head.
    """
    factors = rate_factors(model)
    parts: dict[float, tuple[list[nn.Parameter], list[nn.Parameter]]] = {1.0: ([], [])}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            weights, biases = parts.setdefault(factors.get(name, 1.0), ([], []))
            (biases if name.endswith("bias") else weights).append(parameter)
    groups = []
    for factor, (weights, biases) in parts.items():
        rate = factor * solver.BASE_LR
        bias_rate = rate * solver.BIAS_LR_FACTOR
        groups += [
            {"params": weights, "lr": rate, "base_lr": rate, "weight_decay": solver.WEIGHT_DECAY},
            {"params": biases, "lr": bias_rate, "base_lr": bias_rate, "weight_decay": solver.WEIGHT_DECAY_BIAS},
        ]
    if solver.STAGE_LR_FACTORS:
        backbone = cast("Backbone", model.backbone)
        groups = by_stage(groups, backbone.parts(), solver.STAGE_LR_FACTORS)
    return make_optimizer(solver.OPTIMIZER, groups, solver.MOMENTUM)


def rate_factors(model: nn.Module) -> dict[str, float]:
    """Parameter -> factor of its rate, where a module around it declares one for it in `rate_factors`, by its name."""
    found: dict[str, float] = {}
    for place, module in model.named_modules():
        for name, factor in getattr(module, "rate_factors", {}).items():
            home = f"{place}.{name}." if place else f"{name}."
            found |= {own: factor for own, _ in model.named_parameters() if own.startswith(home)}
    return found


def check_shares(solver: CfgNode) -> None:
    """Raise ValueError where a step has fewer images than processes and micro-batches that share it."""
    images, parts, world = solver.IMS_PER_BATCH, solver.ACCUM_ITERS, world_size()
    if images // world >= parts:
        return
    sharing = " and ".join([f"{world} processes"] * (world > 1) + [f"SOLVER.ACCUM_ITERS {parts}"] * (parts > 1))
    raise UserError(
        f"SOLVER.IMS_PER_BATCH {images} are the images of a whole step, which {sharing} share: each part needs one, so "
        f"write SOLVER.IMS_PER_BATCH {world * parts} or more{' or fewer processes' * (world > 1)}"
        f"{' or a smaller SOLVER.ACCUM_ITERS' * (parts > 1)}"
    )


def learning_rate_factor(solver: CfgNode, step: int) -> float:
    """What the base rates are multiplied by at `step` (from 0): warm-up times multi-step or cosine decay."""
    if solver.SCHEDULE == "cosine":
        factor = 0.5 * (1 + math.cos(math.pi * step / solver.MAX_ITER))
    else:
        factor = solver.GAMMA ** bisect_right(solver.STEPS, step)
    if step < solver.WARMUP_ITERS:
        progress = step / solver.WARMUP_ITERS if solver.WARMUP_METHOD == "linear" else 0.0
        factor *= solver.WARMUP_FACTOR * (1 - progress) + progress
    return factor


def idle_schedule(solver: CfgNode) -> list[str]:
    """What of the schedule lies beyond the last step, most with what to write instead; SOLVER.EPOCHS has to be 0."""
    found = []
    last, steps = solver.MAX_ITER, solver.STEPS
    late = [step for step in steps if step >= last] if solver.SCHEDULE == "multi_step" else []
    if late:
        fitting = tuple(round(step * last * _LAST_DECAY / steps[-1]) for step in steps)
        fits = all(a < b for a, b in pairwise((0, *fitting, last)))
        unreached = " and ".join(map(str, late))
        found.append(
            f"SOLVER.STEPS {steps} with SOLVER.MAX_ITER {last}: training does not reach {unreached}, so the rate does "
            f"not fall there; write SOLVER.STEPS {fitting if fits else '()'}"
        )
    if solver.WARMUP_ITERS > last:
        found.append(
            f"SOLVER.WARMUP_ITERS {solver.WARMUP_ITERS} with SOLVER.MAX_ITER {last}: the warm-up outlasts training, "
            f"which never has its full rate; write SOLVER.WARMUP_ITERS {last // 10}"
        )
    reach = round(1 / (1 - solver.EMA_DECAY))
    if 3 * reach > last and solver.EMA_DECAY and not solver.EMA_WARMUP:
        found.append(
            f"SOLVER.EMA_DECAY {solver.EMA_DECAY:g} with SOLVER.MAX_ITER {last}: the average is mostly of the last "
            f"{reach:,} {agreeing(reach, 'step|steps')} or older ones, so the first steps weigh on it to the end; "
            f"write SOLVER.EMA_WARMUP True, or write SOLVER.EMA_DECAY {max(0.0, 1 - 10 / last):.3g}"
        )
    beyond = [step for step in solver.CHECKPOINT_MILESTONES if step > last]
    if beyond:
        unreached = " and ".join(map(str, beyond))
        found.append(f"SOLVER.CHECKPOINT_MILESTONES with SOLVER.MAX_ITER {last}: training does not reach {unreached}")
    if solver.PATIENCE and 0 < solver.TEST_PERIOD and (solver.PATIENCE + 1) * solver.TEST_PERIOD >= last:
        found.append(
            f"SOLVER.PATIENCE {solver.PATIENCE} with SOLVER.TEST_PERIOD {solver.TEST_PERIOD}: training is over at "
            f"SOLVER.MAX_ITER {last}, before so many evaluations follow a best one"
        )
    return found
