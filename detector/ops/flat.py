"""The selection of all images at once: no loop over images or groups, so that a graph for other runtimes can hold it.

Candidates of all images stand in one row. No runtime likes empty tensors, so a row may end in a candidate of nobody,
whose image is one that there is not.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.ops import nms

ACROSS = 4  # images beside each other while boxes are compared, so that 16 of them make a square


class Flat(NamedTuple):
    """Candidates of all images in a row.

    boxes [V, 4] xyxy pixels; scores [V]; labels [V] int64, the group that non-maximum suppression stays within;
    image [V] int64 index into the batch, or the number of images: nobody's.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    image: Tensor

    def take(self, index: Tensor) -> "Flat":
        """The candidates of these indices."""
        return Flat(*(entry[index] for entry in self))


class Padded(NamedTuple):
    """Detections of N images, best first, filled up with zeros.

    boxes [N, D, 4] xyxy pixels; scores [N, D]; labels [N, D] int64; counts [N] int64: how many are detections.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    counts: Tensor


def with_nobody(found: Flat, images: int) -> Flat:
    """The candidates and one of nobody, worse than all."""
    return Flat(
        torch.cat([found.boxes, found.boxes.new_zeros(1, 4)]),
        torch.cat([found.scores, found.scores.new_full((1,), -math.inf)]),
        torch.cat([found.labels, found.labels.new_zeros(1)]),
        torch.cat([found.image, found.image.new_zeros(1) + images]),
    )


def suppress_flat(found: Flat, images: int, groups: int, nms_threshold: float, limit: int) -> Flat:
    """The `limit` best of each image that non-maximum suppression within each group leaves, and one of nobody.

    images: their number; groups: the number of labels. Best first. What `ops.select.keep_best` says of one image.
    """
    found = with_nobody(found, images)
    found = found.take(found.scores.sort(descending=True).indices)
    # Ranks instead of scores: no two are equal, none is negative, and every runtime has its own mind about those.
    rank = torch.arange(found.scores.shape[0], 0, -1, device=found.boxes.device)
    kept = nms(_apart(found, groups), rank.to(found.boxes.dtype), nms_threshold)
    found = found.take(kept)
    return found.take((_place(found.image, images) < limit).nonzero()[:, 0])


def padded(found: Flat, images: int, limit: int) -> Padded:
    """The candidates of each image in their order, `limit` at most; those of nobody are left out."""
    place = _place(found.image, images)
    slot = torch.where(place < limit, found.image * limit + place, images * limit)

    def filled(entry: Tensor) -> Tensor:
        empty = entry.new_zeros((images + 1) * limit, *entry.shape[1:])
        return empty.index_put((slot,), entry).unflatten(0, (images + 1, limit))[:images]

    counts = _owners(found.image, images).sum(0)[:images].clamp(max=limit)
    return Padded(filled(found.boxes), filled(found.scores), filled(found.labels), counts)


def limits_of(sizes: Tensor, image: Tensor) -> Tensor:
    """What x, y, x, y of boxes are limited to: sizes [N, 2] height, width; image [V] -> [V, 4] float32.

    The candidates of nobody have the limits of the last image.
    """
    return sizes.flip(1).repeat(1, 2).to(torch.float32)[image.clamp(max=sizes.shape[0] - 1)]


def _apart(found: Flat, groups: int) -> Tensor:
    """The boxes of each image and group moved to a cell of their own.

    The cells lie in a square and not in a row, as the digits that a large shift takes from the boxes are lost to their
    overlaps.
    """
    columns = math.ceil(math.sqrt(groups))
    rows = math.ceil(groups / columns)
    column = found.image % ACROSS * columns + found.labels % columns
    row = found.image // ACROSS * rows + found.labels // columns
    step = found.boxes.max() - found.boxes.min() + 1
    return found.boxes + torch.stack([column, row], dim=1).repeat(1, 2).to(found.boxes.dtype) * step


def _owners(image: Tensor, images: int) -> Tensor:
    """[V] -> [V, images + 1]: 1 where a candidate is of an image, the last column being nobody."""
    return (image[:, None] == torch.arange(images + 1, device=image.device)).to(torch.int64)


def _place(image: Tensor, images: int) -> Tensor:
    """How many candidates of the same image stand before each one: [V] -> [V]."""
    return _owners(image, images).cumsum(0).gather(1, image[:, None])[:, 0] - 1
