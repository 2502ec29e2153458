"""Golden data of the published networks, and a residual trunk that every test can afford."""

import importlib.util
import json
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from helpers import SHARED
from torch import Tensor

from detector.models.backbones.resnet import Bottleneck
from detector.models.backbones.trunk import ResidualTrunk
from detector.models.norm import norm_factory

FOLDER = SHARED / "golden"


class Golden:
    """Outputs of one published network: `state()` fills its weights, `check()` compares a tensor or statistic."""

    def __init__(self, fill: ModuleType, record: dict[str, Any]) -> None:
        self.fill, self.record = fill, record

    def state(self) -> dict[str, Tensor]:
        return self.fill.fill_state_dict(self.record["state_dict"])

    def images(self, what: str) -> Tensor:
        name = {"eval": "input_shape", "eval_odd": "odd_input_shape", "train": "train_input_shape"}[what]
        return self.fill.golden_input(self.record[name], self.record.get(f"{what}_input_seed", 0)).double()

    def check(self, what: str, name: str, value: Tensor) -> None:
        want, flat = self.record[what][name], value.detach().reshape(-1)
        rtol = self.record["rtol"]["train" if what == "train" else "eval"]
        if not isinstance(want, dict):
            assert value.item() == want, name
            return
        got = {"mean": flat.mean().item(), "std": flat.std().item()}
        if "shape" in want:
            assert list(value.shape) == want["shape"], name
        if "samples" in want:
            index = np.linspace(0, flat.numel() - 1, 24).astype(int)
            got |= {"samples": flat[index].numpy(), "absmax": flat.abs().max().item()}
        got |= {f"first{n}": flat[:n].numpy() for n in (4, 8) if f"first{n}" in want}
        for key, numbers in got.items():
            error = np.abs(numbers - np.array(want[key])).max()
            assert error <= rtol * want.get("absmax", 1.0), (what, name, key, error)


@pytest.fixture(scope="session")
def golden() -> Callable[[str], Golden]:
    """Name of a golden file -> Golden; skips where the golden data are not beside the repository."""
    if not (FOLDER / "fill.py").is_file():
        pytest.skip("golden data are absent")
    spec = importlib.util.spec_from_file_location("golden_fill", FOLDER / "fill.py")
    fill = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fill)
    return lambda name: Golden(fill, json.loads((FOLDER / "backbones" / f"{name}.json").read_text()))


def pytest_generate_tests(metafunc) -> None:
    """`golden_name`: every golden file that is there."""
    if "golden_name" in metafunc.fixturenames:
        names = sorted(path.stem for path in (FOLDER / "backbones").glob("*.json"))
        metafunc.parametrize("golden_name", names or ["none"])


@pytest.fixture
def tiny() -> Callable[..., ResidualTrunk]:
    """Builder of a bottleneck trunk with few blocks; norm by name, further arguments as ResidualTrunk's."""

    def build(norm: str = "bn", depths: tuple[int, ...] = (2, 1, 1, 1), **args: Any) -> ResidualTrunk:
        args = {"groups": 32, "group_width": 1} | args
        return ResidualTrunk(Bottleneck, depths, norm=norm_factory(norm), **args)

    return build


@pytest.fixture
def randomised() -> Callable[[ResidualTrunk], ResidualTrunk]:
    """Gives every norm of a trunk statistics and an affine of its own."""

    def randomise(trunk: ResidualTrunk) -> ResidualTrunk:
        for key, tensor in trunk.state_dict().items():
            if tensor.ndim == 1:
                tensor.uniform_(*((-0.2, 0.2) if key.endswith(("bias", "mean")) else (0.5, 1.2)))
        return trunk

    return randomise


@pytest.fixture(autouse=True)
def _private_cache(tmp_path_factory, monkeypatch) -> None:
    monkeypatch.setenv("DETECTOR_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
