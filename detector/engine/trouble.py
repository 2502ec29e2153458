"""What a machine runs out of, in words that help: memory, and the processes that read pictures."""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch

from detector.data.workers import worker_trouble
from detector.errors import UserError

_CPU_ALLOCATOR = re.compile(r"can't allocate memory|not enough memory|Cannot allocate memory")
_ASKED = re.compile(r"[Tt]ried to allocate ([\d.]+ ?[KMGT]?i?B)")
_BYTES = re.compile(r"tried to allocate (\d+) bytes")


class Remedies(NamedTuple):
    """What the user of a task may change. memory: for less of it, the best first; workers: names their number."""

    memory: str
    workers: str


def machine_trouble(error: BaseException, remedies: Remedies) -> str:
    """What an error says of this machine, with the remedy; "" where it says something else."""
    if text := worker_trouble(error, remedies.workers):
        return text
    if not out_of_memory(error):
        return ""
    return f"out of memory{_asked(str(error))}. What needs less, the best first: {remedies.memory}"


def out_of_memory(error: BaseException) -> bool:
    """Whether the device, the processor's allocator, numpy or the system had no memory left."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    text = str(error)
    # The processor's allocator raises a plain RuntimeError; so does MPS.
    return isinstance(error, RuntimeError) and bool("out of memory" in text or _CPU_ALLOCATOR.search(text))


@contextmanager
def explained(remedies: Remedies) -> Iterator[None]:
    """A block in which `machine_trouble` is raised as a UserError; every other error stays what it is."""
    try:
        yield
    except (RuntimeError, MemoryError, OSError) as error:
        if isinstance(error, UserError) or not (text := machine_trouble(error, remedies)):
            raise
        raise UserError(text) from error


def _asked(text: str) -> str:
    """How much was asked for, and on which device, where the error says so."""
    place = " of the GPU" if "CUDA" in text else " of the Apple GPU" if "MPS" in text else ""
    if found := _BYTES.search(text):
        return f"{place} ({int(found[1]) / 2**20:.0f} MiB more were asked for)"
    found = _ASKED.search(text)
    return f"{place} ({found[1]} more were asked for)" if found else place
