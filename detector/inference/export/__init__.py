"""Detectors as files for other runtimes: what the three heads select, as a graph can hold it, and what writes it."""

from detector.inference.export import faster_rcnn, fcos, refinedet
from detector.inference.export.whole import Network, Whole

__all__ = ["Network", "Whole", "faster_rcnn", "fcos", "refinedet"]
