"""Computing activations again: the same bits, less kept."""

import os
import socket

import pytest
import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

from detector.config import load_config
from detector.models import recompute as recompute_module
from detector.models.backbones import Backbone, Classifier, build_backbone
from detector.models.backbones.trunk import ResidualTrunk
from detector.models.build import build_detector
from detector.models.recompute import recompute

FAMILIES = [
    *("resnet10", "resnet50_caffe", "resnext50_32x4d", "sreresnet50", "iresnet18", "iresgroup50", "resstage50"),
    *("res2net50_14w_8s", "res2net50_v1b_26w_4s", "se_res2net50_26w_4s", "res2net_dla60", "resnest50"),
    *("resnest50_fast_1s1x64d", "seresnet50", "skresnet50", "vgg16_bn", "vgg16"),
]  # fmt: skip
ALL = (1, 2, 3, 4)


def step(backbone, stages, images, at=0):
    """Losses, gradients and statistics of one step, and the bytes that were kept for its backward pass."""
    backbone.set_recomputed(stages)
    backbone.freeze(at)
    backbone.train()
    backbone.zero_grad(set_to_none=True)
    kept = {}

    def note(x):
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with saved_tensors_hooks(note, lambda x: x):
        features = backbone(images)
    losses = [x.float().square().mean() for x in features.values()]
    sum(losses).backward()
    gradients = {name: p.grad for name, p in backbone.named_parameters()}
    return losses, gradients, {name: b.clone() for name, b in backbone.named_buffers()}, sum(kept.values())


def both(name, norm, stages, *, passes=0, at=0, autocast=False, images=None):
    backbone = build_backbone(name, norm, passes=passes)
    start = {name: value.clone() for name, value in backbone.state_dict().items()}
    images = torch.randn(2, 3, 64, 96) if images is None else images
    results = []
    for chosen in ((), stages):
        backbone.load_state_dict(start)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            results.append(step(backbone, chosen, images, at))
    return results


def assert_same_bits(plain, again):
    for one, other in zip(plain[:3], again[:3], strict=True):
        torch.testing.assert_close(other, one, rtol=0, atol=0)
    assert any(g is not None for g in plain[1].values())


OFTEN = [*((name, "frozen_bn") for name in FAMILIES), ("vgg16_bn", "gn"), ("res2net_dla60", "gn"), ("iresnet18", "gn")]
OFTEN += [(name, "bn") for name in ("resnet10", "iresnet18", "res2net_dla60", "resnest50", "skresnet50", "vgg16_bn")]
RARELY = [(name, norm) for norm in ("gn", "bn") for name in FAMILIES if (name, norm) not in OFTEN]
RARELY += [("blresnet101", norm) for norm in ("frozen_bn", "gn", "bn")]


@pytest.mark.parametrize(("name", "norm"), [*OFTEN, *(pytest.param(*pair, marks=pytest.mark.slow) for pair in RARELY)])
def test_a_step_has_the_same_bits_and_keeps_less(name, norm):
    plain, again = both(name, norm, ALL)
    assert_same_bits(plain, again)
    assert again[3] < 0.8 * plain[3]


@pytest.mark.parametrize("norm", ["frozen_bn", "gn", "bn", "sync_bn"])
def test_repeated_stages_have_the_same_bits(norm):
    plain, again = both("resnet18", norm, (2, 4), passes=3)
    assert_same_bits(plain, again)


def test_batch_norms_count_once():
    _, (_, _, buffers, _) = both("resnet18", "bn", ALL, passes=2)
    assert buffers["layer2.0.bn1.num_batches_tracked"] == 1
    assert buffers["layer2.1.bn1.num_batches_tracked"] == 2


@pytest.mark.parametrize("name", ["resnet10", "resnest50", "vgg16_bn"])
def test_half_precision_has_the_same_bits(name):
    assert_same_bits(*both(name, "gn", ALL, autocast=True))


@pytest.mark.parametrize("name", ["resnet18", "res2net_dla60", "vgg16_bn"])
def test_every_stage_alone_keeps_less(name):
    backbone, images = build_backbone(name), torch.randn(1, 3, 64, 96)
    kept = [step(backbone, stages, images)[3] for stages in ((), (1,), (2,), (3,), (4,), ALL)]
    assert max(kept[1:5]) < kept[0]
    assert min(kept[1:5]) > kept[5]


@pytest.mark.parametrize("name", ["resnet18", "res2net_dla60", "vgg16_bn"])
def test_only_what_learns_is_computed_again(name, monkeypatch):
    calls = []
    monkeypatch.setattr(recompute_module, "checkpoint", lambda *a, **k: calls.append(a) or checkpoint(*a, **k))
    backbone, images = build_backbone(name), torch.randn(1, 3, 64, 96)
    step(backbone, (1, 2), images, at=3)
    assert not calls
    step(backbone, (1, 2), images, at=2)
    assert calls
    before = len(calls)
    with torch.no_grad():
        backbone(images)
    assert len(calls) == before


def test_dropout_is_the_same_in_the_second_run():
    layer, x = nn.Sequential(nn.Linear(64, 64), nn.Dropout(0.5)), torch.randn(8, 64)
    gradients = []
    for run in (layer, lambda x: recompute(layer, [layer], x)):
        torch.manual_seed(1)
        layer.zero_grad()
        (run(x) * torch.randn(8, 64)).sum().backward()
        gradients.append(layer[0].weight.grad.clone())
        drawn = torch.rand(1)
    torch.testing.assert_close(*gradients, rtol=0, atol=0)
    torch.manual_seed(1)
    layer(x), torch.randn(8, 64)
    assert drawn == torch.rand(1)  # and the random state goes on as without


def test_the_config_reaches_the_stages():
    cfg = load_config(None, ["MODEL.BACKBONE.CHECKPOINT_STAGES", "(1, 3)"])
    with torch.device("meta"):
        model = build_detector(cfg)
        assert [stage.recomputed for stage in model.backbone.stages()] == [True, False, True, False]
        assert not any(stage.recomputed for stage in build_detector(load_config(None)).backbone.stages())


def test_a_backbone_without_stages_says_so(tiny_trunk):
    class Plugin(Backbone):
        pass

    with pytest.raises(ValueError, match=r"Plugin has no stages that it can .* leave 2, 3 out of MODEL\.BACKBONE\.CHE"):
        Plugin().set_recomputed((3, 2))
    Plugin().set_recomputed(())
    with pytest.raises(ValueError, match=r"ResidualTrunk can compute stages 1 to 4 again: leave 5 out"):
        tiny_trunk.set_recomputed((4, 5))


@pytest.fixture
def tiny_trunk():
    with torch.device("meta"):
        return build_backbone("resnet10")


def test_a_classifier_trains_with_it():
    torch.manual_seed(0)
    backbone = build_backbone("resnet10", "bn", recomputed=ALL)
    model, images = Classifier(backbone, 5).train(), torch.randn(2, 3, 64, 64)
    with saved_tensors_hooks(lambda x: x, lambda x: x):
        model(images).sum().backward()
    assert isinstance(backbone, ResidualTrunk)
    assert all(p.grad is not None for p in model.parameters())
    assert model.layer1[0].bn1.num_batches_tracked == 1


@pytest.fixture
def group(monkeypatch):
    """A process group of this process alone."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setattr(os, "environ", {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)})
    torch.distributed.init_process_group("gloo", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def test_it_goes_on_below_ddp(group):
    backbone, images = build_backbone("resnet18", "bn", passes=2), torch.randn(2, 3, 64, 96)
    start = {name: value.clone() for name, value in backbone.state_dict().items()}
    plain = step(backbone, (), images)
    backbone.load_state_dict(start)
    backbone.set_recomputed(ALL)
    backbone.zero_grad(set_to_none=True)
    features = nn.parallel.DistributedDataParallel(backbone)(images)
    sum(x.float().square().mean() for x in features.values()).backward()
    gradients = {name: p.grad for name, p in backbone.named_parameters()}
    torch.testing.assert_close(gradients, plain[1], rtol=0, atol=0)
    torch.testing.assert_close(dict(backbone.named_buffers()), plain[2], rtol=0, atol=0)
