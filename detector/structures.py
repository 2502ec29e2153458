"""The nouns that all rooms share: levels, features, targets, detections, batches."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypedDict

from torch import Tensor

Features = dict[str, Tensor]
"""Feature maps by level name, fine to coarse: "c2".."c5" or "p2".."p7" -> [N, channels, H / stride, W / stride]."""

Size = tuple[int, int]
"""(height, width) in pixels."""


class Level(NamedTuple):
    """One level of a feature pyramid.

    channels: feature channels; stride: network-input pixels per cell.
    """

    channels: int
    stride: int


class ClassRows(NamedTuple):
    """How the outputs of a layer lie whose number depends on that of the classes.

    The first axis of its weight and bias is [before, C, after]; with a background it is C + 1, the background last.
    """

    before: int = 1
    background: bool = False
    after: int = 1


class Target(TypedDict):
    """The ground truth of one image; empty tensors are legal everywhere.

    boxes [M, 4] float32 xyxy in pixels of the network input, x2 > x1 and y2 > y1;
    labels [M] int64 in 0..C-1 (foreground only); ignore [G, 4] crowd regions, neither positive nor negative;
    image_id: the annotation file's own id; original: (height, width) before resizing, which maps detections back;
    draw: a number made of (SEED, step, slot), which seeds what a head samples; 0 outside a training.
    """

    boxes: Tensor
    labels: Tensor
    ignore: Tensor
    image_id: int | str
    original: Size
    draw: int


class MaskTarget(TypedDict):
    """What is salient in one picture: mask [h, w] uint8, 1 there and 0 elsewhere, of the size before padding.

    The other entries are those of a Target.
    """

    mask: Tensor
    image_id: int | str
    original: Size
    draw: int


class Detection(TypedDict):
    """The detections of one image, scores descending.

    boxes [D, 4] float32 xyxy in pixels; labels [D] int64 in 0..C-1; scores [D] float32 in (0, 1].
    """

    boxes: Tensor
    labels: Tensor
    scores: Tensor


@dataclass
class Whole:
    """The step that a micro-batch is a part of.

    targets: of all its images in this process; parts: how many micro-batches they make; normalisers: what its losses
    are divided by as far as the targets alone decide it, once the first micro-batch has shown how large the maps are.
    """

    targets: list[Target]
    parts: int
    normalisers: Tensor | None = None


class Batch(NamedTuple):
    """What the loader yields, and the micro-batches of that.

    images [N, 3, H, W] uint8 RGB, padded right and bottom; sizes: (height, width) of each image before padding; whole:
    the step that it is a part of, None where it is that itself.
    """

    images: Tensor
    sizes: list[Size]
    targets: list[Target]
    whole: Whole | None = None

    def pin_memory(self) -> "Batch":
        """The same batch in page-locked memory, from where it is copied while the host goes on (for the DataLoader)."""
        pinned = [{k: v.pin_memory() if isinstance(v, Tensor) else v for k, v in t.items()} for t in self.targets]
        return self._replace(images=self.images.pin_memory(), targets=pinned)  # type: ignore[arg-type]


NO_CLASS = ("__background__", "N/A")
"""Names that torchvision gives outputs without a class: the background, and the ids that COCO never used."""


def real_outputs(names: Sequence[str], classes: Sequence[str]) -> list[bool]:
    """Which outputs of a model stand for a class, given the classes of the data: all but `NO_CLASS`, unless listed."""
    return [name in classes or name not in NO_CLASS for name in names]
