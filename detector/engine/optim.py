"""Optimisers, and the rate of a step."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

STAGES = 5
"""Parts of a backbone that have a rate of their own: the stem and four stages."""

Groups = list[dict[str, Any]]


def make_optimizer(name: str, groups: Groups, momentum: float) -> torch.optim.Optimizer:
    """The optimiser "sgd", with this momentum, or "adamw" over groups that hold "params", "lr" and "weight_decay"."""
    devices = {p.device.type for group in groups for p in group["params"]}
    # fused: one pass over memory instead of several
    if name != "sgd":
        return torch.optim.AdamW(groups, lr=groups[0]["lr"], fused=devices <= {"cpu", "cuda"})
    if devices != {"cpu"}:
        return torch.optim.SGD(groups, lr=groups[0]["lr"], momentum=momentum)
    optimizer = torch.optim.SGD(groups, lr=groups[0]["lr"], momentum=momentum, fused=True)
    for group in optimizer.param_groups if momentum else ():
        for parameter in group["params"]:
            # It would be left unwritten by a first step that a scaler skips, and counted in the second.
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter, requires_grad=False)
    return optimizer


def rate_for_batch(name: str, factor: float) -> float:
    """What the rate is multiplied by for `factor` times the images a step, with the optimiser of this name.

    SGD: `factor` itself, Goyal et al. 2017. AdamW, which divides a step by the size of its gradients: the square root,
    Malladi et al. 2022.
    """
    return factor**0.5 if name == "adamw" else factor


def by_stage(groups: Groups, parts: Sequence[Sequence[nn.Module]], factors: Sequence[float]) -> Groups:
    """The groups, each split by the parts of a backbone, whose rates are multiplied by a factor each.

    groups: hold "params", "lr" and "base_lr"; parts: of `Backbone.parts`: stem, layer1, .. layer4; factors: five, or
    six where the last one is for all that belongs to no part, the head, which else is trained at the full rate. The
    head comes first, as the first group's rate is the one that logs show.
    """
    stage = {id(p): i for i, part in enumerate(parts) for module in part for p in module.parameters()}
    whole = [*factors, 1.0][: STAGES + 1]
    found: Groups = []
    for i in (STAGES, *range(STAGES)):
        for group in groups:
            own = [p for p in group["params"] if stage.get(id(p), STAGES) == i]
            if own:
                rates = {key: group[key] * whole[i] for key in ("lr", "base_lr")}
                found.append({**group, "params": own, **rates})
    return found


def set_learning_rate(optimizer: torch.optim.Optimizer, factor: float) -> float:
    """Set every group's rate to its base rate times `factor`; returns the first group's."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
    return optimizer.param_groups[0]["lr"]
