"""Deformable stages: new ones change nothing or halve, trained ones are those of detectron2 and mmdetection."""

import logging

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops import DeformConv2d as TorchvisionDeformConv2d

from detector.analysis.counts import count
from detector.config import load_config
from detector.errors import UserError
from detector.inference.prepare import merge_norms, prepare_for_inference
from detector.models.backbones import BACKBONES, build_backbone, load_backbone
from detector.models.backbones.res2net import Res2Bottleneck
from detector.models.backbones.resnest import SplitBottleneck
from detector.models.backbones.resnet import BasicBlock, Bottleneck
from detector.models.backbones.senet import SEBottleneck
from detector.models.backbones.trunk import Place, Stage
from detector.models.build import build_detector
from detector.models.deform import Deformation, DeformConv2d
from detector.models.norm import conv_norm, norm_factory
from detector.weights.load import load_detector
from detector.weights.read import WeightFile
from detector.weights.record import Weights

STAGES = (False, False, True, True)
LAST = Deformation((False, False, False, True))
FAMILIES = ["resnet50", "resnet50_caffe", "resnext50_32x4d", "sreresnet50", "iresnet18", "iresnet50", "iresgroup50"]
FAMILIES += ["seresnet50", "res2net50_14w_8s", "res2net50_v1b_26w_4s", "se_res2net50_26w_4s", "res2next50", "resnest50"]
FAMILIES += ["resnest50_fast_2s2x40d", "resnest50_fast_1s1x64d"]
BLOCKS = {
    "basic": (BasicBlock, {}),
    "bottleneck": (Bottleneck, {"groups": 2, "group_width": 32}),
    "se": (SEBottleneck, {}),
    "res2": (Res2Bottleneck, {"split_width": 32}),
    "split": (SplitBottleneck, {"cardinality": 2, "group_width": 32}),
    "fast": (SplitBottleneck, {"radix": 1, "pool_first": True}),
}
ALL = pytest.mark.parametrize("name", BLOCKS)
PICTURES = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
DCN = ["MODEL.BACKBONE.DEFORM_STAGES", "(False, False, True, True)"]


def is_offset(name):
    return "offset" in name


def network(name, rule=None, norm="frozen_bn", **more):
    torch.manual_seed(0)
    return build_backbone(name, norm, deformation=rule, **more).double().eval()


def moved(model, spread=0.05):
    """The network with offsets and masks that differ from cell to cell."""
    torch.manual_seed(5)
    for name, parameter in model.named_parameters():
        if is_offset(name):
            nn.init.normal_(parameter, std=spread)
    return model


def assert_same(found, wanted):
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)


def block(name, rule=None, spread=0.0, stride=1, index=None):
    """A block of 64 channels, wherein 16 are convolved; spread: of the offsets' weights."""
    torch.manual_seed(0)
    kind, args = BLOCKS[name]
    width = 64 if kind is BasicBlock else 16
    shortcut = nn.AvgPool2d(1, stride) if stride > 1 else None
    place = Place(int(stride == 1) if index is None else index, 3)
    made = kind(64, width, stride, shortcut, norm_factory("bn"), place, **args).double().eval()
    if rule:
        made.deform(rule)
    return moved(made, spread)


def maps(height=9, width=12):
    return torch.randn(2, 64, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@ALL
@pytest.mark.parametrize("rule", [Deformation(STAGES, doubled=True), Deformation(STAGES, modulated=False, groups=2)])
def test_a_new_block_computes_what_the_plain_one_does(name, rule):
    with torch.no_grad():
        assert_same(block(name, rule, stride=2)(maps()), block(name, stride=2)(maps()))


@ALL
def test_by_a_plain_sigmoid_a_new_convolution_counts_half(name):
    plain, made = block(name), block(name, Deformation(STAGES))
    with torch.no_grad():
        for path, module in made.named_modules():
            if isinstance(module, DeformConv2d):
                plain.get_submodule(path).weight /= 2
        assert_same(made(maps()), plain(maps()))
        assert (made(maps()) - block(name)(maps())).abs().max() > 0.01


@pytest.mark.parametrize("name", ["resnet10", *(pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES)])
def test_a_new_network_computes_what_the_plain_one_does(name):
    with torch.no_grad():
        assert_same(network(name, Deformation(STAGES, groups=2, doubled=True))(PICTURES), network(name)(PICTURES))


def test_all_random_weights_are_those_of_the_plain_detector():
    made = []
    for more in ([], DCN):
        torch.manual_seed(2)
        made.append(build_detector(load_config("quickstart", more)).state_dict())
    plain, state = made
    assert all(torch.equal(state[key], value) for key, value in plain.items())
    assert {key for key in state if key not in plain} == {
        f"backbone.layer{i}.0.conv2.conv_offset.{leaf}" for i in (3, 4) for leaf in ("weight", "bias")
    }


# ---------------------------------------------------------------------------- the published blocks


def by_detectron2(conv, offsets, x, modulated=True):
    """detectron2's three lines, whose names of the halves mean nothing, by torchvision's layer."""
    layer = TorchvisionDeformConv2d(
        conv.in_channels, conv.out_channels, 3, conv.stride, 1, groups=conv.groups, bias=False
    ).double()
    layer.weight = conv.weight
    told = offsets(x)
    if not modulated:
        return layer(x, told)
    offset_x, offset_y, mask = torch.chunk(told, 3, dim=1)
    return layer(x, torch.cat((offset_x, offset_y), dim=1), mask.sigmoid())


@pytest.mark.parametrize(("modulated", "groups"), [(True, 1), (True, 2), (False, 2)])
def test_a_bottleneck_is_detectron2s(modulated, groups):
    made, x = block("bottleneck", Deformation((True,), modulated, groups), 0.3, stride=2), maps()
    channels = 9 * groups * (3 if modulated else 2)
    assert made.conv2_offset.weight.shape == (channels, 16, 3, 3)
    assert made.conv2_offset.bias.shape == (channels,)
    inner = F.relu(made.bn1(made.conv1(x)))
    inner = F.relu(made.bn2(by_detectron2(made.conv2, made.conv2_offset, inner, modulated)))
    with torch.no_grad():
        assert_same(made(x), F.relu(made.bn3(made.conv3(inner)) + made.downsample(x)))


@pytest.mark.parametrize("pool_first", [False, True])
def test_split_attention_is_that_of_its_authors_detectors(pool_first):
    made, x = block("split", Deformation((True,), groups=2), 0.3, stride=2), maps()
    made.pool_first, attention = pool_first, made.conv2
    assert made.conv2_offset.weight.shape == (54, 8, 3, 3)  # convolved in groups, unlike detectron2's own
    assert attention.conv.weight.shape == (32, 4, 3, 3)
    inner = F.relu(made.bn1(made.conv1(x)))
    inner = made.pool(inner) if pool_first else inner
    wide = F.relu(attention.bn0(by_detectron2(attention.conv, made.conv2_offset, inner)))
    first, second = wide.chunk(2, dim=1)
    logits = attention.fc2(F.relu(attention.bn1(attention.fc1((first + second).mean((2, 3), keepdim=True)))))
    weights = logits.view(2, 2, 2, -1).transpose(1, 2).softmax(1).reshape(2, 2, -1, 1, 1)
    inner = first * weights[:, 0] + second * weights[:, 1]
    inner = inner if pool_first else made.pool(inner)
    with torch.no_grad():
        assert_same(made(x), F.relu(made.bn3(made.conv3(inner)) + made.downsample(x)))


@pytest.mark.parametrize("index", [0, 1])
def test_every_split_of_res2net_has_offsets_of_its_own(index):
    made, x = block("res2", Deformation((True,)), 0.3, index=index), maps()
    parts, results = F.relu(made.bn1(made.conv1(x))).split(8, dim=1), []
    for i in range(3):
        assert made.convs[i].conv_offset.weight.shape == (27, 8, 3, 3)
        part = parts[i] + results[-1] if i and index else parts[i]
        results.append(F.relu(made.bns[i](by_detectron2(made.convs[i], made.convs[i].conv_offset, part))))
    results.append(parts[3] if index else F.avg_pool2d(parts[3], 3, 1, 1))
    with torch.no_grad():
        assert_same(made(x), F.relu(made.bn3(made.conv3(torch.cat(results, dim=1))) + x))


# ---------------------------------------------------------------------------- in training


@ALL
def test_offsets_learn(name):
    made = block(name, Deformation((True,)), 0.1)
    made(maps()).square().mean().backward()
    grown = {name: bool(p.grad.abs().sum() > 0) for name, p in made.named_parameters() if is_offset(name)}
    assert grown
    assert all(grown.values())


def test_offsets_learn_but_in_frozen_stages():
    model = moved(network("resnet10", Deformation((False, True, True, True))))
    model.freeze(3)
    sum(x.square().mean() for x in model.train()(PICTURES).values()).backward()
    grown = {name: p.grad is not None and bool(p.grad.abs().sum() > 0) for name, p in model.named_parameters()}
    assert {name: at for name, at in grown.items() if is_offset(name)} == {
        name: not name.startswith("layer2.") for name in grown if is_offset(name)
    }


@pytest.mark.parametrize("passes", [1, 2])
@ALL
def test_stages_that_are_computed_again_have_the_same_bits(name, passes):
    results = []
    for again in (False, True):
        stage = Stage([block(name, Deformation((True,)), 0.1) for _ in range(3)], passes).train()
        stage.recomputed = again
        stage(maps()).square().mean().backward()
        results.append([p.grad for p in stage.parameters()])
    torch.testing.assert_close(*results, rtol=0, atol=0)


def test_every_pass_moves_its_taps_by_what_it_sees():
    blocks, seen = [block("bottleneck", Deformation((True,)), 1.0) for _ in range(2)], []
    blocks[1].conv2_offset.register_forward_hook(lambda module, x, y: seen.append(y))
    with torch.no_grad():
        assert_same(Stage(blocks, passes=2)(maps()), blocks[1](blocks[1](blocks[0](maps()))))
    assert len(seen) == 4
    assert_same(seen[:2], seen[2:])
    assert (seen[0] - seen[1]).abs().max() > 0.1


@ALL
@pytest.mark.parametrize("width", [12, 2])
def test_half_precision_is_near(name, width):
    made, x = block(name, Deformation((True,)), 0.1, stride=2).float(), maps(9, width).float()
    with torch.no_grad():
        wanted = made(x)
        with torch.autocast("cpu", torch.bfloat16):
            found = made(x)
    assert (found - wanted).abs().mean() < 0.02 * wanted.abs().mean()


# ---------------------------------------------------------------------------- in prediction


@pytest.mark.parametrize("norm", ["frozen_bn", "bn"])
def test_norms_are_folded_into_deformable_filters(norm):
    conv, made = nn.Conv2d(4, 6, 3, 2, 1, bias=False), norm_factory(norm)(6)
    for tensor in made.state_dict().values():
        tensor.copy_(torch.rand(tensor.shape) + 0.5)
    layer = moved(DeformConv2d(conv, Deformation((True,), groups=2), own_offsets=True), 0.3).eval()
    made.eval()
    for side in (8, 40):  # of the smaller map the norm stays by itself
        x = torch.randn(1, 4, side, side)
        torch.testing.assert_close(conv_norm(layer, made, x), made(layer(x)))


def some_detector(backbone):
    cfg = load_config("quickstart", ["MODEL.BACKBONE.NAME", backbone, *DCN])
    torch.manual_seed(0)
    return moved(build_detector(cfg)).eval()


OTHERS = ("res2net50_14w_8s", "resnest50_fast_2s1x64d", "resnet50")


@pytest.mark.parametrize("name", ["resnet10", *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)])
def test_a_prepared_network_computes_the_same(name):
    wanted = some_detector(name).double().backbone(PICTURES)
    made = merge_norms(some_detector(name).double())  # in float32 offsets would move by the rounding, many cells deep
    with torch.no_grad():
        assert_same(made.backbone(PICTURES), wanted)
    layers = [m for m in made.backbone.modules() if isinstance(m, DeformConv2d)]
    assert layers
    assert all(layer.bias is not None for layer in layers)


def test_winograds_filtering_leaves_them_alone():
    plain = [type(m).__name__ for m in prepare_for_inference(some_detector("resnet10")).backbone.modules()]
    assert plain.count("DeformConv2d") == 2
    x = PICTURES.float()
    half = prepare_for_inference(some_detector("resnet10"), "bf16")
    assert {m.weight.dtype for m in half.backbone.modules() if isinstance(m, DeformConv2d)} == {torch.bfloat16}
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = half.backbone(x)["c5"]
    with torch.no_grad():
        wanted = some_detector("resnet10").backbone(x)["c5"]
    assert (found - wanted).abs().mean() < 0.05 * wanted.abs().mean()


@pytest.mark.parametrize(("modulated", "channels"), [(True, 27), (False, 18)])
def test_its_multiply_adds_are_those_of_both_convolutions(modulated, channels):
    with torch.device("meta"):
        images = torch.empty(1, 3, 64, 64)
        plain = count(build_backbone("resnet10"), images)[0]
        made = count(build_backbone("resnet10", deformation=LAST._replace(modulated=modulated)), images)[0]
    assert made.macs - plain.macs == channels * 512 * 9 * 4  # one block, maps of 2x2
    assert made.activations - plain.activations == channels * 4
    assert made.params - plain.params == channels * 512 * 9 + channels


# ---------------------------------------------------------------------------- files


def test_a_file_of_the_plain_network_loads_and_says_so(tmp_path, caplog):
    caplog.set_level(logging.INFO, "detector")
    made, plain = block("res2", Deformation((True,))), block("res2").state_dict()
    plain = {key: value + 1 for key, value in plain.items()}
    report = load_backbone(made, Weights(), WeightFile(tmp_path / "plain.pth", plain))
    assert report.missing == []
    assert torch.equal(made.convs[1].weight, plain["convs.1.weight"])
    assert not made.convs[1].conv_offset.weight.any()
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 1
    assert "the offsets of 3 convolutions start at zero" in said[0]


def test_offsets_that_a_file_has_are_read_strictly(tmp_path):
    rule, path = Deformation((True,)), tmp_path / "some.pth"

    def two(rule=rule, spread=0.0):
        return nn.Sequential(*(block("bottleneck", rule, spread) for _ in range(2)))

    state = two(spread=0.3).state_dict()
    some = {key: value for key, value in state.items() if "1.conv2_offset." not in key}
    with pytest.raises(UserError, match=r"(?s)missing +2 +1\.conv2_offset.*All but the offsets fits: set MODEL\.BACK"):
        load_backbone(two(), Weights(), WeightFile(path, some))
    with pytest.raises(UserError, match=r"(?s)unexpected +4.*DEFORM_STAGES"):
        load_backbone(two(None), Weights(), WeightFile(path, state))
    with pytest.raises(UserError, match=r"(?s)wrong shape +4.*DEFORM_GROUPS"):
        load_backbone(two(rule._replace(groups=2)), Weights(), WeightFile(path, state))
    made = two()
    assert load_backbone(made, Weights(), WeightFile(path, state)).fits
    assert torch.equal(made[1].conv2_offset.bias, state["1.conv2_offset.bias"])


@pytest.mark.parametrize(
    ("name", "own", "other"),
    [
        ("bottleneck", "conv2_offset.", "conv2.conv_offset."),
        ("split", "conv2_offset.", "conv2.conv.conv_offset."),
        ("res2", ".conv_offset.", "_offset."),
    ],
)
def test_mmdetections_names_are_understood(name, own, other, tmp_path):
    state = block(name, Deformation((True,)), 0.3).state_dict()
    theirs = {key.replace(own, other): value for key, value in state.items()}
    assert sum(key not in state for key in theirs) in (2, 6)
    made = block(name, Deformation((True,)))
    assert load_backbone(made, Weights(), WeightFile(tmp_path / "theirs.pth", theirs)).fits
    assert all(torch.equal(value, state[key]) for key, value in made.state_dict().items())


def test_a_plain_detector_is_trained_on_with_new_offsets(tmp_path, caplog):
    caplog.set_level(logging.INFO, "detector")
    plain = build_detector(load_config("quickstart")).state_dict()
    model, file = build_detector(load_config("quickstart", DCN)), WeightFile(tmp_path / "plain.pth", plain)
    load_detector(model, file, fine_tune=True)
    assert "the offsets of 2 convolutions start at zero" in caplog.text
    with pytest.raises(UserError, match=r"(?s)missing +4 .*DEFORM_STAGES"):
        load_detector(model, file)


# ---------------------------------------------------------------------------- what cannot be


FIXED = ("res2net_dla60", "skresnet50", "vgg16", "vgg16_caffe", "vgg16_bn", "res2next_dla60")
FIXED += tuple(name for name in BACKBONES if name.startswith(("blres", "blseres")))
DEFORMED = sorted({*BACKBONES} - {*FIXED, "iresnet1001", "resnet10"})


@pytest.mark.parametrize("name", FIXED)
def test_other_networks_say_which_can(name):
    with (
        torch.device("meta"),
        pytest.raises(UserError, match=r"DEFORM_STAGES to .*resnet50, res2net101_v1b_26w_4s"),
    ):
        build_backbone(name, deformation=LAST)


@pytest.mark.parametrize("name", ["resnet10", *(pytest.param(name, marks=pytest.mark.slow) for name in DEFORMED)])
def test_only_the_chosen_stages_are_deformed(name):
    with torch.device("meta"):
        model = build_backbone(name, deformation=LAST)
    assert all(any(isinstance(m, DeformConv2d) for m in block.modules()) for block in model.layer4)
    assert not any(isinstance(m, DeformConv2d) for stage in model.stages()[:3] for m in stage.modules())


def test_groups_have_to_divide_the_channels():
    with torch.device("meta"):
        with pytest.raises(UserError, match="DEFORM_GROUPS 3 does not divide the 256 channels"):
            build_backbone("resnet10", deformation=Deformation(STAGES, groups=3))
        with pytest.raises(UserError, match="DEFORM_STAGES has 3 values, for 4 stages"):
            build_backbone("resnet10", deformation=Deformation(STAGES[:3]))


def test_the_config_reaches_the_convolutions():
    keys = ["MODULATED", "False", "GROUPS", "2", "MASK_DOUBLED", "True"]
    more = [f"MODEL.BACKBONE.DEFORM_{key}" if i % 2 == 0 else key for i, key in enumerate(keys)]
    with torch.device("meta"):
        made = [build_detector(load_config(None, [*DCN, *some])).backbone for some in ([], more)]
    first, second = (backbone.layer3[0] for backbone in made)
    assert (first.conv2.modulated, first.conv2.doubled, first.conv2_offset.out_channels) == (True, False, 27)
    assert (second.conv2.modulated, second.conv2.doubled, second.conv2_offset.out_channels) == (False, True, 36)
