"""Processes that read pictures: as many as there are cores for, and as much shared memory as their batches need."""

import os
import sys
from pathlib import Path

from detector.data.workers import PREFETCH
from detector.errors import UserError
from detector.launch import launch
from detector.text import counted

SHARED = Path("/dev/shm")
"""Where workers put their batches on Linux; Docker gives it 64 MB."""


def usable_cores() -> int:
    """The processor cores that this process may use; several that train together share the machine's."""
    # Linux: fewer than the machine's, in a container or under taskset
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // launch().local_world)


def usable_workers(wanted: int) -> int:
    """The workers to start where so many are wanted: more than there are cores only take turns."""
    return min(wanted, usable_cores())


def workers_text(wanted: int) -> str:
    """How many workers read, for a person: "2 (of 4: 2 cores)" where fewer are started than wanted."""
    number = usable_workers(wanted)
    return str(wanted) if number == wanted else f"{number} (of {wanted}: {counted(usable_cores(), 'core|cores')})"


def check_shared_memory(wanted: int, batch_bytes: int, free: int | None = None, key: str = "") -> None:
    """Raise ValueError when the batches that workers have ready would not fit into the shared memory.

    They would wait for ever then, or die. wanted: number of workers that the user asked for; batch_bytes: of the
    largest batch; or of the batches of several loaders that are open at once, summed up; free: bytes, None asks the
    system, which only Linux answers; key: what the number of workers is called.
    """
    workers = usable_workers(wanted)
    if free is None:
        free = free_shared_memory()
    needed = workers * PREFETCH * batch_bytes
    if free is None or needed <= free:
        return
    fitting = free // (PREFETCH * batch_bytes)
    remedy = f"{key} {fitting}" + (f" or {key} 0" if fitting else ", so that the program reads the pictures itself")
    raise UserError(
        f"{key} {wanted}: the batches that {counted(workers, 'worker|workers')} may have ready, {PREFETCH} of "
        f"{_mib(batch_bytes)} each, take {_mib(needed)}, and {SHARED} has {_mib(free)} free, so that loading would "
        f"stand still: write {remedy}; a container gets more with docker run --shm-size={-(-2 * needed // 2**30)}g"
    )


def free_shared_memory() -> int | None:
    """Bytes that are free in the shared memory; None where workers do not go by way of it."""
    if not sys.platform.startswith("linux") or not SHARED.is_dir():
        return None
    state = os.statvfs(SHARED)
    return state.f_bavail * state.f_frsize


def _mib(number: int) -> str:
    return f"{number / 2**20:,.0f} MiB" if number >= 10 * 2**20 else f"{number / 2**20:.1f} MiB"
