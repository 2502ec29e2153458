"""Which location of a feature pyramid answers for which box."""

import torch
from torch import Tensor

from detector.ops.boxes import boxes_to_distances

BACKGROUND = -1
IGNORED = -2


def match_points(
    points: Tensor, strides: Tensor, ranges: Tensor, boxes: Tensor, ignore: Tensor, radius: float
) -> Tensor:
    """Assign every location the smallest box that it may regress. Tian et al. 2019, sec. 3.1 and 3.2.

    points [P, 2] x, y; strides [P]; ranges [P, 2]: closed interval of the largest distance that the location's level
    regresses; boxes [M, 4] and ignore [G, 4] xyxy; all in pixels. radius: half side of the positive square around a
    box's centre, in strides, cut at the box; 0: the whole box is positive. Of equal areas the first box wins.
    Returns [P] int64: index of the box, BACKGROUND, or IGNORED for unmatched locations inside a crowd region.
    """
    order = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).argsort(stable=True)
    boxes = boxes[order]
    left, top, right, bottom = boxes_to_distances(points[:, None], boxes[None]).unbind(-1)
    farthest = torch.maximum(torch.maximum(left, right), torch.maximum(top, bottom))
    if radius > 0:
        reach = (radius * strides)[:, None]
        x, y = ((boxes[:, :2] + boxes[:, 2:]) / 2).unbind(-1)
        left = points[:, 0, None] - torch.maximum(x - reach, boxes[:, 0])
        top = points[:, 1, None] - torch.maximum(y - reach, boxes[:, 1])
        right = torch.minimum(x + reach, boxes[:, 2]) - points[:, 0, None]
        bottom = torch.minimum(y + reach, boxes[:, 3]) - points[:, 1, None]
    nearest = torch.minimum(torch.minimum(left, right), torch.minimum(top, bottom))
    allowed = (nearest > 0) & (farthest >= ranges[:, :1]) & (farthest <= ranges[:, 1:])

    # Boxes stand in order of area, so the smallest allowed one is the one of the lowest rank.
    number = len(boxes)
    ranks = torch.arange(number, device=boxes.device).expand_as(allowed)
    best = torch.cat([ranks.masked_fill(~allowed, number), ranks.new_full((len(points), 1), number)], dim=1).amin(1)
    match = torch.cat([order, order.new_tensor([BACKGROUND])])[best]
    in_crowd = (boxes_to_distances(points[:, None], ignore[None]).amin(-1) > 0).any(1)
    return match.masked_fill(in_crowd & (match == BACKGROUND), IGNORED)
