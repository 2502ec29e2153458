"""Golden data of the published networks, and the small trunk."""

import importlib.util
import json
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from helpers import SHARED
from helpers.trunks import images, private_cache, randomised, tiny  # noqa: F401
from torch import Tensor

FOLDER = SHARED / "golden"
SLOW = {"blresnet50"}  # whose modules are all in blseresnext50_32x4d
FILES = {
    path.stem: path for folder in ("backbones", "backbones_biglittle") for path in (FOLDER / folder).glob("*.json")
}


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
    return lambda name: Golden(fill, json.loads(FILES[name].read_text()))


def pytest_generate_tests(metafunc) -> None:
    """`golden_name`: every golden file that is there."""
    if "golden_name" in metafunc.fixturenames:
        names = [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in sorted(FILES)]
        metafunc.parametrize("golden_name", names or ["none"])
