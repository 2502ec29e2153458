"""Reference numbers: how they are read, and what they were computed with."""

import json
import zlib

import numpy as np
import pytest
import torch

from helpers import SHARED


def reference(folder):
    """A folder of reference data; skips where it is absent."""
    if not (SHARED / folder).is_dir():
        pytest.skip(f"reference data {folder} is absent")
    return SHARED / folder


def load(folder, name):
    """The facts and arrays of a case."""
    facts = json.loads((folder / f"{name}.json").read_text())
    arrays = folder / f"{name}.npz"
    return facts, {k: torch.from_numpy(v) for k, v in np.load(arrays).items()} if arrays.exists() else {}


def forward_weight(key, shape):
    """The parameter of this name that the reference outputs were computed with."""
    n = np.random.RandomState(zlib.crc32(key.encode())).standard_normal(shape)
    if key.endswith("bias"):
        n = 0.1 * n
    elif len(shape) > 1:
        n = n * np.sqrt(2 / np.prod(shape[1:]))
    else:
        n = 1 + 0.1 * n
    return torch.from_numpy(n.astype(np.float32))


def check_samples(got, want):
    """Compare a tensor with the shape, some elements and the sum of magnitudes that were stored of it."""
    assert list(got.shape) == want["shape"]
    flat, scale = got.flatten(), max(abs(want["min"]), abs(want["max"]))
    torch.testing.assert_close(flat[want["idx"]], torch.tensor(want["val"]), rtol=1e-3, atol=1e-3 * scale)
    assert flat.abs().sum().item() == pytest.approx(want["l1"], rel=1e-3)


def background_last(x):
    """Entries of classes in our order; the official codes have the background first."""
    return torch.cat([x[..., 1:], x[..., :1]], dim=-1)
