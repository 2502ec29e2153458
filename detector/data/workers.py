"""The processes that read pictures: how they start, how they end, and what it means when they do not."""

import ctypes
import errno
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import cv2
import torch
from torch.utils.data import DataLoader, Dataset

from detector.errors import UserError

PREFETCHED = 4  # batches that each worker makes in advance
TIMEOUT = 300  # seconds without a batch after which a run stops
_PR_SET_PDEATHSIG = 1


def make_loader(
    dataset: Dataset,
    batches: Iterable[list[Any]],
    collate: Callable[[list[Any]], Any],
    workers: int,
    pin_memory: bool,
    timeout: int = TIMEOUT,
) -> DataLoader:
    """The batches of a dataset, collated by `workers` processes, or by this one where that is 0.

    timeout: seconds without a batch after which the loader gives up, 0 for never.
    """
    return DataLoader(
        dataset,
        batch_sampler=batches,
        collate_fn=collate,
        num_workers=workers,
        worker_init_fn=partial(_start, parent=os.getpid()),
        persistent_workers=workers > 0,
        prefetch_factor=PREFETCHED if workers else None,
        pin_memory=pin_memory,
        timeout=timeout if workers else 0,
        generator=torch.Generator(),  # its own, as the DataLoader would draw a number from the global one
    )


def received(loader: DataLoader, key: str = "DATALOADER.NUM_WORKERS") -> Iterator[Any]:
    """What a loader gives; workers that fail, stop or cannot be started are a UserError that names the remedy.

    key: what the user writes to say how many there are.
    """
    batches = None
    try:
        batches = iter(loader)
        yield from batches
    except (RuntimeError, OSError) as error:
        if text := worker_trouble(error, f"{key} (now {loader.num_workers})"):
            for worker in getattr(batches, "_workers", ()):  # one that hangs would keep this process from ending
                worker.kill()
            raise UserError(text) from error
        raise


def worker_trouble(error: BaseException, key: str) -> str:
    """What an error says of the processes that read pictures, and the remedy; "" where it is of something else.

    key: names the number of workers, and says how many there are now.
    """
    text = str(error)
    if "DataLoader timed out" in text:
        seconds = text.partition("after ")[2].partition(" ")[0]
        return (
            f"no batch came for {seconds} seconds: a process that reads pictures hangs, or the disk does. {_shared()}"
            f"Lower {key}; 0 reads in the training process and shows where. Slow disks: DATALOADER.TIMEOUT"
        )
    if "Too many open files" in text or "ancdata" in text or getattr(error, "errno", 0) == errno.EMFILE:
        return f"too many open files{_file_limit()}: write `ulimit -n 65536` before the command, or lower {key}"
    if "DataLoader worker" in text and ("killed by signal" in text or "exited unexpectedly" in text):
        why = text.partition("signal: ")[2].partition(".")[0] or "exited"
        if "Bus error" in text:
            return f"a process that reads pictures ended ({why}): shared memory is full. {_shared()}Or lower {key}"
        if "Killed" in text:
            return (
                f"a process that reads pictures was killed, which the system does when memory runs out: lower {key}, "
                "0 for none, or the sizes in INPUT"
            )
        return f"a process that reads pictures ended ({why}): set {key} to 0 to see why"
    return ""


def _shared() -> str:
    """What there is of shared memory where it is little, and how to have more."""
    try:
        place = os.statvfs("/dev/shm")
    except (OSError, AttributeError):
        return ""
    free, whole = (blocks * place.f_frsize / 2**20 for blocks in (place.f_bavail, place.f_blocks))
    if free > 256:
        return ""
    return (
        f"/dev/shm has {free:.0f} MiB free of {whole:.0f}: give a container more by `docker run --shm-size=2g`, or "
        "`--ipc=host`. "
    )


def _file_limit() -> str:
    try:
        import resource
    except ImportError:  # Windows
        return ""
    return f" (this process may have {resource.getrlimit(resource.RLIMIT_NOFILE)[0]})"


def _start(worker: int, parent: int) -> None:
    """Begin a worker: it leaves signals to its parent, ends with it, and computes on one thread."""
    for number in (signal.SIGINT, signal.SIGTERM):  # which terminals and job systems send to all processes at once
        signal.signal(number, signal.SIG_IGN)
    if sys.platform == "linux":  # elsewhere torch looks for the parent every few seconds
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before the line above
            os._exit(1)
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", module="PIL")  # of odd EXIF tags, of which ImageNet has some
