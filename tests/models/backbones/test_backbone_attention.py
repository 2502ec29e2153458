"""Split attention, selective kernels, squeeze and excitation: by the book, and against timm."""

import pytest
import torch
import torch.nn.functional as F
from helpers.trunks import unfilled

from detector.models.backbones import BACKBONES, build_backbone, build_classifier
from detector.models.backbones.resnest import SplitAttention
from detector.models.norm import norm_factory

TIMM = {
    "resnest50": "resnest50d",
    "resnest101": "resnest101e",
    **{name: name for name in ("seresnet50", "seresnet101", "seresnext50_32x4d", "skresnet50")},
}
FAST = {"1s1x64d": (1, 1, 64), "2s1x64d": (2, 1, 64), "4s1x64d": (4, 1, 64), "1s2x40d": (1, 2, 40),
        "2s2x40d": (2, 2, 40), "4s2x40d": (4, 2, 40), "1s4x24d": (1, 4, 24)}  # fmt: skip


def by_the_book(module, x):
    """Split attention as published: sum the splits, pool the sum, softmax over the radix of every cardinal group."""
    radix, groups = module.radix, module.cardinality
    x = F.relu(module.bn0(module.conv(x)))
    splits = torch.split(x, x.shape[1] // radix, dim=1)
    pooled = F.adaptive_avg_pool2d(sum(splits), 1)
    logits = module.fc2(F.relu(module.bn1(module.fc1(pooled))))
    if radix == 1:
        weights = torch.sigmoid(logits)
    else:
        weights = F.softmax(logits.view(len(x), groups, radix, -1).transpose(1, 2), dim=1).reshape(len(x), -1, 1, 1)
    parts = torch.split(weights, weights.shape[1] // radix, dim=1)
    return sum(weight * split for weight, split in zip(parts, splits))


@pytest.mark.parametrize(("radix", "cardinality"), [(1, 1), (1, 4), (2, 1), (2, 2), (4, 1), (4, 2)])
def test_split_attention_by_the_book(radix, cardinality):
    torch.manual_seed(0)
    module = SplitAttention(32, norm_factory("bn"), radix, cardinality).double()
    x = torch.randn(3, 32, 7, 5, dtype=torch.float64, requires_grad=True)
    parameters = [x, *module.parameters()]
    got, want = module(x), by_the_book(module, x)
    torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)
    probe = torch.randn_like(got)
    for g, w in zip(torch.autograd.grad(got, parameters, probe), torch.autograd.grad(want, parameters, probe)):
        torch.testing.assert_close(g, w, rtol=1e-8, atol=1e-10)


def timms_fast_net(name):
    """A fast variant of timm's blocks, which has names for two of the seven."""
    from timm.models.resnest import ResNestBottleneck
    from timm.models.resnet import ResNet

    radix, cardinality, width = FAST[name]
    args = {"radix": radix, "avd": True, "avd_first": True}
    stem = {"stem_type": "deep", "stem_width": 32, "avg_down": True}
    return ResNet(ResNestBottleneck, (3, 4, 6, 3), cardinality=cardinality, base_width=width, block_args=args, **stem)


@pytest.mark.parametrize("name", [*TIMM, *(f"resnest50_fast_{name}" for name in FAST)])
@torch.no_grad()
def test_equals_timm(name, randomised, images):
    timm = pytest.importorskip("timm")
    built = timm.create_model(TIMM[name]) if name in TIMM else timms_fast_net(name.removeprefix("resnest50_fast_"))
    theirs = randomised(built).double().eval()
    ours = unfilled(build_classifier, name).double().eval()
    ours.load_state_dict(theirs.state_dict())
    for x in (images.double(), images[:1, :, :50, :70].double()):  # every stage of the second has an odd side
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["resnest50", "resnest101", "resnest200", "resnest269"])
def test_depths_and_stems(name):
    with torch.device("meta"):
        trunk = build_backbone(name, "bn")
    want = {"50": (3, 4, 6, 3), "101": (3, 4, 23, 3), "200": (3, 24, 36, 3), "269": (3, 30, 48, 8)}
    assert tuple(len(stage) for stage in trunk.stages()) == want[name.removeprefix("resnest")]
    assert trunk.conv1[0].out_channels == (32 if name == "resnest50" else 64)
    assert [stage[0].pool_first for stage in trunk.stages()] == [False] * 4


@pytest.mark.parametrize("name", FAST)
def test_fast_variants(name):
    with torch.device("meta"):
        trunk = build_backbone(f"resnest50_fast_{name}", "bn")
    block = trunk.layer2[0]
    radix, cardinality, width = FAST[name]
    assert (block.conv2.radix, block.conv2.cardinality) == (radix, cardinality)
    assert block.conv1.out_channels == 128 * width // 64 * cardinality
    assert block.pool_first
    assert [isinstance(stage[0].pool, torch.nn.AvgPool2d) for stage in trunk.stages()] == [False, True, True, True]
    assert trunk.conv1[0].out_channels == 32


@pytest.mark.parametrize("name", ["resnest50", "skresnet50"])
def test_norms_of_pooled_maps_stay_batch_norms(name):
    with torch.device("meta"):
        trunk = build_backbone(name, "gn")
    kinds = {type(m) for key, m in trunk.named_modules() if key.endswith(("conv2.bn1", "attn.bn"))}
    assert kinds == {torch.nn.BatchNorm2d}
    others = [m for m in trunk.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert len(others) == 16


def test_crops_of_the_table():
    crops = {name: BACKBONES[name].weights.crop for name in ("resnest50", "resnest101", "resnest200", "resnest269")}
    assert list(crops.values()) == [224, 256, 320, 416]


def test_training_in_low_precision(images):
    for name in ("resnest50", "skresnet50"):
        trunk = build_backbone(name)
        with torch.autocast("cpu", torch.bfloat16):
            trunk(images[..., :32, :32])["c5"].float().mean().backward()
        assert all(torch.isfinite(p.grad).all() for p in trunk.parameters())
