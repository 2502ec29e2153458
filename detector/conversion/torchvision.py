"""torchvision: fasterrcnn_resnet50_fpn, its _v2 and fcos_resnet50_fpn, told apart by their keys."""

import hashlib
import re
from pathlib import Path

from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights, MaskRCNN_ResNet50_FPN_Weights

from detector.conversion.base import (
    SOURCES,
    Converted,
    backbone_name,
    background_last,
    coco_categories,
    norm_name,
    pyramid_config,
    set_aside,
    two_stage_config,
)
from detector.models.backbones.base import RGB_UNIT
from detector.models.backbones.load import State, read_weights, renamed

KNOWN = "fasterrcnn_resnet50_fpn, fasterrcnn_resnet50_fpn_v2 and fcos_resnet50_fpn"

RULES = (
    # Files before torchvision 0.13 have the convolutions of pyramid and RPN without a place in a row of layers.
    (r"^(backbone\.fpn\.(?:inner|layer)_blocks\.\d)\.(weight|bias)$", r"\1.0.\2"),
    (r"^rpn\.head\.conv\.(weight|bias)$", r"rpn.head.conv.0.0.\1"),
    (r"^backbone\.body\.", "backbone."),
    (r"^backbone\.fpn\.extra_blocks\.", "neck."),
    *((rf"^rpn\.head\.conv\.{i}\.0\.", f"head.rpn.convs.{2 * i}.") for i in range(9)),
    (r"^rpn\.head\.cls_logits\.", "head.rpn.objectness."),
    (r"^rpn\.head\.bbox_pred\.", "head.rpn.deltas."),
    *((rf"^roi_heads\.box_head\.{i}\.([01])\.", rf"roi_heads.box_head.conv{i}.\1.") for i in range(4)),
    *((rf"^roi_heads\.box_head\.conv{i}\.{j}\.", f"head.box_heads.0.convs.{3 * i + j}.") for i in range(4) for j in (0, 1)),
    (r"^roi_heads\.box_head\.(fc6|5)\.", "head.box_heads.0.fcs.0."),
    (r"^roi_heads\.box_head\.fc7\.", "head.box_heads.0.fcs.1."),
    (r"^roi_heads\.box_predictor\.cls_score\.", "head.box_heads.0.cls_logits."),
    (r"^roi_heads\.box_predictor\.bbox_pred\.", "head.box_heads.0.deltas."),
    (r"^head\.classification_head\.conv\.", "head.cls_tower."),
    (r"^head\.classification_head\.", "head."),
    (r"^head\.regression_head\.conv\.", "head.bbox_tower."),
    (r"^head\.regression_head\.bbox_reg\.", "head.bbox_pred."),
    (r"^head\.regression_head\.bbox_ctrness\.", "head.centerness."),
)

SIZES: dict[str, object] = {
    "INPUT.MIN_SIZE_TRAIN": (800,),
    "INPUT.MAX_SIZE_TRAIN": 1333,
    "INPUT.MIN_SIZE_TEST": 800,
    "INPUT.MAX_SIZE_TEST": 1333,
    "DATALOADER.SIZE_DIVISIBILITY": 32,
    "TEST.DETECTIONS_PER_IMG": 100,
}

FASTER_RCNN: dict[str, object] = {
    "MODEL.RPN.ANCHORS_ROUNDED": True,
    "MODEL.RPN.PADDED_STRIDES": True,
    "MODEL.RPN.MIN_SIZE": 0.001,
    "MODEL.ROI_BOX_HEAD.POOLER_ALIGNED": False,
    "MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO": 2,
    "MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA": 1 / 9,
    **SIZES,
}

FCOS: dict[str, object] = {
    "MODEL.HEAD.NAME": "fcos",
    "MODEL.FCOS.NORM": "gn",
    "MODEL.FCOS.OPEN_RANGES": True,
    "MODEL.FCOS.POINT_OFFSET": 0.0,
    "MODEL.FCOS.PADDED_STRIDES": True,
    "MODEL.FCOS.CENTER_SAMPLING_RADIUS": 1.5,
    "MODEL.FCOS.NORM_REG_TARGETS": True,
    "MODEL.FCOS.CENTERNESS_ON_REG": True,
    "MODEL.FCOS.LEVEL_SCALES": False,
    "MODEL.FCOS.IOU_LOSS_TYPE": "plain_giou",
    "MODEL.FCOS.CENTERNESS_WEIGHTS_REG": False,
    "MODEL.FCOS.INFERENCE_TH": 0.2,
    "MODEL.FCOS.TH_WITH_CENTERNESS": True,
    **SIZES,
}


@SOURCES.register("torchvision")
def convert_torchvision(path: Path) -> Converted:
    """A .pth of torchvision, published or one's own. Raises ValueError naming what it is where there is no counterpart."""
    state, dropped = set_aside(read_weights(path), r"roi_heads\.(mask|keypoint)_")
    check(state, path)
    state = renamed(state, RULES)
    state = renamed(state, [(rf"^backbone\.fpn\.(inner|layer)_blocks\.{i}\.", rf"neck.\1.{i}.") for i in range(4)])
    return Converted(state)
