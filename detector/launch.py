"""What torchrun tells the processes it starts; without torch, so that commands know it before they import that."""

import os
from typing import NamedTuple

NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")


class Launch(NamedTuple):
    """Which of the processes that were started together this one is.

    rank: its number of `world` on all machines; local_rank: its number of `local_world` on this machine.
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1


def launch() -> Launch:
    """As torchrun started this process; the only one where it did not."""
    if "TORCHELASTIC_RUN_ID" not in os.environ and "MASTER_ADDR" not in os.environ:
        return Launch()
    try:
        return Launch(*(int(os.environ[name]) for name in NAMES))
    except (KeyError, ValueError):  # of another program, which means something else by these names
        return Launch()
