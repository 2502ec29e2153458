"""Bytes that tensors hold while something runs, by the part that made them."""

import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Ledger(TorchDispatchMode):
    """Counts the storage of every tensor from its first use in this block until nothing refers to it.

    live: bytes that each part holds now; peak: their largest sum so far; at_peak: what each part held then. What a
    kernel allocates and frees inside is not seen. Works on fake tensors, too, which have sizes and no memory.
    """

    def __init__(self) -> None:
        super().__init__()
        self.part = "other"
        self.live: Counter[str] = Counter()
        self.total = self.peak = 0
        self.at_peak: Counter[str] = Counter()
        self._known: dict[int, weakref.ref] = {}

    @contextmanager
    def of(self, part: str) -> Iterator[None]:
        """A block whose new tensors are `part`'s."""
        before, self.part = self.part, part
        try:
            yield
        finally:
            self.part = before

    def restart(self) -> None:
        """Forget the peak so far."""
        self.peak, self.at_peak = self.total, Counter(self.live)

    def note(self, tensor: Tensor, part: str = "") -> None:
        """Count a tensor, if its storage is a new one."""
        storage = tensor.untyped_storage()
        key, number, part = id(storage), storage.nbytes(), part or self.part
        if key in self._known or not number:
            return

        def gone(_: Any) -> None:  # noqa: ANN401
            del self._known[key]
            self.live[part] -= number
            self.total -= number

        self._known[key] = weakref.ref(storage, gone)
        self.live[part] += number
        self.total += number
        if self.total > self.peak:
            self.peak, self.at_peak = self.total, Counter(self.live)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        result = func(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if isinstance(value, torch.Tensor):
                self.note(value)
        return result
