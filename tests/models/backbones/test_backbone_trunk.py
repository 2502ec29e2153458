"""Stages, passes, stems, shortcuts, random weights."""

import pytest
import torch
from torch import nn

from detector.models.backbones import build_backbone, list_backbones
from detector.models.backbones.resnet import Bottleneck
from detector.models.backbones.trunk import ResidualTrunk, Stage, avg_shortcut, deep_stem
from detector.models.norm import conv_norm, norm_factory


class Append(nn.Module):
    """Writes down that it ran."""

    def __init__(self, name):
        super().__init__()
        self.name = name

    def forward(self, x):
        return [*x, self.name]


@pytest.mark.parametrize(("passes", "order"), [(1, "abc"), (2, "abcbc"), (3, "abcbcbc")])
def test_later_passes_leave_the_first_block_out(passes, order):
    assert "".join(Stage([Append(name) for name in "abc"], passes)([])) == order
    assert Stage([Append("a")], passes)([]) == ["a"]


def test_set_passes_equals_a_double_run_by_hand(tiny, randomised, images):
    trunk = randomised(tiny("bn", (3, 2, 2, 1))).double().eval()
    once = trunk(images.double())
    trunk.set_passes(2)
    x, want = trunk.maxpool(torch.relu(conv_norm(trunk.conv1, trunk.bn1, images.double()))), {}
    for level, stage in zip(("c2", "c3", "c4", "c5"), trunk.stages(), strict=True):
        first, *rest = stage
        x = first(x)
        for block in rest + rest:
            x = block(x)
        want[level] = x
    torch.testing.assert_close(trunk(images.double()), want, rtol=0, atol=0)
    assert not torch.allclose(once["c2"], want["c2"])
    trunk.set_passes(1)
    torch.testing.assert_close(trunk(images.double()), once, rtol=0, atol=0)


def test_both_passes_update_the_same_statistics(tiny, images):
    trunk = tiny("bn", passes=2).train()
    trunk(images)
    assert trunk.layer1[0].bn1.num_batches_tracked == 1
    assert trunk.layer1[1].bn1.num_batches_tracked == 2


def test_passes_below_one_are_refused(tiny):
    with pytest.raises(ValueError, match=r"MODEL\.BACKBONE\.PASSES is -1"):
        tiny().set_passes(-1)


def test_passes_by_name_and_number():
    with torch.device("meta"):
        own, raised, lowered = (
            build_backbone("sreresnet50"),
            *(build_backbone("sreresnet50", passes=p) for p in (3, 1)),
        )
    assert [{stage.passes for stage in trunk.stages()} for trunk in (own, raised, lowered)] == [{2}, {3}, {1}]


def test_no_stem_pool_gives_stage_one_stride_two(tiny, images):
    trunk = tiny(stem_pool=False)
    assert {name: (x.shape[1], 64 // x.shape[2]) for name, x in trunk(images).items()} == trunk.levels


def test_deep_stem_and_average_shortcut_equal_timm(randomised, images):
    timm = pytest.importorskip("timm")
    ours = ResidualTrunk(Bottleneck, (2, 2, 2, 2), norm=norm_factory("bn"), stem=deep_stem, shortcut=avg_shortcut)
    theirs = timm.create_model("resnet26d", features_only=True, out_indices=(1, 2, 3, 4)).double().eval()
    randomised(ours).double().eval()
    theirs.load_state_dict(ours.state_dict())
    x = images.double()[:1, :, :58, :75]
    for got, want in zip(ours(x).values(), theirs(x), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)


CHECKED = ["resnet34", "sreresnet152", "iresnet34", "iresnet404", "iresgroup50", "res2net_dla60", "resnest101"]


@pytest.mark.parametrize(
    "name",
    [*CHECKED, *(pytest.param(name, marks=pytest.mark.slow) for name in list_backbones() if name not in CHECKED)],
)
def test_random_weights_with_frozen_norms_can_be_trained(name):
    torch.manual_seed(0)
    trunk = build_backbone(name)
    features = trunk(torch.randn(1, 3, 64, 64))
    # average pooling and averaging attention make maps smaller, by about 4 over the whole of a ResNeSt
    assert all(0.02 < x.std() < 5 for x in features.values()), {name: x.std().item() for name, x in features.items()}
    features["c5"].square().mean().backward()
    weights = [p for p in trunk.parameters() if p.requires_grad and p.ndim > 1]
    sizes = [p.grad.norm().item() / p.detach().norm().item() for p in weights]
    assert 0 < min(sizes)
    assert max(sizes) < 10


def test_random_weights_of_other_norms_are_plain(tiny):
    for norm in ("bn", "gn"):
        affine = [p for key, p in tiny(norm).named_parameters() if p.ndim == 1]
        assert {value for p in affine for value in p.tolist()} == {0.0, 1.0}
