"""A detector from pixels to padded detections in tensors alone, which a graph with any batch and size can hold."""

from collections.abc import Sequence
from functools import singledispatch
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from detector.errors import UserError
from detector.models.detector import Detector
from detector.models.heads.base import Head
from detector.ops.flat import Padded
from detector.structures import Detection, Features, Size


@singledispatch
def select(head: Head, features: Features, sizes: Tensor) -> Padded:
    """What `head.predict` finds, of all images at once and without a loop over them.

    sizes [N, 2] int64 height, width before padding. A head says how by `select.register(ITS_CLASS)`; one that does
    not cannot be exported: raises ValueError.
    """
    raise UserError(f"a head {type(head).__name__} cannot be exported: it registers no `inference.export.whole.select`")


@singledispatch
def raw(head: Head, features: Features) -> NamedTuple:
    """What the layers of a head compute, a tensor a field, all levels in a row: what is left of it in a split file.

    A head says how by `raw.register(ITS_CLASS)`, and what becomes of it by `rule_of` or `select_raw`; one that does not
    cannot be split: raises ValueError.
    """
    raise UserError(
        f"a head {type(head).__name__} cannot be split: it registers no `inference.export.whole.raw`; export it whole"
    )


@singledispatch
def second_stage(head: Head) -> "SecondStage | None":
    """What of a head's layers works on boxes that are selected of what `raw` gives; None for a head of one stage."""
    return None


@singledispatch
def select_raw(head: Head, outputs: Sequence[Tensor], grids: list[Size], sizes: list[Size]) -> list[Detection]:
    """What `head.predict` finds, from the tensors of `raw`; grids: height and width of each level's maps, in cells."""
    raise NotImplementedError


@singledispatch
def rule_of(head: Head) -> dict[str, Any]:
    """By what `ops.arrays.select` selects as the head does, as JSON has it; empty where it cannot: then torch does."""
    return {}


class SecondStage(nn.Module):
    """The layers of a head that work on selected boxes: the second graph of a split file.

    Its inputs are maps of `Network`, by the names that those have there, boxes [R, 4] xyxy pixels, image [R] int64
    index into the batch, and what `inputs` says further. layers: names of the modules that it takes from the head,
    which the first graph does without.
    """

    layers: list[str]
    inputs: list[str]
    outputs: list[str]


class Network(nn.Module):
    """A detector without its selection: from pixels to what its layers compute."""

    def __init__(self, model: Detector) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, sizes: Tensor) -> NamedTuple:
        """The tensors of `raw`; images and sizes as in `Whole`."""
        return raw(self.model.head, self.model.neck(self.model.backbone(normalize(self.model, images, sizes))))


class Whole(nn.Module):
    """A detector in eval mode as a function of tensors."""

    def __init__(self, model: Detector) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, sizes: Tensor) -> Padded:
        """Detections in pixels of `images`, clipped to the sizes.

        images [N, 3, H, W] uint8 RGB, padded right and bottom; sizes [N, 2] int64 height, width before padding.
        """
        features = self.model.neck(self.model.backbone(normalize(self.model, images, sizes)))
        return select(self.model.head, features, sizes)


def normalize(model: Detector, images: Tensor, sizes: Tensor) -> Tensor:
    """As `Detector.normalize`, of sizes [N, 2] in a tensor."""
    x = (images.flip(1) if model.bgr else images).to(model.mean.dtype)
    height, width = (torch.arange(side, device=images.device) for side in images.shape[2:])
    inside = (height[None, :, None] < sizes[:, 0, None, None]) & (width[None, None, :] < sizes[:, 1, None, None])
    return torch.where(inside[:, None], (x - model.mean) / model.std, 0.0)
