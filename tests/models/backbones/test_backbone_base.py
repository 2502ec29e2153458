"""Registration, building, freezing, classifiers."""

import copy

import pytest
import torch
from torch import nn

from detector.models.backbones import (
    BACKBONES,
    BGR_255,
    Backbone,
    Classifier,
    Weights,
    build_backbone,
    build_classifier,
    list_backbones,
    register_backbone,
)
from detector.structures import Level


class Plain(Backbone):
    """A plugin's backbone: two convolutions."""

    def __init__(self, norm):
        super().__init__()
        self.first, self.norm, self.second = nn.Conv2d(3, 8, 3, 4, 1), norm(8), nn.Conv2d(8, 16, 3, 2, 1)
        self.levels = {"c2": Level(8, 4), "c3": Level(16, 8)}

    def parts(self):
        return [[self.first, self.norm], [self.second], [], [], []]

    def forward(self, images):
        c2 = self.norm(self.first(images))
        return {"c2": c2, "c3": self.second(c2)}


@pytest.fixture
def plugin():
    @register_backbone("plain", Weights(pixels=BGR_255, norm_eps=1e-3))
    def plain(norm):
        return Plain(norm)

    yield "plain"
    del BACKBONES["plain"]


def test_plugin_is_a_backbone_like_any_other(plugin, images):
    assert plugin in list_backbones()
    backbone = build_backbone(plugin)
    assert backbone.norm.eps == 1e-3
    assert {name: (x.shape[1], 64 // x.shape[2]) for name, x in backbone(images).items()} == backbone.levels
    backbone.freeze(1)
    assert [name for name, p in backbone.named_parameters() if p.requires_grad] == ["second.weight", "second.bias"]
    classifier = build_classifier(plugin, num_classes=5)
    assert classifier(images).shape == (2, 5)
    assert classifier.fc.in_features == 16
    with pytest.raises(ValueError, match=r"Plain has no stages to repeat.*MODEL\.BACKBONE\.PASSES"):
        build_backbone(plugin, passes=2)
    with pytest.raises(ValueError, match="'plain' is registered twice"):
        register_backbone("plain", Weights())(Plain)


def test_unknown_name_suggests_near_ones():
    with pytest.raises(KeyError, match=r"unknown backbone 'resnet5'; close: resnet50"):
        build_backbone("resnet5")


@pytest.mark.parametrize(
    ("name", "norm", "norm_eps", "want"),
    [
        ("resnet50_caffe", "frozen_bn", None, 0.0),
        ("resnet50", "frozen_bn", None, 1e-5),
        ("resnet50", "frozen_bn", 0.0, 0.0),
        ("resnet50_caffe", "bn", None, 1e-5),
        ("resnet50_caffe", "gn", None, 1e-5),
    ],
)
def test_norm_eps(name, norm, norm_eps, want):
    with torch.device("meta"):
        backbone = build_backbone(name, norm, norm_eps)
    assert {module.eps for module in backbone.modules() if hasattr(module, "eps")} == {want}


def test_norm_eps_with_another_norm_is_refused():
    with pytest.raises(ValueError, match="norm_eps is for frozen_bn only"):
        build_backbone("resnet50", "bn", norm_eps=0.0)


@pytest.mark.parametrize("at", range(6))
def test_freeze(tiny, images, at):
    trunk = tiny("bn")
    trunk.freeze(5)
    trunk.freeze(at)
    trunk.train()
    parts = [("conv1.", "bn1."), ("layer1.",), ("layer2.",), ("layer3.",), ("layer4.",)]
    frozen = tuple(prefix for part in parts[:at] for prefix in part)
    assert all(p.requires_grad != key.startswith(frozen) for key, p in trunk.named_parameters())
    before = {key: value.clone() for key, value in trunk.named_buffers()}
    trunk(images)
    assert all(torch.equal(value, before[key]) == key.startswith(frozen) for key, value in trunk.named_buffers())


@pytest.mark.parametrize("at", [-1, 6])
def test_freeze_out_of_range(tiny, at):
    with pytest.raises(ValueError, match=r"MODEL\.BACKBONE\.FREEZE_CONV_BODY_AT"):
        tiny().freeze(at)


def test_classifier_has_no_prefix_and_shares_its_backbone(tiny, images):
    trunk = tiny("bn")
    classifier = Classifier(trunk, num_classes=7).eval()
    assert set(classifier.state_dict()) == {*trunk.state_dict(), "fc.weight", "fc.bias"}
    trunk.eval()
    torch.testing.assert_close(classifier.features(images), trunk(images))
    twin = copy.deepcopy(classifier).double()
    with torch.no_grad():
        twin.conv1.weight.zero_()
    assert twin(images.double()).std(0).max() < 1e-12 < classifier(images).std(0).max()
