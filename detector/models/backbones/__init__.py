"""Backbones by name: importing this package registers every family."""

from detector.models.backbones import biglittle as biglittle
from detector.models.backbones import dla as dla
from detector.models.backbones import iresnet as iresnet
from detector.models.backbones import res2net as res2net
from detector.models.backbones import resnest as resnest
from detector.models.backbones import resnet as resnet
from detector.models.backbones import senet as senet
from detector.models.backbones import vgg as vgg
from detector.models.backbones.base import (
    BACKBONES,
    Backbone,
    BackboneEntry,
    Classifier,
    build_backbone,
    build_classifier,
    find_weights,
    list_backbones,
    register_backbone,
)
from detector.weights.load import load_backbone
from detector.weights.record import BGR_255, RGB_UNIT, Decimation, Pixels, Weights

__all__ = [
    "BACKBONES",
    "BGR_255",
    "RGB_UNIT",
    "Backbone",
    "BackboneEntry",
    "Classifier",
    "Decimation",
    "Pixels",
    "Weights",
    "build_backbone",
    "build_classifier",
    "find_weights",
    "list_backbones",
    "load_backbone",
    "register_backbone",
]
