"""What is prepared for prediction finds the same as what was trained."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from detector.config import load_config
from detector.inference.prepare import prepare_for_inference
from detector.models.build import build_detector
from detector.models.heads import HEADS
from detector.models.packed import PackedConv2d, PackedLinear
from detector.models.winograd import WinogradConv2d

OPTS = ["MODEL.NUM_CLASSES", "3", "MODEL.NECK.OUT_CHANNELS", "32", "MODEL.ROI_BOX_HEAD.MLP_HEAD_DIM", "32"]
OPTS += ["MODEL.RPN.POST_NMS_TOP_N_TEST", "100"]
OPTS += ["MODEL.FCOS.PRIOR_PROB", "0.3", "MODEL.NECK.NORM", "bn", "MODEL.BACKBONE.FREEZE_CONV_BODY_AT", "0"]
OPTS += ["MODEL.ROI_BOX_HEAD.NUM_CONV", "2", "MODEL.ROI_BOX_HEAD.CONV_HEAD_DIM", "16", "MODEL.ROI_BOX_HEAD.NORM", "bn"]
# Of its own generator: what the shared one gives while tests are collected is another thing each time.
IMAGES = torch.randint(0, 255, (2, 3, 96, 128), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
SIZES = [(96, 128), (80, 101)]


def trained(head, backbone, norm):
    """A model whose batch norms have measured something."""
    opts = ["MODEL.HEAD.NAME", head, "MODEL.BACKBONE.NAME", backbone, "MODEL.BACKBONE.NORM", norm, *OPTS]
    opts += ["MODEL.NECK.NAME", "fpn"]
    return with_statistics(build_detector(load_config(None, opts)).double())


def with_statistics(model):
    for module in model.modules():
        if hasattr(module, "running_var"):
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
    return model.eval()


@pytest.mark.parametrize("norm", ["frozen_bn", "bn"])
@pytest.mark.parametrize("head", HEADS)
def test_merged_norms_find_the_same(head, norm):
    model = trained(head, "resnet18", norm)
    norms = sum(hasattr(m, "running_var") for m in model.modules())
    with torch.no_grad():
        want = model(IMAGES, SIZES)
        got = prepare_for_inference(model)(IMAGES, SIZES)
    assert norms >= 20
    assert not any(hasattr(m, "running_var") for m in model.modules())
    for a, b in zip(got, want, strict=True):
        assert len(b["scores"]) > 0
        for key in ("boxes", "scores", "labels"):
            torch.testing.assert_close(a[key], b[key])


@pytest.mark.parametrize("backbone", ["iresnet18", "res2net50_14w_8s", "resnest50", "res2net_dla60", "sreresnet50"])
def test_merged_norms_of_every_block_give_the_same_maps(backbone):
    model = trained("fcos", backbone, "bn")
    with torch.no_grad():
        pixels = model.normalize(IMAGES, SIZES)
        want = model.backbone(pixels)
        before = sum(hasattr(m, "running_var") for m in model.backbone.modules())
        got = prepare_for_inference(model).backbone(pixels)
    left = sum(hasattr(m, "running_var") for m in model.backbone.modules())
    assert left < before / 2
    for name, value in got.items():
        torch.testing.assert_close(value, want[name])


@pytest.mark.parametrize("extra", ["c6", "c6_bottleneck"])
def test_the_norms_of_refinedet_itself_are_merged(extra):
    opts = ["MODEL.HEAD.NAME", "refinedet", "MODEL.BACKBONE.NAME", "resnet10", "MODEL.BACKBONE.NORM", "bn", *OPTS]
    opts += ["MODEL.NECK.EXTRA_LEVELS", extra, "MODEL.REFINEDET.NORM", "bn", "MODEL.REFINEDET.TCB_CHANNELS", "64"]
    opts += ["MODEL.REFINEDET.PREDICTOR_BOTTLENECK", str(extra == "c6_bottleneck"), "MODEL.NECK.L2NORM_SCALES", "()"]
    model = with_statistics(build_detector(load_config(None, opts)).double())
    for part in (model.head.arm_cls, model.head.odm_cls):
        for layer in part:  # so that there is something to find
            nn.init.normal_(layer.weight, std=0.5)
    images = torch.randint(0, 255, (2, 3, 128, 192), dtype=torch.uint8)
    sizes = [(128, 192), (120, 161)]
    with torch.no_grad():
        want = model(images, sizes)
        got = prepare_for_inference(model)(images, sizes)
    assert not any(hasattr(m, "running_var") for m in model.modules())
    for a, b in zip(got, want, strict=True):
        assert len(b["scores"]) > 20
        for key in ("boxes", "scores", "labels"):
            torch.testing.assert_close(a[key], b[key])


def test_layers_are_rounded_once():
    model = trained("faster_rcnn", "resnet18", "frozen_bn").float()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        want = model(IMAGES, SIZES)
        got = prepare_for_inference(model, "bf16")(IMAGES, SIZES)
    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert {m.weight.dtype for m in layers} == {torch.bfloat16}
    if torch.ops.mkldnn._is_mkldnn_bf16_supported():
        assert all(isinstance(m, PackedConv2d | PackedLinear) for m in layers)
    for a, b in zip(got, want, strict=True):
        assert a["boxes"].dtype == torch.float32
        assert abs(a["scores"].max() - b["scores"].max()) < 0.05


@pytest.mark.parametrize(("has", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_auto_rounds_where_the_processor_gains(has, dtype, monkeypatch):
    monkeypatch.setattr("detector.engine.device.gains_bf16", lambda device: has)
    model = prepare_for_inference(trained("fcos", "resnet10", "frozen_bn").float(), "auto")
    assert model.backbone.conv1.weight.dtype == dtype


@pytest.mark.parametrize("head", HEADS)
def test_wide_convolutions_by_winograd_find_the_same(head):
    opts = ["MODEL.HEAD.NAME", head, "MODEL.BACKBONE.NAME", "resnet18", "MODEL.BACKBONE.NORM", "frozen_bn", *OPTS]
    opts += ["MODEL.NECK.OUT_CHANNELS", "256"]
    model = build_detector(load_config(None, opts)).eval()
    with torch.no_grad():
        want = model(IMAGES, SIZES)
    rounded, prepared = (prepare_for_inference(deepcopy(model), precision) for precision in ("bf16", "off"))
    assert not any(isinstance(m, WinogradConv2d) for m in rounded.modules())
    assert sum(isinstance(m, WinogradConv2d) for m in prepared.modules()) >= 8
    with torch.inference_mode():
        got = prepared(IMAGES, SIZES)
    for a, b in zip(got, want, strict=True):
        assert len(b["scores"]) > 0
        assert len(a["scores"]) == len(b["scores"])
        torch.testing.assert_close(a["scores"], b["scores"], rtol=1e-4, atol=1e-5)
