"""What every head provides, and the table of heads."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from detector.distributed import sum_over, world_size
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
        """Weighted scalar losses of a batch; an image without boxes is legal.

        What they are divided by is a mean over all processes, see `shared`. A head that defines `normalisers` takes
        them as a fourth argument, None for a batch that is a whole step.
        """
        raise NotImplementedError

    def normalisers(self, features: Features, targets: list[Target], parts: int) -> Tensor | None:
        """What losses are divided by as far as the targets alone decide it, for a step in `parts` micro-batches.

        features: of any micro-batch, as all are of one size; targets: of all of them. Each is a mean over processes and
        micro-batches, as `shared` gives it. None: the head divides each micro-batch's losses by its own numbers.
        """
        return None

    def answered(self, features: Features, targets: list[Target]) -> list[Tensor]:
        """The boxes of each image, by their index, that some location, anchor or region answers for in training.

        The others are not learned.
        """
        raise NotImplementedError

    def predict(self, features: Features, sizes: list[Size]) -> list[Detection]:
        """Detections of each image, scores descending; sizes are those before padding."""
        raise NotImplementedError


def shared(numbers: Tensor, least: Sequence[float] | None = None, parts: int = 1) -> Tensor:
    """What one of several processes divides its losses by, so that their mean is the loss of all images together.

    numbers [K]: of this process; least: of each sum, at least one by default; parts: micro-batches that they were
    summed over. Returns the sums over all processes, by the number of processes and parts. Tian et al. 2019's code
    does so for FCOS.
    """
    totals = sum_over(numbers)
    limits = [1.0] * len(totals) if least is None else least
    clamped = [total.clamp(min=limit) for total, limit in zip(totals, limits, strict=True)]
    return torch.stack(clamped) / (world_size() * parts)


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

    keys: of that neck, or what gives them where they follow other keys; None: as the neck itself declares them;
    size_divisibility: pixels, the value of DATALOADER.SIZE_DIVISIBILITY that is auto.
    """

    neck: str = "fpn"
    keys: NeckKeys | Callable[[CfgNode], NeckKeys] | None = None
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
