"""What is known of a trained detector beside its measures: what it costs, and how far its filters repeat themselves."""

import math
from pathlib import Path
from typing import Any

import torch
from yacs.config import CfgNode

from detector.analysis.counts import count_detector, largest_test_size
from detector.analysis.filters import convolutions, layer_correlation
from detector.errors import UserError
from detector.models.backbones import BACKBONES, build_backbone, load_backbone
from detector.models.build import deformation
from detector.weights.checkpoint import newest_checkpoint

PROBE = 64
"""Pixels: a picture of this side shows which convolutions run."""


def counts(cfg: CfgNode) -> tuple[dict[str, Any], str]:
    """Parameters, and multiply-adds of an image of the largest test size; {} and why where they cannot be counted."""
    try:
        size = largest_test_size(cfg)
        parts = count_detector(cfg, size)
    except UserError as error:
        return {}, str(error)
    return {
        "params": sum(part.params for part in parts.values()),
        "macs": sum(part.macs for part in parts.values()),
        "macs_backbone": parts["backbone"].macs,
        "size": list(size),
    }, ""


def correlation(cfg: CfgNode, home: Path) -> float | None:
    """Mean over the backbone's layers of the mean absolute correlation of their filters, of a run's newest checkpoint.

    None where the run has no checkpoint, or no layer has two filters.
    """
    file = newest_checkpoint(home)
    if file is None:
        return None
    node = cfg.MODEL.BACKBONE
    backbone = build_backbone(node.NAME, node.NORM, passes=node.PASSES, deformation=deformation(node))
    load_backbone(backbone, BACKBONES[node.NAME].weights, file)
    found = convolutions(backbone, torch.zeros(1, 3, PROBE, PROBE))
    means = [layer_correlation(name, conv).mean for name, conv in found.items()]
    known = [value for value in means if not math.isnan(value)]
    return sum(known) / len(known) if known else None
