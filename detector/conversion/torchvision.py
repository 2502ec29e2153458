"""torchvision: fasterrcnn_resnet50_fpn, its _v2 and fcos_resnet50_fpn, told apart by their keys."""

from pathlib import Path

from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights, MaskRCNN_ResNet50_FPN_Weights

from detector.conversion.base import (
    SOURCES,
    Converted,
    backbone_name,
    background_last,
    coco_categories,
    pyramid_config,
    set_aside,
    two_stage_config,
)
from detector.errors import UserError
from detector.weights.find import digest
from detector.weights.read import State, read_file
from detector.weights.record import EPS, RGB_UNIT
from detector.weights.rename import renamed

COCO_OUTPUTS = 91

RULES = (
    # Files from before torchvision 0.13 have these convolutions alone, not in a row of layers.
    (r"^(backbone\.fpn\.(?:inner|layer)_blocks\.\d)\.(weight|bias)$", r"\1.0.\2"),
    (r"^rpn\.head\.conv\.(weight|bias)$", r"rpn.head.conv.0.0.\1"),
    (r"^backbone\.body\.", "backbone."),
    (r"^backbone\.fpn\.extra_blocks\.", "neck."),
    *((rf"^rpn\.head\.conv\.{i}\.0\.", f"head.rpn.convs.{2 * i}.") for i in range(4)),
    (r"^rpn\.head\.cls_logits\.", "head.rpn.objectness."),
    (r"^rpn\.head\.bbox_pred\.", "head.rpn.deltas."),
    *((rf"^roi_heads\.box_head\.{i}\.0\.", f"head.box_heads.0.convs.{3 * i}.") for i in range(4)),
    *((rf"^roi_heads\.box_head\.{i}\.1\.", f"head.box_heads.0.convs.{3 * i + 1}.") for i in range(4)),
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
    """A .pth of torchvision, published or one's own. Raises ValueError naming a file that has no counterpart."""
    state, dropped = set_aside(read_file(path).state, r"roi_heads\.(mask|keypoint)_")
    one_stage = "head.regression_head.bbox_ctrness.weight" in state
    if "backbone.body.conv1.weight" not in state or not (one_stage or "rpn.head.bbox_pred.weight" in state):
        raise UserError(
            f"{path} is {_what(state)}, which has no counterpart here; fasterrcnn_resnet50_fpn, "
            "fasterrcnn_resnet50_fpn_v2 and fcos_resnet50_fpn of torchvision have, also with other ResNets"
        )
    state = _pyramid(renamed(state, RULES))
    convert = _fcos if one_stage else _faster_rcnn
    found = convert(state, path)
    found.config["MODEL.BACKBONE.NAME"] = backbone_name(found.state, path)
    found.pixels, found.dropped = RGB_UNIT, dropped
    return found


def _fcos(state: State, path: Path) -> Converted:
    """fcos_resnet50_fpn: a sigmoid for every output, also for the background and the ids that COCO left out."""
    classes = len(state["head.cls_logits.bias"])
    convs = [key for key in state if key.startswith("head.cls_tower.") and state[key].ndim == 4]
    config = {
        **pyramid_config(state),
        **FCOS,
        "MODEL.NUM_CLASSES": classes,
        "MODEL.FCOS.NUM_CONVS": len(convs),
        "MODEL.BACKBONE.NORM": "frozen_bn",
        "MODEL.BACKBONE.NORM_EPS": EPS,
    }
    return Converted(state, config, categories=coco_categories(background=True) if classes == COCO_OUTPUTS else {})


def _faster_rcnn(state: State, path: Path) -> Converted:
    """fasterrcnn_resnet50_fpn or its _v2, which has norms in pyramid and box head and trains all of them."""
    state, notes = background_last(state), []
    config = {**two_stage_config(state, path), **FASTER_RCNN}
    coco = config["MODEL.NUM_CLASSES"] == COCO_OUTPUTS - 1
    if config["MODEL.NECK.NORM"] == "none":
        published = _is_published(path)
        config |= {"MODEL.BACKBONE.NORM": "frozen_bn", "MODEL.BACKBONE.NORM_EPS": 0.0 if published else EPS}
        if coco and not published:
            notes.append(
                "not the file as published: frozen norms have eps 1e-5, as torchvision builds them; if its tensors are "
                "those of COCO_V1, for which torchvision sets 0, add MODEL.BACKBONE.NORM_EPS 0"
            )
    else:
        config["MODEL.BACKBONE.NORM"] = "bn"
    return Converted(state, config, categories=coco_categories() if coco else {}, notes=notes)


def _pyramid(state: State) -> State:
    """The pyramid's blocks, counted from the finest -> by the level of the backbone; a block is bare without a norm."""
    number = len({key.split(".")[3] for key in state if key.startswith("backbone.fpn.inner_blocks.")})
    normed = any(key.startswith("backbone.fpn.") and key.endswith(".running_var") for key in state)
    rules = [(rf"^backbone\.fpn\.(inner|layer)_blocks\.{i}\.", rf"neck.\1.c{6 - number + i}.") for i in range(number)]
    return renamed(state, rules if normed else [*rules, (r"^(neck\.(?:inner|layer)\.c\d)\.0\.", r"\1.")])


def _what(state: State) -> str:
    """What a file without counterpart holds."""
    if any(key.startswith("backbone.features.") for key in state):
        return "an SSD"
    if any(key.startswith("backbone.body.0.") for key in state):
        return "a detector with a MobileNet"
    if "head.regression_head.bbox_reg.weight" in state:
        return "a RetinaNet"
    return "no detector of torchvision that is known"


def _is_published(path: Path) -> bool:
    """Whether a file is one for which torchvision sets the eps of its norms to 0, by the digest in the file's name."""
    published = FasterRCNN_ResNet50_FPN_Weights.COCO_V1, MaskRCNN_ResNet50_FPN_Weights.COCO_V1
    digests = [weights.url.rpartition("-")[2].removesuffix(".pth") for weights in published]
    return digest(path).startswith(tuple(digests))
