"""The network of salient objects: pixels -> backbone -> head."""

import logging

from yacs.config import CfgNode

from detector.models.build import configured_backbone, pixel_statistics, resolve_parts
from detector.models.detector import Detector
from detector.models.necks.base import Neck
from detector.models.saliency.base import SALIENCY
from detector.structures import Features, Level

log = logging.getLogger("detector")


class Direct(Neck):
    """No neck: the levels of the backbone as they are."""

    def __init__(self, levels: dict[str, Level]) -> None:
        super().__init__()
        self.levels = levels

    def forward(self, features: Features) -> Features:
        """The same features."""
        return features


class SaliencyNet(Detector):
    """A backbone and a head of salient objects, called as a `Detector` is, with MaskTargets in place of Targets.

    Without targets it gives the maps of the head.
    """


def build_saliency(cfg: CfgNode) -> SaliencyNet:
    """The network that MODEL.BACKBONE.NAME and MODEL.SALIENCY.NAME name, with random weights.

    Raises KeyError with the nearest names for an unknown part.
    """
    cfg = resolve_parts(cfg)
    backbone = configured_backbone(cfg, stem=True)
    if "c1" not in backbone.levels:
        log.warning(
            "%s does not put out its stem: the finest side output is that of %s",
            cfg.MODEL.BACKBONE.NAME,
            next(iter(backbone.levels)),
        )
    head = SALIENCY[cfg.MODEL.SALIENCY.NAME](cfg, backbone.levels)
    pixels, neck = pixel_statistics(cfg), Direct(backbone.levels)
    return SaliencyNet(backbone, neck, head, pixels, channels_last=cfg.MODEL.CHANNELS_LAST)  # type: ignore[arg-type]
