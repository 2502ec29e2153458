"""Bytes that tensors hold while something runs, by the part that made them."""

import weakref
from collections import Counter
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Ledger(TorchDispatchMode):
    """Counts the storage of every tensor that this block makes until nothing refers to it.

    part: whose the tensors are that are made now; live: bytes that each part holds; total: their sum; peak: the largest
    so far; at_peak: what each part held then. What a kernel allocates and frees inside of itself is not seen. Works on
    fake tensors, too, which have sizes and no memory.
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

    def _add(self, part: str, number: int) -> None:
        self.live[part] += number
        self.total += number

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        result = func(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if isinstance(value, torch.Tensor):
                self.note(value)
        return result
