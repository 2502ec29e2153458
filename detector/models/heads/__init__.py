"""Heads by name: (cfg, levels of the neck) -> module. A head is added by one file and one import line here."""

from detector.models.heads.base import HEADS, STANDARDS, Head, Standard, register_head
from detector.models.heads.faster_rcnn import FasterRCNN
from detector.models.heads.fcos import FCOS
from detector.models.heads.refinedet import RefineDet

__all__ = ["FCOS", "HEADS", "STANDARDS", "FasterRCNN", "Head", "RefineDet", "Standard", "register_head"]
