"""Keys that were set and have no effect in a config, for instance those of another head."""

from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

from yacs.config import CfgNode

from detector.config.defaults import flat

NECK_OF_HEAD = {"fcos": "fpn", "faster_rcnn": "fpn", "refinedet": "refinedet_sources"}
"""The neck that "auto" is with each built-in head, known here without the models."""

OF_NECK = tuple(f"MODEL.NECK.{key}" for key in ("SOURCES", "EXTRA_LEVELS", "L2NORM_SCALES", "NORM"))
"""What a head's paper decides of its neck where nobody does."""

_SECTIONS = {
    "fcos": ("MODEL.FCOS.",),
    "faster_rcnn": ("MODEL.RPN.", "MODEL.ROI_HEADS.", "MODEL.ROI_BOX_HEAD.", "MODEL.CLS_AGNOSTIC_BBOX_REG"),
    "refinedet": ("MODEL.REFINEDET.",),
}


class Idle(NamedTuple):
    """Keys that have no effect where `holds`; why: the key, or the words, that make it so.

    A key that ends in a dot is a section.
    """

    keys: tuple[str, ...]
    why: str
    holds: Callable[[CfgNode], bool]


def _neck(cfg: CfgNode) -> str:
    """The neck in force, "" where a plugin's part may read anything."""
    head, neck = cfg.MODEL.HEAD.NAME, cfg.MODEL.NECK.NAME
    if head not in NECK_OF_HEAD or neck not in ("auto", *NECK_OF_HEAD.values()):
        return ""
    return NECK_OF_HEAD[head] if neck == "auto" else neck


def _fcos(cfg: CfgNode) -> bool:
    return cfg.MODEL.HEAD.NAME == "fcos"


def _two_stage(cfg: CfgNode) -> bool:
    return cfg.MODEL.HEAD.NAME == "faster_rcnn"


def _checkpoints_frozen_stages(cfg: CfgNode) -> bool:
    """Whether all stages that are to be computed again are frozen, so that nothing of them is kept anyway."""
    node = cfg.MODEL.BACKBONE  # of whose parts the stem is the first, so that stage 1 is frozen by 2
    return 0 < len(node.CHECKPOINT_STAGES) and max(node.CHECKPOINT_STAGES) < node.FREEZE_CONV_BODY_AT


def _one_size(cfg: CfgNode) -> bool:
    """Whether test-time augmentation sees pictures in no other size."""
    return cfg.TEST.BBOX_AUG.ENABLED and cfg.TEST.BBOX_AUG.SCALES == ()


def _has_no_crowds(cfg: CfgNode) -> bool:
    """Whether all data are in formats that know no crowd regions."""
    entries = (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST)
    forms = ("voc:", "voc_2007_", "voc_2012_", "yolo:")
    return len(entries) > 0 and all(entry.startswith(forms) and not entry.endswith(".json") for entry in entries)


_BOXES = (
    *("MODEL.NUM_CLASSES", "MODEL.NECK.", "MODEL.HEAD.", *(key for keys in _SECTIONS.values() for key in keys)),
    *("DATASETS.ALLOW_OUTSIDE", "DATASETS.TRAIN_DIFFICULT", "DATASETS.CROWDS", "DATALOADER.FILTER_EMPTY_ANNOTATIONS"),
    *("TEST.EVALUATOR", "TEST.DETECTIONS_PER_IMG", "TEST.BBOX_AUG."),
)
"""Keys that mean boxes, or how they are found."""

_RULES = (
    Idle(_BOXES, "MODEL.TASK", lambda cfg: cfg.MODEL.TASK == "saliency"),
    Idle(("MODEL.SALIENCY.",), "MODEL.TASK", lambda cfg: cfg.MODEL.TASK == "detection"),
    *(
        Idle(keys, "MODEL.HEAD.NAME", lambda cfg, of=head: cfg.MODEL.HEAD.NAME in {*_SECTIONS} - {of})  # type: ignore[misc]
        for head, keys in _SECTIONS.items()
    ),
    Idle(("MODEL.NECK.L2NORM_SCALES",), "neck fpn", lambda cfg: _neck(cfg) == "fpn"),
    Idle(("MODEL.NECK.OUT_CHANNELS",), "neck refinedet_sources", lambda cfg: _neck(cfg) == "refinedet_sources"),
    Idle(
        ("MODEL.NECK.NORM",),
        "MODEL.NECK.EXTRA_LEVELS",
        lambda cfg: _neck(cfg) == "refinedet_sources" and cfg.MODEL.NECK.EXTRA_LEVELS == "none",
    ),
    Idle(("MODEL.BACKBONE.CHECKPOINT_STAGES",), "MODEL.BACKBONE.FREEZE_CONV_BODY_AT", _checkpoints_frozen_stages),
    Idle(
        tuple(f"MODEL.BACKBONE.DEFORM_{key}" for key in ("MODULATED", "GROUPS", "MASK_DOUBLED")),
        "MODEL.BACKBONE.DEFORM_STAGES",
        lambda cfg: not any(cfg.MODEL.BACKBONE.DEFORM_STAGES),
    ),
    Idle(
        ("MODEL.BACKBONE.DEFORM_MASK_DOUBLED",),
        "MODEL.BACKBONE.DEFORM_MODULATED",
        lambda cfg: not cfg.MODEL.BACKBONE.DEFORM_MODULATED,
    ),
    Idle(("MODEL.FCOS.NORM",), "MODEL.FCOS.NUM_CONVS", lambda cfg: _fcos(cfg) and cfg.MODEL.FCOS.NUM_CONVS == 0),
    Idle(
        ("MODEL.ROI_HEADS.FG_IOU_THRESHOLD", "MODEL.ROI_HEADS.BG_IOU_THRESHOLD"),
        "MODEL.ROI_HEADS.CASCADE_IOUS",
        lambda cfg: _two_stage(cfg) and len(cfg.MODEL.ROI_HEADS.CASCADE_IOUS) > 0,
    ),
    Idle(
        ("MODEL.ROI_HEADS.SOFT_NMS_SIGMA",),
        "MODEL.ROI_HEADS.NMS_METHOD",
        lambda cfg: _two_stage(cfg) and cfg.MODEL.ROI_HEADS.NMS_METHOD != "soft_gaussian",
    ),
    Idle(
        ("MODEL.ROI_HEADS.SOFT_NMS_MIN_SCORE",),
        "MODEL.ROI_HEADS.NMS_METHOD",
        lambda cfg: _two_stage(cfg) and cfg.MODEL.ROI_HEADS.NMS_METHOD == "hard",
    ),
    Idle(
        ("MODEL.ROI_HEADS.NMS",),
        "MODEL.ROI_HEADS.NMS_METHOD",
        lambda cfg: _two_stage(cfg) and cfg.MODEL.ROI_HEADS.NMS_METHOD == "soft_gaussian",
    ),
    Idle(
        ("MODEL.ROI_BOX_HEAD.CONV_HEAD_DIM", "MODEL.ROI_BOX_HEAD.NORM"),
        "MODEL.ROI_BOX_HEAD.NUM_CONV",
        lambda cfg: _two_stage(cfg) and cfg.MODEL.ROI_BOX_HEAD.NUM_CONV == 0,
    ),
    Idle(
        ("MODEL.ROI_BOX_HEAD.MLP_HEAD_DIM",),
        "MODEL.ROI_BOX_HEAD.NUM_FC",
        lambda cfg: _two_stage(cfg) and cfg.MODEL.ROI_BOX_HEAD.NUM_FC == 0,
    ),
    Idle(
        ("MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA",),
        "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE",
        lambda cfg: _two_stage(cfg) and cfg.MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE != "smooth_l1",
    ),
    Idle(
        (
            *("INPUT.MIN_SIZE_TRAIN", "INPUT.MIN_SIZE_RANGE_TRAIN", "INPUT.MAX_SIZE_TRAIN"),
            *("INPUT.MIN_SIZE_TEST", "INPUT.MAX_SIZE_TEST"),
        ),
        "INPUT.SQUARE_SIZE",
        lambda cfg: cfg.INPUT.SQUARE_SIZE > 0,
    ),
    Idle(
        ("INPUT.MIN_SIZE_TRAIN",),
        "INPUT.MIN_SIZE_RANGE_TRAIN",
        lambda cfg: cfg.INPUT.MIN_SIZE_RANGE_TRAIN != (-1, -1),
    ),
    Idle(("DATASETS.CROWDS",), "data without crowds", _has_no_crowds),
    Idle(("DATALOADER.TIMEOUT",), "DATALOADER.NUM_WORKERS", lambda cfg: cfg.DATALOADER.NUM_WORKERS == 0),
    Idle(
        ("SOLVER.STAGE_LR_FACTORS",),
        "MODEL.BACKBONE.FREEZE_CONV_BODY_AT",
        lambda cfg: cfg.MODEL.BACKBONE.FREEZE_CONV_BODY_AT == 5 and len(cfg.SOLVER.STAGE_LR_FACTORS) == 5,
    ),
    Idle(("SOLVER.EMA_WARMUP",), "SOLVER.EMA_DECAY", lambda cfg: cfg.SOLVER.EMA_DECAY == 0),
    Idle(("SOLVER.MOMENTUM",), "SOLVER.OPTIMIZER", lambda cfg: cfg.SOLVER.OPTIMIZER == "adamw"),
    Idle(("SOLVER.STEPS", "SOLVER.GAMMA"), "SOLVER.SCHEDULE", lambda cfg: cfg.SOLVER.SCHEDULE == "cosine"),
    Idle(("SOLVER.GAMMA",), "SOLVER.STEPS", lambda cfg: cfg.SOLVER.STEPS == ()),
    Idle(
        ("SOLVER.WARMUP_METHOD", "SOLVER.WARMUP_FACTOR"),
        "SOLVER.WARMUP_ITERS",
        lambda cfg: cfg.SOLVER.WARMUP_ITERS == 0,
    ),
    Idle(
        ("SOLVER.CHECKPOINT_KEEP",),
        "SOLVER.CHECKPOINT_PERIOD",
        lambda cfg: cfg.SOLVER.CHECKPOINT_PERIOD == 0,
    ),
    Idle(
        ("DISTILL.METHOD", "DISTILL.LEVELS", "DISTILL.WEIGHT", "DISTILL.TEMPERATURE"),
        "no DISTILL.TEACHER",
        lambda cfg: cfg.DISTILL.TEACHER == "",
    ),
    Idle(("DISTILL.TEMPERATURE",), "DISTILL.METHOD", lambda cfg: cfg.DISTILL.METHOD != "cwd"),
    Idle(
        tuple(f"TEST.BBOX_AUG.{key}" for key in ("H_FLIP", "SCALES", "MAX_SIZE", "SCALE_H_FLIP", "MERGE", "MERGE_IOU")),
        "TEST.BBOX_AUG.ENABLED",
        lambda cfg: not cfg.TEST.BBOX_AUG.ENABLED,
    ),
    Idle(("TEST.BBOX_AUG.MAX_SIZE", "TEST.BBOX_AUG.SCALE_H_FLIP"), "TEST.BBOX_AUG.SCALES", _one_size),
    Idle(
        ("TEST.BBOX_AUG.ENABLED", "TEST.BBOX_AUG.MERGE", "TEST.BBOX_AUG.MERGE_IOU"),
        "TEST.BBOX_AUG.SCALES",
        lambda cfg: _one_size(cfg) and not cfg.TEST.BBOX_AUG.H_FLIP,
    ),
    Idle(("TEST.BBOX_AUG.MAX_SIZE",), "INPUT.SQUARE_SIZE", lambda cfg: cfg.INPUT.SQUARE_SIZE > 0),
    Idle(("LOG.PICTURES",), "LOG.TENSORBOARD", lambda cfg: not cfg.LOG.TENSORBOARD),
    Idle(
        ("SOLVER.TEST_PERIOD", "SOLVER.PATIENCE", "TEST.BEST_BY", "LOG.PICTURES"),
        "DATASETS.TEST",
        lambda cfg: cfg.DATASETS.TEST == (),
    ),
    Idle(
        ("SOLVER.PATIENCE", "TEST.BEST_BY"),
        "SOLVER.TEST_PERIOD",
        lambda cfg: cfg.SOLVER.TEST_PERIOD == 0 and cfg.SOLVER.EPOCHS == 0,
    ),
)


def idle_keys(cfg: CfgNode) -> dict[str, str]:
    """Every key that has no effect here, whether set or not, with the first reason why."""
    values = flat(cfg)
    found: dict[str, str] = {}
    for keys, why, holds in _RULES:
        if holds(cfg):
            shown = list(values[why]) if isinstance(values.get(why), tuple) else values.get(why, "")
            sections = tuple(key for key in keys if key.endswith("."))
            idle = [key for key in values if key in keys or key.startswith(sections)]
            found |= {key: f"{why} {shown}".strip() for key in idle if key not in found}
    return found


def idle_text(cfg: CfgNode, origins: Mapping[str, str], shipped: Collection[str] = ()) -> str:
    """The one line that names idle keys, "" where there are none. origins: the source of each key that somebody set.

    shipped: sources that describe a whole detector. Whoever sets keys on top of them did not write theirs, and has
    nothing to mend in them: these are named only where there is nothing else.
    """
    idle = idle_keys(cfg)
    left = shipped if set(origins.values()) - {*shipped} else ()
    groups: dict[tuple[str, str], list[str]] = {}
    for key, source in origins.items():
        if key in idle and source not in left:
            groups.setdefault((source, idle[key]), []).append(key)
    if not groups:
        return ""
    listed = "; ".join(f"{', '.join(keys)} ({source}) with {why}" for (source, why), keys in groups.items())
    return f"without effect in this config: {listed}"
