"""Tensors into modules, strictly."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from detector.weights.read import read_weights
from detector.weights.record import Weights
from detector.weights.rename import translate

COUNTER = ".num_batches_tracked"


@dataclass
class Report:
    """Key names by what became of them. Prints as a table; the counters of batch norms are left out of it."""

    loaded: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    wrong_shape: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """A row for each fate: count and first names."""
        rows = []
        for what, keys in vars(self).items():
            names = ", ".join(keys[:8]) + (f" and {len(keys) - 8} more" if len(keys) > 8 else "")
            rows.append(f"{what.replace('_', ' '):<12}{len(keys):>6}  {'' if what == 'loaded' else names}".rstrip())
        return "\n".join(rows)


def load_state(
    module: nn.Module,
    state: Mapping[str, Tensor],
    *,
    drop: tuple[str, ...] = (),
    optional: tuple[str, ...] = (),
    source: str = "",
) -> Report:
    """Loads tensors by name; every one must fit.

    drop: prefixes of keys to leave out, in the file (they are not read) and in the module (they keep their values).
    optional: prefixes of keys that the file may lack; so may it `num_batches_tracked`. source: the file, for messages.
    Raises ValueError that lists all keys that are missing, left over or of another shape, or that hold a value which is
    infinite or no number; then nothing is loaded.
    """
    own, report = module.state_dict(), Report()
    dropped = {key for key in {*own, *state} if drop and key.startswith(drop)}
    report.dropped = sorted(dropped)
    for key in [key for key in own if key not in dropped]:
        if key in state and state[key].shape != own[key].shape:
            report.wrong_shape.append(f"{key} {tuple(state[key].shape)} for {tuple(own[key].shape)}")
        elif key in state and not key.endswith(COUNTER):
            report.loaded.append(key)
        elif key not in state and not key.startswith(optional) and not key.endswith(COUNTER):
            report.missing.append(key)
    left = [key for key in state if key not in own and key not in dropped]
    report.unexpected = [key for key in left if not key.endswith(COUNTER)]
    if report.missing or report.unexpected or report.wrong_shape:
        raise ValueError(f"{source or 'these weights'} do not fit the model:\n{report}\n{_remedy(module, report)}")
    broken = [key for key in report.loaded if not torch.isfinite(state[key]).all()]
    if broken:
        raise ValueError(
            f"{source or 'these weights'}: {len(broken)} tensors hold values that are infinite or no number, "
            f"{broken[0]} first: the training that wrote them diverged; take an earlier checkpoint"
        )
    module.load_state_dict({key: state[key] for key in own if key in state and key not in dropped}, strict=False)
    return report


def _remedy(module: nn.Module, report: Report) -> str:
    groups = {name for name, child in module.named_modules() if isinstance(child, nn.GroupNorm)}
    if any(key.endswith(".running_var") and key.rpartition(".")[0] in groups for key in report.unexpected):
        return (
            "The file holds batch norm statistics and the model group norms, which cannot use them: "
            "set MODEL.BACKBONE.NORM to frozen_bn, bn or sync_bn, or MODEL.WEIGHT to ''."
        )
    return "Set MODEL.BACKBONE.NAME to the network that the file was made for, or MODEL.WEIGHT to a file of this one."


def load_backbone(backbone: nn.Module, weights: Weights, path: str | Path) -> Report:
    """Loads a weight file into a backbone (or its Classifier) by the rules of its weight record.

    Accepts the published file, a file of our own, and detector checkpoints, ours or maskrcnn-benchmark's, whose other
    keys are reported as dropped. Raises ValueError as `read_weights`, `translate` and `load_state` do.
    """
    own = backbone.state_dict()
    try:
        state, aside = translate(read_weights(path), weights, own)
    except ValueError as error:
        raise ValueError(str(error) if str(path) in str(error) else f"{path}: {error}") from error
    drop = tuple(prefix for prefix in weights.drop if not any(key.startswith(prefix) for key in own))
    report = load_state(backbone, state, drop=drop, optional=weights.optional, source=str(path))
    report.dropped = sorted([*aside, *report.dropped])
    return report
