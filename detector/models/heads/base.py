"""What every head provides, and the table of heads."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

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


def flatten(x: Tensor) -> Tensor:
    """[N, K, H, W] -> [N, H * W, K], in float32 where autocast made it less: losses and boxes need the digits."""
    return x.permute(0, 2, 3, 1).flatten(1, 2).to(torch.promote_types(x.dtype, torch.float32))


HEADS: Registry[Callable[[CfgNode, dict[str, Level]], Head]] = Registry("head")


def register_head(
    name: str,
) -> Callable[[Callable[[CfgNode, dict[str, Level]], Head]], Callable[[CfgNode, dict[str, Level]], Head]]:
    """Decorator that files a builder (cfg, neck levels) -> Head under `name` for MODEL.HEAD.NAME."""
    return HEADS.register(name)
