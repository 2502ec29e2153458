"""The only door from a config to a model."""

import logging
from typing import Any

import torch
from yacs.config import CfgNode

from detector.config.tasks import BOXES, require_boxes
from detector.console import hushed
from detector.errors import UnknownNameError, UserError
from detector.models.backbones import BACKBONES, Backbone, Pixels, build_backbone
from detector.models.backbones.trunk import Stage
from detector.models.deform import Deformation
from detector.models.detector import Detector
from detector.models.heads import HEADS, STANDARDS, Standard
from detector.models.necks import NECK_KEYS, NECKS, NeckKeys
from detector.models.norm import has_norms
from detector.registry import Registry
from detector.structures import Level

log = logging.getLogger("detector")

AUTO = {"NAME": "auto", "SOURCES": (), "EXTRA_LEVELS": "auto", "NORM": "auto", "L2NORM_SCALES": (-1.0,)}
"""The values of MODEL.NECK's keys that leave them to the head."""


def build_detector(cfg: CfgNode) -> Detector:
    """The detector that three keys name: MODEL.BACKBONE.NAME, MODEL.NECK.NAME and MODEL.HEAD.NAME.

    What the config leaves open follows the head, see `resolve_parts`. Weights are random.
    Raises KeyError with the nearest names for an unknown part, ValueError where a part and its keys do not fit.
    """
    require_boxes(cfg.MODEL.TASK, "build_detector")
    cfg = resolve_parts(cfg)
    if cfg.MODEL.NUM_CLASSES == 0:
        raise UserError(
            "MODEL.NUM_CLASSES 0 takes the number of classes from the training data or from a checkpoint, and there is "
            "neither here: write MODEL.NUM_CLASSES with the number"
        )
    backbone = configured_backbone(cfg)
    try:
        neck = NECKS[cfg.MODEL.NECK.NAME](cfg, backbone.levels)
        head = HEADS[cfg.MODEL.HEAD.NAME](cfg, neck.levels)
    except UserError as error:
        raise UserError(f"{error}{_own_neck(cfg, backbone.levels)}") from error
    return Detector(backbone, neck, head, pixel_statistics(cfg), channels_last=cfg.MODEL.CHANNELS_LAST)


def configured_backbone(cfg: CfgNode, *, stem: bool = False) -> Backbone:
    """The backbone that MODEL.BACKBONE describes, its first parts frozen. stem: with the level c1, if it has one."""
    node = cfg.MODEL.BACKBONE
    if node.NORM_EPS >= 0 and node.NORM != "frozen_bn":
        raise UserError(f"MODEL.BACKBONE.NORM_EPS {node.NORM_EPS} is for NORM frozen_bn; with {node.NORM} set it to -1")
    eps = node.NORM_EPS if node.NORM_EPS >= 0 else None
    backbone = build_backbone(node.NAME, node.NORM, eps, node.PASSES, node.CHECKPOINT_STAGES, deformation(node))
    if node.NORM != "frozen_bn" and not has_norms(backbone):
        log.warning("%s has no norms: MODEL.BACKBONE.NORM %s changes nothing in it", node.NAME, node.NORM)
    if node.PASSES > 1 and all(len(stage) < 2 for stage in backbone.modules() if isinstance(stage, Stage)):
        log.warning("%s has one block a stage, which is not repeated: MODEL.BACKBONE.PASSES %d changes nothing in it",
                    node.NAME, node.PASSES)  # fmt: skip
    backbone.freeze(node.FREEZE_CONV_BODY_AT)
    if stem:
        backbone.add_stem_level()
    return backbone


def deformation(node: CfgNode) -> Deformation | None:
    """What MODEL.BACKBONE says of deformable stages; None: there are none."""
    if not any(node.DEFORM_STAGES):
        return None
    return Deformation(node.DEFORM_STAGES, node.DEFORM_MODULATED, node.DEFORM_GROUPS, node.DEFORM_MASK_DOUBLED)


def check_names(cfg: CfgNode) -> None:
    """Raise KeyError naming key, name and the nearest ones for a part that nobody registered; costs no time."""
    node = cfg.MODEL
    names: tuple[tuple[str, Registry[Any], str], ...] = (
        ("MODEL.BACKBONE.NAME", BACKBONES, node.BACKBONE.NAME),
        ("MODEL.NECK.NAME", NECKS, node.NECK.NAME),
        ("MODEL.HEAD.NAME", HEADS, node.HEAD.NAME),
    )
    for key, parts, name in names:
        if parts is not NECKS or name != AUTO["NAME"]:
            check_name(key, parts, name)


def check_deformable(cfg: CfgNode) -> None:
    """Raise ValueError where MODEL.BACKBONE.DEFORM_STAGES asks a backbone for what it cannot; takes milliseconds."""
    node = cfg.MODEL.BACKBONE
    if (rule := deformation(node)) is not None:
        with torch.device("meta"):
            build_backbone(node.NAME, deformation=rule)


def check_name(key: str, parts: Registry[Any], name: str) -> None:
    """Raise KeyError naming key, name and the nearest ones for a name that is not in a registry."""
    try:
        _ = parts[name]
    except UnknownNameError as error:
        raise UnknownNameError(f"{key}: {error}; a plugin's part needs --import PACKAGE") from None


def resolve_parts(cfg: CfgNode) -> CfgNode:
    """The config in which the head's paper has decided what MODEL.NECK and SIZE_DIVISIBILITY leave open.

    Where another neck than the head's is named, that neck's own paper decides about the neck, and a warning says so.
    Returns a frozen copy, or the config itself if nothing is open. Raises KeyError for an unknown head or neck.
    """
    if cfg.MODEL.TASK != BOXES:
        return _with_divisibility(cfg, cfg.DATALOADER.SIZE_DIVISIBILITY or Standard().size_divisibility)
    node = cfg.MODEL.NECK
    is_open = [key for key, auto in AUTO.items() if node[key] == auto]
    if not is_open and cfg.DATALOADER.SIZE_DIVISIBILITY:
        return cfg
    head = cfg.MODEL.HEAD.NAME
    standard = _standard(head)
    neck = standard.neck if node.NAME == "auto" else node.NAME
    if neck != standard.neck:
        log.warning(
            "MODEL.NECK.NAME %s is not the neck of %s, which is %s: what else MODEL.NECK leaves open follows %s",
            *(neck, head, standard.neck, neck),
        )
    resolved = cfg.clone()
    resolved.defrost()
    values = {"NAME": neck, **_values(_keys(neck, standard, cfg))}
    for key in is_open:
        resolved.MODEL.NECK[key] = values[key]
    resolved.freeze()
    return _with_divisibility(resolved, cfg.DATALOADER.SIZE_DIVISIBILITY or standard.size_divisibility)


def _with_divisibility(cfg: CfgNode, pixels: int) -> CfgNode:
    """A frozen copy with this DATALOADER.SIZE_DIVISIBILITY, or the config itself where it has it."""
    if cfg.DATALOADER.SIZE_DIVISIBILITY == pixels:
        return cfg
    resolved = cfg.clone()
    resolved.defrost()
    resolved.DATALOADER.SIZE_DIVISIBILITY = pixels
    resolved.freeze()
    return resolved


def pixel_statistics(cfg: CfgNode) -> Pixels:
    """What the network expects of pixels: the record of its backbone's weights, or INPUT.PIXEL_MEAN and PIXEL_STD."""
    pixels = BACKBONES[cfg.MODEL.BACKBONE.NAME].weights.pixels
    if cfg.INPUT.PIXEL_MEAN:
        return pixels._replace(mean=tuple(cfg.INPUT.PIXEL_MEAN), std=tuple(cfg.INPUT.PIXEL_STD))
    return pixels


def _standard(head: str) -> Standard:
    _ = HEADS[head]  # an unknown name is an error of its own
    return STANDARDS.get(head, Standard())


def _keys(neck: str, standard: Standard, cfg: CfgNode) -> NeckKeys:
    """What is auto in the keys of a neck before a head of this standard."""
    _ = NECKS[neck]
    own = NECK_KEYS.get(neck, NeckKeys())
    if neck != standard.neck or standard.keys is None:
        return own
    return standard.keys if isinstance(standard.keys, NeckKeys) else standard.keys(cfg)


def _values(keys: NeckKeys) -> dict[str, object]:
    return {
        "SOURCES": keys.sources,
        "EXTRA_LEVELS": keys.extra_levels,
        "NORM": keys.norm,
        "L2NORM_SCALES": keys.l2norm_scales,
    }


def _own_neck(cfg: CfgNode, levels: dict[str, Level]) -> str:
    """The end of a message about parts that do not fit: the keys of the neck that mend it if they are the head's own.

    levels: of the backbone. "" where no key of the neck mends it.
    """
    standard = _standard(cfg.MODEL.HEAD.NAME)
    own = {"NAME": standard.neck, **_values(_keys(standard.neck, standard, cfg))}
    keys = [key for key, value in own.items() if cfg.MODEL.NECK[key] != value]
    if not _fits(cfg, keys, levels):
        return ""
    for key in [*keys]:  # what mends nothing is nobody's advice
        if _fits(cfg, rest := [other for other in keys if other != key], levels):
            keys = rest
    here = ", ".join(f"MODEL.NECK.{key} {_shown(cfg.MODEL.NECK[key])}" for key in keys)
    wanted = ", ".join(f"{key} {_shown(own[key])}" for key in keys)
    auto = " ".join(f"MODEL.NECK.{key} {_word(AUTO[key])}" for key in keys)
    return f". This config has {here}; {cfg.MODEL.HEAD.NAME}'s own neck has {wanted}: write {auto}"


def _fits(cfg: CfgNode, auto: list[str], levels: dict[str, Level]) -> bool:
    """Whether neck and head can be built with these keys of the neck left to the head."""
    tried = cfg.clone()
    tried.defrost()
    for key in auto:
        tried.MODEL.NECK[key] = AUTO[key]
    try:
        with hushed(), torch.device("meta"):
            tried = resolve_parts(tried)
            HEADS[tried.MODEL.HEAD.NAME](tried, NECKS[tried.MODEL.NECK.NAME](tried, levels).levels)
    except UserError:
        return False
    return True


def _shown(value: object) -> str:
    if not isinstance(value, tuple):
        return str(value)
    return f"({', '.join(map(str, value))}{',' * (len(value) == 1)})"


def _word(value: object) -> str:
    """A value as a command line has it: a shell reads parentheses itself."""
    return f'"{_shown(value)}"' if isinstance(value, tuple) else str(value)
