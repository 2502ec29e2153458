"""Big-Little nets: the published table, the sum of the branches by hand, the authors' files, odd sizes."""

import math

import pytest
import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torchvision.ops import FrozenBatchNorm2d

from detector.analysis.counts import count_classifier
from detector.config import load_config
from detector.models.backbones import (
    BACKBONES,
    RGB_UNIT,
    Classifier,
    Weights,
    build_backbone,
    build_classifier,
    list_backbones,
    load_backbone,
)
from detector.models.backbones.biglittle import BigLittleNet, BigLittleStage, avg_pool_shortcut
from detector.models.backbones.resnet import Bottleneck
from detector.models.build import build_detector
from detector.models.norm import fold_norms, norm_factory
from detector.weights.load import load_state
from detector.weights.read import read_file

TABLE = {  # parameters; multiply-adds at 224 x 224, G, counted and as published
    "blresnet50": (26_694_568, 2.856, 2.85),
    "blresnet101": (41_851_560, 3.893, 3.89),
    "blresnet152": (57_359_016, 5.040, None),
    "blresnext50_32x4d": (26_192_168, 3.027, 3.03),
    "blresnext101_32x4d": (41_512_744, 4.079, 4.08),
    "blresnext101_64x4d": (77_355_816, 7.142, 7.97),  # the authors' own network has 7.142, too
    "blseresnext50_32x4d": (28_767_120, 3.030, 3.03),
    "blseresnext101_32x4d": (45_881_952, 4.083, 4.08),
    "blres2net50_26w_4s": (26_845_561, 2.994, None),
}
ERRORS = {"blresnet50": 22.41, "blresnet101": 21.34, "blresnext50_32x4d": 21.62, "blresnext101_32x4d": 20.87,
          "blresnext101_64x4d": 20.34, "blseresnext50_32x4d": 21.44, "blseresnext101_32x4d": 21.04}  # fmt: skip


class Thin(Bottleneck):
    """A bottleneck that does not widen, so that a net of them is small."""

    expansion = 1


def small(norm="bn", depths=(3, 2, 5, 1)):
    """A net of thin blocks in groups: 64, 128, 256 and 512 channels."""
    little = {"groups": 16, "group_width": 2}
    return BigLittleNet(Thin, depths, norm=norm_factory(norm), little_args=little, groups=32, group_width=1)


def test_the_table_has_every_name():
    assert set(TABLE) == {name for name in list_backbones() if name.startswith("bl")}


@pytest.mark.parametrize("name", TABLE)
def test_parameters_to_the_last_digit(name):
    with torch.device("meta"):
        assert sum(p.numel() for p in build_classifier(name).parameters()) == TABLE[name][0]


SLOW = [name for name in TABLE if name != "blres2net50_26w_4s"]  # the golden nets are counted elsewhere


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in TABLE])
def test_multiply_adds_are_the_published_ones_but_for_one(name):
    params, counted, published = TABLE[name]
    counts = count_classifier(name)
    assert counts.params == params
    assert round(counts.macs / 1e9, 3) == counted
    if published and name != "blresnext101_64x4d":
        assert abs(counts.macs / 1e9 - published) < 0.01


@pytest.mark.parametrize(
    ("depth", "big", "little"),
    [(50, (2, 3, 5), (1, 1, 1)), (101, (3, 7, 17), (1, 1, 3)), (152, (4, 11, 29), (1, 2, 6))],
)
def test_depths_of_the_branches(depth, big, little):
    with torch.device("meta"):
        net = build_backbone(f"blresnet{depth}")
    stages = [net.layer1, net.layer2, net.layer3]
    assert tuple(len(stage.big) for stage in stages) == big
    assert tuple(len(stage.little) for stage in stages) == little
    assert [len(stage.fusion) for stage in stages] == [1, 1, 1]
    assert len(net.layer4) == 3


@pytest.mark.parametrize(("name", "groups"), [("blresnext50_32x4d", (32, 16)), ("blresnext101_64x4d", (64, 32))])
def test_little_branches_have_fewer_groups_of_the_same_width(name, groups):
    with torch.device("meta"):
        net = build_backbone(name)
    for i, stage in enumerate((net.layer1, net.layer2, net.layer3)):
        convs = [stage.big[0].conv2, stage.little[0].conv2, stage.fusion[0].conv2]
        assert [conv.groups for conv in convs] == [groups[0], groups[1], groups[0]]
        assert {conv.out_channels // conv.groups for conv in convs} == {4 * 2**i}


def test_records_are_the_authors():
    for name, entry in ((name, BACKBONES[name]) for name in TABLE):
        if name not in ERRORS:
            assert entry.weights == Weights()
            continue
        assert entry.weights.top1 == pytest.approx(100 - ERRORS[name])
        assert entry.weights.pixels == RGB_UNIT
        assert entry.weights.licence == "Apache-2.0"
        parts = name.removeprefix("bl").partition("_")
        kind = parts[0].rstrip("0123456789")
        page = "-".join(filter(None, (f"bl{kind}", parts[0].removeprefix(kind), parts[2], "a2-b4")))
        assert entry.weights.urls == (f"https://ibm.box.com/v/{page}",)


# ---------------------------------------------------------------------------- arithmetic


@torch.no_grad()
def test_a_stage_by_hand(randomised):
    """Cell i of 9 rows gets row floor(i * 5 / 9) of the big branch."""
    stage = BigLittleStage(Bottleneck, 64, 64, 3, 2, norm_factory("bn"), {}, {})
    randomised(stage).double().eval()
    x = torch.randn(1, 64, 9, 12, dtype=torch.float64)
    big, little = stage.big(x), stage.little_e(stage.little(x))
    assert big.shape == (1, 256, 5, 6)
    rows, columns = ([math.floor(i * few / many) for i in range(many)] for few, many in ((5, 9), (6, 12)))
    assert rows == [0, 0, 1, 1, 2, 2, 3, 3, 4]
    want = (big[:, :, rows][..., columns] + little).relu()
    total, out = stage(x)
    assert torch.equal(total, want)
    assert torch.equal(out, stage.fusion(want))
    assert out.shape == (1, 256, 5, 6)


@torch.no_grad()
def test_the_big_branch_alone_puts_out_negative_values(randomised):
    stage = BigLittleStage(Bottleneck, 64, 64, 8, 1, norm_factory("bn"), {}, {})
    randomised(stage).eval()
    x = torch.randn(1, 64, 12, 12)
    y, ends = x, []
    for block in stage.big:
        y = block(y)
        ends.append(y.min().item())
    assert ends[:-1] == [0] * 6
    assert ends[-1] < 0
    assert stage.little(x).min() == 0
    assert stage.fusion(stage(x)[0]).min() == 0
    single = BigLittleStage(Bottleneck, 64, 64, 2, 1, norm_factory("bn"), {}, {})
    assert single.big(x).min() == 0


def test_the_shortcut_by_hand():
    """Of 4 x 4 ones under a 3x3 window at every second cell: the padding counts."""
    pool = avg_pool_shortcut(8, 8, 2, norm_factory("bn"))
    assert not list(pool.parameters())
    want = torch.tensor([[4.0, 6.0], [6.0, 9.0]]) / 9
    torch.testing.assert_close(pool(torch.ones(1, 8, 4, 4)), want.expand(1, 8, 2, 2))
    kinds = [
        [type(module).__name__ for module in avg_pool_shortcut(8, 16, stride, nn.BatchNorm2d)] for stride in (1, 2)
    ]
    assert kinds == [["Conv2d", "BatchNorm2d"], ["AvgPool2d", "Conv2d", "BatchNorm2d"]]


@torch.no_grad()
@pytest.mark.parametrize("size", [(64, 96), (75, 101), (33, 32)])
def test_levels_are_the_inputs_of_the_fusions_at_any_size(size):
    net, seen = small().eval(), []
    for stage in (net.layer1, net.layer2):
        stage.fusion.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
    features = net(torch.randn(1, 3, *size))
    assert list(net.levels.values()) == [(64, 4), (128, 8), (256, 16), (512, 32)]
    for name, level in net.levels.items():
        assert features[name].shape == (1, level.channels, *(-(-side // level.stride) for side in size))
    assert torch.equal(features["c2"], seen[0])
    assert torch.equal(features["c3"], seen[1])


@torch.no_grad()
def test_res2net_blocks_begin_every_branch_anew():
    """The first block of each branch pools its last split, as that of a stage does."""
    with torch.device("meta"):
        net = build_backbone("blres2net50_26w_4s")
    for stage in (net.layer1, net.layer2, net.layer3):
        for branch in (stage.big, stage.little, stage.fusion):
            assert [block.pool is not None for block in branch] == [True] + [False] * (len(branch) - 1)
            assert len(branch[0].convs) == 3
    assert (net.layer1.big[0].split, net.layer1.little[0].split, net.layer3.little[0].split) == (26, 13, 52)


# ---------------------------------------------------------------------------- as every backbone


@pytest.mark.parametrize("name", ["blresnet50", "blres2net50_26w_4s"])
def test_passes_are_refused(name):
    match = r"BigLittleNet has no stages to repeat 2 times; set MODEL\.BACKBONE\.PASSES to 0"
    with pytest.raises(ValueError, match=match), torch.device("meta"):
        build_detector(load_config(None, ["MODEL.BACKBONE.NAME", name, "MODEL.BACKBONE.PASSES", "2"]))


@pytest.mark.parametrize("at", range(6))
def test_freeze(at, images):
    net = small()
    stem = ("conv1.", "bn1.", "b_conv0.", "bn_b0.", "l_conv", "bn_l", "bl_init.", "bn_bl_init.")
    frozen = sum([stem, ("layer1.",), ("layer2.",), ("layer3.",), ("layer4.",)][:at], ())
    net.freeze(at)
    net.train()
    assert all(p.requires_grad != key.startswith(frozen) for key, p in net.named_parameters())
    before = {key: value.clone() for key, value in net.named_buffers()}
    with torch.no_grad():
        net(images[..., :32, :32])
    assert all(torch.equal(value, before[key]) == key.startswith(frozen) for key, value in net.named_buffers())


def gradients(net, images):
    net.zero_grad(set_to_none=True)
    sum(x.float().square().mean() for x in net(images).values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    return {name: p.grad for name, p in net.named_parameters()}


@pytest.mark.parametrize("norm", ["frozen_bn", "gn", "sync_bn"])
def test_every_parameter_learns(norm, images):
    gradients(small(norm), images)


def test_every_parameter_learns_the_same_in_half_precision(images):
    net = small("frozen_bn")
    wide = gradients(net, images)
    with torch.autocast("cpu", torch.bfloat16):
        half = gradients(net, images)
    assert all((half[key] - wide[key]).norm() < 0.2 * wide[key].norm() for key in wide)


@pytest.mark.parametrize("norm", ["frozen_bn", "bn"])
def test_a_step_that_computes_again_has_the_same_bits_and_keeps_less(norm, images):
    """The little branch of layer3 has two blocks, and its expansion: two pieces."""
    net = small(norm, (3, 2, 12, 2))
    start = {key: value.clone() for key, value in net.state_dict().items()}
    plain, much = step(net, (), images)
    net.load_state_dict(start)
    again, few = step(net, (1, 2, 3, 4), images)
    torch.testing.assert_close(again, plain, rtol=0, atol=0)
    assert few < 0.8 * much


def step(net, stages, images):
    """Maps, gradients and statistics of a step, and how many numbers were kept for its backward pass."""
    net.set_recomputed(stages)
    kept = {}

    def note(x):
        kept[x.data_ptr()] = x.numel()
        return x

    with saved_tensors_hooks(note, lambda x: x):
        features = net(images)
    net.zero_grad(set_to_none=True)
    sum(x.square().mean() for x in features.values()).backward()
    gradients = {key: p.grad for key, p in net.named_parameters()}
    return (features, gradients, {key: b.clone() for key, b in net.named_buffers()}), sum(kept.values())


def test_stages_are_computed_again_where_asked():
    net = small()
    net.set_recomputed((2, 4))
    rows = [net.layer1.big, net.layer1.little, net.layer1.fusion, net.layer2.big, net.layer2.little, net.layer2.fusion,
            net.layer3.big, net.layer4]  # fmt: skip
    assert [row.recomputed for row in rows] == [False, False, False, True, True, True, False, True]
    net.set_recomputed(())
    assert not any(row.recomputed for row in rows)
    with pytest.raises(ValueError, match="BigLittleNet can compute stages 1 to 4 again: leave 5 out"):
        net.set_recomputed((5,))


@torch.no_grad()
@pytest.mark.parametrize("norm", ["bn", "frozen_bn"])
def test_every_norm_is_folded(norm, randomised, images):
    net = randomised(small(norm)).double().eval()
    want = net(images.double())
    kinds = (nn.BatchNorm2d, FrozenBatchNorm2d)
    number = sum(isinstance(module, kinds) for module in net.modules())
    assert fold_norms(net, lambda: net(images.double())) == number > 40
    assert not any(isinstance(module, kinds) for module in net.modules())
    torch.testing.assert_close(net(images.double()), want)


@torch.no_grad()
def test_channels_last_gives_the_same_maps(randomised, images):
    net = randomised(small()).eval()
    want = net(images)
    got = net.to(memory_format=torch.channels_last)(images.contiguous(memory_format=torch.channels_last))
    for name, value in got.items():
        assert value.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(value, want[name], rtol=1e-4, atol=1e-5)


# ---------------------------------------------------------------------------- files


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_file_as_the_authors_write_them_loads(prefix, tmp_path):
    """What their training saves, by a torch of 2019, with and without the wrapper that it trains."""
    theirs = Classifier(small(), 7)
    state = {prefix + key: value for key, value in theirs.state_dict().items()}
    optimizer = torch.optim.SGD(theirs.fc.parameters(), 0.1, momentum=0.9, nesterov=True).state_dict()
    content = {"epoch": 110, "arch": "ImageNet-bLResNet-50-a2-b4", "state_dict": state,
               "best_top1": torch.tensor(77.59), "optimizer": optimizer}  # fmt: skip
    path = tmp_path / "ImageNet-bLResNet-50-a2-b4.pth.tar"
    torch.save(content, path, _use_new_zipfile_serialization=False)
    file, record = read_file(path), BACKBONES["blresnet50"].weights
    classifier, backbone = Classifier(small(), 7), small("frozen_bn")
    load_backbone(classifier, record, file)
    assert load_backbone(backbone, record, file).dropped == ["fc.bias", "fc.weight"]
    for key, value in theirs.state_dict().items():
        assert torch.equal(classifier.state_dict()[key], value), key
    assert torch.equal(backbone.layer1.little_e[1].running_var, theirs.layer1.little_e[1].running_var)


def test_files_of_plain_and_other_nets_are_refused():
    ours = small()
    for other in (build_backbone("resnet10"), small(depths=(3, 3, 5, 1))):
        with pytest.raises(ValueError, match="do not fit"):
            load_state(ours, other.state_dict())
