"""What every neck provides, and the table of necks."""

from collections.abc import Callable
from typing import NamedTuple

from torch import nn
from yacs.config import CfgNode

from detector.errors import UserError
from detector.registry import Registry
from detector.structures import Features, Level


class Neck(nn.Module):
    """Turns backbone features into the levels that a head takes.

    levels: what it puts out, fine to coarse.
    """

    levels: dict[str, Level]

    def forward(self, features: Features) -> Features:
        """Backbone features by level name -> features by the names in `levels`."""
        raise NotImplementedError


class NeckKeys(NamedTuple):
    """What a paper's neck has: the values of MODEL.NECK.SOURCES, EXTRA_LEVELS, NORM and L2NORM_SCALES that are auto."""

    sources: tuple[str, ...] = ("c3", "c4", "c5")
    extra_levels: str = "none"
    norm: str = "none"
    l2norm_scales: tuple[float, ...] = ()


NECKS: Registry[Callable[[CfgNode, dict[str, Level]], Neck]] = Registry("neck", "necks")
NECK_KEYS: dict[str, NeckKeys] = {}
"""What necks declare, by name."""
EXTRA_LEVELS: dict[str, tuple[str, ...]] = {}
"""The words of MODEL.NECK.EXTRA_LEVELS that each neck knows, by the name of the neck."""


def check_extra_levels(neck: str, word: str) -> None:
    """Raise ValueError for a MODEL.NECK.EXTRA_LEVELS that this neck does not know, with the necks that do."""
    if word not in EXTRA_LEVELS[neck]:
        owners = [name for name, words in EXTRA_LEVELS.items() if word in words]
        said = f"belong to the neck {' and '.join(owners)}" if owners else "are known to no neck"
        here = ", ".join(EXTRA_LEVELS[neck])
        raise UserError(f"extra levels {word!r} (MODEL.NECK.EXTRA_LEVELS) {said}; {neck} has {here}")


def register_neck(
    name: str, keys: NeckKeys | None = None
) -> Callable[[Callable[[CfgNode, dict[str, Level]], Neck]], Callable[[CfgNode, dict[str, Level]], Neck]]:
    """Decorator that files a builder (cfg, backbone levels) -> Neck under `name` for MODEL.NECK.NAME.

    keys: what its own paper has, for a head of which that is not known; None: levels 3 to 5 and nothing above.
    """
    if name not in NECKS:
        NECK_KEYS[name] = keys or NeckKeys()
    return NECKS.register(name)
