"""VGG16 against torchvision's, and what becomes of its fully connected layers."""

import pytest
import torch
import torchvision
from torch.nn import functional as F
from torchvision.models import get_model_weights

from detector.models.backbones import BACKBONES, build_backbone, build_classifier, load_backbone
from detector.weights.read import WeightFile, read_file
from detector.weights.rename import translate


def torchvision_features(name):
    """The convolutions of torchvision's network as a state dict, and the network."""
    network = getattr(torchvision.models, name)(weights=None).features.eval()
    return network, {f"features.{key}": value for key, value in network.state_dict().items()}


def small_state(name, features):
    """A file of torchvision's shapes; stride-0 views stand for the hundred million weights of fc6."""
    state = dict(features)
    state["classifier.0.weight"] = torch.arange(7.0).repeat(7).repeat(512)[None].expand(4096, -1)
    state["classifier.0.bias"] = torch.arange(4096.0)
    rows = torch.arange(4096.0)
    state["classifier.3.weight"] = rows[:, None] + rows[None] / 4096
    state["classifier.3.bias"] = -torch.arange(4096.0)
    state |= {"classifier.6.weight": torch.zeros(1000, 1), "classifier.6.bias": torch.zeros(1000)}
    return state


@pytest.mark.parametrize("name", ["vgg16", "vgg16_bn"])
@torch.no_grad()
def test_blocks_equal_torchvisions(name):
    theirs, _ = torchvision_features(name)
    ours = build_backbone(name).eval()
    ours.blocks.load_state_dict(theirs.state_dict())
    x, ends = torch.randn(1, 3, 64, 96), []
    got = ours(x)
    for module in theirs:
        if isinstance(module, torch.nn.MaxPool2d):
            ends.append(x.clone())
        x = module(x)
    for level, want in zip(("c2", "c3", "c4"), ends[2:], strict=True):
        torch.testing.assert_close(got[level], want)
    fc6 = F.relu(F.conv2d(x, ours.fc6.weight, ours.fc6.bias, padding=3, dilation=3))
    torch.testing.assert_close(got["c5"], F.relu(F.conv2d(fc6, ours.fc7.weight, ours.fc7.bias)))


@pytest.mark.parametrize("name", ["vgg16", "vgg16_bn"])
def test_record_is_torchvisions_and_its_layers_are_decimated(name):
    record, official = BACKBONES[name].weights, get_model_weights(name)["IMAGENET1K_V1"]
    assert record.urls == (official.url,)
    assert official.url.endswith(f"-{record.sha256}.pth")
    assert (record.pixels.order, record.top1) == ("rgb", None)
    backbone = build_backbone(name)
    _, features = torchvision_features(name)
    state, _ = translate(small_state(name, features), record, backbone.state_dict())
    assert (state["fc6.weight"].shape, state["fc7.weight"].shape) == ((1024, 512, 3, 3), (1024, 1024, 1, 1))
    assert state["fc6.weight"][5, 7].tolist() == [[0, 3, 6]] * 3  # columns 0, 3, 6 of the seven
    assert state["fc6.bias"].tolist() == list(range(0, 4096, 4))
    assert state["fc7.bias"].tolist() == [-i for i in range(0, 4096, 4)]
    assert state["fc7.weight"][3, 2].item() == 12 + 8 / 4096
    left = {key for key in state if not key.startswith("classifier.6.") and not key.endswith("num_batches_tracked")}
    assert left == {key for key in backbone.state_dict() if not key.endswith("num_batches_tracked")}


@torch.no_grad()
def test_a_full_file_of_torchvisions_loads(tmp_path):
    theirs, features = torchvision_features("vgg16")
    file = WeightFile(tmp_path / "vgg16.pth", small_state("vgg16", features))  # on the disk it would take 400 MB
    ours = build_backbone("vgg16")
    report = load_backbone(ours, BACKBONES["vgg16"].weights, file)
    assert report.dropped == ["classifier.6.bias", "classifier.6.weight"]
    assert torch.equal(ours.blocks[0].weight, theirs[0].weight)
    torch.save(ours.state_dict(), tmp_path / "ours.pth")
    load_backbone(build_backbone("vgg16"), BACKBONES["vgg16"].weights, read_file(tmp_path / "ours.pth"))


def test_ssds_file_loads_into_the_caffe_entry_alone(tmp_path):
    _, features = torchvision_features("vgg16")
    state = {key.removeprefix("features."): value for key, value in features.items()}
    state |= {"31.weight": torch.ones(1024, 512, 3, 3), "31.bias": torch.ones(1024)}
    state |= {"33.weight": torch.ones(1024, 1024, 1, 1), "33.bias": torch.ones(1024)}
    torch.save(state, tmp_path / "vgg16_reducedfc.pth")
    entry = BACKBONES["vgg16_caffe"]
    assert entry.weights.pixels == ("bgr", (104, 117, 123), (1, 1, 1))
    backbone = build_backbone("vgg16_caffe")
    load_backbone(backbone, entry.weights, read_file(tmp_path / "vgg16_reducedfc.pth"))
    assert torch.equal(backbone.blocks[28].weight, state["28.weight"])
    assert (backbone.fc7.weight == 1).all()
    # Its pixels are others, so the entry of torchvision's weights does not take it.
    with pytest.raises(ValueError, match=r"does not fit the model.*\n.*\n.*\n.*missing.*\n.*unexpected"):
        load_backbone(build_backbone("vgg16"), BACKBONES["vgg16"].weights, read_file(tmp_path / "vgg16_reducedfc.pth"))


def test_a_layer_of_another_size_is_named(tmp_path):
    torch.save({"classifier.0.bias": torch.zeros(10)}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"a\.pth: 'classifier\.0\.bias' is \(10,\), not \(4096,\)"):
        load_backbone(build_backbone("vgg16"), BACKBONES["vgg16"].weights, read_file(tmp_path / "a.pth"))


@pytest.mark.parametrize("size", [(64, 96), (65, 100), (33, 127)])
@torch.no_grad()
def test_odd_sides_are_rounded_up(size):
    backbone = build_backbone("vgg16")
    for name, x in backbone(torch.randn(1, 3, *size)).items():
        level = backbone.levels[name]
        assert x.shape == (1, level.channels, *(-(-side // level.stride) for side in size))
    assert [level.stride for level in backbone.levels.values()] == [4, 8, 16, 32]


@pytest.mark.parametrize("at", range(6))
def test_freezing_takes_blocks(at):
    with torch.device("meta"):
        backbone = build_backbone("vgg16")
    backbone.freeze(at)
    convs = [layer for layer in backbone.blocks if hasattr(layer, "weight")] + [backbone.fc6, backbone.fc7]
    frozen = sum((2, 2, 3, 3, 5)[:at])
    assert [conv.weight.requires_grad for conv in convs] == [False] * frozen + [True] * (15 - frozen)


def test_norms_are_in_the_entry_that_has_them():
    with torch.device("meta"):
        plain, with_norms = build_backbone("vgg16", "gn"), build_backbone("vgg16_bn", "gn")
        assert build_classifier("vgg16", 5)(torch.empty(2, 3, 64, 64)).shape == (2, 5)
    assert not any(isinstance(m, torch.nn.GroupNorm) for m in plain.modules())
    assert sum(isinstance(m, torch.nn.GroupNorm) for m in with_norms.modules()) == 13
