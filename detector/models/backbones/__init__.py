"""Backbones by name: importing this package registers every family."""

from detector.models.backbones import dla as dla
from detector.models.backbones import iresnet as iresnet
from detector.models.backbones import res2net as res2net
from detector.models.backbones import resnest as resnest
from detector.models.backbones import resnet as resnet
from detector.models.backbones import senet as senet
from detector.models.backbones import vgg as vgg
from detector.models.backbones.base import (
    BACKBONES,
    BGR_255,
    RGB_UNIT,
    Backbone,
    BackboneEntry,
    Classifier,
    Decimation,
    Pixels,
    Weights,
    build_backbone,
    build_classifier,
    list_backbones,
    register_backbone,
)
from detector.models.backbones.find import resolve
from detector.models.backbones.load import Report, load_backbone, load_state, read_weights

__all__ = [
    "BACKBONES",
    "BGR_255",
    "RGB_UNIT",
    "Backbone",
    "BackboneEntry",
    "Classifier",
    "Decimation",
    "Pixels",
    "Report",
    "Weights",
    "build_backbone",
    "build_classifier",
    "list_backbones",
    "load_backbone",
    "load_state",
    "read_weights",
    "register_backbone",
    "resolve",
]
