"""Fixtures of a residual trunk that every test can afford; a conftest.py that imports them offers them."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from detector.models.backbones.resnet import Bottleneck
from detector.models.backbones.trunk import ResidualTrunk
from detector.models.norm import norm_factory


@pytest.fixture
def tiny() -> Callable[..., ResidualTrunk]:
    """Builder of a bottleneck trunk with few blocks; norm by name, further arguments as ResidualTrunk's."""

    def build(norm: str = "bn", depths: tuple[int, ...] = (2, 1, 1, 1), **args: Any) -> ResidualTrunk:
        args = {"groups": 32, "group_width": 1} | args
        return ResidualTrunk(Bottleneck, depths, norm=norm_factory(norm), **args)

    return build


def unfilled(build: Callable[..., nn.Module], *args: Any, **named: Any) -> nn.Module:
    """What `build` makes, without the work of first values: every one is about to be loaded, and is nan until then."""
    with torch.device("meta"):
        model = build(*args, **named)
    model.to_empty(device="cpu")
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point():
            tensor.data.fill_(torch.nan)
    return model


@pytest.fixture
def randomised() -> Callable[[ResidualTrunk], ResidualTrunk]:
    """Gives every norm of a trunk statistics and an affine of its own."""

    def randomise(trunk: ResidualTrunk) -> ResidualTrunk:
        for key, tensor in trunk.state_dict().items():
            if tensor.ndim == 1:
                tensor.uniform_(*((-0.2, 0.2) if key.endswith(("bias", "mean")) else (0.5, 1.2)))
        return trunk

    return randomise


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def private_cache(tmp_path_factory, monkeypatch) -> None:
    """A cache folder of its own."""
    monkeypatch.setenv("DETECTOR_CACHE", str(tmp_path_factory.mktemp("cache")))
