"""Which errors are of the machine, and what is said of them."""

import errno

import pytest
import torch

from detector.data import workers
from detector.engine.trouble import Remedies, explained, machine_trouble, out_of_memory
from detector.errors import UserError

REMEDIES = Remedies("SOLVER.AMP bf16 (now off)", "DATALOADER.NUM_WORKERS (now 4)")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that dataloader's"),
            "a process that reads pictures ended (Bus error): shared memory is full.",
        ),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "), "when memory runs out: lower DATAL"),
        (
            RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly"),
            "ended (exited): set DATALOADER.NUM_WORKERS",
        ),
        (OSError(errno.EMFILE, "Too many open files"), "too many open files"),
        (
            RuntimeError("unable to open shared memory object </torch_7>: Too many open files"),
            "ulimit",
        ),
        (
            RuntimeError("received 0 items of ancdata"),
            "write `ulimit -n 65536` before the command, or lower",
        ),
        (RuntimeError("MPS backend out of memory (MPS allocated: 5 GB)"), "out of memory of the Apple GPU. What needs"),
        (MemoryError(), "out of memory. What needs less, the best first: SOLVER.AMP bf16 (now off)"),
    ],
)
def test_errors_of_the_machine_name_the_remedy(error, words):
    assert words in machine_trouble(error, REMEDIES)
    with pytest.raises(UserError) as caught, explained(REMEDIES):
        raise error
    assert words in str(caught.value)
    assert caught.value.__cause__ is error


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("size mismatch"),
        ValueError("out of memory"),
        OSError(errno.ENOENT, "no such file"),
        UserError("mine"),
    ],
)
def test_other_errors_stay_what_they_are(error):
    assert machine_trouble(error, REMEDIES) == ""
    with pytest.raises(type(error)) as caught, explained(REMEDIES):
        raise error
    assert caught.value is error


def test_what_the_processor_raises_is_known():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60)
    assert out_of_memory(caught.value)
    assert "MiB more were asked for" in machine_trouble(caught.value, REMEDIES)


class Place:
    f_frsize = 2**20

    def __init__(self, free, whole):
        self.f_bavail, self.f_blocks = free, whole


@pytest.mark.parametrize(("free", "said"), [(3, True), (5000, False)])
def test_shared_memory_is_spoken_of_where_it_is_short(monkeypatch, free, said):
    monkeypatch.setattr(workers.os, "statvfs", lambda path: Place(free, 64))
    error = RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error. ")
    text = machine_trouble(error, REMEDIES)
    assert ("/dev/shm has 3 MiB free of 64" in text) == said
    assert ("--shm-size" in text) == said
