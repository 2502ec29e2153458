"""The allowed values of the keys: choices and ranges, in one table."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from yacs.config import CfgNode

from detector.errors import UserError


class Rule(NamedTuple):
    """What a value must be, in words and as a test."""

    words: str
    holds: Callable[[Any], bool]


def _one_of(*choices: str) -> Rule:
    return Rule(" | ".join(choices), lambda v: v in choices)


def _between(low: float, high: float = math.inf) -> Rule:
    return Rule(f"{low} or more" if high == math.inf else f"{low} to {high}", lambda v: low <= v <= high)


def _ascending(values: tuple[float, ...]) -> bool:
    return all(a < b for a, b in zip((0, *values), values, strict=False))


_COUNT = _between(1)
_NATURAL = _between(0)
_SHARE = _between(0, 1)
_POSITIVE = Rule("more than 0", lambda v: v > 0)
_BELOW_ONE = Rule("0 or more and less than 1", lambda v: 0 <= v < 1)
_RISING = Rule("positive numbers that rise", _ascending)
_POSITIVES = Rule("one positive number at least", lambda v: len(v) > 0 and min(v) > 0)
_EVALUATORS = (["auto"], ["coco"], ["voc"], ["coco", "voc"])
_NORM = _one_of("none", "bn", "sync_bn", "gn")
_PRECISION = _one_of("off", "bf16", "fp16")

RULES: dict[str, Rule] = {
    "OUTPUT_DIR": Rule("the name of a folder, . for the current one", bool),
    "SEED": _NATURAL,
    "LOG.PICTURES": _NATURAL,
    "MODEL.TASK": _one_of("detection", "saliency"),
    "MODEL.NUM_CLASSES": _NATURAL,
    "MODEL.BACKBONE.NORM": _one_of("frozen_bn", "bn", "sync_bn", "gn"),
    "MODEL.BACKBONE.NORM_EPS": Rule("-1, or 0 or more and less than 1", lambda v: v == -1 or 0 <= v < 1),
    "MODEL.BACKBONE.FREEZE_CONV_BODY_AT": _between(0, 5),
    "MODEL.BACKBONE.PASSES": _NATURAL,
    "MODEL.BACKBONE.DEFORM_STAGES": Rule("four of True and False, for layer1 to layer4", lambda v: len(v) == 4),
    "MODEL.BACKBONE.DEFORM_GROUPS": _COUNT,
    "MODEL.BACKBONE.CHECKPOINT_STAGES": Rule(
        "numbers from 1 to 4, each once, or () for none", lambda v: {*v} <= {1, 2, 3, 4} and len({*v}) == len(v)
    ),
    "MODEL.NECK.SOURCES": Rule("names of levels, each once, or () for auto", lambda v: len(set(v)) == len(v)),
    "MODEL.NECK.OUT_CHANNELS": _COUNT,
    "MODEL.NECK.EXTRA_LEVELS": _one_of("auto", "none", "maxpool", "p6p7_p5", "p6p7_c5", "c6", "c6_bottleneck"),
    "MODEL.NECK.L2NORM_SCALES": Rule(
        "positive numbers, () for none, or (-1,) for auto", lambda v: v == (-1,) or all(scale > 0 for scale in v)
    ),
    "MODEL.NECK.NORM": _one_of("auto", "none", "bn", "sync_bn", "gn"),
    "MODEL.FCOS.NUM_CONVS": _NATURAL,
    "MODEL.FCOS.NORM": _one_of("gn", "none"),
    "MODEL.FCOS.PRIOR_PROB": Rule("more than 0 and less than 1", lambda v: 0 < v < 1),
    "MODEL.FCOS.SIZES_OF_INTEREST": _RISING,
    "MODEL.FCOS.POINT_OFFSET": _BELOW_ONE,
    "MODEL.FCOS.CENTER_SAMPLING_RADIUS": _NATURAL,
    "MODEL.FCOS.IOU_LOSS_TYPE": _one_of("iou", "linear_iou", "giou", "plain_giou"),
    "MODEL.FCOS.LOSS_ALPHA": _SHARE,
    "MODEL.FCOS.LOSS_GAMMA": _NATURAL,
    "MODEL.FCOS.INFERENCE_TH": _BELOW_ONE,
    "MODEL.FCOS.PRE_NMS_TOP_N": _COUNT,
    "MODEL.FCOS.NMS_TH": _SHARE,
    "MODEL.RPN.ANCHOR_SIZES": _POSITIVES,
    "MODEL.RPN.ASPECT_RATIOS": _POSITIVES,
    "MODEL.RPN.NUM_CONVS": _NATURAL,
    "MODEL.RPN.FG_IOU_THRESHOLD": _SHARE,
    "MODEL.RPN.BG_IOU_THRESHOLD": _SHARE,
    "MODEL.RPN.BATCH_SIZE_PER_IMAGE": _COUNT,
    "MODEL.RPN.POSITIVE_FRACTION": _SHARE,
    "MODEL.RPN.SMOOTH_L1_BETA": _NATURAL,
    "MODEL.RPN.PRE_NMS_TOP_N_TRAIN": _COUNT,
    "MODEL.RPN.PRE_NMS_TOP_N_TEST": _COUNT,
    "MODEL.RPN.POST_NMS_TOP_N_TRAIN": _COUNT,
    "MODEL.RPN.POST_NMS_TOP_N_TEST": _COUNT,
    "MODEL.RPN.NMS_THRESH": _SHARE,
    "MODEL.RPN.MIN_SIZE": _NATURAL,
    "MODEL.ROI_HEADS.FG_IOU_THRESHOLD": _SHARE,
    "MODEL.ROI_HEADS.BG_IOU_THRESHOLD": _SHARE,
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": _COUNT,
    "MODEL.ROI_HEADS.POSITIVE_FRACTION": _SHARE,
    "MODEL.ROI_HEADS.BBOX_REG_WEIGHTS": Rule("four positive numbers", lambda v: len(v) == 4 and min(v) > 0),
    "MODEL.ROI_HEADS.SCORE_THRESH": _BELOW_ONE,
    "MODEL.ROI_HEADS.NMS": _SHARE,
    "MODEL.ROI_HEADS.NMS_METHOD": _one_of("hard", "soft_linear", "soft_gaussian"),
    "MODEL.ROI_HEADS.SOFT_NMS_SIGMA": _POSITIVE,
    "MODEL.ROI_HEADS.SOFT_NMS_MIN_SCORE": _BELOW_ONE,
    "MODEL.ROI_HEADS.CASCADE_IOUS": Rule("numbers of more than 0, at most 1", lambda v: all(0 < x <= 1 for x in v)),
    "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": _COUNT,
    "MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO": _NATURAL,
    "MODEL.ROI_BOX_HEAD.NUM_CONV": _NATURAL,
    "MODEL.ROI_BOX_HEAD.CONV_HEAD_DIM": _COUNT,
    "MODEL.ROI_BOX_HEAD.NORM": _NORM,
    "MODEL.ROI_BOX_HEAD.NUM_FC": _NATURAL,
    "MODEL.ROI_BOX_HEAD.MLP_HEAD_DIM": _COUNT,
    "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE": _one_of("smooth_l1", "l1", "giou"),
    "MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA": _NATURAL,
    "MODEL.REFINEDET.ANCHOR_SCALE": _POSITIVE,
    "MODEL.REFINEDET.ASPECT_RATIOS": _POSITIVES,
    "MODEL.REFINEDET.TCB_CHANNELS": _COUNT,
    "MODEL.REFINEDET.NORM": _NORM,
    "MODEL.REFINEDET.FG_IOU_THRESHOLD": _SHARE,
    "MODEL.REFINEDET.BG_IOU_THRESHOLD": _SHARE,
    "MODEL.REFINEDET.VARIANCES": Rule("four positive numbers", lambda v: len(v) == 4 and min(v) > 0),
    "MODEL.REFINEDET.NEG_POS_RATIO": _NATURAL,
    "MODEL.REFINEDET.OBJECTNESS_THRESH": _BELOW_ONE,
    "MODEL.REFINEDET.SCORE_THRESH": _BELOW_ONE,
    "MODEL.REFINEDET.PRE_NMS_TOP_N": _COUNT,
    "MODEL.REFINEDET.NMS": _SHARE,
    "MODEL.SALIENCY.WIDTH": _POSITIVE,
    "INPUT.MIN_SIZE_TRAIN": _POSITIVES,
    "INPUT.MIN_SIZE_RANGE_TRAIN": Rule(
        "[-1, -1], or two positive numbers, smaller first",
        lambda v: v == (-1, -1) or (len(v) == 2 and 0 < v[0] <= v[1]),
    ),
    "INPUT.MAX_SIZE_TRAIN": _COUNT,
    "INPUT.MIN_SIZE_TEST": _COUNT,
    "INPUT.MAX_SIZE_TEST": _COUNT,
    "INPUT.PIXEL_MEAN": Rule("() or three numbers", lambda v: len(v) in (0, 3)),
    "INPUT.PIXEL_STD": Rule("() or three positive numbers", lambda v: len(v) in (0, 3) and min(v, default=1) > 0),
    "INPUT.HORIZONTAL_FLIP_PROB_TRAIN": _SHARE,
    "INPUT.SQUARE_SIZE": _NATURAL,
    "INPUT.AUGMENTATION": _one_of("flip", "ssd"),
    "DATASETS.TRAIN_DIFFICULT": _one_of("auto", "yes", "no"),
    "DATASETS.CROWDS": _one_of("ignore", "objects"),
    "DATALOADER.NUM_WORKERS": _NATURAL,
    "DATALOADER.TIMEOUT": _NATURAL,
    "DATALOADER.BROKEN": _one_of("stop", "skip"),
    "DATALOADER.SIZE_DIVISIBILITY": _NATURAL,
    "DATALOADER.REPEAT_THRESHOLD": _SHARE,
    "SOLVER.IMS_PER_BATCH": _COUNT,
    "SOLVER.ACCUM_ITERS": _COUNT,
    "SOLVER.REFERENCE_BATCH": _NATURAL,
    "SOLVER.MAX_ITER": _COUNT,
    "SOLVER.EPOCHS": _NATURAL,
    "SOLVER.OPTIMIZER": _one_of("sgd", "adamw"),
    "SOLVER.BASE_LR": _POSITIVE,
    "SOLVER.BIAS_LR_FACTOR": _NATURAL,
    "SOLVER.STAGE_LR_FACTORS": Rule(
        "() or five or six positive numbers", lambda v: len(v) in (0, 5, 6) and min(v, default=1) > 0
    ),
    "SOLVER.MOMENTUM": _BELOW_ONE,
    "SOLVER.WEIGHT_DECAY": _NATURAL,
    "SOLVER.WEIGHT_DECAY_BIAS": _NATURAL,
    "SOLVER.SCHEDULE": _one_of("multi_step", "cosine"),
    "SOLVER.STEPS": _RISING,
    "SOLVER.GAMMA": _POSITIVE,
    "SOLVER.WARMUP_METHOD": _one_of("linear", "constant"),
    "SOLVER.WARMUP_ITERS": _NATURAL,
    "SOLVER.WARMUP_FACTOR": _SHARE,
    "SOLVER.CLIP_GRAD_NORM": _NATURAL,
    "SOLVER.EMA_DECAY": _BELOW_ONE,
    "SOLVER.AMP": _PRECISION,
    "SOLVER.CHECKPOINT_PERIOD": _NATURAL,
    "SOLVER.CHECKPOINT_KEEP": _NATURAL,
    "SOLVER.CHECKPOINT_MILESTONES": _RISING,
    "SOLVER.TEST_PERIOD": _NATURAL,
    "SOLVER.PATIENCE": _NATURAL,
    "DISTILL.METHOD": _one_of("pkd", "cwd"),
    "DISTILL.LEVELS": Rule("names of levels, each once, or () for auto", lambda v: len(set(v)) == len(v)),
    "DISTILL.WEIGHT": Rule("0 or more, or -1 for auto", lambda v: v == -1 or v >= 0),
    "DISTILL.TEMPERATURE": _POSITIVE,
    "TEST.EVALUATOR": Rule("auto, or coco, voc or both", lambda v: sorted(v) in _EVALUATORS),
    "TEST.IMS_PER_BATCH": _COUNT,
    "TEST.DETECTIONS_PER_IMG": _COUNT,
    "TEST.AMP": _one_of("off", "bf16", "fp16", "auto"),
    "TEST.BBOX_AUG.SCALES": Rule(
        "positive numbers, each once, or () for none", lambda v: min(v, default=1) > 0 and len({*v}) == len(v)
    ),
    "TEST.BBOX_AUG.MAX_SIZE": _COUNT,
    "TEST.BBOX_AUG.MERGE": _one_of("nms", "wbf"),
    "TEST.BBOX_AUG.MERGE_IOU": Rule("0 to 1, or -1 for auto", lambda v: v == -1 or 0 <= v <= 1),
}
"""Every key that has choices or a range. Names of registered parts are checked by their registries."""


def validate(cfg: CfgNode, sources: Mapping[str, str] | None = None) -> None:
    """Check every value against `RULES`; sources: the file that set a key, for the message.

    Raises ValueError that lists each key with its value and what is allowed.
    """
    problems = []
    for key, rule in RULES.items():
        value: Any = cfg
        for name in key.split("."):
            value = value[name]
        if not rule.holds(value):
            origin = f"{sources[key]}: " if sources and key in sources else ""
            shown = list(value) if isinstance(value, tuple) else value
            problems.append(f"{origin}{key}: {shown!r} is not allowed; allowed: {rule.words}")
    if len(cfg.INPUT.PIXEL_MEAN) != len(cfg.INPUT.PIXEL_STD):
        problems.append("INPUT.PIXEL_MEAN and INPUT.PIXEL_STD go together: set both, or neither")
    if problems:
        raise UserError("\n".join(problems))
