"""maskrcnn-benchmark: Faster R-CNN, with boxes that include their last pixel; the box part of Mask R-CNN."""

from pathlib import Path

from detector.conversion.base import (
    NO_CAFFE,
    SOURCES,
    Converted,
    backbone_name,
    background_last,
    norm_name,
    set_aside,
    two_stage_config,
    used_categories,
)
from detector.weights.read import read_file
from detector.weights.record import BGR_255
from detector.weights.rename import renamed

RULES = (
    (r"^backbone\.body\.(stem\.)?", "backbone."),
    *((rf"^backbone\.fpn\.fpn_(inner|layer){i}\.", rf"neck.\1.c{i + 1}.") for i in range(1, 5)),
    (r"^rpn\.head\.conv\.", "head.rpn.convs.0."),
    (r"^rpn\.head\.cls_logits\.", "head.rpn.objectness."),
    (r"^rpn\.head\.bbox_pred\.", "head.rpn.deltas."),
    (r"^roi_heads\.box\.feature_extractor\.xconvs\.", "head.box_heads.0.convs."),
    (r"^roi_heads\.box\.feature_extractor\.fc6\.", "head.box_heads.0.fcs.0."),
    (r"^roi_heads\.box\.feature_extractor\.fc7\.", "head.box_heads.0.fcs.1."),
    (r"^roi_heads\.box\.predictor\.cls_score\.", "head.box_heads.0.cls_logits."),
    (r"^roi_heads\.box\.predictor\.bbox_pred\.", "head.box_heads.0.deltas."),
    # With group norm a layer of the pyramid is a convolution and its norm in a row, as here.
)

CONVENTIONS: dict[str, object] = {
    "MODEL.RPN.LEGACY_ANCHORS": True,
    "MODEL.RPN.MIN_SIZE": 0.0,
    "MODEL.ROI_BOX_HEAD.POOLER_ALIGNED": False,
    "MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO": 2,
    "MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA": 1.0,
    "INPUT.MIN_SIZE_TRAIN": (800,),
    "INPUT.MAX_SIZE_TRAIN": 1333,
    "INPUT.MIN_SIZE_TEST": 800,
    "INPUT.MAX_SIZE_TEST": 1333,
}

PLUS_ONE = (
    "regions are pooled up to the end of their last pixel, as everything here, not up to its beginning: boxes and "
    "scores differ slightly from maskrcnn-benchmark's"
)


@SOURCES.register("maskrcnn-benchmark")
def convert_maskrcnn_benchmark(path: Path) -> Converted:
    """A .pth of maskrcnn-benchmark with an FPN. Raises ValueError for another model.

    Its boxes run to x2 + 1 in our terms: with that, its anchors, box coding, overlaps and clipping are ours.
    """
    state = renamed(read_file(path).state, [(r"^module\.", "")])
    state, dropped = set_aside(state, r"rpn\.anchor_generator\.|roi_heads\.(mask|keypoint)\.")
    state = background_last(renamed(state, RULES))
    norm = norm_name(state, "backbone.", "frozen_bn")
    parts = two_stage_config(state, path)
    name = backbone_name(state, path, caffe=True)
    config = {
        **parts,
        "MODEL.BACKBONE.NAME": name,
        "MODEL.BACKBONE.NORM": norm,
        **({"MODEL.BACKBONE.NORM_EPS": 0.0} if norm == "frozen_bn" else {}),
        **CONVENTIONS,
    }
    categories = used_categories() if config["MODEL.NUM_CLASSES"] == 80 else {}
    return Converted(state, config, BGR_255, categories, dropped, [PLUS_ONE] + [NO_CAFFE] * (name == "resnet152"))
