"""Where a step makes the host wait for the device: file, line and count, and the share of the step's time."""

import linecache
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import torchvision
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

ROOT = Path(__file__).resolve().parents[2]
HOMES = (ROOT / "detector", Path(torchvision.__file__).parent, ROOT / "tools", ROOT / "tests")
"""Whose lines are named: the innermost one of the first of these that has any on the stack."""
DOORS = ROOT / "detector" / "commands"
"""Whose lines are not, as they are below everything."""
WARNING = "called a synchronizing CUDA operation"
CALLS = ("cudaStreamSynchronize", "cudaEventSynchronize", "cudaMemcpyAsync")
"""In which the host waits; a copy to memory that is not page-locked ends when the bytes are there."""

Places = Counter[str]
"""How often the host waited at "FILE:LINE CODE"."""


def host_waits(run: Callable[[], object], device: torch.device) -> Places:
    """The places at which one run waits for the device; the first run of all is not meant, which sets things up.

    On CUDA what torch warns of. Elsewhere what would wait there: values that the host reads, sizes that depend on
    values, and lists of numbers that become tensors; not seen are copies of what lies on the host.
    """
    if device.type == "cuda":
        return _warned(run)
    places: Places = Counter()
    with _Reads(places), _Operations(places):
        run()
    return places


def wait_share(run: Callable[[], object], device: torch.device, steps: int = 3) -> float | None:
    """The share of its time in which the host waits for the device, 0..1; None where there is no CUDA."""
    if device.type != "cuda":
        return None
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        begun = time.perf_counter()
        for _ in range(steps):
            run()
        spent = time.perf_counter() - begun  # the last run is not waited for: that would be a wait of ours
    waited = sum(event.self_cpu_time_total for event in profiler.key_averages() if event.key in CALLS)
    return waited / 1e6 / spent


def _warned(run: Callable[[], object]) -> Places:
    places: Places = Counter()

    def note(message: Warning | str, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - as Python calls it
        if WARNING in str(message):
            places[_place(sys._getframe(1))] += 1

    torch.cuda.synchronize()
    with warnings.catch_warnings(), _debugged():
        warnings.simplefilter("always")
        warnings.showwarning = note
        run()
    return places


@contextmanager
def _debugged() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("warn")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


class _Operations(TorchDispatchMode):
    """Operations whose result the host has to know before it can go on."""

    NAMES = ("nonzero", "_local_scalar_dense", "masked_select", "_unique2", "unique_dim", "nms")

    def __init__(self, places: Places) -> None:
        super().__init__()
        self.places = places

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        name = func.__name__.partition(".")[0]
        # A list of numbers is made a tensor on the host, and this is copied; a single number goes with the call.
        listed = name == "lift_fresh" and args[0].ndim > 0
        masked = name in ("index", "index_put", "index_put_") and any(
            x is not None and x.dtype in (torch.bool, torch.uint8) for x in args[1]
        )
        repeated = func is torch.ops.aten.repeat_interleave.Tensor
        if listed or masked or repeated or name in self.NAMES:
            self.places[_place(sys._getframe(1))] += 1
        return func(*args, **(kwargs or {}))


class _Reads(TorchFunctionMode):
    """Reading a whole tensor, which on the CPU is no operation."""

    METHODS = (Tensor.tolist, Tensor.cpu, Tensor.numpy)

    def __init__(self, places: Places) -> None:
        super().__init__()
        self.places = places

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        if func in self.METHODS:
            self.places[_place(sys._getframe(1))] += 1
        return func(*args, **(kwargs or {}))


def _place(frame: FrameType | None) -> str:
    found: dict[Path, tuple[str, int]] = {}
    while frame is not None:
        file = frame.f_code.co_filename
        home = next((home for home in HOMES if Path(file).is_relative_to(home)), None)
        if home is not None and file != __file__ and not Path(file).is_relative_to(DOORS):
            found.setdefault(home, (file, frame.f_lineno))
        frame = frame.f_back
    home = next((home for home in HOMES if home in found), None)
    if home is None:
        return "elsewhere"
    file, line = found[home]
    code = " ".join(linecache.getline(file, line).split())
    return f"{Path(file).relative_to(ROOT if home.is_relative_to(ROOT) else home.parent)}:{line} {code}"
