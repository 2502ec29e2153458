"""Deformable detectors of detectron2 and of its version for ResNeSt: their names, and the keys that go with them."""

from pathlib import Path

import pytest
import torch
from torch import nn

from detector.config import load_config
from detector.conversion import detectron2
from detector.conversion.base import NO_CAFFE, flip_channels
from detector.errors import UserError
from detector.models.build import build_detector
from detector.weights.read import WeightFile
from detector.weights.record import Pixels

NORM = ("weight", "bias", "running_mean", "running_var")
BASE = "backbone.bottom_up."


def normed(key, *shape):
    """A convolution of detectron2, which owns its norm."""
    return {f"{key}.weight": shape} | {f"{key}.norm.{leaf}": shape[:1] for leaf in NORM}


def biased(key, *shape):
    return {f"{key}.weight": shape, f"{key}.bias": shape[:1]}


def blocks(depths, deformable, offsets, middle, inner=64):
    """The four stages; deformable: numbers of those that are; offsets: shape of theirs, of the width; middle: conv2."""
    found, channels = {}, 64
    for stage, depth in enumerate(depths, 2):
        width, out = inner * 2 ** (stage - 2), 256 * 2 ** (stage - 2)
        for j in range(depth):
            block = f"{BASE}res{stage}.{j}"
            found |= normed(f"{block}.conv1", width, channels, 1, 1) | middle(f"{block}.conv2", width)
            found |= normed(f"{block}.conv3", out, width, 1, 1)
            found |= normed(f"{block}.shortcut", out, channels, 1, 1) if j == 0 else {}
            found |= biased(f"{block}.conv2_offset", *offsets(width), 3, 3) if stage in deformable else {}
            channels = out
    return found


def split_attention(key, width):
    hidden = max(width // 2, 32)
    found = {f"{key}.conv.weight": (2 * width, width // 2, 3, 3)}
    found |= {f"{key}.bn0.{leaf}": (2 * width,) for leaf in NORM} | {f"{key}.bn1.{leaf}": (hidden,) for leaf in NORM}
    return found | biased(f"{key}.fc1", hidden, width, 1, 1) | biased(f"{key}.fc2", 2 * width, hidden, 1, 1)


def deep_stem(width):
    found = normed(f"{BASE}stem.conv1_1", width, 3, 3, 3) | normed(f"{BASE}stem.conv1_2", width, width, 3, 3)
    return found | normed(f"{BASE}stem.conv1_3", 2 * width, width, 3, 3)


def two_stage(stages=1, classes=3):
    found = {}
    for i in range(2, 6):
        found |= biased(f"backbone.fpn_lateral{i}", 256, 64 * 2**i, 1, 1) | biased(
            f"backbone.fpn_output{i}", 256, 256, 3, 3
        )
    head = "proposal_generator.rpn_head."
    found |= biased(head + "conv", 256, 256, 3, 3) | biased(head + "objectness_logits", 3, 256, 1, 1)
    found |= biased(head + "anchor_deltas", 12, 256, 1, 1)
    for k in range(stages):
        place = f".{k}" if stages > 1 else ""
        found |= biased(f"roi_heads.box_head{place}.fc1", 1024, 256 * 49)
        found |= biased(f"roi_heads.box_head{place}.fc2", 1024, 1024)
        found |= biased(f"roi_heads.box_predictor{place}.cls_score", classes + 1, 1024)
        found |= biased(f"roi_heads.box_predictor{place}.bbox_pred", 4 if stages > 1 else 4 * classes, 1024)
    return found


@pytest.fixture
def converted(monkeypatch):
    """What is made of tensors, or of shapes, for which each tensor takes no room, so that no file could hold it."""

    def convert(tensors):
        spread = {key: torch.zeros(1).expand(x) if isinstance(x, tuple) else x for key, x in tensors.items()}
        monkeypatch.setattr(detectron2, "read_file", lambda path: WeightFile(path, spread))
        return detectron2.convert_detectron2(Path("dcn.pth"))

    return convert


def assert_fits(found):
    """Keys and shapes are those of the detector of the config."""
    pairs = [str(x) for pair in found.config.items() for x in pair]
    with torch.device("meta"):
        own = build_detector(load_config(None, pairs)).state_dict()
    wanted = {key: tuple(value.shape) for key, value in own.items() if not key.endswith("num_batches_tracked")}
    assert {key: tuple(value.shape) for key, value in found.state.items()} == wanted


def deform_keys(found):
    return {key.rpartition(".DEFORM_")[2]: value for key, value in found.config.items() if ".DEFORM_" in key}


@pytest.mark.parametrize(
    ("channels", "modulated", "groups"), [(27, True, 1), (18, False, 1), (54, True, 2), (72, False, 4), (108, True, 4)]
)
def test_a_deformable_resnet(converted, channels, modulated, groups):
    shapes = blocks((3, 4, 6, 3), (4, 5), lambda width: (channels, width), lambda key, w: normed(key, w, w, 3, 3))
    shapes |= normed(f"{BASE}stem.conv1", 64, 3, 7, 7) | two_stage(3)
    found = converted(shapes)
    assert found.config["MODEL.BACKBONE.NAME"] == "resnet50_caffe"
    assert deform_keys(found) == {
        "STAGES": (False, False, True, True), "MODULATED": modulated, "GROUPS": groups, "MASK_DOUBLED": False
    }  # fmt: skip
    assert_fits(found)


@pytest.mark.parametrize(
    ("name", "depths", "stem"),
    [
        ("resnest50", (3, 4, 6, 3), 32),
        pytest.param("resnest101", (3, 4, 23, 3), 64, marks=pytest.mark.slow),
        pytest.param("resnest200", (3, 24, 36, 3), 64, marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_a_deformable_resnest(converted, name, depths, stem):
    shapes = blocks(depths, (3, 4, 5), lambda width: (54, width // 2), split_attention)
    # the stem of 64 gives 128 channels to the first block
    channels = {f"{BASE}res2.0.{conv}.weight": 2 * stem for conv in ("conv1", "shortcut")}
    shapes |= {key: (shapes[key][0], number, 1, 1) for key, number in channels.items()}
    shapes |= deep_stem(stem) | two_stage()
    found = converted(shapes)
    assert found.config["MODEL.BACKBONE.NAME"] == name
    assert (deform_keys(found)["STAGES"], deform_keys(found)["GROUPS"]) == ((False, True, True, True), 2)
    assert_fits(found)
    assert found.pixels == Pixels("rgb", (123.68, 116.779, 103.939), (58.393, 57.12, 57.375))


def test_a_resnest_of_blue_first_is_turned(converted):
    shapes = blocks((3, 4, 6, 3), (), None, split_attention) | deep_stem(32) | two_stage()
    first = torch.rand(32, 3, 3, 3)
    statistics = {"pixel_mean": torch.tensor([103.53, 116.28, 123.675]), "pixel_std": torch.ones(3)}
    found = converted(shapes | statistics | {f"{BASE}stem.conv1_1.weight": first})
    assert found.pixels.order == "bgr"
    assert torch.equal(flip_channels(found.state)["backbone.conv1.0.weight"], first.flip(1))


@pytest.mark.parametrize(("mean", "notes"), [(None, [NO_CAFFE]), ((103.5, 116.3, 123.7), [NO_CAFFE]), ((9, 8, 7), [])])
def test_a_resnet_152_has_its_stride_in_one_place_alone(converted, mean, notes):
    shapes = blocks((3, 8, 36, 3), (), None, lambda key, w: normed(key, w, w, 3, 3))
    shapes |= normed(f"{BASE}stem.conv1", 64, 3, 7, 7) | two_stage()
    shapes |= {"pixel_mean": torch.tensor(mean), "pixel_std": torch.ones(3)} if mean else {}
    found = converted(shapes)
    assert (found.config["MODEL.BACKBONE.NAME"], found.notes) == ("resnet152", notes)


def test_each_tensor_of_a_resnest_goes_to_its_place(converted):
    shapes = blocks((3, 4, 6, 3), (5,), lambda width: (27, width), split_attention) | deep_stem(32) | two_stage()
    number = {key: float(i) for i, key in enumerate(shapes)}
    state = converted({key: torch.tensor([number[key]]).expand(shape) for key, shape in shapes.items()}).state
    pairs = {
        "stem.conv1_1.weight": "conv1.0.weight", "stem.conv1_1.norm.bias": "conv1.1.bias",
        "stem.conv1_2.weight": "conv1.3.weight", "stem.conv1_2.norm.running_var": "conv1.4.running_var",
        "stem.conv1_3.weight": "conv1.6.weight", "stem.conv1_3.norm.weight": "bn1.weight",
        "res2.0.shortcut.weight": "layer1.0.downsample.1.weight",
        "res2.0.shortcut.norm.running_mean": "layer1.0.downsample.2.running_mean",
        "res5.2.conv2.bn0.bias": "layer4.2.conv2.bn0.bias", "res5.2.conv1.norm.bias": "layer4.2.bn1.bias",
        "res5.2.conv2_offset.bias": "layer4.2.conv2_offset.bias",
    }  # fmt: skip
    assert {theirs: state["backbone." + ours].unique().item() for theirs, ours in pairs.items()} == {
        theirs: number[BASE + theirs] for theirs in pairs
    }


def test_offsets_convolved_in_groups_give_the_same_of_all_channels(converted):
    shapes = blocks((3, 4, 6, 3), (5,), lambda width: (54, width // 2), lambda key, w: normed(key, w, w, 3, 3))
    shapes |= normed(f"{BASE}stem.conv1", 64, 3, 7, 7) | two_stage()
    theirs = nn.Conv2d(512, 54, 3, padding=1, groups=2)
    found = converted(shapes | {f"{BASE}res5.1.conv2_offset.weight": theirs.weight.data})
    assert_fits(found)
    ours = nn.Conv2d(512, 54, 3, padding=1)
    ours.load_state_dict({"weight": found.state["backbone.layer4.1.conv2_offset.weight"], "bias": theirs.bias.data})
    x = torch.randn(1, 512, 5, 6)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-4)


def test_another_resnest_is_named(converted):
    shapes = blocks((3, 4, 6, 2), (), None, split_attention) | deep_stem(32) | two_stage()
    with pytest.raises(UserError, match=r"dcn\.pth: a ResNeSt of \(3, 4, 6, 2\) blocks and 32 .*resnest50, resnest101"):
        converted(shapes)
