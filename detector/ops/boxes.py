"""Box arithmetic: distance coding, clipping, mapping between image sizes. Boxes are continuous xyxy in pixels."""

import torch
from torch import Tensor

from detector.structures import Size


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


def clip_boxes(boxes: Tensor, size: Size) -> Tensor:
    """Boxes [..., 4] xyxy limited to an image of `size` (height, width): x to 0..width, y to 0..height."""
    height, width = size
    limit = boxes.new_tensor([width, height, width, height])
    return torch.minimum(boxes.clamp(min=0), limit)


def rescale_boxes(boxes: Tensor, size: Size, original: Size) -> Tensor:
    """Boxes [..., 4] xyxy of an image of `size` in the pixels of the same image at its `original` size."""
    vertical, horizontal = original[0] / size[0], original[1] / size[1]
    return boxes * boxes.new_tensor([horizontal, vertical, horizontal, vertical])
