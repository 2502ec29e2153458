"""How much memory is free, and how much of it the tensors of a step may take."""

from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import torch

GIB = 2**30

_CGROUP = Path("/sys/fs/cgroup")


class Overhead(NamedTuple):
    """What a process takes besides its tensors.

    fixed: bytes, of libraries and of what is loaded; share: of the tensors' bytes, for kernels' workspaces and for
    memory that lies in pieces too small to use.
    """

    fixed: int
    share: float

    def needed(self, tensors: int) -> int:
        """Bytes of a process whose tensors take so many."""
        return round(self.fixed + tensors * (1 + self.share))

    def allowed(self, memory: int) -> int:
        """Bytes that tensors may take in so much memory."""
        return max(0, int((memory - self.fixed) / (1 + self.share)))


CARD = Overhead(GIB // 2, 0.1)
"""A CUDA context takes 0.3 to 0.5 GiB of a card, which other processes' displays share."""
HOST = Overhead(GIB * 3 // 4, 0.25)
"""torch and the pictures on their way; oneDNN and the C library keep more of what is freed than CUDA's allocator."""


def overhead(device: str) -> Overhead:
    """Of a device, by the value of MODEL.DEVICE; auto is a card, for which memory is short."""
    return HOST if device.startswith("cpu") else CARD


def free_memory(device: torch.device) -> int | None:
    """Bytes that a process could take on a device; None where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)
    if device.type != "cpu":
        return None
    found = []
    with suppress(OSError, ValueError, StopIteration):  # elsewhere than on Linux
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found.append(int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1]) * 2**10)
    with suppress(OSError, ValueError):  # where a container has no limit there is no number
        limit, used = (int((_CGROUP / f"memory.{name}").read_text(encoding="ascii")) for name in ("max", "current"))
        found.append(limit - used)
    return min(found, default=None)
