"""ResNet, ResNeXt and SReResNet against the published networks."""

import pytest
import torch
import torchvision
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import get_model_weights

from detector.models.backbones import BACKBONES, build_backbone, build_classifier, load_state
from detector.models.backbones.load import translate

CLASSIFIERS = ("resnet50", "resnext50_32x4d")
FROZEN = {
    "resnet50_caffe_frozenbn": "resnet50_caffe",
    "sreresnet50_caffe_frozenbn": "sreresnet50_caffe",
    "sreresnet50_pytorch_frozenbn": "sreresnet50",
}
TORCHVISION = (
    *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
    *("resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d"),
)


def check_features(record, what, features):
    for name, x in features.items():
        record.check(what, name.upper(), x)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_golden_classifier(golden, name):
    record = golden(name)
    classifier = build_classifier(name).double()
    assert {key: list(value.shape) for key, value in classifier.state_dict().items()} == record.record["state_dict"]
    classifier.load_state_dict(record.state())
    with torch.no_grad():
        for what in ("eval", "eval_odd"):
            features = classifier.eval().features(record.images(what))
            check_features(record, what, features)
        record.check("eval", "logits", classifier(record.images("eval")))
        record.check("train", "C5", classifier.train().features(record.images("train"))["c5"])
    state = classifier.state_dict()
    statistics = [key for key in record.record["train"] if key in state]
    assert len(statistics) == 9
    for key in statistics:
        record.check("train", key, state[key])


@pytest.mark.parametrize("name", FROZEN)
def test_golden_frozen(golden, name):
    record = golden(name)
    backbone = build_backbone(FROZEN[name], norm_eps=0.0).double()
    state, aside = translate(record.state(), BACKBONES[FROZEN[name]].weights, backbone.state_dict())
    assert not aside
    report = load_state(backbone, state)
    assert len(report.loaded) == len(record.record["state_dict"])
    assert sum(p.numel() for p in backbone.parameters()) == record.record["params_backbone"]
    with torch.no_grad():
        for what in ("eval", "eval_odd"):
            check_features(record, what, backbone(record.images(what)))


@pytest.mark.parametrize("name", [*CLASSIFIERS, *FROZEN])
def test_golden_multiply_adds(golden, name):
    with torch.device("meta"):
        network = build_classifier(name) if name in CLASSIFIERS else build_backbone(FROZEN[name])
        with FlopCounterMode(display=False) as counter:
            network(torch.empty(1, 3, 224, 224))
    assert counter.get_total_flops() == 2 * golden(name).record["macs_224"]


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
