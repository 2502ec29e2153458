"""How the feature maps of single channels change from block to block within a stage."""

from functools import partial
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from detector.data.transforms import resized
from detector.errors import UserError
from detector.models.backbones import Backbone, Pixels
from detector.models.backbones.trunk import ResidualTrunk

MIN_SIZE = 32
"""Pixels of the shorter side: the stride of the last stage, which then has a cell."""

MAX_RATIO = 10
"""Longer side of a picture at most, as a multiple of the shorter one: beyond it the resized one has no end."""


class StageMaps(NamedTuple):
    """Outputs of a stage's blocks for one image, in the order of execution.

    steps: (pass, block) of each, both from 1; maps [steps, channels, H, W] float32.
    """

    steps: list[tuple[int, int]]
    maps: Tensor


def resize_short(image: np.ndarray, size: int) -> np.ndarray:
    """A picture whose shorter side has `size` pixels, the longer one in proportion.

    image uint8 [H, W, 3]. Raises ValueError for a size below MIN_SIZE, and for sides that differ beyond MAX_RATIO.
    """
    if size < MIN_SIZE:
        raise UserError(f"--size {size}: the shorter side needs {MIN_SIZE} pixels or more")
    if max(image.shape[:2]) > MAX_RATIO * min(image.shape[:2]):
        raise UserError(f"the picture is {image.shape[1]} wide and {image.shape[0]} high: cut out a part of it")
    height, width = resized((image.shape[0], image.shape[1]), size, MAX_RATIO * size)
    shrinks = height * width < image.shape[0] * image.shape[1]
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def network_input(image: np.ndarray, pixels: Pixels) -> Tensor:
    """A picture uint8 [H, W, 3] RGB as float32 [1, 3, H, W] in the order and statistics of a weight record."""
    x = torch.from_numpy(np.ascontiguousarray(image[:, :, ::-1] if pixels.order == "bgr" else image))
    return ((x.float() - torch.tensor(pixels.mean)) / torch.tensor(pixels.std)).permute(2, 0, 1)[None].contiguous()


@torch.inference_mode()
def stage_maps(backbone: Backbone, images: Tensor, stage: int) -> StageMaps:
    """What every block of a stage puts out for the first image, once for each time that it runs.

    images [1, 3, H, W] as the weights expect them; stage: from 1. The backbone has to be in eval mode.
    Raises ValueError for a backbone without stages, a stage that it does not have, and maps that are not finite.
    """
    if not isinstance(backbone, ResidualTrunk):
        raise UserError(f"{type(backbone).__name__} has no stages to look into; residual trunks such as resnet50 have")
    stages = backbone.stages()
    if not 1 <= stage <= len(stages):
        raise UserError(f"--stage {stage}: there are the stages 1 to {len(stages)}")
    steps: list[tuple[int, int]] = []
    kept: list[Tensor] = []

    def keep(block: int, module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        steps.append((1 + sum(seen == block for _, seen in steps), block))
        # The next block may work in place on what it receives, so a copy is taken as it comes out.
        kept.append(output[0].detach().float().clone())

    handles = [block.register_forward_hook(partial(keep, i)) for i, block in enumerate(stages[stage - 1], start=1)]
    try:
        backbone(images)
    finally:
        for handle in handles:
            handle.remove()
    maps = torch.stack(kept)
    if not maps.isfinite().all():
        raise UserError(f"the feature maps of stage {stage} are not finite; do these weights belong to this network?")
    return StageMaps(steps, maps)


def map_correlations(first: Tensor, last: Tensor) -> Tensor:
    """Pearson's correlation over the pixels between two maps of each channel.

    first, last [channels, H, W]. Returns [channels] float64 within -1..1; NaN where one of the two maps is constant,
    such as that of a dead channel.
    """
    x, y = (maps.detach().double().flatten(1) for maps in (first, last))
    constant = (x.amin(1) == x.amax(1)) | (y.amin(1) == y.amax(1))
    x, y = (flat - flat.mean(dim=1, keepdim=True) for flat in (x, y))
    correlations = (x * y).sum(1) / (x.norm(dim=1) * y.norm(dim=1))
    return correlations.clamp(-1, 1).masked_fill(constant, float("nan"))


def most_active(maps: Tensor, count: int) -> list[int]:
    """The channels with the largest mean absolute value over all steps and pixels, largest first.

    maps [steps, channels, H, W]. Raises ValueError when there are not so many channels.
    """
    channels = maps.shape[1]
    if not 1 <= count <= channels:
        raise UserError(f"--num-channels {count}: it must be within 1..{channels}")
    return maps.abs().mean(dim=(0, 2, 3)).topk(count).indices.tolist()
