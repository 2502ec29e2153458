"""Counts: hand-worked layers, published numbers of the networks, detectors by part."""

import json
import re

import pytest
import torch
import torch.nn.functional as F
from helpers import ROOT
from torch import nn
from torchvision import models
from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights, FCOS_ResNet50_FPN_Weights

from detector.analysis.counts import Counts, count, count_classifier, count_detector, largest_test_size
from detector.config import load_config
from detector.models.backbones import BACKBONES, build_backbone, build_classifier
from detector.models.backbones.trunk import Stage
from detector.models.heads import HEADS
from detector.models.heads.base import Head

FCOS = ROOT / "configs/fcos/resnet50_1x.yaml"
FASTER_RCNN = FCOS.parents[1] / "faster_rcnn/resnet50_1x.yaml"
LOCATIONS = {256: 32 * 32 + 16 * 16 + 8 * 8 + 4 * 4 + 2 * 2}  # of p3..p7, by the side of a square input


def on_meta(module, *shape):
    return count(module.to("meta"), torch.empty(shape, device="meta"))[0]


# ---------------------------------------------------------------------------- by hand


def test_a_grouped_convolution():
    # Output 16 x 8 x 10; each element is a sum over 8 / 4 channels of 3 x 3. The bias adds parameters only.
    counts = on_meta(nn.Conv2d(8, 16, 3, groups=4), 1, 8, 10, 12)
    assert counts == Counts(params=16 * 2 * 9 + 16, macs=16 * 8 * 10 * 2 * 9, activations=16 * 8 * 10)
    assert counts.flops == 2 * 16 * 8 * 10 * 2 * 9


def test_a_strided_and_dilated_convolution():
    # (11 + 2 * 2 - 5) // 2 + 1 = 6 rows and 8 columns
    counts = on_meta(nn.Conv2d(3, 5, 3, stride=2, padding=2, dilation=2, bias=False), 1, 3, 11, 15)
    assert counts == Counts(3 * 5 * 9, 6 * 8 * 5 * 3 * 9, 6 * 8 * 5)


def test_a_transposed_convolution_counts_from_its_input():
    counts = on_meta(nn.ConvTranspose2d(6, 4, 2, stride=2, bias=False), 1, 6, 5, 7)
    assert counts == Counts(6 * 4 * 4, 5 * 7 * 6 * 4 * 4, 10 * 14 * 4)


@pytest.mark.parametrize("rows", [(3,), (3, 7)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_linear_layer(rows, bias):
    number = 3 if len(rows) == 1 else 21
    counts = on_meta(nn.Linear(8, 5, bias=bias), *rows, 8)
    assert counts == Counts(8 * 5 + 5 * bias, number * 8 * 5, number * 5)


def test_norms_pooling_and_sums_are_left_out():
    layers = nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.GroupNorm(2, 4), nn.AdaptiveAvgPool2d(1))
    assert on_meta(layers, 1, 4, 8, 8) == Counts(8 + 8, 0, 0)


class Functional(nn.Module):
    """Convolutions and a matrix product without modules for them; one parameter is used twice, one never."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(4, 3, 1, 1))
        self.unused = nn.Parameter(torch.zeros(7), requires_grad=False)

    def forward(self, x):
        x = F.conv2d(x, self.weight) + F.conv2d(x, self.weight)
        return x.flatten(2) @ x.flatten(2).transpose(1, 2)


def test_what_is_called_without_a_module_counts():
    # Twice 4 x 5 x 6 sums over 3 channels; then 4 x 4 sums over 30 places.
    assert on_meta(Functional(), 1, 3, 5, 6) == Counts(12 + 7, 2 * 120 * 3 + 16 * 30, 2 * 120 + 16)


def test_a_repeated_stage_counts_as_often_as_it_runs():
    def stage(passes):
        return Stage([nn.Conv2d(3, 4, 1, bias=False), *[nn.Conv2d(4, 4, 3, padding=1, bias=False)] * 2], passes)

    first, other = 3 * 4 * 25, 4 * 4 * 9 * 25
    assert on_meta(stage(1), 1, 3, 5, 5) == Counts(12 + 144, first + 2 * other, 3 * 100)
    assert on_meta(stage(3), 1, 3, 5, 5) == Counts(12 + 144, first + 6 * other, 7 * 100)


def test_real_tensors_count_like_meta_tensors_and_the_output_comes_back():
    module, x = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), torch.rand(2, 3, 9, 9)
    counts, output = count(module, x)
    assert not module.training
    torch.testing.assert_close(output, module(x))
    assert not output.requires_grad
    assert counts == on_meta(module, 2, 3, 9, 9)


# ---------------------------------------------------------------------------- published numbers


@pytest.mark.parametrize(
    "name",
    ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnext50_32x4d", "resnext101_32x8d",
     "resnext101_64x4d"],
)  # fmt: skip
def test_torchvision_publishes_the_same(name):
    meta = models.get_model_weights(name).IMAGENET1K_V1.meta
    counts = count_classifier(name)
    assert counts.params == meta["num_params"]
    assert round(counts.macs / 1e9, 3) == meta["_ops"]  # torchvision calls them GFLOPs; they are multiply-adds


# timm's benchmark tables of inference at 224: parameters and activations, both in millions, the latter by fvcore.
TIMM = {
    "resnet18": (11.69, 2.48),
    "resnet34": (21.80, 3.74),
    "resnet50": (25.56, 11.11),
    "resnet101": (44.55, 16.23),
    "resnet152": (60.19, 22.56),
    "resnext50_32x4d": (25.03, 14.40),
    "resnext101_32x8d": (88.79, 31.21),
    "seresnet50": (28.09, 11.13),
    "res2net50_26w_4s": (25.70, 12.61),
    "res2net50_14w_8s": (25.06, 13.28),
    "res2net50_26w_8s": (48.40, 17.95),
    "res2next50": (24.67, 13.71),
    "resnest50": (27.48, 14.36),
}


@pytest.mark.parametrize("name", TIMM)
def test_timm_publishes_the_same_activations(name):
    counts = count_classifier(name)
    params, activations = TIMM[name]
    assert counts.params / 1e6 == pytest.approx(params, abs=0.0051)
    assert counts.activations / 1e6 == pytest.approx(activations, abs=0.0051)


IRESNETS = {  # published parameters (M) and "flops (G)"; MACs (G) of the official implementation
    "iresnet50": (25.557, 9.277, 4.1277),
    "iresnet101": (44.549, 17.572, 7.8399),
    "iresnet152": (60.193, 25.878, 11.5522),
    "iresnet200": (64.674, 33.727, 15.0460),
}


@pytest.mark.parametrize("name", IRESNETS)
def test_the_published_iresnet_table(name):
    params, published, macs = IRESNETS[name]
    counts = count_classifier(name)
    assert round(counts.params / 1e6, 3) == params
    assert round(counts.macs / 1e9, 4) == macs
    assert round(thop_operations(name, counts.macs) * 20 / 9 / 1e9, 3) == published


def thop_operations(name, macs):
    """MACs, 4 for each element of a batch norm; of the global pool 1 for each element it reads, 1 for each it makes."""
    extra = []
    with torch.device("meta"):
        model = build_classifier(name).eval()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.register_forward_hook(lambda module, inputs, output: extra.append(4 * output.numel()))
            if isinstance(module, nn.AdaptiveAvgPool2d):
                module.register_forward_hook(
                    lambda module, inputs, output: extra.append(inputs[0].numel() + output.numel())
                )
        model(torch.empty(1, 3, 224, 224))
    return macs + sum(extra)


def test_golden_counts(golden_heads):
    """Every golden network that is registered; the name of its file is the registry's and a norm."""
    checked = []
    for path in sorted(golden_heads.parent.glob("backbones*/*.json")):
        golden = json.loads(path.read_text())
        name, norm = re.fullmatch(r"(.+?)(?:_pytorch)?(?:_(frozenbn|bn|gn))?", path.stem).groups()
        norm = {"frozenbn": "frozen_bn", None: "bn"}.get(norm, norm)
        if name not in BACKBONES:
            continue
        with torch.device("meta"):
            backbone = build_backbone(name, norm)
        assert sum(p.numel() for p in backbone.parameters()) == golden["params_backbone"], path.stem
        if "fc.weight" in golden["state_dict"]:
            counts = count_classifier(name, norm=norm)
        else:
            counts = on_meta(backbone, 1, 3, 224, 224)
        assert counts.params == golden["params_total"], path.stem
        assert counts.macs == golden["macs_224"], path.stem
        assert counts.flops == pytest.approx(golden["flops_224_G"] * 1e9, abs=0.5), path.stem
        checked.append(path.stem)
    assert {"resnet50", "resnet50_caffe_frozenbn", "sreresnet50_pytorch_frozenbn", "blresnet50"} <= set(checked)


# ---------------------------------------------------------------------------- arguments


def test_passes_make_a_resnet_a_sreresnet():
    assert count_classifier("resnet50", passes=2) == count_classifier("sreresnet50") != count_classifier("resnet50")
    assert count_classifier("sreresnet50", passes=1) == count_classifier("resnet50")


def test_a_norm_changes_the_parameters_only():
    bn, frozen, gn = (count_classifier("resnet18", norm=norm) for norm in ("bn", "frozen_bn", "gn"))
    channels = 64 + 4 * 64 + 5 * (128 + 256 + 512)  # bn1; two blocks a stage of two norms each, and three shortcuts
    assert bn == gn == Counts(frozen.params + 2 * channels, frozen.macs, frozen.activations)


def test_a_larger_image_costs_in_proportion():
    small, large = count_classifier("resnet18", (64, 96)), count_classifier("resnet18", (128, 288))
    assert large.params == small.params
    assert large.macs - 512 * 1000 == 6 * (small.macs - 512 * 1000)
    assert large.activations - 1000 == 6 * (small.activations - 1000)


@pytest.mark.parametrize("size", [(31, 64), (64, 31), (0, 64), (64, -64)])
def test_too_small_an_image_is_refused(size):
    with pytest.raises(ValueError, match=f"{size[0]}x{size[1]}: both sides must be 32 pixels or more"):
        count_classifier("resnet18", size)
    with pytest.raises(ValueError, match="32 pixels"):
        count_detector(load_config(FCOS), size)
    assert count_classifier("resnet18", (32, 32)).macs > 0


def test_unknown_names_and_norms_are_refused():
    with pytest.raises(KeyError, match="resnet18"):
        count_classifier("resnet81")
    with pytest.raises(ValueError, match="frozen_bn"):
        count_classifier("resnet18", norm="batch")
    with pytest.raises(ValueError, match="PASSES"):
        count_classifier("resnet18", passes=-1)


# ---------------------------------------------------------------------------- detectors


def test_fcos_by_hand():
    parts = count_detector(load_config(FCOS, ["MODEL.NUM_CLASSES", "7"]), (256, 256))
    with torch.device("meta"):
        backbone = on_meta(build_backbone("resnet50"), 1, 3, 256, 256)
    inner = 256 * (512 * 32 * 32 + 1024 * 16 * 16 + 2048 * 8 * 8)
    conv, sites = 256 * 256 * 9, LOCATIONS[256]
    params = 256 * (512 + 1024 + 2048 + 3) + 5 * (conv + 256)
    neck = Counts(params, inner + conv * sites, 256 * (sites + 32 * 32 + 16 * 16 + 8 * 8))
    outputs = 7 + 4 + 1
    towers = 8 * (conv + 256 + 2 * 256)  # weights, biases, group norms
    params = towers + outputs * (256 * 9 + 1) + 5  # five scales
    head = Counts(params, (8 * conv + outputs * 256 * 9) * sites, (8 * 256 + outputs) * sites)
    assert parts == {"backbone": backbone, "neck": neck, "head": head}


def test_torchvisions_fcos_has_as_many_parameters():
    parts = count_detector(load_config(FCOS, ["MODEL.NUM_CLASSES", "91"]), (64, 64))
    scales = 5  # torchvision's has none
    published = FCOS_ResNet50_FPN_Weights.COCO_V1.meta["num_params"]
    assert sum(part.params for part in parts.values()) - scales == published


def test_torchvisions_faster_rcnn_has_as_many_parameters():
    parts = count_detector(load_config(FASTER_RCNN, ["MODEL.NUM_CLASSES", "90"]), (64, 64))
    background = 4 * (1024 + 1)  # torchvision's background has deltas too
    published = FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["num_params"]
    assert sum(part.params for part in parts.values()) + background == published


def test_the_head_of_faster_rcnn_by_hand():
    opts = ["MODEL.NUM_CLASSES", "7", "MODEL.RPN.POST_NMS_TOP_N_TEST", "30"]
    head = count_detector(load_config(FASTER_RCNN, opts), (256, 256))["head"]
    sites, outputs = sum((256 // s) ** 2 for s in (4, 8, 16, 32, 64)), 3 + 3 * 4
    layers = ((256 * 49, 1024), (1024, 1024), (1024, 8), (1024, 28))
    macs = sites * (256 * 256 * 9 + 256 * outputs) + 30 * sum(a * b for a, b in layers)
    assert head.macs == macs
    assert head.activations == sites * (256 + outputs) + 30 * sum(b for _, b in layers)


def test_the_input_is_the_largest_of_the_test_unless_given():
    cfg = load_config(FCOS)
    assert largest_test_size(cfg) == (800, 1344)
    assert count_detector(cfg) == count_detector(cfg, (800, 1344)) != count_detector(cfg, (800, 1333 + 64))
    cfg = load_config(
        None, ["INPUT.MIN_SIZE_TEST", "600", "INPUT.MAX_SIZE_TEST", "500", "DATALOADER.SIZE_DIVISIBILITY", "64"]
    )
    assert largest_test_size(cfg) == (512, 512)


class ByProposals(Head):
    """A head whose forward depends on values."""

    def __init__(self, channels):
        super().__init__()
        self.score, self.fc = nn.Conv2d(channels, 1, 1, bias=False), nn.Linear(channels, 3, bias=False)

    def forward(self, features):
        raise AssertionError("this needs the values of the scores")

    def fixed_forward(self, features):
        levels = [self.score(x) for x in features.values()]
        return levels, self.fc(next(iter(features.values())).new_empty(10, self.fc.in_features))


def test_a_head_that_depends_on_values_counts_for_a_fixed_number(monkeypatch):
    monkeypatch.setitem(HEADS, "by_proposals", lambda cfg, levels: ByProposals(cfg.MODEL.NECK.OUT_CHANNELS))
    neck = ["MODEL.NECK.SOURCES", "[c3, c4, c5]", "MODEL.NECK.EXTRA_LEVELS", "p6p7_p5"]
    parts = count_detector(load_config(FCOS, ["MODEL.HEAD.NAME", "by_proposals", *neck]), (256, 256))
    sites = LOCATIONS[256]
    assert parts["head"] == Counts(256 + 3 * 256, 256 * sites + 10 * 3 * 256, sites + 10 * 3)


def test_counts_add_up():
    assert Counts(1, 2, 3) + Counts(10, 20, 30) == Counts(11, 22, 33)
