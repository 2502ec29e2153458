"""The small trunk, pickles of Python 2, and a cache folder of its own."""

import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from helpers.trunks import images, private_cache, randomised, tiny  # noqa: F401

from detector.models.backbones.trunk import ResidualTrunk


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
def trained(tiny: Callable[..., ResidualTrunk], randomised: Callable[..., ResidualTrunk]) -> ResidualTrunk:  # noqa: F811
    """A trunk of which every norm has statistics and an affine of its own."""
    torch.manual_seed(1)
    return randomised(tiny("bn")).eval()
