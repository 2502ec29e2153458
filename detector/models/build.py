"""The only door from a config to a model."""

from yacs.config import CfgNode

from detector.models.backbones import BACKBONES, Pixels, build_backbone
from detector.models.detector import Detector
from detector.models.heads import HEADS
from detector.models.necks import NECKS
from detector.models.norm import has_norms


def build_detector(cfg: CfgNode) -> Detector:
    """The detector that three keys name: MODEL.BACKBONE.NAME, MODEL.NECK.NAME and MODEL.HEAD.NAME.

    Weights are random; `engine.checkpoint.load_weights` loads MODEL.WEIGHT.
    Raises KeyError with the nearest names for an unknown part, ValueError where a part and its keys do not fit.
    """
    node = cfg.MODEL.BACKBONE
    if node.NORM_EPS >= 0 and node.NORM != "frozen_bn":
        raise ValueError(
            f"MODEL.BACKBONE.NORM_EPS {node.NORM_EPS} is for NORM frozen_bn; with {node.NORM} set it to -1"
        )
    eps = node.NORM_EPS if node.NORM_EPS >= 0 else None
    backbone = build_backbone(node.NAME, node.NORM, eps, passes=node.PASSES)
    if node.NORM != "frozen_bn" and not has_norms(backbone):
        raise ValueError(
            f"{node.NAME} has no norms, so MODEL.BACKBONE.NORM {node.NORM} would change nothing: leave it at "
            "frozen_bn, or take a backbone with norms (vgg16_bn for vgg16)"
        )
    backbone.freeze(node.FREEZE_CONV_BODY_AT)
    neck = NECKS[cfg.MODEL.NECK.NAME](cfg, backbone.levels)
    head = HEADS[cfg.MODEL.HEAD.NAME](cfg, neck.levels)
    return Detector(backbone, neck, head, pixel_statistics(cfg), channels_last=cfg.MODEL.CHANNELS_LAST)


def pixel_statistics(cfg: CfgNode) -> Pixels:
    """What the network expects of pixels: the record of its backbone's weights, or INPUT.PIXEL_MEAN and PIXEL_STD."""
    pixels = BACKBONES[cfg.MODEL.BACKBONE.NAME].weights.pixels
    if cfg.INPUT.PIXEL_MEAN:
        return pixels._replace(mean=tuple(cfg.INPUT.PIXEL_MEAN), std=tuple(cfg.INPUT.PIXEL_STD))
    return pixels
