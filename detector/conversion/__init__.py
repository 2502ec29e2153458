"""Checkpoints of other projects' detectors -> ours, with the config that goes with them."""

from detector.conversion import detectron2, fcos, maskrcnn_benchmark, refinedet, torchvision  # noqa: F401 - they register
from detector.conversion.base import SOURCES, Converted
from detector.conversion.convert import convert

__all__ = ["SOURCES", "Converted", "convert"]
