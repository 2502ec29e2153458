"""From a network of salient objects and pictures to maps of 256 levels, and pictures of them."""

from collections.abc import Iterator

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from detector.console import progress
from detector.data.loader import BatchLoader
from detector.engine.device import autocast
from detector.engine.stop import stoppable
from detector.models.saliency import SaliencyNet
from detector.structures import Batch, MaskTarget, Size

TINT = (255, 0, 0)  # of what is salient, in an overlay


@torch.inference_mode()
def find_maps(model: SaliencyNet, batch: Batch, precision: str = "off") -> list[np.ndarray]:
    """The map of each picture, uint8 [H, W] of the size that its target calls original; 255: surely salient.

    precision: as TEST.AMP. The model has to be in eval mode.
    """
    device = model.mean.device
    with autocast(device, precision):
        found = model(batch.images.to(device, non_blocking=True), batch.sizes)
    return [to_levels(one, target["original"]) for one, target in zip(found, batch.targets, strict=True)]  # type: ignore[arg-type]


def to_levels(found: Tensor, size: Size) -> np.ndarray:
    """A map float [h, w] in 0..1 at another size, by bilinear interpolation, rounded to uint8 levels."""
    whole = found.float()[None, None]
    if tuple(found.shape) != tuple(size):
        whole = F.interpolate(whole, size=size, mode="bilinear", align_corners=False)
    return (whole[0, 0] * 255).round().clamp(0, 255).to(torch.uint8).cpu().numpy()


def find_all_maps(
    model: SaliencyNet, batches: BatchLoader, precision: str
) -> Iterator[tuple[list[np.ndarray], list[MaskTarget]]]:
    """Maps and targets batch by batch, under a progress bar; leaves the model in the mode it was in."""
    mode = model.training
    model.eval()
    try:
        bar = progress(batches, desc="evaluate", unit="batch", leave=False)
        for batch in stoppable(bar, batches):
            yield find_maps(model, batch, precision), batch.targets
    finally:
        model.train(mode)


def overlaid(image: np.ndarray, levels: np.ndarray, threshold: float = 0.5) -> np.ndarray:
    """A copy of a picture uint8 [H, W, 3] RGB, tinted and outlined where the map reaches a threshold in 0..1."""
    salient = levels >= threshold * 255
    picture = image.copy()
    picture[salient] = (0.5 * picture[salient] + 0.5 * np.array(TINT)).astype(np.uint8)
    outlines, _ = cv2.findContours(salient.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(picture, outlines, -1, TINT, max(1, round(max(image.shape) / 400)))


def side_by_side(image: np.ndarray, levels: np.ndarray, mask: np.ndarray, size: Size) -> np.ndarray:
    """Picture, map and mask (uint8 0 and 1) in a row, uint8 [H, 3 W, 3], each of the size (H, W)."""
    grey = (np.repeat(one[..., None], 3, axis=2) for one in (levels, mask * 255))
    return np.concatenate([cv2.resize(one, size[::-1], interpolation=cv2.INTER_AREA) for one in (image, *grey)], axis=1)
