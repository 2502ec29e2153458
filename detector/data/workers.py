"""The processes that read pictures: how they start, how they end, and what it means when they do not."""

import atexit
import ctypes
import errno
import multiprocessing
import os
import signal
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import cv2
import torch
from torch.utils.data import DataLoader, Dataset

from detector.errors import UserError

PREFETCH = 4  # batches that a worker has ready
TIMEOUT = 300  # seconds without a batch after which a run stops
_PR_SET_PDEATHSIG = 1

_running: weakref.WeakSet[Any] = weakref.WeakSet()
"""The processes of all loaders that are being read."""


def make_loader(
    dataset: Dataset, batches: Iterable[list[Any]], collate: Callable[[list[Any]], Any], workers: int, pin_memory: bool
) -> DataLoader:
    """The batches of a dataset, collated by `workers` processes, or by this one where that is 0; for `received`."""
    return DataLoader(
        dataset,
        batch_sampler=batches,
        collate_fn=collate,
        num_workers=workers,
        worker_init_fn=partial(_start, parent=_own_parent()),
        persistent_workers=workers > 0,
        prefetch_factor=PREFETCH if workers else None,
        pin_memory=pin_memory,
        generator=torch.Generator(),  # its own, as the DataLoader would draw a number from the global one
    )


def received(loader: DataLoader, key: str = "DATALOADER.NUM_WORKERS", timeout: float = TIMEOUT) -> Iterator[Any]:
    """What a loader gives; workers that fail, stop or cannot be started are a UserError that names the remedy.

    key: what the user writes to say how many there are; timeout: seconds without a batch after which the workers are
    given up, 0 for never.
    """
    watch = None
    try:
        batches = iter(loader)
        _running.update(getattr(batches, "_workers", ()))
        watch = _Watch(getattr(batches, "_workers", ()), timeout)
        while True:
            with watch:
                batch = next(batches, None)
            if batch is None:
                return
            yield batch
    except (RuntimeError, OSError, EOFError) as error:
        _hear_no_ends()
        many = f"{key} (now {loader.num_workers})"
        if isinstance(error, EOFError | ConnectionError) and not (watch and watch.over):
            end = _end_of(watch.workers) if watch else None
            broken = f"a process that reads pictures broke off, as it does of {_open_files(many)}"
            raise UserError(worker_trouble(end, many) if end else broken) from error
        text = _hangs(timeout, many) if watch and watch.over else worker_trouble(error, many)
        if not text:
            raise
        raise UserError(text) from error
    finally:
        if watch:
            watch.end()


def _end_of(workers: Sequence[Any]) -> RuntimeError | None:
    """What torch says of a worker that was ended by a signal, for where the end of its connections is noticed first."""
    for worker in workers:
        worker.join(0.2)  # its connections end a moment before it does
        if worker.exitcode is not None and worker.exitcode < 0:
            return RuntimeError(f"DataLoader worker is killed by signal: {signal.strsignal(-worker.exitcode)}. ")
    return None


class _Watch:
    """Ends the workers of a loader when a batch is waited for too long, which the loader then notices.

    The DataLoader's own time-out does not cover the moment in which a batch's memory is handed over: there it waits for
    a worker that hangs for ever. over: whether that happened.
    """

    def __init__(self, workers: Sequence[Any], timeout: float) -> None:
        self.workers, self.timeout = workers, timeout
        self.since: float | None = None
        self.over = False
        self.ended = threading.Event()
        if workers and timeout:
            threading.Thread(target=self._run, daemon=True).start()

    def __enter__(self) -> None:
        self.since = time.monotonic()

    def __exit__(self, *error: object) -> None:
        self.since = None

    def end(self) -> None:
        """Watch no more."""
        self.ended.set()

    def _run(self) -> None:
        while not self.ended.wait(min(1.0, self.timeout / 4)):
            since = self.since
            if since is not None and time.monotonic() - since > self.timeout:
                self.over = True
                for worker in self.workers:
                    worker.kill()
                return


def _hangs(timeout: float, many: str) -> str:
    return (
        f"no batch came for {timeout:g} seconds: a process that reads pictures hangs, or the disk does. {_shared()}"
        f"Lower {many}; 0 reads in the training process and shows where. For slow disks: DATALOADER.TIMEOUT"
    )


def worker_trouble(error: BaseException, key: str) -> str:
    """What an error says of the processes that read pictures, and the remedy; "" where it is of something else.

    key: names the number of workers, and says how many there are now.
    """
    text = str(error)
    if "Too many open files" in text or "ancdata" in text or getattr(error, "errno", 0) == errno.EMFILE:
        return _open_files(key)
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


def _open_files(many: str) -> str:
    return f"too many open files{_file_limit()}: write `ulimit -n 65536` before the command, or lower {many}"


def _file_limit() -> str:
    try:
        import resource
    except ImportError:  # Windows
        return ""
    return f" (this process may have {resource.getrlimit(resource.RLIMIT_NOFILE)[0]})"


def _hear_no_ends() -> None:
    """Let the end of a worker be no news: torch's handler would raise for each, wherever the program is by then."""
    if hasattr(signal, "SIGCHLD") and threading.current_thread() is threading.main_thread():
        with suppress(RuntimeError):  # of one that was about to be raised
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


@atexit.register
def _end_all() -> None:
    """End the workers that are left, before multiprocessing waits for them: they do not listen to its SIGTERM."""
    _hear_no_ends()
    for worker in list(_running):
        with suppress(ValueError):  # closed
            worker.kill()


def _own_parent() -> int:
    """The process whose end is that of its workers, 0 where another one starts them."""
    return 0 if multiprocessing.get_start_method() == "forkserver" else os.getpid()


def _start(worker: int, parent: int) -> None:
    """Begin a worker: it leaves signals to its parent, ends with it, and computes on one thread.

    parent: as `_own_parent` gives it; without one, as elsewhere than on Linux, torch looks for it every few seconds.
    """
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # which terminals and job systems send to all processes at once
        if hasattr(signal, name):  # Windows has no SIGHUP
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    if sys.platform == "linux" and parent:
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before the line above
            os._exit(1)
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", module="PIL")  # of odd EXIF tags, of which ImageNet has some
