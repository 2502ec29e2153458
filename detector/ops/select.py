"""From the scores of all locations to the detections of one image."""

import math

import torch
from torch import Tensor
from torchvision.ops import batched_nms

from detector.ops.boxes import pairwise_iou
from detector.structures import Detection


def select_candidates(
    logits: Tensor, quality: Tensor, threshold: float, limit: int, *, joint: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """The best (location, class) pairs of one level. Tian et al. 2019, sec. 3.2 and 4.

    logits [P, C]; quality [P] logits (centerness) that multiply the class score; threshold: the class score alone must
    exceed it, or, if `joint`, the score that is returned; limit: pairs kept. Returns scores [K] = sqrt(class score *
    quality) in (0, 1], descending, and the locations [K] and labels [K] of the pairs.
    """
    # Comparing logits spares the sigmoid of millions of entries of which few pass. No quality lifts a score over the
    # square root of the class score.
    least = threshold**2 if joint else threshold
    cut = math.log(least / (1 - least)) if least > 0 else -math.inf
    locations, labels = (logits > cut).nonzero(as_tuple=True)
    scores = logits[locations, labels].sigmoid() * quality[locations].sigmoid()
    scores, best = scores.topk(min(limit, len(scores)))
    scores, locations, labels = scores.sqrt(), locations[best], labels[best]
    if joint:
        kept = scores > threshold
        scores, locations, labels = scores[kept], locations[kept], labels[kept]
    return scores, locations, labels


def keep_best(boxes: Tensor, scores: Tensor, groups: Tensor, nms_threshold: float, limit: int) -> Tensor:
    """Indices of the `limit` best boxes that non-maximum suppression within each group leaves, best first.

    boxes [K, 4] xyxy; scores [K]; groups [K]; a box goes when a better one of its group has a larger IoU with it than
    nms_threshold. As better boxes alone decide on a box, the best few are tried before all.
    """
    order = scores.argsort(descending=True, stable=True)
    count = 2 * limit
    while True:
        tried = order[:count]
        kept = tried[_survivors(boxes[tried], scores[tried], groups[tried], nms_threshold)]
        if len(kept) >= limit or count >= len(order):
            return kept[:limit]
        count *= 4


def _survivors(boxes: Tensor, scores: Tensor, groups: Tensor, nms_threshold: float) -> Tensor:
    """Indices of the boxes that non-maximum suppression within each group leaves, best first.

    batched_nms moves the boxes of each group to a place of their own: in float32 the digits that this takes change the
    overlaps of small boxes, the more the higher the number of the group
    (findings/torchvision_batched_nms_depends_on_class_numbers.sh). float64 has digits enough.
    """
    if boxes.device.type != "mps":  # which has no float64
        boxes, scores = boxes.double(), scores.double()
    return batched_nms(boxes, scores, groups, nms_threshold)


def suppress(boxes: Tensor, scores: Tensor, labels: Tensor, nms_threshold: float, limit: int) -> Detection:
    """The `limit` best detections after non-maximum suppression within each class, as `keep_best` says."""
    keep = keep_best(boxes, scores, labels, nms_threshold, limit)
    return Detection(boxes=boxes[keep], labels=labels[keep], scores=scores[keep])


def suppress_softly(
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor,
    method: str,
    nms_threshold: float,
    sigma: float,
    min_score: float,
    limit: int,
) -> Detection:
    """Soft-NMS within each class: a better box lowers the scores of those it overlaps. Bodla et al. 2017, sec. 3.

    boxes [K, 4] xyxy pixels; scores [K]; labels [K]; method: "soft_linear" multiplies by 1 - IoU where that is above
    nms_threshold, "soft_gaussian" by exp(-IoU ** 2 / sigma). Ends at `limit` boxes, or where no score exceeds
    min_score. A box is picked by its lowered score, so there is one round for each detection, not for each candidate.
    """
    rest = scores.clone()
    picked: list[Tensor] = []
    found: list[Tensor] = []
    while len(picked) < min(limit, len(scores)):
        value, best = rest.max(dim=0)
        if value <= min_score:
            break
        picked.append(best)
        found.append(value)
        iou = pairwise_iou(boxes[best][None], boxes)[0].nan_to_num_()
        if method == "soft_gaussian":
            decay = torch.exp(-(iou**2) / sigma)
        else:
            decay = torch.where(iou > nms_threshold, 1 - iou, 1.0)
        rest = torch.where(labels == labels[best], rest * decay, rest)
        rest[best] = -1
    keep = torch.stack(picked) if picked else labels[:0]
    return Detection(boxes=boxes[keep], labels=labels[keep], scores=torch.stack(found) if found else scores[:0])


def select_per_class(scores: Tensor, threshold: float, limit: int) -> tuple[Tensor, Tensor, Tensor]:
    """The best rows of each class. Liu et al. 2016, sec. 2.2 and 3.

    scores [P, C]; threshold: what a score must exceed; limit: rows kept a class. Returns the scores [K] of the pairs,
    and their rows [K] and labels [K]; in no particular order.
    """
    best, rows = scores.topk(min(limit, len(scores)), dim=0)
    rank, labels = (best > threshold).nonzero(as_tuple=True)
    return best[rank, labels], rows[rank, labels], labels
