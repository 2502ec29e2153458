"""The pyramid against numbers of the official implementation, and at odd sizes."""

import numpy as np
import pytest
import torch
from helpers.golden import forward_weight, load
from torchvision.ops import FeaturePyramidNetwork

from detector.models.necks.fpn import FPN
from detector.structures import Level

PUBLISHED = {f"fpn_{part}{i}": f"{part}.c{i + 1}" for part in ("inner", "layer") for i in (1, 2, 3, 4)}
EXTRA = {"fpn_maxpool": "maxpool", "fpn_p6p7_p5": "p6p7_p5", "fpn_p6p7_c5": "p6p7_c5"}


def ours(key):
    module, _, leaf = key.replace("top_blocks.", "").rpartition(".")
    return f"{PUBLISHED.get(module, module)}.{leaf}"


def test_forward_equals_the_official_pyramid(golden_heads):
    facts, _ = load(golden_heads, "frcnn_modules_forward")
    modules = [m for m in facts["modules"] if m["name"] in EXTRA]
    assert len(modules) == 3
    for module in modules:
        rng = np.random.RandomState(309)
        sizes = [(32, 40), (16, 20), (8, 10), (4, 5)]
        maps = [
            torch.from_numpy(rng.standard_normal((1, c, *s)).astype(np.float32))
            for c, s in zip((16, 32, 64, 128), sizes)
        ]
        names = ["c2", "c3", "c4", "c5"]
        sources = {n: Level(c, 2 ** (i + 2)) for i, (n, c) in enumerate(zip(names, module["in_channels"])) if c}
        fpn = FPN(sources, module["out_channels"], EXTRA[module["name"]])
        fpn.load_state_dict({ours(k): forward_weight(k, tuple(s)) for k, s in module["state_dict"]})
        with torch.no_grad():
            outputs = fpn(dict(zip(names, maps)))
        assert list(outputs) == list(fpn.levels)
        assert len(outputs) == len(module["outputs"])
        for got, want in zip(outputs.values(), module["outputs"]):
            assert list(got.shape) == want["shape"]
            torch.testing.assert_close(got.flatten()[want["idx"]], torch.tensor(want["val"]), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("extra", ["none", "maxpool", "p6p7_p5", "p6p7_c5"])
@pytest.mark.parametrize("size", [(33, 65), (1, 1), (100, 7)])
def test_any_size_gives_levels_of_the_declared_stride(extra, size):
    fpn = FPN({"c3": Level(4, 8), "c4": Level(8, 16), "c5": Level(16, 32)}, 8, extra)
    maps = {}
    for i, (name, channels) in enumerate((("c3", 4), ("c4", 8), ("c5", 16))):
        maps[name] = torch.randn(1, channels, *(-(-s // 2**i) for s in size))
    for name, feature in fpn(maps).items():
        factor = fpn.levels[name].stride // 8
        assert feature.shape[2:] == tuple(-(-s // factor) for s in size)


def test_unknown_extra_names_the_key():
    with pytest.raises(ValueError, match=r"MODEL\.NECK\.EXTRA_LEVELS"):
        FPN({"c5": Level(4, 32)}, 8, "p6")


def test_norms_equal_torchvisions():
    """The pyramid of torchvision's second Faster R-CNN: batch norm after every convolution, no bias."""
    theirs = FeaturePyramidNetwork([8, 16], 8, norm_layer=torch.nn.BatchNorm2d).double().eval()
    ours = FPN({"c4": Level(8, 16), "c5": Level(16, 32)}, 8, norm="bn").double().eval()
    state = theirs.state_dict()
    for name, value in state.items():
        if name.endswith(("running_mean", "running_var", "weight")):
            value.uniform_(0.5, 1.5)
    renamed = {}
    for name, value in state.items():
        for i, source in enumerate(("c4", "c5")):
            name = name.replace(f"inner_blocks.{i}.", f"inner.{source}.")
            name = name.replace(f"layer_blocks.{i}.", f"layer.{source}.")
        renamed[name] = value
    ours.load_state_dict(renamed)
    maps = {"c4": torch.randn(1, 8, 9, 13).double(), "c5": torch.randn(1, 16, 5, 7).double()}
    with torch.no_grad():
        for a, b in zip(ours(maps).values(), theirs(maps).values(), strict=True):
            torch.testing.assert_close(a, b)
