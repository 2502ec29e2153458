"""Res2Net's families: PaddlePaddle's rules by hand, timm's networks as an oracle, DLA's unused parameters."""

import pickle

import pytest
import torch
from helpers.trunks import unfilled

from detector.models.backbones import (
    BACKBONES,
    Classifier,
    build_backbone,
    build_classifier,
    load_backbone,
)
from detector.models.backbones.dla import UNUSED
from detector.models.backbones.res2net import Res2Bottleneck, _vd
from detector.models.backbones.trunk import Place
from detector.models.norm import norm_factory
from detector.weights.load import load_state
from detector.weights.read import read_file
from detector.weights.rename import renamed

TIMM = {
    **{name: name for name in ("res2net50_26w_4s", "res2net50_26w_6s", "res2net50_26w_8s", "res2net50_48w_2s")},
    **{name: name for name in ("res2net50_14w_8s", "res2net101_26w_4s", "res2next50")},
    "res2net50_v1b_26w_4s": "res2net50d",
    "res2net101_v1b_26w_4s": "res2net101d",
    "res2net_dla60": "dla60_res2net",
    "res2next_dla60": "dla60_res2next",
}


def block(place, stride, **args):
    """A block of 4 splits of one channel whose convolutions are the identity and whose norms do next to nothing."""
    made = Res2Bottleneck(4, 1, stride, None, norm_factory("bn"), place, split_width=64, splits=4, **args).double()
    for conv in (made.conv1, made.conv3):
        torch.nn.init.dirac_(conv.weight)
    for conv in made.convs:
        torch.nn.init.dirac_(conv.weight)
    return made.eval()


def branch(made, values):
    x = torch.tensor(values, dtype=torch.float64).view(1, 4, 1, 1).expand(1, 4, 2, 2)
    scale = (1 + 1e-5) ** -0.5  # of a fresh batch norm in evaluation
    return made.branch(x), scale


def test_later_blocks_carry_and_pass_the_last_split_through():
    got, s = branch(block(Place(1, 3), 1), [1, 10, 100, 1000])
    first = s * s
    second = (10 * s + first) * s
    third = (100 * s + second) * s
    torch.testing.assert_close(got[0, :, 0, 0], torch.tensor([first, second, third, 1000 * s], dtype=torch.float64))


def test_first_blocks_carry_nothing_and_pool_the_last_split():
    got, s = branch(block(Place(0, 3), 1), [1, 10, 100, 1000])
    # 2 x 2 cells under a 3x3 window: 4 of 9 cells are inside, and the padding counts
    want = torch.tensor([s * s, 10 * s * s, 100 * s * s, 1000 * s * 4 / 9], dtype=torch.float64)
    torch.testing.assert_close(got[0, :, 0, 0], want)


def test_paddle_blocks_go_by_stride_and_leave_padding_out():
    """By hand: layer1.0 carries like any other block; a strided block averages the 4 cells that exist."""
    args = {"by_stride": True, "count_padding": False}
    got, s = branch(block(Place(0, 3), 1, **args), [1, 10, 100, 1000])
    second = (10 * s + s * s) * s
    third = (100 * s + second) * s
    want = torch.tensor([s * s, second, third, 1000 * s], dtype=torch.float64)
    torch.testing.assert_close(got[0, :, 1, 1], want)
    got, s = branch(block(Place(0, 3), 2, **args), [1, 10, 100, 1000])
    assert got.shape == (1, 4, 1, 1)
    torch.testing.assert_close(
        got[0, :, 0, 0], torch.tensor([s * s, 10 * s * s, 100 * s * s, 1000 * s], dtype=torch.float64)
    )


VD = {50: [3, 4, 6, 3], 101: [3, 4, 23, 3], 200: [3, 12, 48, 3]}


@pytest.mark.parametrize("layers", VD)
def test_the_ssld_nets_are_paddles(layers):
    with torch.device("meta"):
        net, v1b = (build_backbone(name, "bn") for name in (f"res2net{layers}_vd_26w_4s", "res2net50_v1b_26w_4s"))
    assert [len(stage) for stage in net.stages()] == VD[layers]
    assert [stage[0].pool is None for stage in net.stages()] == [True, False, False, False]
    assert [stage[0].pool is None for stage in v1b.stages()] == [False] * 4
    assert all(stage[0].pool.count_include_pad is False for stage in net.stages()[1:])
    assert all(stage[0].pool.count_include_pad is True for stage in v1b.stages())
    assert all(block.pool is None for stage in net.stages() for block in list(stage)[1:])


@pytest.mark.parametrize("layers", VD)
def test_the_ssld_records_name_paddles_files(layers):
    weights = BACKBONES[f"res2net{layers}_vd_26w_4s"].weights
    place = "https://paddle-imagenet-models-name.bj.bcebos.com/dygraph"
    assert weights.urls == (f"{place}/Res2Net{layers}_vd_26w_4s_ssld_pretrained.pdparams",)
    assert (weights.top1, weights.top5) == {50: (83.1, 96.6), 101: (83.9, 97.1), 200: (85.13, 97.42)}[layers]


def paddle_key(key, layers=200):
    """Our key -> PaddlePaddle's, by a table: the inverse of the rules in the weight record.

    The blocks of stage 3 bear letters in the net of 50 layers, in the others a number behind the first one's letter.
    """
    what = {"running_mean": "_mean", "running_var": "_variance"}
    *place, last = key.split(".")
    last = what.get(last, last)
    stem = {"conv1.0": "conv1_1._conv", "conv1.1": "conv1_1._batch_norm", "conv1.3": "conv1_2._conv",
            "conv1.4": "conv1_2._batch_norm", "conv1.6": "conv1_3._conv", "bn1": "conv1_3._batch_norm",
            "fc": "out"}  # fmt: skip
    if ".".join(place) in stem:
        return f"{stem['.'.join(place)]}.{last}"
    stage, index, *rest = place
    i = int(stage.removeprefix("layer")) - 1
    letter = f"b{index}" if layers > 50 and i == 2 and index != "0" else chr(97 + int(index))
    parts = {"conv1": "conv0._conv", "bn1": "conv0._batch_norm", "conv3": "conv2._conv", "bn3": "conv2._batch_norm",
             "downsample.1": "short._conv", "downsample.2": "short._batch_norm"}  # fmt: skip
    if rest[0] in ("convs", "bns"):
        layer = "_conv" if rest[0] == "convs" else "_batch_norm"
        return f"bb_{i}_{index}.res{i + 2}{letter}_branch2b_{int(rest[1]) + 1}.{layer}.{last}"
    return f"bb_{i}_{index}.{parts['.'.join(rest)]}.{last}"


EXAMPLES = {
    50: ("bb_2_5.res4f_branch2b_3._batch_norm._variance", "bb_1_3.res3d_branch2b_1._conv.weight"),
    101: ("bb_2_22.res4b22_branch2b_3._batch_norm._variance", "bb_1_3.res3d_branch2b_1._conv.weight"),
    200: ("bb_2_47.res4b47_branch2b_3._batch_norm._variance", "bb_1_11.res3l_branch2b_1._conv.weight"),
}


@pytest.mark.parametrize("layers", VD)
def test_paddles_names_become_ours(layers):
    name = f"res2net{layers}_vd_26w_4s"
    with torch.device("meta"):
        own = [key for key in build_classifier(name).state_dict() if "num_batches" not in key]
    published = {paddle_key(key, layers): torch.zeros(0) for key in own}
    assert set(EXAMPLES[layers]) <= set(published)
    assert list(renamed(published, BACKBONES[name].weights.rename)) == own


def test_a_paddle_file_loads(tmp_path):
    """A file of a shallow net of the same make: arrays, a table of names, a linear weight [in, out]."""

    def build():
        return _vd((1, 2, 3, 1), norm_factory("bn"))

    torch.manual_seed(0)
    state = {k: v for k, v in Classifier(build(), 7).state_dict().items() if not k.endswith("num_batches_tracked")}
    arrays = {paddle_key(k, 50): (v.T if k == "fc.weight" else v).numpy() for k, v in state.items()}
    path = tmp_path / "Res2Net50_vd_26w_4s_ssld_pretrained.pdparams"
    names = {key: f"linear_{i}.w_0" for i, key in enumerate(arrays)}
    path.write_bytes(pickle.dumps({**arrays, "StructuredToParameterName@@": names}, protocol=4))
    weights = BACKBONES["res2net50_vd_26w_4s"].weights
    classifier, backbone = Classifier(build(), 7), build()
    load_backbone(classifier, weights, read_file(path))
    assert load_backbone(backbone, weights, read_file(path)).dropped == ["fc.bias", "fc.weight"]
    for key, value in state.items():
        assert torch.equal(classifier.state_dict()[key], value), key
        assert key.startswith("fc.") or torch.equal(backbone.state_dict()[key], value), key


class PaddleBlock(torch.nn.Module):
    """PaddlePaddle's bottleneck and its shortcut, written down again from their description; channels by the name."""

    def __init__(self, channels, out, stride, first, inner):
        super().__init__()

        def unit(i, o, side, step=1):
            return torch.nn.Sequential(
                torch.nn.Conv2d(i, o, side, step, side // 2, bias=False), torch.nn.BatchNorm2d(o)
            )

        self.stride, part = stride, inner // 4
        self.enter, self.leave = unit(channels, inner, 1), unit(inner, out, 1)
        self.scales = torch.nn.ModuleList(unit(part, part, 3, stride) for _ in range(3))
        self.short = unit(channels, out, 1) if first else None

    def forward(self, x):
        pool = torch.nn.functional.avg_pool2d
        parts = self.enter(x).relu().chunk(4, 1)
        outs = []
        for part, scale in zip(parts, self.scales):
            outs.append(scale(part + outs[-1] if outs and self.stride == 1 else part).relu())
        last = parts[3] if self.stride == 1 else pool(parts[3], 3, self.stride, 1, count_include_pad=False)
        y = self.leave(torch.cat([*outs, last], 1))
        if self.short is not None and self.stride == 2:
            x = pool(x, 2, 2, ceil_mode=True, count_include_pad=False)
        return (y + (x if self.short is None else self.short(x))).relu()


@torch.no_grad()
def test_the_vd_trunk_computes_what_its_description_says(randomised):
    """The stem of three convolutions and stages of 2, 1, 2 and 1 blocks, on a picture of odd sides, in float64."""
    net = randomised(_vd((2, 1, 2, 1), norm_factory("bn"))).double().eval()
    state, x = net.state_dict(), torch.randn(2, 3, 37, 51, dtype=torch.float64)
    want, width = net.maxpool(net.bn1(net.conv1(x)).relu()), 64
    for i, depth in enumerate((2, 1, 2, 1)):
        for j in range(depth):
            block = PaddleBlock(width, 256 * 2**i, 2 if i and not j else 1, j == 0, 104 * 2**i).double().eval()
            names = {"enter.0": "conv1", "enter.1": "bn1", "leave.0": "conv3", "leave.1": "bn3"}
            names |= {"short.0": "downsample.1", "short.1": "downsample.2"}
            names |= {f"scales.{k}.{m}": f"{('convs', 'bns')[m]}.{k}" for k in range(3) for m in range(2)}
            keys = {key: f"layer{i + 1}.{j}.{names[key.rpartition('.')[0]]}.{key.rpartition('.')[2]}"
                    for key in block.state_dict()}  # fmt: skip
            block.load_state_dict({key: state[ours] for key, ours in keys.items()})
            want, width = block(want), 256 * 2**i
    torch.testing.assert_close(net(x)["c5"], want, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", TIMM)
@torch.no_grad()
def test_equals_timm(name, randomised, images):
    timm = pytest.importorskip("timm")
    theirs = randomised(timm.create_model(TIMM[name])).double()
    ours = unfilled(build_classifier, name).double()
    load_state(ours, theirs.state_dict(), optional=BACKBONES[name].weights.optional)
    for mode in (False, True):
        got, want = ours.train(mode)(images.double()), theirs.train(mode)(images.double())
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)
    if "dla" not in name:  # timm's cannot run an odd side
        x = images[:1, :, :50, :70].double()
        torch.testing.assert_close(ours.eval()(x), theirs.eval()(x), rtol=1e-9, atol=1e-9)


def test_timms_file_of_a_dla_loads_and_the_official_one_too(tmp_path):
    """The published files hold parameters that nothing computes with; timm's leave them out."""
    weights = BACKBONES["res2net_dla60"].weights
    official = build_classifier("res2net_dla60").state_dict()
    unused = [key for key in official if key.startswith(UNUSED)]
    assert len(unused) == 18
    shorter = {key: value for key, value in official.items() if key not in unused}
    for i, state in enumerate((official, shorter)):
        torch.save(state, tmp_path / f"{i}.pth")
        backbone = build_backbone("res2net_dla60")
        load_backbone(backbone, weights, read_file(tmp_path / f"{i}.pth"))
        assert torch.equal(backbone.level5.root.conv.weight, official["level5.root.conv.weight"])
    del shorter["level2.project.0.weight"]
    torch.save(shorter, tmp_path / "2.pth")
    with pytest.raises(ValueError, match=r"missing +1  level2\.project\.0\.weight"):
        load_backbone(build_backbone("res2net_dla60"), weights, read_file(tmp_path / "2.pth"))


@pytest.mark.parametrize("at", [0, 2])
def test_unused_parameters_never_have_a_gradient(at, images):
    backbone = build_backbone("res2next_dla60", "bn")
    backbone.freeze(at)
    without = {name for name, p in backbone.named_parameters() if not p.requires_grad}
    unused = {name for name, _ in backbone.named_parameters() if name.startswith(UNUSED)}
    assert unused < without if at else unused == without
    sum(x.mean() for x in backbone(images).values()).backward()
    assert all((p.grad is not None) == p.requires_grad for p in backbone.parameters())


@torch.no_grad()
def test_dla_pads_its_input(randomised):
    backbone = randomised(build_backbone("res2net_dla60", "bn")).eval()
    image = torch.randn(1, 3, 50, 90)
    padded = torch.zeros(1, 3, 64, 96)
    padded[..., :50, :90] = image
    torch.testing.assert_close(backbone(image), backbone(padded))


def test_res2net_licences_are_non_commercial_but_paddles():
    for name in (*TIMM, *(f"res2net{layers}_vd_26w_4s" for layers in VD)):
        licence = BACKBONES[name].weights.licence
        assert licence == ("Apache-2.0" if name.endswith("vd_26w_4s") else "CC BY-NC-SA 4.0 (non-commercial)")
