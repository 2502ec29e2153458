"""Which location, anchor or proposal answers for which box, and which of them are trained."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from detector.ops.boxes import box_areas, intersections, pairwise_iou

BACKGROUND = -1
IGNORED = -2
CROWD_OVERLAP = 0.5  # share of its area in a crowd region that takes a box out, as in COCO's evaluation at IoU 0.5
MAX_PAIRS = 2**21  # overlaps held at once: 8 MiB for each float32 matrix; or one row, where that is longer
MAX_POINT_PAIRS = 2**18  # locations x boxes held at once: 1 MiB for each float32 matrix, near a CPU's cache
MIN_OVERLAP = 1e-6  # IoU that a box's nearest candidate must exceed in `match_bipartite`


@torch.no_grad()
def match_points(
    points: Tensor,
    strides: Tensor,
    ranges: Tensor,
    boxes: Tensor,
    ignore: Tensor,
    radius: float,
    *,
    open_ranges: bool = False,
) -> Tensor:
    """Assign every location the smallest box that it may regress. Tian et al. 2019, sec. 3.1 and 3.2.

    points [P, 2] x, y; strides [P]; ranges [P, 2]: interval of the largest distance that the location's level
    regresses, with its ends unless `open_ranges`; boxes [M, 4] and ignore [G, 4] xyxy; all in pixels. radius: half side
    of the positive square around a box's centre, in strides, cut at the box; 0: the whole box is positive. Of equal
    areas the first box wins. Locations are taken in chunks of at most MAX_POINT_PAIRS pairs.
    Returns [P] int64: index of the box, BACKGROUND, or IGNORED for unmatched locations inside a crowd region.
    """
    order = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).argsort(stable=True)
    boxes = boxes[order]
    number = len(boxes)
    # Boxes stand in order of area, so the smallest allowed one is the one of the lowest rank.
    ranks = torch.arange(number, dtype=torch.int32, device=boxes.device)
    index = torch.cat([order, order.new_full((1,), BACKGROUND)])  # no copy from the host, which would wait
    match = index[-1].repeat(len(points))
    chunk = max(1, MAX_POINT_PAIRS // max(1, number, len(ignore)))
    for start in range(0, len(points), chunk):
        part = slice(start, start + chunk)
        place = points[part]
        if number:
            reach = radius * strides[part] if radius > 0 else None
            allowed = _regressed(place, reach, ranges[part], boxes, open_ranges)
            match[part] = index[torch.where(allowed, ranks, number).amin(1)]
        in_crowd = _inside(place, ignore.unbind(1)).any(1)
        match[part].masked_fill_(in_crowd & (match[part] == BACKGROUND), IGNORED)
    return match


def _regressed(points: Tensor, reach: Tensor | None, ranges: Tensor, boxes: Tensor, open_ranges: bool) -> Tensor:
    """Which boxes each location may regress, [P, M] bool; see `match_points`.

    reach [P]: half side of the positive square around a box's centre, pixels; None: the whole box.
    """
    left, top, right, bottom = boxes.unbind(1)
    x, y = points[:, :1], points[:, 1:]
    farthest = torch.maximum(x - left, right - x)
    farthest = torch.maximum(farthest, torch.maximum(y - top, bottom - y))
    low, high = ranges[:, :1], ranges[:, 1:]
    in_range = (farthest > low) & (farthest < high) if open_ranges else (farthest >= low) & (farthest <= high)
    if reach is not None:
        x, y = ((boxes[:, :2] + boxes[:, 2:]) / 2).unbind(1)
        around = reach[:, None]
        left, top = torch.maximum(x - around, left), torch.maximum(y - around, top)
        right, bottom = torch.minimum(x + around, right), torch.minimum(y + around, bottom)
    return in_range & _inside(points, (left, top, right, bottom))


def _inside(points: Tensor, sides: Sequence[Tensor]) -> Tensor:
    """Which points [P, 2] lie inside which boxes, not on their sides: left, top, right, bottom, all [M] or [P, M]."""
    x, y = points[:, :1], points[:, 1:]
    left, top, right, bottom = sides
    return (x > left) & (x < right) & (y > top) & (y < bottom)


@torch.no_grad()
def match_boxes(
    candidates: Tensor, boxes: Tensor, ignore: Tensor, high: float, low: float, *, low_quality: bool = False
) -> Tensor:
    """Assign every anchor or proposal the box that it overlaps most. Ren et al. 2015, sec. 3.1.2.

    candidates [P, 4], boxes [M, 4] and ignore [G, 4] xyxy pixels. A candidate is positive where that IoU is at least
    `high`, background below `low`, neither in between. low_quality: the candidates nearest to a box, all that tie, are
    positive too, whatever the overlap; each of them answers for the box that it itself overlaps most. Of equal
    overlaps the first box wins. Background becomes IGNORED where a crowd region of `ignore` covers CROWD_OVERLAP of it.
    Boxes are taken in chunks of at most MAX_PAIRS overlaps. Returns [P] int64: index of the box, BACKGROUND or IGNORED.
    """
    count = len(candidates)
    best = candidates.new_zeros(count)
    match = torch.zeros(count, dtype=torch.int64, device=candidates.device)
    nearest = torch.zeros(count, dtype=torch.bool, device=candidates.device)
    chunk = max(1, MAX_PAIRS // max(1, count))
    # Without candidates no box has a nearest one.
    for start in range(0, len(boxes) if count else 0, chunk):
        iou = pairwise_iou(boxes[start : start + chunk].to(candidates.dtype), candidates)
        value, index = iou.max(dim=0)
        match = torch.where(value > best, index + start, match)
        best = torch.maximum(best, value)
        if low_quality:
            # A box that no candidate touches is nobody's, though all would tie for it at 0.
            most = iou.amax(dim=1, keepdim=True).clamp(min=torch.finfo(iou.dtype).tiny)
            nearest |= (iou == most).any(dim=0)
    positive = nearest if not len(boxes) else (best >= high) | nearest
    unmatched = torch.where((best >= low) | in_crowd(candidates, ignore), IGNORED, BACKGROUND)
    return torch.where(positive, match, unmatched)


def sample_balanced(
    match: Tensor, number: int, positive_fraction: float, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Draw positives and background at random. Ren et al. 2015, sec. 3.1.3.

    match [P] as `match_boxes` gives it. At most `number` are drawn, at most `positive_fraction` of these positive; what
    is lacking of positives is filled up with background. Draws by torch.randperm, positives first; generator: on the
    device of `match`, None for the global state. Returns the indices of the positives and of the background.
    """
    positives, background = (match >= 0).nonzero()[:, 0], (match == BACKGROUND).nonzero()[:, 0]
    wanted = min(int(number * positive_fraction), len(positives))
    chosen, others = (torch.randperm(len(x), generator=generator, device=match.device) for x in (positives, background))
    return positives[chosen[:wanted]], background[others[: number - wanted]]


@torch.no_grad()
def match_bipartite(candidates: Tensor, boxes: Tensor, ignore: Tensor, high: float, low: float) -> Tensor:
    """Give every box a candidate of its own, the others the box they overlap most. Liu et al. 2016, sec. 2.2.

    candidates [P, 4], boxes [M, 4] and ignore [G, 4] xyxy pixels. First of all pairs the one of the largest IoU is
    taken and its box and candidate leave, and so on until no box overlaps a free candidate by more than MIN_OVERLAP;
    of equal overlaps the first candidate wins, then the first box. So unlike in `match_boxes`, no box loses its nearest
    candidate to another one without getting the next. A candidate that is left is positive where its largest IoU is at
    least `high`, background below `low`, neither in between; background becomes IGNORED where a crowd region of
    `ignore` covers CROWD_OVERLAP of it. Boxes are taken in chunks of at most MAX_PAIRS overlaps. Returns [P] int64:
    index of the box, BACKGROUND or IGNORED.
    """
    boxes = boxes.to(candidates.dtype)
    taken = torch.zeros(len(candidates), dtype=torch.bool, device=candidates.device)
    overlap, nearest, best, owner = _largest_overlaps(candidates, boxes, taken)
    unmatched = torch.where((best >= low) | in_crowd(candidates, ignore), IGNORED, BACKGROUND)
    match = torch.where((best >= high) & (best > 0), owner, unmatched)
    left = torch.arange(len(boxes) if len(candidates) else 0, device=candidates.device)
    while len(left):
        # A pair that is the best for both comes before every other pair of the two, whatever the others do: all such
        # pairs are taken at once, and there is always one, the largest of all.
        touching = overlap > MIN_OVERLAP
        mutual = touching & (owner[nearest] == torch.arange(len(left), device=left.device))
        match[nearest[mutual]] = left[mutual]
        taken[nearest[mutual]] = True
        left = left[touching & ~mutual]
        overlap, nearest, _, owner = _largest_overlaps(candidates, boxes[left], taken)
    return match


def _largest_overlaps(candidates: Tensor, boxes: Tensor, taken: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """For every box the largest IoU [M] with a candidate not `taken` [P], and which; for every candidate likewise [P].

    Of equal overlaps the first counts; without candidates or boxes the other side has 0 and index 0.
    """
    overlap = boxes.new_zeros(len(boxes))
    nearest = torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device)
    best = candidates.new_zeros(len(candidates))
    owner = torch.zeros(len(candidates), dtype=torch.int64, device=boxes.device)
    chunk = max(1, MAX_PAIRS // max(1, len(candidates)))
    for start in range(0, len(boxes) if len(candidates) else 0, chunk):
        part = slice(start, start + chunk)
        iou = pairwise_iou(boxes[part], candidates).masked_fill_(taken, 0)
        overlap[part], nearest[part] = iou.max(dim=1)
        value, index = iou.max(dim=0)
        owner = torch.where(value > best, index + start, owner)
        best = torch.maximum(best, value)
    return overlap, nearest, best, owner


def in_crowd(candidates: Tensor, ignore: Tensor) -> Tensor:
    """Where a crowd region covers CROWD_OVERLAP of a candidate: [P, 4] and [G, 4] xyxy pixels -> [P] bool."""
    covered = torch.zeros(len(candidates), dtype=torch.bool, device=candidates.device)
    chunk = max(1, MAX_PAIRS // max(1, len(candidates)))
    for start in range(0, len(ignore), chunk):
        common = intersections(ignore[start : start + chunk].to(candidates.dtype), candidates)
        covered |= (common >= CROWD_OVERLAP * box_areas(candidates)).any(dim=0)
    return covered


@torch.no_grad()
def mine_hard_negatives(losses: Tensor, positive: Tensor, negative: Tensor, ratio: float) -> Tensor:
    """The negatives of each image that are trained: those of the largest loss. Liu et al. 2016, sec. 2.2.

    losses [N, P]; positive and negative [N, P] bool, the latter says which may be chosen; ratio: chosen ones for each
    positive of the image, at most. Of equal losses the first one is taken. Returns [N, P] bool; an image without
    positives has none.
    """
    wanted = torch.minimum((positive.sum(1) * ratio).long(), negative.sum(1))
    order = losses.masked_fill(~negative, -math.inf).argsort(dim=1, descending=True, stable=True)
    rank = torch.arange(losses.shape[1], device=losses.device)
    return torch.zeros_like(negative).scatter_(1, order, rank < wanted[:, None])
