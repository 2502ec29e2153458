"""Feature maps by block: stages with known outputs, numpy's corrcoef, torchvision's normalisation."""

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.transforms.v2 import functional as tv

from detector.analysis.channels import map_correlations, most_active, network_input, resize_short, stage_maps
from detector.models.backbones import BGR_255, RGB_UNIT, Backbone
from detector.models.backbones.resnet import Bottleneck
from detector.models.backbones.trunk import ResidualBlock, ResidualTrunk
from detector.models.norm import conv_norm, norm_factory


class Doubling(ResidualBlock):
    """The first block puts out a ramp, the others double their input in place and put out one more."""

    expansion = 1

    def __init__(self, channels, width, stride, shortcut, norm, place):
        super().__init__(channels, width, stride, None, norm, place)
        self.first, self.width = place.index == 0, width

    def forward(self, x):
        if self.first:
            return torch.arange(6.0).view(1, 1, 2, 3).repeat(1, self.width, 1, 1)
        return x.mul_(2) + 1


def trunk(block, depths, **args):
    torch.manual_seed(0)
    return ResidualTrunk(block, depths, norm=norm_factory("bn"), **args).eval()


@pytest.mark.parametrize("passes", [1, 2, 3])
def test_each_run_of_a_block_is_kept_as_it_came_out(passes):
    steps, maps = stage_maps(trunk(Doubling, (1, 3, 1, 1), passes=passes), torch.zeros(1, 3, 64, 64), 2)
    assert steps == [(1, 1)] + [(p, b) for p in range(1, passes + 1) for b in (2, 3)]
    assert maps.shape == (1 + 2 * passes, 128, 2, 3)
    ramp = torch.arange(6.0).view(2, 3)
    for i, one in enumerate(maps):  # x -> 2x + 1, i times
        assert torch.equal(one, (2**i * ramp + 2**i - 1).expand(128, 2, 3))


def test_a_recursive_stage_equals_its_blocks_called_one_by_one():
    backbone = trunk(Bottleneck, (1, 1, 4, 1), passes=2, groups=32, group_width=1)
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        stem = conv_norm(backbone.conv1, backbone.bn1, images).relu()
        x = backbone.layer2(backbone.layer1(backbone.maxpool(stem)))
        want = [x := block(x.clone()) for block in [*backbone.layer3, *list(backbone.layer3)[1:]]]
        c4 = backbone(images)["c4"]
    steps, maps = stage_maps(backbone, images, 3)
    assert steps == [(1, 1), (1, 2), (1, 3), (1, 4), (2, 2), (2, 3), (2, 4)]
    assert torch.equal(maps, torch.cat(want))
    assert torch.equal(maps[-1], c4[0])
    assert not any(module._forward_hooks for module in backbone.modules())


def test_stages_outside_the_trunk_and_other_backbones_are_refused():
    backbone = trunk(Bottleneck, (1, 1, 1, 1), groups=32, group_width=1)
    for stage in (0, 5, -1):
        with pytest.raises(ValueError, match=f"--stage {stage}: there are the stages 1 to 4"):
            stage_maps(backbone, torch.zeros(1, 3, 64, 64), stage)

    class Plain(Backbone):
        pass

    with pytest.raises(ValueError, match="Plain has no stages to look into"):
        stage_maps(Plain(), torch.zeros(1, 3, 64, 64), 1)


def test_maps_that_are_not_finite_are_refused():
    backbone = trunk(Bottleneck, (1, 1, 1, 1), groups=32, group_width=1)
    nn.init.constant_(backbone.layer2[0].bn3.bias, float("inf"))
    stage_maps(backbone, torch.zeros(1, 3, 64, 64), 1)
    with pytest.raises(ValueError, match="feature maps of stage 2 are not finite"):
        stage_maps(backbone, torch.zeros(1, 3, 64, 64), 2)


def test_correlation_of_maps_equals_numpy():
    first, last = torch.randn(2, 16, 7, 9) * 0.1 + 5
    want = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(first.double().numpy(), last.double().numpy())]
    assert np.abs(map_correlations(first, last).numpy() - want).max() < 1e-12


def test_correlation_of_equal_inverted_and_dead_maps():
    ramp = torch.arange(72, dtype=torch.float64).view(8, 9)
    dead, flat = torch.zeros_like(ramp), torch.full_like(ramp, 0.1)  # the mean is not quite 0.1
    first = torch.stack([ramp, ramp, dead, ramp, flat])
    last = torch.stack([3 * ramp + 1, -ramp, ramp, flat, ramp])
    got = map_correlations(first, last)
    assert got[:2].tolist() == pytest.approx([1, -1], abs=1e-12)
    assert got.isnan().tolist() == [False, False, True, True, True]
    assert got[:2].abs().max() <= 1


def test_the_most_active_channels_come_first():
    maps = torch.zeros(2, 4, 1, 2)
    maps[0, 1], maps[1, 1] = 1.0, 1.0
    maps[1, 2] = -6.0  # a strong negative map is active too
    maps[0, 3, 0, 0] = 0.5
    assert most_active(maps, 3) == [2, 1, 3]
    for count in (0, 5):
        with pytest.raises(ValueError, match=f"--num-channels {count}: it must be within 1..4"):
            most_active(maps, count)


def test_input_is_normalised_as_the_weight_record_says():
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    rgb = torch.from_numpy(image).permute(2, 0, 1)
    unit = tv.normalize(tv.to_dtype(rgb, torch.float32, scale=True), [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    assert torch.allclose(network_input(image, RGB_UNIT), unit[None], atol=1e-5)
    bgr = network_input(image, BGR_255)
    assert bgr.shape == (1, 3, 5, 7)
    assert torch.allclose(bgr[0, 0], rgb[2].float() - 102.9801)
    assert torch.allclose(bgr[0, 2], rgb[0].float() - 122.7717)


@pytest.mark.parametrize(
    ("shape", "want"), [((480, 640), (224, 298)), ((640, 480), (298, 224)), ((100, 150), (224, 336))]
)
def test_the_short_side_gets_the_size_and_the_shape_stays(shape, want):
    assert resize_short(np.zeros((*shape, 3), np.uint8), 224).shape == (*want, 3)


def test_sizes_have_limits():
    assert resize_short(np.zeros((20, 200, 3), np.uint8), 32).shape == (32, 320, 3)
    with pytest.raises(ValueError, match="201 wide and 20 high"):
        resize_short(np.zeros((20, 201, 3), np.uint8), 32)
    with pytest.raises(ValueError, match=r"--size 31: .* 32 pixels or more"):
        resize_short(np.zeros((100, 100, 3), np.uint8), 31)
