"""RefineDet's source levels."""

import pytest
import torch
import torch.nn.functional as F
from helpers.inputs import features_for

from detector.config import load_config
from detector.models.necks.extra import L2Norm, RefineDetSources, build_refinedet_sources
from detector.models.norm import norm_factory
from detector.structures import Level

SOURCES = {"c3": Level(8, 8), "c4": Level(12, 16), "c5": Level(16, 32)}


def test_cells_have_unit_length_times_the_scale():
    x = torch.randn(2, 6, 3, 4)
    torch.testing.assert_close(L2Norm(6, 10)(x), 10 * F.normalize(x, dim=1))
    norm = L2Norm(2, 1)
    norm.weight.data = torch.tensor([1.0, 5])
    assert norm(torch.tensor([3.0, 4])[None, :, None, None]).flatten().tolist() == pytest.approx([0.6, 4])


def test_empty_cells_and_large_halves_stay_finite():
    x = torch.zeros(1, 4, 2, 2, requires_grad=True)
    L2Norm(4, 10)(x).sum().backward()
    assert torch.isfinite(x.grad).all()
    half = torch.full((1, 4, 1, 1), 6e4, dtype=torch.float16)
    assert L2Norm(4, 10)(half).tolist() == torch.full((1, 4, 1, 1), 5.0).tolist()


@pytest.mark.parametrize("size", [(128, 192), (101, 135), (33, 8)])
@pytest.mark.parametrize(("extra", "norm"), [("c6", None), ("c6", "bn"), ("c6_bottleneck", "gn"), ("none", None)])
def test_levels_are_as_declared(size, extra, norm):
    neck = RefineDetSources(SOURCES, (10, 8), extra, norm and norm_factory(norm))
    features = features_for(SOURCES, *size)
    outputs = neck(features)
    assert list(outputs) == list(neck.levels) == (["c3", "c4", "c5"] if extra == "none" else ["c3", "c4", "c5", "c6"])
    for name, level in neck.levels.items():
        want = (2, level.channels, -(-size[0] // level.stride), -(-size[1] // level.stride))
        assert outputs[name].shape == want
    assert outputs["c5"] is features["c5"]
    torch.testing.assert_close(outputs["c3"].norm(dim=1), torch.full_like(outputs["c3"][:, 0], 10))
    torch.testing.assert_close(outputs["c4"].norm(dim=1), torch.full_like(outputs["c4"][:, 0], 8))
    if extra != "none":
        assert (neck.levels["c6"].stride, neck.levels["c6"].channels) == (64, 512)
    sum(x.sum() for x in outputs.values()).backward()
    assert all(p.grad is not None for p in neck.parameters())


def test_no_scales_leave_all_sources_as_they_are():
    features = features_for(SOURCES, 64, 64)
    outputs = RefineDetSources(SOURCES, ())(features)
    assert all(outputs[name] is features[name] for name in SOURCES)


def test_c6_is_made_of_the_source_not_of_what_is_normalised():
    neck, features = RefineDetSources(SOURCES, (10, 8, 5)), features_for(SOURCES, 64, 64)
    torch.testing.assert_close(neck(features)["c6"], neck.extra(features["c5"]))


def test_the_bottleneck_is_res6():
    block = RefineDetSources(SOURCES, (), "c6_bottleneck", norm_factory("bn")).extra
    convs = {name: module for name, module in block.named_modules() if isinstance(module, torch.nn.Conv2d)}
    shapes = {name: (tuple(conv.weight.shape[:2]), conv.stride[0]) for name, conv in convs.items()}
    assert shapes == {
        "conv1": ((128, 16), 2),
        "conv2": ((128, 128), 1),
        "conv3": ((512, 128), 1),
        "downsample.0": ((512, 16), 2),
    }


def test_what_does_not_fit_is_refused():
    with pytest.raises(
        ValueError, match=r"'p6p7_p5' \(.*LEVELS\) belong to the neck fpn; refinedet_sources has none, c6"
    ):
        RefineDetSources(SOURCES, (), "p6p7_p5")
    with pytest.raises(ValueError, match="a scale for each of 4 sources, but there are 3"):
        RefineDetSources(SOURCES, (1, 2, 3, 4))
    with pytest.raises(ValueError, match=r"c6_bottleneck needs a MODEL\.NECK\.NORM"):
        RefineDetSources(SOURCES, (), "c6_bottleneck")
    cfg = load_config(None, ["MODEL.NECK.SOURCES", "[c3, c9]", "MODEL.NECK.EXTRA_LEVELS", "c6"])
    with pytest.raises(ValueError, match=r"MODEL\.NECK\.SOURCES \('c3', 'c9'\): resnet50 has \('c3', 'c4', 'c5'\)"):
        build_refinedet_sources(cfg, SOURCES)
