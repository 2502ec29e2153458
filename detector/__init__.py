"""A training framework for object detection: residual-variant backbones under FCOS and other heads."""
