"""RefineDet.PyTorch's checkpoints: the network on VGG16 computes what the port computes; ResNeSt-50's keys fit."""

import json
import re
import zlib

import numpy as np
import pytest
import torch

from detector.conversion import SOURCES, convert
from detector.models.build import build_detector
from detector.tasks.trained import load_for_inference


def weight(key, shape):
    """The rule by which the reference network was filled."""
    noise = np.random.RandomState(zlib.crc32(key.encode())).standard_normal(shape)
    if "L2Norm" in key:
        noise = (10 if key.startswith("conv4_3") else 8) * (1 + 0.1 * noise)
    elif key.endswith("bias"):
        noise = 0.1 * noise
    else:
        noise = noise * np.sqrt(2 / np.prod(shape[1:]))
    return torch.from_numpy(noise.astype(np.float32))


def check_samples(got, want):
    assert list(got.shape) == want["shape"]
    torch.testing.assert_close(
        got.flatten()[torch.tensor(want["idx"])], torch.tensor(want["val"]), rtol=0, atol=1e-3 * want["std"]
    )
    assert got.mean().item() == pytest.approx(want["mean"], abs=1e-3 * want["std"])
    assert got.abs().double().sum().item() == pytest.approx(want["l1"], rel=1e-3)


def background_first(logits):
    return torch.cat([logits[..., -1:], logits[..., :-1]], dim=-1)


@torch.no_grad()
def test_the_whole_network_computes_what_the_port_computes(golden_heads, tmp_path):
    facts = json.loads((golden_heads / "refinedet_forward.json").read_text())
    for net in facts["nets"]:
        size, shape = net["size"], (1, 3, net["size"], net["size"])
        assert str(shape).replace(" ", "") in net["input"]
        state = {key: weight(key, shape) for key, shape in net["state_dict"]}
        torch.save(state, tmp_path / "port.pth")
        opts = ("INPUT.SQUARE_SIZE", str(size))
        cfg = convert("refinedet-pytorch", tmp_path / "port.pth", tmp_path / "ours.pth", opts=opts)
        model, names, _ = load_for_inference(cfg)
        assert sum(p.numel() for p in model.parameters()) == net["num_params"]
        assert len(names) == net["num_classes"] - 1
        assert (names[0] == "aeroplane") == (len(names) == 20)
        assert model.mean.flatten().tolist() == [123, 117, 104]
        assert model.std.flatten().tolist() == [1, 1, 1]
        assert (model.bgr, cfg.INPUT.SQUARE_SIZE) == (False, size)

        seed = int(re.search(r"RandomState\((\d+)\)", net["input"])[1])
        images = torch.from_numpy(np.random.RandomState(seed).standard_normal(shape).astype(np.float32))
        sources = model.neck(model.backbone(images))
        blocks = {}
        for i, tcb in enumerate(model.head.tcbs):
            tcb.register_forward_hook(lambda module, args, out, name=f"tcb{i}", to=blocks: to.update({name: out}))
        outputs = model.head(sources)
        for i, source in enumerate(sources.values()):
            check_samples(source, net["intermediate"][f"arm_source{i}"])
        assert len(blocks) == 4
        for name, block in blocks.items():
            check_samples(block, net["intermediate"][name])
        check_samples(outputs.arm_deltas, net["outputs"]["arm_loc"])
        check_samples(background_first(outputs.arm_logits), net["outputs"]["arm_conf"])
        check_samples(outputs.odm_deltas, net["outputs"]["odm_loc"])
        check_samples(background_first(outputs.odm_logits), net["outputs"]["odm_conf"])


def resnest_keys(golden_heads, classes):
    """(key, shape) of resnest-refinedet: the port's head on other channels, and two backbones."""
    widths = {"arm": (512, 1024, 2048, 512), "tcb0": (512, 1024, 2048, 512)}
    for key, (out, *rest) in json.loads((golden_heads / "refinedet_forward.json").read_text())["nets"][0]["state_dict"]:
        name, index, *_ = key.split(".")
        if key.startswith(("conv4_3", "conv5_3")):
            out = 512 if "4_3" in key else 1024
        elif key.endswith("weight") and name.startswith("arm_"):
            rest = [widths["arm"][int(index)], *rest[1:]]
        elif key.endswith("weight") and name == "tcb0" and int(index) % 3 == 0:
            rest = [widths["tcb0"][int(index) // 3], *rest[1:]]
        elif key == "extras.0.weight":
            rest = [2048, 1, 1]
        elif name == "odm_conf":
            out = 3 * (classes + 1)
        if name != "vgg":
            yield key, (out, *rest)
    backbone = json.loads((golden_heads.parent / "backbones/resnest50.json").read_text())["state_dict"]
    for key, shape in backbone.items():
        yield f"model.{key}", tuple(shape)
        if not key.startswith("fc."):
            yield f"Resnet86.{key}", tuple(shape)


def test_the_descendant_on_resnest_fits(golden_heads, tmp_path):
    state = {key: torch.full(shape, 0.25) for key, shape in resnest_keys(golden_heads, 1)}
    state["odm_conf.0.bias"] = torch.arange(6.0)
    state["arm_conf.0.bias"] = torch.arange(6.0)
    torch.save({f"module.{key}": value for key, value in state.items()}, tmp_path / "port.pth")
    found = SOURCES["refinedet-pytorch"](tmp_path / "port.pth")
    assert found.state["head.odm_cls.0.bias"].tolist() == [1, 0, 3, 2, 5, 4]
    assert found.state["head.arm_cls.0.bias"].tolist() == [1, 0, 3, 2, 5, 4]
    second = sum(key.startswith("Resnet86.") for key in state)
    assert found.dropped == ["module.model.fc.weight", "module.model.fc.bias", f"the {second} tensors of Resnet86"]
    cfg = convert("refinedet-pytorch", tmp_path / "port.pth", tmp_path / "ours.pth")
    assert (cfg.MODEL.BACKBONE.NAME, cfg.MODEL.NUM_CLASSES) == ("resnest50", 1)
    assert cfg.INPUT.PIXEL_MEAN == (123, 117, 104)
    with torch.device("meta"):
        own = build_detector(cfg).state_dict()
    assert set(own) == {key for key in found.state if not key.endswith("num_batches_tracked")}


def test_another_file_is_named(tmp_path):
    torch.save({"odm_conf.0.weight": torch.zeros(63, 256, 3, 3)}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"a\.pth is no checkpoint of RefineDet\.PyTorch"):
        SOURCES["refinedet-pytorch"](tmp_path / "a.pth")
    state = {"odm_conf.0.weight": torch.zeros(63, 256, 3, 3), "arm_loc.0.weight": torch.zeros(12, 512, 3, 3)}
    torch.save(state, tmp_path / "b.pth")
    with pytest.raises(ValueError, match=r"b\.pth: its backbone is neither VGG16"):
        SOURCES["refinedet-pytorch"](tmp_path / "b.pth")
