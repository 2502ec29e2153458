"""What every head provides, and the table of heads."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from detector.models.necks.base import NeckKeys
from detector.registry import Registry
from detector.structures import ClassRows, Detection, Features, Level, Size, Target


class Head(nn.Module):
    """Turns neck features into losses or detections; both in pixels of the network input, whatever the mode.

    classifier: the layers that depend on the class count, by name, with the order of their outputs; fine-tuning on
    other classes keeps those of the classes that stay.
    """

    classifier: Mapping[str, ClassRows] = {}

    def loss(self, features: Features, targets: list[Target], sizes: list[Size]) -> dict[str, Tensor]:
        """Weighted scalar losses of a batch; an image without boxes is legal."""
        raise NotImplementedError

    def answered(self, features: Features, targets: list[Target]) -> list[Tensor]:
        """The boxes of each image, by their index, that some location, anchor or region answers for in training.

        The others are not learned.
        """
        raise NotImplementedError

    def predict(self, features: Features, sizes: list[Size]) -> list[Detection]:
        """Detections of each image, scores descending; sizes are those before padding."""
        raise NotImplementedError


def chance(target: Target, stage: int, device: torch.device) -> torch.Generator | None:
    """What a stage of a head samples the candidates of an image with: made of the image's `draw` and the stage alone.

    None, the global state, for a target without `draw`, as a user's own may be.
    """
    draw = target.get("draw", 0)
    return torch.Generator(device).manual_seed(draw ^ stage) if draw else None


def flatten(x: Tensor) -> Tensor:
    """[N, K, H, W] -> [N, H * W, K], in float32 where autocast made it less: losses and boxes need the digits."""
    return x.permute(0, 2, 3, 1).flatten(1, 2).to(torch.promote_types(x.dtype, torch.float32))


class Standard(NamedTuple):
    """What the paper of a head puts before it: a neck, and what its input is padded to.

    keys: of that neck, None: as the neck itself declares them; size_divisibility: pixels, the value of
    DATALOADER.SIZE_DIVISIBILITY that is auto.
    """

    neck: str = "fpn"
    keys: NeckKeys | None = None
    size_divisibility: int = 32


HEADS: Registry[Callable[[CfgNode, dict[str, Level]], Head]] = Registry("head", "heads")
STANDARDS: dict[str, Standard] = {}
"""What heads declare, by name."""


def register_head(
    name: str, standard: Standard | None = None
) -> Callable[[Callable[[CfgNode, dict[str, Level]], Head]], Callable[[CfgNode, dict[str, Level]], Head]]:
    """Decorator that files a builder (cfg, neck levels) -> Head under `name` for MODEL.HEAD.NAME.

    standard: the neck of its paper; None: an fpn as that declares it.
    """
    if name not in HEADS:
        STANDARDS[name] = standard or Standard()
    return HEADS.register(name)
