"""Small RefineDet heads, and how reference numbers become their outputs."""

import torch

from detector.models.heads.refinedet import Outputs, RefineDet
from detector.structures import Level
from helpers.golden import background_last
from helpers.inputs import features_for

STRIDES = (8, 16, 32, 64)
LEVELS = {f"c{i + 3}": Level(channels, s) for i, (channels, s) in enumerate(zip((8, 12, 16, 8), STRIDES))}


def refinedet(num_classes=5, levels=LEVELS, **options):
    return RefineDet(levels, num_classes, **{"tcb_channels": 8, **options})


def lively(head):
    """Weights that make detections of many sizes and classes."""
    for layers, std in ((head.arm_cls, 0.3), (head.arm_reg, 0.1), (head.odm_cls, 0.5), (head.odm_reg, 0.1)):
        for layer in layers:
            torch.nn.init.normal_(layer.weight, std=std)
    return head


def anchors_for(size, **options):
    """The anchors of a square input, pixels."""
    return refinedet(**options).anchors(features_for(LEVELS, size, size, 1))


def stored_outputs(arrays, tag):
    """The head's outputs of a case, our way round, and as they are stored."""
    stored = Outputs(
        arrays[f"{tag}_arm_conf"],
        arrays[f"{tag}_arm_loc_x64"].float() / 64,
        arrays[f"{tag}_odm_conf_x256"].float() / 256,
        arrays[f"{tag}_odm_loc_x64"].float() / 64,
    )
    ours = stored._replace(arm_logits=background_last(stored.arm_logits), odm_logits=background_last(stored.odm_logits))
    return ours, stored
