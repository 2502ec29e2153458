"""Bytes that tensors hold while something runs, by the part that made them."""

import weakref
from collections import Counter
from typing import Any

import torch
import torchvision.ops  # noqa: F401 - registers its operators
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Ledger(TorchDispatchMode):
    """Counts the storage of every tensor that this block makes until nothing refers to it.

    part: whose the tensors are that are made now; live: bytes that each part holds; total: their sum; peak: the largest
    so far; at_peak: what each part held then. What a kernel allocates and frees inside of itself is not seen, but for
    the columns of deformable convolutions, which outweigh their maps. Works on fake tensors, too, which have sizes and
    no memory.
    """

    def __init__(self) -> None:
        super().__init__()
        self.part = "other"
        self.live: Counter[str] = Counter()
        self.total = self.peak = 0
        self.at_peak: Counter[str] = Counter()
        self._known: dict[int, weakref.ref] = {}
        self._parts: dict[int, str] = {}

    def restart(self) -> None:
        """Forget the peak so far."""
        self.peak, self.at_peak = self.total, Counter(self.live)

    def note(self, tensor: Tensor, part: str = "") -> None:
        """Count a tensor, unless its storage is counted already. part: whose it is; "": of the current one."""
        storage = tensor.untyped_storage()
        key, number = id(storage), storage.nbytes()
        if key in self._known or not number:
            return

        def gone(_: weakref.ref) -> None:
            del self._known[key]
            self._add(self._parts.pop(key), -number)

        self._known[key] = weakref.ref(storage, gone)
        self._parts[key] = part or self.part
        self._add(self._parts[key], number)
        if self.total > self.peak:
            self.restart()

    def move(self, tensor: Tensor, part: str) -> None:
        """Count a tensor that is known as another part's."""
        key, number = id(tensor.untyped_storage()), tensor.untyped_storage().nbytes()
        if key in self._parts:
            self._add(self._parts[key], -number)
            self._add(part, number)
            self._parts[key] = part

    def pass_by(self, number: int) -> None:
        """Count bytes that come and go at once."""
        self._add(self.part, number)
        if self.total > self.peak:
            self.restart()
        self._add(self.part, -number)

    def _add(self, part: str, number: int) -> None:
        self.live[part] += number
        self.total += number

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        result = func(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if isinstance(value, torch.Tensor):
                self.note(value)
        if func.overloadpacket in _FIRST:
            self.pass_by(_columns(*args[_FIRST[func.overloadpacket] :][:3]))
        return result


_FIRST = {torch.ops.torchvision.deform_conv2d: 0, torch.ops.torchvision._deform_conv2d_backward: 1}
"""Operator -> which of its arguments the maps are; weight and offsets follow."""

_AT_ONCE = 32  # images that the operator takes at a time, at most, and all of them alike


def _columns(x: Tensor, weight: Tensor, offsets: Tensor) -> int:
    """Bytes of the matrix that a deformable convolution writes out: the values of all taps for some images."""
    images = next(n for n in range(min(len(x), _AT_ONCE), 0, -1) if len(x) % n == 0)
    return images * x.shape[1] * weight.shape[2:].numel() * offsets.shape[2:].numel() * x.element_size()
