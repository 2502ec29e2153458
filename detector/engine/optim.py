"""Optimisers, and the rate of a step."""

from typing import Any

import torch


def make_optimizer(name: str, groups: list[dict[str, Any]], momentum: float) -> torch.optim.Optimizer:
    """The optimiser "sgd", with this momentum, or "adamw" over groups that hold "params", "lr" and "weight_decay"."""
    if name == "sgd":
        return torch.optim.SGD(groups, lr=groups[0]["lr"], momentum=momentum)
    # one pass over memory instead of several
    fused = {p.device.type for group in groups for p in group["params"]} <= {"cpu", "cuda"}
    return torch.optim.AdamW(groups, lr=groups[0]["lr"], fused=fused)


def set_learning_rate(optimizer: torch.optim.Optimizer, factor: float) -> float:
    """Set every group's rate to its base rate times `factor`; returns the first group's."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
    return optimizer.param_groups[0]["lr"]
