"""Devices: which one, in which precision, how much memory."""

import logging
import platform
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path

import torch

from detector.errors import UserError
from detector.launch import launch

log = logging.getLogger("detector")

AMP = {"off": None, "bf16": torch.bfloat16, "fp16": torch.float16}

AUTO = "auto"
"""The precision that is chosen by the device, see `chosen_precision`."""

BF16_SINCE = (8, 0)
"""The compute capability from which CUDA cards have bf16."""

FAST_FP16 = ((5, 3), (6, 0), (6, 2))
"""Those before 7.0 that compute fp16 at twice the rate of float32: Jetsons and the P100; others crawl."""

CPU_INSTRUCTIONS = {"bf16": ("avx512_bf16", "amx_bf16"), "fp16": ("avx512_fp16", "amx_fp16")}
"""Precision -> instructions of an x86 processor, one of which makes it fast."""

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

    capability: e.g. (6, 1) for a GTX 1080; built_for: torch.cuda.get_arch_list(), e.g. ["sm_75", "compute_90"]. A torch
    for AMD's cards, which has "gfx90a" there, is taken at its word: its capabilities do not compare.
    """
    built_for = torch.cuda.get_arch_list() if built_for is None else built_for
    major, minor = capability
    for arch in built_for:
        kind, _, digits = arch.partition("_")
        if kind not in ("sm", "compute"):
            return
        digits = digits.rstrip("af")
        built = int(digits[:-1]), int(digits[-1])
        # Machine code runs on later cards of its generation, intermediate code on all later ones.
        if (kind == "sm" and built[0] == major and built[1] <= minor) or (kind == "compute" and built <= capability):
            return
    raise UserError(
        f"torch {torch.__version__} has no kernels for {card} (compute capability {major}.{minor}; built for "
        f"{', '.join(built_for)}). Install one that has: {OLD_CARD}. Or write MODEL.DEVICE cpu."
    )


def slow_on_card(name: str, capability: tuple[int, int], precision: str) -> str:
    """What a CUDA card does not gain by a precision, or even loses; "" where it gains. capability: e.g. (6, 1)."""
    card = f"{name} (compute capability {capability[0]}.{capability[1]})"
    if precision == "bf16" and capability < BF16_SINCE:
        return f"{card} has no bf16, which is emulated: it spares memory and costs time"
    if precision == "fp16" and capability < (7, 0) and capability not in FAST_FP16:
        return f"{card} computes fp16 slowly: it spares memory, and little or no time"
    return ""


def slow_on_cpu(capabilities: Mapping[str, object], precision: str) -> str:
    """The same of a processor. capabilities: as torch.cpu.get_capabilities() has them; nothing is said of others."""
    if capabilities.get("architecture") != "x86_64" or precision not in CPU_INSTRUCTIONS:
        return ""
    if any(capabilities.get(name) for name in CPU_INSTRUCTIONS[precision]):
        return ""
    return f"this processor has no instructions for {precision}: it spares memory and costs time"


def slow_precision(device: torch.device, precision: str) -> str:
    """What this machine does not gain by a precision, in words; "" where it gains, or where nothing is known."""
    if device.type == "cuda":
        return slow_on_card(torch.cuda.get_device_name(device), torch.cuda.get_device_capability(device), precision)
    told = getattr(torch.cpu, "get_capabilities", dict) if device.type == "cpu" else dict
    return slow_on_cpu(told(), precision)


def gains_bf16(device: torch.device) -> bool:
    """Whether this machine is known to have instructions for bf16: x86 processors and CUDA cards; of others nothing."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= BF16_SINCE
    told = getattr(torch.cpu, "get_capabilities", dict) if device.type == "cpu" else dict
    has: Mapping[str, object] = told()
    return has.get("architecture") == "x86_64" and any(has.get(name) for name in CPU_INSTRUCTIONS["bf16"])


def chosen_precision(device: torch.device, precision: str) -> str:
    """What "auto" stands for on a device: bf16 where it has instructions for it, else off; others are themselves."""
    if precision != AUTO:
        return precision
    return "bf16" if gains_bf16(device) else "off"


def chosen_text(device: torch.device, off: str) -> str:
    """What "auto" chooses on a device, and why. off: what is written for float32."""
    if gains_bf16(device):
        return f"bf16, as {device} has instructions for it; {off} is float32"
    return f"off (float32), as {device} is not known to have instructions for bf16"


def say_slow_precisions(device: torch.device, precisions: Mapping[str, str]) -> None:
    """Warn, once for each, of precisions that gain no time, and say what "auto" chooses.

    precisions: by the key, or flag, that asks for them.
    """
    for key in (key for key, value in precisions.items() if value == AUTO):
        log.info("%s auto: %s", key, chosen_text(device, f"{key} off"))
    for precision in sorted({*precisions.values()}):
        if text := slow_precision(device, precision):
            keys = ", ".join(f"{key} {precision}" for key, value in precisions.items() if value == precision)
            log.warning("%s: %s", keys, text)


def autocast(device: torch.device, precision: str) -> AbstractContextManager:
    """Context of the precision that SOLVER.AMP or TEST.AMP names: "off", "bf16" or "fp16"; or "auto"."""
    dtype = AMP[chosen_precision(device, precision)]
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype)


def peak_memory_mb(device: torch.device) -> float:
    """Largest memory so far in MiB: of the allocator on CUDA, of the process elsewhere (0 where unknown)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    with suppress(OSError):  # Linux: getrusage would tell the peak of the program that started this one, if higher
        lines = Path("/proc/self/status").read_text().splitlines()
        for line in lines:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 2**10
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
