"""Optimisers, and the rate of a step."""

from typing import Any

import torch


def make_optimizer(name: str, groups: list[dict[str, Any]], momentum: float) -> torch.optim.Optimizer:
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


def set_learning_rate(optimizer: torch.optim.Optimizer, factor: float) -> float:
    """Set every group's rate to its base rate times `factor`; returns the first group's."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
    return optimizer.param_groups[0]["lr"]
