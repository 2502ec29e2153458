"""Networks of salient objects over every family of backbones, by the one key."""

import pytest
import torch
from helpers.salient import TINY

from detector.config import load_config
from detector.errors import UserError
from detector.models.backbones import BACKBONES, list_backbones
from detector.models.build import build_detector
from detector.models.heads import HEADS
from detector.models.saliency import SALIENCY, build_saliency
from detector.structures import MaskTarget


def built(name, *opts):
    return build_saliency(load_config(None, [*TINY, "MODEL.BACKBONE.NAME", name, *opts]))


def step(model, side=64):
    size = (side, side - 7)
    images = torch.randint(0, 256, (2, 3, side, side), dtype=torch.uint8)
    mask = torch.zeros(size, dtype=torch.uint8)
    mask[5:20, 5:30] = 1
    target = MaskTarget(mask=mask, image_id=0, original=size, draw=1)
    losses = model(images, [size] * 2, [target] * 2)
    sum(losses.values()).backward()
    return images, losses, size


def check_trains_and_predicts(name, *opts):
    model = built(name, "MODEL.BACKBONE.NORM", "frozen_bn", *opts).train()
    images, losses, size = step(model)
    assert all(torch.isfinite(loss) for loss in losses.values())
    gradients = [p.grad for p in model.parameters() if p.requires_grad]
    assert all(g is not None and torch.isfinite(g).all() for g in gradients)
    with torch.no_grad():
        maps = model.eval()(images, [size] * 2)
    assert [tuple(one.shape) for one in maps] == [size] * 2
    assert all(((one >= 0) & (one <= 1)).all() for one in maps)


@pytest.mark.parametrize("name", ["resnet10", "iresnet18"])
def test_a_backbone_trains_and_predicts(name):
    check_trains_and_predicts(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", list_backbones())
def test_every_backbone_trains_and_predicts(name):
    check_trains_and_predicts(name)


SLOW_STEMS = {"res2net50_v1b_26w_4s": 64, "resnest101": 128, "res2net_dla60": 32}
STEMS = [("resnet10", 64), ("vgg16", 128), *(pytest.param(*one, marks=pytest.mark.slow) for one in SLOW_STEMS.items())]


@pytest.mark.parametrize(("name", "channels"), STEMS)
def test_the_stem_is_a_level_where_it_is_asked_for(name, channels):
    with torch.device("meta"):
        plain, model = BACKBONES[name].build(torch.nn.BatchNorm2d).eval(), built(name).eval()
        images = torch.zeros(1, 3, 64, 96)
        found = model.backbone(images)
        assert "c1" not in plain(images)
    assert [*found] == ["c1", "c2", "c3", "c4", "c5"] == [*model.backbone.levels]
    assert (tuple(found["c1"].shape), model.backbone.levels["c1"].stride) == ((1, channels, 32, 48), 2)
    assert plain.state_dict().keys() == model.backbone.state_dict().keys()


def test_c1_is_the_rectified_stem_and_the_other_levels_are_as_they_were():
    model = built("resnet10").eval()
    images = torch.randn(1, 3, 64, 64)
    found = model.backbone(images)
    net = model.backbone
    assert torch.allclose(found["c1"], net.bn1(net.conv1(images)).relu(), atol=1e-6)
    net.levels.pop("c1")
    assert all(torch.equal(level, found[name]) for name, level in net(images).items())


def test_a_backbone_without_that_level_is_told(caplog, monkeypatch):
    from detector.models.backbones.trunk import ResidualTrunk

    monkeypatch.delattr(ResidualTrunk, "add_stem_level")
    model = built("resnet10")
    assert [*model.head.levels] == ["c2", "c3", "c4", "c5"]
    assert "resnet10 does not put out its stem: the finest side output is that of c2" in caplog.text


def test_heads_of_boxes_and_of_maps_are_two_tables():
    assert list(SALIENCY) == ["dss"]
    assert not SALIENCY.keys() & HEADS.keys()
    with pytest.raises(UserError, match=r"build_detector is for detectors of boxes, and this is MODEL\.TASK saliency"):
        build_detector(load_config(None, TINY))
