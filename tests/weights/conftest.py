"""A residual trunk that every test can afford, pickles of Python 2, and a cache folder of its own."""

import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from detector.models.backbones.resnet import Bottleneck
from detector.models.backbones.trunk import ResidualTrunk
from detector.models.norm import norm_factory


class Python2Pickler(pickle._Pickler):
    """Writes text and bytes alike as byte strings, as Python 2 did, and the names of numpy 1."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def save_string(self, text):
        data = text.encode("latin1") if isinstance(text, str) else text
        self.write(pickle.BINSTRING + struct.pack("<i", len(data)) + data)
        self.memoize(text)

    dispatch[str] = dispatch[bytes] = save_string


@pytest.fixture
def write_python2() -> Callable[[object, Path], None]:
    """write_python2(content, path): a pickle as Python 2 and numpy 1 wrote it."""

    def write(content: object, path: Path) -> None:
        with path.open("wb") as file:
            Python2Pickler(file, protocol=2).dump(content)
        path.write_bytes(path.read_bytes().replace(b"numpy._core", b"numpy.core"))

    return write


@pytest.fixture
def tiny() -> Callable[..., ResidualTrunk]:
    """Builder of a bottleneck trunk with few blocks; norm by name, further arguments as ResidualTrunk's."""

    def build(norm: str = "bn", depths: tuple[int, ...] = (2, 1, 1, 1), **args: Any) -> ResidualTrunk:
        args = {"groups": 32, "group_width": 1} | args
        return ResidualTrunk(Bottleneck, depths, norm=norm_factory(norm), **args)

    return build


@pytest.fixture
def trained(tiny: Callable[..., ResidualTrunk]) -> ResidualTrunk:
    """A trunk of which every norm has statistics and an affine of its own."""
    torch.manual_seed(1)
    trunk = tiny("bn")
    for key, tensor in trunk.state_dict().items():
        if tensor.ndim == 1:
            tensor.uniform_(*((-0.2, 0.2) if key.endswith(("bias", "mean")) else (0.5, 1.2)))
    return trunk.eval()


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def _private_cache(tmp_path_factory, monkeypatch) -> None:
    monkeypatch.setenv("DETECTOR_CACHE", str(tmp_path_factory.mktemp("cache")))
