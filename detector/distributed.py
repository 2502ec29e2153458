"""Several processes that train, or evaluate, one model: torch.distributed in a few words, which do nothing in one."""

import gc
import inspect
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed
from torch.nn.parallel import DistributedDataParallel

from detector.errors import LostProcessError, UserError
from detector.launch import launch

T = TypeVar("T")

PATIENCE = timedelta(hours=2)
"""How long a process waits for the others: the first one may look through a data set, or compute measures."""

_LOST = re.compile(
    r"Connection (closed|reset) by peer|connectFullMesh failed|Timed out waiting \d+ ?ms|ncclRemoteError|"
    r"NCCL communicator was aborted|remote process exit"
)


def world_size() -> int:
    """How many processes there are."""
    return distributed.get_world_size() if _joined() else 1


def rank() -> int:
    """Which of them this one is, from 0."""
    return distributed.get_rank() if _joined() else 0


def is_main() -> bool:
    """Whether this is the process that writes and speaks for all."""
    return rank() == 0


@contextmanager
def joined(device: torch.device) -> Iterator[None]:
    """A block in which the processes that torchrun started know each other; nothing where it did not start this one.

    Tensors of a CUDA device travel by NCCL, those of the CPU by gloo. May be nested. Raises as `talking` does.
    """
    if launch().world == 1 or _joined():
        yield
        return
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    try:
        # No device_id: it would make NCCL connect before the first batch is there, and a process that fails until then
        # would leave the others waiting.
        with talking():
            store, number, world = next(distributed.rendezvous("env://", timeout=PATIENCE))
            distributed.init_process_group(
                backend, timeout=PATIENCE, store=_this_start(store), rank=number, world_size=world
            )
            yield
    finally:
        gc.collect()  # of a wrapped model, whose end talks to the group
        if _joined() and sys.exc_info()[0] is None:  # else others may be gone, and there is nobody to part from
            distributed.destroy_process_group()


def _this_start(store: distributed.Store) -> distributed.Store:
    """The part of a store that is of this start: when torchrun starts all again, it still holds the old addresses.

    On several machines the number of starts may differ; there torchrun has to make a new store itself.
    """
    here = launch()
    if here.local_world < here.world:
        return store
    return distributed.PrefixStore(f"start_{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)


@contextmanager
def talking() -> Iterator[None]:
    """A block in which the end of another process, whatever that died of, is a LostProcessError."""
    try:
        yield
    except (RuntimeError, ConnectionError) as error:
        if isinstance(error, UserError) or launch().world == 1:
            raise
        said = (str(error).splitlines() or [""])[0]
        if isinstance(error, distributed.DistNetworkError | distributed.DistStoreError):
            raise UserError(f"the {launch().world} processes do not find each other: {said}") from error
        if not _LOST.search(str(error)):
            raise
        text = f"another of the {launch().world} processes has ended, and says itself why unless it was killed ({said})"
        raise LostProcessError(text) from error


@contextmanager
def first_here() -> Iterator[None]:
    """A block that one process of each machine goes through before the others: they find what it put into a cache."""
    if not _joined() or launch().local_rank == 0:
        yield
        wait()
    else:
        wait()
        yield


def wait() -> None:
    """Until all processes are here."""
    largest([0])


def largest(numbers: Sequence[int]) -> list[int]:
    """The largest of each number over all processes."""
    if not _joined():
        return list(numbers)
    values = torch.tensor(numbers)
    distributed.all_reduce(values, distributed.ReduceOp.MAX)
    return values.tolist()


def sum_over(x: Tensor) -> Tensor:
    """The sum of a tensor over all processes, without a gradient."""
    if not _joined():
        return x.detach()
    total = x.detach().clone()
    distributed.all_reduce(total)
    return total


class _Sum(torch.autograd.Function):
    """The sum over all processes, whose gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: ANN401
        return sum_over(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ANN401
        return sum_over(gradient)


def sum_with_gradient(x: Tensor) -> Tensor:
    """The sum of a tensor over all processes, through which the gradients of all of their losses flow back."""
    return _Sum.apply(x)


def mean_over(x: Tensor) -> Tensor:
    """The mean of a tensor over all processes, without a gradient."""
    return sum_over(x) / world_size()


def from_main(value: T) -> T:
    """What the first process has."""
    if not _joined():
        return value
    box = [value]
    distributed.broadcast_object_list(box)
    return box[0]


@torch.no_grad()
def follow_main(tensors: Sequence[Tensor]) -> None:
    """Give tensors the values that they have in the first process, all of one dtype at once."""
    if not _joined():
        return
    for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):  # a set's order is not the same in all processes
        alike = [tensor for tensor in tensors if tensor.dtype == dtype]
        flat = torch.cat([tensor.flatten() for tensor in alike])
        distributed.broadcast(flat, 0)
        for tensor, values in zip(alike, flat.split([tensor.numel() for tensor in alike]), strict=True):
            tensor.copy_(values.view_as(tensor))


def gathered(value: T) -> list[T]:
    """What every process has, in their order; to the first one, the others have nothing."""
    if not _joined():
        return [value]
    found: list[Any] | None = [None] * world_size() if is_main() else None
    distributed.gather_object(value, found)
    return found or []


def wrap(model: torch.nn.Module, *, unused: bool = False) -> torch.nn.Module:
    """The model as the loop calls it: the gradients of its losses become means over the processes.

    unused: whether some of its parameters reach no loss. In a single process it is the model itself.
    """
    if not _joined():
        return model
    names = inspect.signature(DistributedDataParallel.__init__).parameters
    name = "forward_sync_buffers" if "forward_sync_buffers" in names else "broadcast_buffers"  # until torch 2.13
    # Buffers are equal already, or are made so after a step: before the next one would be too late for a test.
    options: dict[str, Any] = {name: False, "find_unused_parameters": unused}
    return DistributedDataParallel(model, **options)


def _joined() -> bool:
    return distributed.is_available() and distributed.is_initialized()
