"""Box arithmetic: coding, overlap, clipping, mapping between image sizes. Boxes are continuous xyxy in pixels."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from detector.structures import Size

MAX_LOG_SCALE = math.log(1000 / 16)
"""The largest dw and dh that are decoded: a box of 16 pixels may grow to 1000."""


def distances_to_boxes(points: Tensor, distances: Tensor) -> Tensor:
    """Boxes spanned by left, top, right, bottom distances. Tian et al. 2019, sec. 3.1.

    points [P, 2] x, y; distances [..., P, 4] >= 0; all in pixels. Returns [..., P, 4] xyxy, not clipped.
    """
    return torch.cat([points - distances[..., :2], points + distances[..., 2:]], dim=-1)


def boxes_to_distances(points: Tensor, boxes: Tensor) -> Tensor:
    """Left, top, right, bottom distances from points to the sides of boxes. Tian et al. 2019, eq. 1.

    points [..., 2] x, y; boxes [..., 4] xyxy; all in pixels. Returns [..., 4], negative where a point lies outside.
    """
    return torch.cat([points - boxes[..., :2], boxes[..., 2:] - points], dim=-1)


def encode_deltas(references: Tensor, boxes: Tensor, weights: Sequence[float] = (1, 1, 1, 1)) -> Tensor:
    """Deltas dx, dy, dw, dh that turn references (anchors or proposals) into boxes. Ren et al. 2015, eq. 2.

    references and boxes [..., 4] xyxy with positive sides; weights: factors of the four deltas. Returns [..., 4].
    """
    size, wanted = references[..., 2:] - references[..., :2], boxes[..., 2:] - boxes[..., :2]
    shift = (boxes[..., :2] + 0.5 * wanted - references[..., :2] - 0.5 * size) / size
    return torch.cat([shift, (wanted / size).log()], dim=-1) * shift.new_tensor(weights)


def decode_deltas(references: Tensor, deltas: Tensor, weights: Sequence[float] = (1, 1, 1, 1)) -> Tensor:
    """Boxes that deltas make of references; the inverse of `encode_deltas`. Ren et al. 2015, eq. 2.

    references and deltas [..., 4], of one shape or broadcast; dw and dh are limited to MAX_LOG_SCALE. Returns [..., 4]
    xyxy, not clipped.
    """
    size = references[..., 2:] - references[..., :2]
    deltas = deltas / deltas.new_tensor(weights)
    centre = deltas[..., :2] * size + references[..., :2] + 0.5 * size
    half = 0.5 * size * deltas[..., 2:].clamp(max=MAX_LOG_SCALE).exp()
    return torch.cat([centre - half, centre + half], dim=-1)


def box_areas(boxes: Tensor) -> Tensor:
    """Areas [...] of boxes [..., 4] xyxy, in square pixels."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def intersections(boxes: Tensor, others: Tensor) -> Tensor:
    """Areas that every box has in common with every other one: [M, 4] and [P, 4] xyxy -> [M, P] square pixels."""
    left, top, right, bottom = boxes[:, :, None].unbind(1)
    # Coordinate by coordinate and in place: a third of the memory, and of the time, of [M, P, 2] corners.
    left2, top2, right2, bottom2 = others.t().contiguous().unbind()
    width = torch.minimum(right, right2).sub_(torch.maximum(left, left2)).clamp_(min=0)
    height = torch.minimum(bottom, bottom2).sub_(torch.maximum(top, top2)).clamp_(min=0)
    return width.mul_(height)


def pairwise_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Intersection over union of every box with every other one: [M, 4] and [P, 4] xyxy -> [M, P] in 0..1."""
    common = intersections(boxes, others)
    union = box_areas(boxes)[:, None] + box_areas(others) - common
    return common.div_(union)


def paired_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Intersection over union of each box with the other one of the same place: [P, 4] and [P, 4] -> [P] in 0..1."""
    low, high = torch.maximum(boxes[:, :2], others[:, :2]), torch.minimum(boxes[:, 2:], others[:, 2:])
    common = (high - low).clamp(min=0).prod(dim=1)
    return common / (box_areas(boxes) + box_areas(others) - common)


def clip_boxes(boxes: Tensor, size: Size) -> Tensor:
    """Boxes [..., 4] xyxy limited to an image of `size` (height, width): x to 0..width, y to 0..height."""
    height, width = size
    limit = boxes.new_tensor([width, height, width, height])
    return torch.minimum(boxes.clamp(min=0), limit)


def rescale_boxes(boxes: Tensor, size: Size, original: Size) -> Tensor:
    """Boxes [..., 4] xyxy of an image of `size` in the pixels of the same image at its `original` size."""
    vertical, horizontal = original[0] / size[0], original[1] / size[1]
    return boxes * boxes.new_tensor([horizontal, vertical, horizontal, vertical])
