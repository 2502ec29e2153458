"""What every neck provides, and the table of necks."""

from collections.abc import Callable

from torch import nn
from yacs.config import CfgNode

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


NECKS: Registry[Callable[[CfgNode, dict[str, Level]], Neck]] = Registry("neck")


def register_neck(
    name: str,
) -> Callable[[Callable[[CfgNode, dict[str, Level]], Neck]], Callable[[CfgNode, dict[str, Level]], Neck]]:
    """Decorator that files a builder (cfg, backbone levels) -> Neck under `name` for MODEL.NECK.NAME."""
    return NECKS.register(name)
