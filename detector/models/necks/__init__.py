"""Necks by name: (cfg, levels of the backbone) -> module. A neck is added by one file and one import line here."""

from detector.models.necks.base import NECK_KEYS, NECKS, Neck, NeckKeys, register_neck
from detector.models.necks.extra import RefineDetSources
from detector.models.necks.fpn import FPN

__all__ = ["FPN", "NECKS", "NECK_KEYS", "Neck", "NeckKeys", "RefineDetSources", "register_neck"]
