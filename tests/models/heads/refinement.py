"""Small RefineDet heads, their inputs, and how reference numbers become them."""

import json

import numpy as np
import torch

from detector.models.heads.refinedet import Outputs, RefineDet
from detector.structures import Level

STRIDES = (8, 16, 32, 64)
LEVELS = {f"c{i + 3}": Level(channels, s) for i, (channels, s) in enumerate(zip((8, 12, 16, 8), STRIDES))}


def refinedet(num_classes=5, levels=LEVELS, **options):
    return RefineDet(levels, num_classes, **{"tcb_channels": 8, **options})


def features_for(height, width, images=2, levels=LEVELS):
    return {
        name: torch.randn(images, level.channels, -(-height // level.stride), -(-width // level.stride))
        for name, level in levels.items()
    }


def target(boxes, labels=None, ignore=()):
    boxes = torch.as_tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    labels = torch.zeros(len(boxes)) if labels is None else torch.as_tensor(labels)
    ignore = torch.as_tensor(ignore, dtype=torch.float32).reshape(-1, 4)
    return {"boxes": boxes, "labels": labels.long(), "ignore": ignore, "image_id": 1, "original": (256, 320)}


def lively(head):
    """Weights that make detections of many sizes and classes."""
    for layers, std in ((head.arm_cls, 0.3), (head.arm_reg, 0.1), (head.odm_cls, 0.5), (head.odm_reg, 0.1)):
        for layer in layers:
            torch.nn.init.normal_(layer.weight, std=std)
    return head


def load(folder, name):
    facts = json.loads((folder / f"{name}.json").read_text())
    arrays = folder / f"{name}.npz"
    return facts, {k: torch.from_numpy(v) for k, v in np.load(arrays).items()} if arrays.exists() else {}


def anchors_for(size, **options):
    """The anchors of a square input, pixels."""
    return refinedet(**options).anchors(features_for(size, size, 1))


def background_last(logits):
    """Logits whose first class is the background, as the official codes have them -> ours."""
    return torch.cat([logits[..., 1:], logits[..., :1]], dim=-1)


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
