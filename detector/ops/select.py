"""From the scores of all locations to the detections of one image."""

import math

from torch import Tensor
from torchvision.ops import batched_nms

from detector.structures import Detection


def select_candidates(logits: Tensor, quality: Tensor, threshold: float, limit: int) -> tuple[Tensor, Tensor, Tensor]:
    """The best (location, class) pairs of one level. Tian et al. 2019, sec. 3.2 and 4.

    logits [P, C]; quality [P] logits (centerness) that multiply the class score; threshold: the class score alone must
    exceed it; limit: pairs kept. Returns scores [K] = sqrt(class score * quality) in (0, 1], descending, and the
    locations [K] and labels [K] of the pairs.
    """
    # Comparing logits spares the sigmoid of millions of entries of which few pass.
    cut = math.log(threshold / (1 - threshold)) if threshold > 0 else -math.inf
    locations, labels = (logits > cut).nonzero(as_tuple=True)
    scores = logits[locations, labels].sigmoid() * quality[locations].sigmoid()
    scores, best = scores.topk(min(limit, len(scores)))
    return scores.sqrt(), locations[best], labels[best]


def suppress(boxes: Tensor, scores: Tensor, labels: Tensor, nms_threshold: float, limit: int) -> Detection:
    """Non-maximum suppression within each class, then the `limit` best.

    boxes [K, 4] xyxy pixels; scores [K]; labels [K]; a box goes when a better one of its class has a larger IoU with
    it than nms_threshold.
    """
    keep = batched_nms(boxes, scores, labels, nms_threshold)[:limit]
    return Detection(boxes=boxes[keep], labels=labels[keep], scores=scores[keep])


def select_per_class(scores: Tensor, threshold: float, limit: int) -> tuple[Tensor, Tensor, Tensor]:
    """The best rows of each class. Liu et al. 2016, sec. 2.2 and 3.

    scores [P, C]; threshold: what a score must exceed; limit: rows kept a class. Returns the scores [K] of the pairs,
    and their rows [K] and labels [K]; in no particular order.
    """
    best, rows = scores.topk(min(limit, len(scores)), dim=0)
    rank, labels = (best > threshold).nonzero(as_tuple=True)
    return best[rank, labels], rows[rank, labels], labels
