"""Small two-stage heads, and torchvision's weights under their names."""

import torch

from detector.models.heads.box_head import BoxHead
from detector.models.heads.faster_rcnn import FasterRCNN, Pooler
from detector.models.heads.rpn import RPN
from detector.structures import Level
from helpers.golden import background_last

STRIDES = (4, 8, 16, 32, 64)
CHANNELS = 16
LEVELS = {f"p{i + 2}": Level(CHANNELS, 4 * 2**i) for i in range(5)}


def rpn(channels=16, strides=STRIDES, **options):
    return RPN({f"p{i + 2}": Level(channels, s) for i, s in enumerate(strides)}, **options)


def faster_rcnn(num_classes=5, levels=LEVELS, rpn_options=None, pooler_aligned=True, box_options=None, **options):
    channels = next(iter(levels.values())).channels
    proposer = rpn(channels, [v.stride for v in levels.values()], **(rpn_options or {}))
    box_options = {
        "mlp_head_dim": 32,
        "cls_agnostic": options.get("cls_agnostic_bbox_reg", False),
        **(box_options or {}),
    }
    stages = max(1, len(options.get("cascade_ious", ())))
    box_heads = [BoxHead(channels, 7, num_classes, **box_options) for _ in range(stages)]
    return FasterRCNN(num_classes, proposer, Pooler(levels, aligned=pooler_aligned), box_heads, **options)


def lively(head):
    """Weights that make proposals and detections of many sizes and classes."""
    torch.nn.init.normal_(head.rpn.objectness.weight, std=0.3)
    torch.nn.init.normal_(head.rpn.deltas.weight, std=0.1)
    for box_head in head.box_heads:
        torch.nn.init.normal_(box_head.cls_logits.weight, std=0.5)
        torch.nn.init.normal_(box_head.deltas.weight, std=0.2)
    return head


RENAMED = {
    "rpn.head.conv": "rpn.convs",
    "rpn.head.cls_logits": "rpn.objectness",
    "rpn.head.bbox_pred": "rpn.deltas",
    "roi_heads.box_head.fc6": "box_heads.0.fcs.0",
    "roi_heads.box_head.fc7": "box_heads.0.fcs.1",
    "roi_heads.box_predictor.cls_score": "box_heads.0.cls_logits",
    "roi_heads.box_predictor.bbox_pred": "box_heads.0.deltas",
}


def torchvision_state(state):
    """Weights or gradients of torchvision after the pyramid under our names, and classes in our order."""
    renamed = {}
    for key, value in state.items():
        old = next((k for k in RENAMED if key.startswith(k + ".")), None)
        if old is None:
            continue
        name = key.replace(old, RENAMED[old]).replace("convs.0.0.", "convs.0.").replace("convs.1.0.", "convs.2.")
        if name.startswith("box_heads.0.cls_logits"):
            value = background_last(value.t()).t() if value.ndim == 2 else background_last(value)
        if name.startswith("box_heads.0.deltas"):
            value = value[4:]
        renamed[name] = value
    return renamed
