"""ResNet, ResNeXt and SReResNet against torchvision."""

import pytest
import torch
import torchvision
from torchvision.models import get_model_weights

from detector.models.backbones import BACKBONES, build_backbone, build_classifier

TORCHVISION = (
    *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
    *("resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d"),
)


@pytest.mark.parametrize("name", TORCHVISION)
def test_record_is_torchvisions(name):
    record, official = BACKBONES[name].weights, get_model_weights(name)["IMAGENET1K_V1"]
    metrics = official.meta["_metrics"]["ImageNet-1K"]
    assert record.urls == (official.url,)
    assert official.url.endswith(f"-{record.sha256}.pth")
    assert (record.top1, record.top5) == (metrics["acc@1"], metrics["acc@5"])
    with torch.device("meta"):
        ours, theirs = build_classifier(name), torchvision.models.get_model(name)
    assert sum(p.numel() for p in ours.parameters()) == official.meta["num_params"]
    want = theirs.state_dict()
    assert {k: v.shape for k, v in ours.state_dict().items()} == {k: v.shape for k, v in want.items()}


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnext50_32x4d"])
@torch.no_grad()
def test_logits_equal_torchvision(name, images):
    theirs = torchvision.models.get_model(name).double()
    ours = build_classifier(name).double()
    ours.load_state_dict(theirs.state_dict())
    for mode in (False, True):
        got, want = ours.train(mode)(images.double()), theirs.train(mode)(images.double())
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    "name", ["sreresnet50", "sreresnet101", "sreresnet152", "sreresnet50_caffe", "sreresnet101_caffe"]
)
def test_recursive_networks_add_no_parameter(name):
    plain = name.removeprefix("sre")
    with torch.device("meta"):
        ours, theirs = build_backbone(name).state_dict(), build_backbone(plain).state_dict()
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}
    assert BACKBONES[name].weights.urls == BACKBONES[plain].weights.urls
    assert BACKBONES[name].weights.top1 is None
