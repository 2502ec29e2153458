"""Weighted box fusion: what several views of an image, or several detectors, agree on becomes a weighted mean."""

import torch
from torch import Tensor


def fuse_boxes(
    boxes: Tensor, scores: Tensor, groups: Tensor, views: Tensor, iou_threshold: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Clusters of overlapping boxes, each as one box. Solovyev et al. 2021, sec. 3.

    boxes [K, 4] xyxy; scores [K] above 0; groups [K] integers: only boxes of one group, such as a class of an image,
    meet; views [K]: how many views, all of the same weight, there are of the image of a box; iou_threshold: what the
    IoU with the fused box of a cluster so far must exceed to join it. The boxes of a group are taken from the highest
    score to the lowest; each joins the cluster that it overlaps most, or begins one.

    Returns boxes [F, 4], the means weighted by the scores; scores [F]: the plain mean, times the number of boxes (at
    most that of the views) as a share of the views; and groups [F]; scores descending. A box that stays alone keeps its
    bits. Boxes without area stay alone.
    """
    if not len(boxes):
        return boxes, scores, groups
    order = scores.argsort(descending=True, stable=True)
    order = order[groups[order].argsort(stable=True)]
    values, sizes = groups[order].unique_consecutive(return_counts=True)
    starts = sizes.cumsum(0) - sizes
    # The groups take their next box at the same time. The largest comes first: those that have one left lead the rows.
    by_size = sizes.argsort(descending=True, stable=True)
    values, sizes, starts = values[by_size], sizes[by_size], starts[by_size]
    clusters = _Clusters(len(sizes), int(sizes[0]), boxes.device)
    boxes64, scores64 = boxes.double(), scores.double()
    for rank, active in enumerate(_active(sizes)):
        turn = order[starts[:active] + rank]
        clusters.take(boxes64[turn], scores64[turn], iou_threshold)
    row, place = (clusters.count > 0).nonzero(as_tuple=True)
    number, of_image = clusters.count[row, place], views[order[starts]].double()[row]
    fused_scores = clusters.weight[row, place] / number * number.minimum(of_image) / of_image
    best = fused_scores.argsort(descending=True, stable=True)
    row, place = row[best], place[best]
    return clusters.boxes[row, place].to(boxes.dtype), fused_scores[best].to(scores.dtype), values[row]


def _active(sizes: Tensor) -> list[int]:
    """How many of the groups have a first box, a second, .. ; sizes [G] descending."""
    ranks = torch.arange(int(sizes[0]), device=sizes.device)
    return (sizes[:, None] > ranks).sum(0).tolist()


class _Clusters:
    """The clusters of G groups, at most `most` in each.

    boxes [G, most, 4] as fused so far; total [G, most, 4] and weight [G, most]: sums of score * box and of scores;
    count [G, most]: boxes in them, 0 for none yet.
    """

    def __init__(self, groups: int, most: int, device: torch.device) -> None:
        self.boxes = torch.zeros(groups, most, 4, dtype=torch.float64, device=device)
        self.total = torch.zeros_like(self.boxes)
        self.weight = torch.zeros_like(self.boxes[..., 0])
        self.count = torch.zeros_like(self.weight)
        self.number = torch.zeros(groups, dtype=torch.long, device=device)

    def take(self, boxes: Tensor, scores: Tensor, iou_threshold: float) -> None:
        """The next box of each of the first groups: boxes [n, 4], scores [n]."""
        n, used = len(boxes), int(self.number.max())
        row, place = torch.arange(n, device=boxes.device), self.number[:n].clone()
        if used:
            iou, nearest = _iou(self.boxes[:n, :used], boxes[:, None]).max(dim=1)
            joins = iou > iou_threshold
            place = torch.where(joins, nearest, place)
        else:
            joins = torch.zeros(n, dtype=torch.bool, device=boxes.device)
        self.number[:n] += ~joins
        self.total[row, place] += scores[:, None] * boxes
        self.weight[row, place] += scores
        self.count[row, place] += 1
        mean = self.total[row, place] / self.weight[row, place, None]
        self.boxes[row, place] = torch.where(joins[:, None], mean, boxes)


def _iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Intersection over union of boxes that are broadcast against each other, 0 for those without area."""
    low, high = torch.maximum(boxes[..., :2], others[..., :2]), torch.minimum(boxes[..., 2:], others[..., 2:])
    common = (high - low).clamp(min=0).prod(dim=-1)
    areas = [(b[..., 2:] - b[..., :2]).prod(dim=-1) for b in (boxes, others)]
    return common / (areas[0] + areas[1] - common).clamp(min=torch.finfo(common.dtype).tiny)
