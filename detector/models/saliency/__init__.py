"""Heads of salient objects by name: (cfg, levels of the backbone) -> module; and the network around one of them."""

from detector.models.saliency.base import SALIENCY, SaliencyHead, register_saliency
from detector.models.saliency.dss import DSS
from detector.models.saliency.network import SaliencyNet, build_saliency

__all__ = ["DSS", "SALIENCY", "SaliencyHead", "SaliencyNet", "build_saliency", "register_saliency"]
