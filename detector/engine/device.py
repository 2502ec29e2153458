"""Devices: which one, in which precision, how much memory."""

import platform
import sys
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path

import torch

from detector.errors import UserError
from detector.launch import launch

AMP = {"off": None, "bf16": torch.bfloat16, "fp16": torch.float16}

OLD_CARD = (
    "pip install 'torch<2.15' torchvision --index-url https://download.pytorch.org/whl/cu126 "
    "(the last wheels with kernels for Maxwell, Pascal and Volta cards)"
)


def pick_device(name: str) -> torch.device:
    """The device that MODEL.DEVICE names; "auto" takes cuda, else mps, else cpu.

    Of the processes that torchrun starts on a machine each takes the CUDA device of its number.
    Raises ValueError when the device is unknown or absent, or when this torch has no kernels for the card.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"MODEL.DEVICE {name!r} is no device; write auto, cpu, cuda, cuda:1 or mps") from None
    here = launch()
    if device.type != "cpu" and here.world > 1 and (device.type != "cuda" or device.index is not None):
        raise UserError(f"MODEL.DEVICE {name} is one device for {here.world} processes: write cuda, auto or cpu")
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise UserError(f"MODEL.DEVICE {name}: torch {torch.__version__} sees no CUDA device; write cpu or auto")
        if here.world > 1:
            if here.local_world > torch.cuda.device_count():
                raise UserError(
                    f"{here.local_world} processes on a machine of {torch.cuda.device_count()} CUDA devices: write "
                    f"torchrun --nproc-per-node {torch.cuda.device_count()}, or MODEL.DEVICE cpu"
                )
            device = torch.device("cuda", here.local_rank)
            torch.cuda.set_device(device)
        if (device.index or 0) >= torch.cuda.device_count():
            raise UserError(f"MODEL.DEVICE {name}: there are {torch.cuda.device_count()} CUDA devices, from cuda:0")
        check_kernels(torch.cuda.get_device_name(device), torch.cuda.get_device_capability(device))
    elif device.type == "mps" and not torch.backends.mps.is_available():
        raise UserError(f"MODEL.DEVICE mps: torch {torch.__version__} sees no Apple GPU; write cpu or auto")
    elif device.type not in ("cpu", "mps"):
        raise UserError(f"MODEL.DEVICE {name!r}: supported are cpu, cuda and mps")
    return device


def device_name(device: torch.device) -> str:
    """What a device is called: "cpu (AMD EPYC 7B13)", "cuda (NVIDIA GeForce GTX 1080)"; its kind alone if unknown."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    if device.type == "cpu":
        with suppress(OSError):  # elsewhere than on Linux
            told = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
            name = next((line.partition(":")[2].strip() for line in told if line.startswith("model name")), "")
        name = name or platform.processor()
    return f"{device} ({name})" if name else str(device)


def check_kernels(card: str, capability: tuple[int, int], built_for: list[str] | None = None) -> None:
    """Raise ValueError with the install line when torch was built without kernels for a card.

    capability: e.g. (6, 1) for a GTX 1080; built_for: torch.cuda.get_arch_list(), e.g. ["sm_75", "compute_90"].
    """
    built_for = torch.cuda.get_arch_list() if built_for is None else built_for
    major, minor = capability
    for arch in built_for:
        kind, _, digits = arch.partition("_")
        digits = digits.rstrip("af")
        built = int(digits[:-1]), int(digits[-1])
        # Machine code runs on later cards of its generation, intermediate code on all later ones.
        if (kind == "sm" and built[0] == major and built[1] <= minor) or (kind == "compute" and built <= capability):
            return
    raise UserError(
        f"torch {torch.__version__} has no kernels for {card} (compute capability {major}.{minor}; built for "
        f"{', '.join(built_for)}). Install one that has: {OLD_CARD}. Or write MODEL.DEVICE cpu."
    )


def autocast(device: torch.device, precision: str) -> AbstractContextManager:
    """Context of the precision that SOLVER.AMP or TEST.AMP names: "off", "bf16" or "fp16"."""
    dtype = AMP[precision]
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype)


def peak_memory_mb(device: torch.device) -> float:
    """Largest memory so far in MiB: of the allocator on CUDA, of the process elsewhere (0 where unknown)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
