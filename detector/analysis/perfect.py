"""What a head would make of an image if everything that is assigned a box regressed it perfectly."""

from typing import NamedTuple

import torch
from torch import Tensor

from detector.models.heads.base import Head
from detector.models.heads.faster_rcnn import FasterRCNN
from detector.models.heads.fcos import FCOS, positives_of
from detector.models.heads.refinedet import Outputs, RefineDet
from detector.ops.boxes import boxes_to_distances, decode_deltas, encode_deltas, paired_iou, pairwise_iou
from detector.ops.losses import centerness_targets
from detector.ops.matching import BACKGROUND, match_boxes, match_points
from detector.structures import Detection, Features, Size, Target

LEARNED, WEAK, HIDDEN, BETWEEN, APART, UNKNOWN = range(6)
"""What becomes of a box in training.

LEARNED: some location or anchor answers for it; WEAK: the best anchor that answers for it is below the threshold;
HIDDEN: all its locations or anchors answer for other boxes; BETWEEN: locations lie in it, but on no level whose range
it is in; APART: no location lies in the part of it that is positive, or no anchor touches it; UNKNOWN: nobody answers
for it, and the head, a plugin's, does not say why.
"""


class Outcome(NamedTuple):
    """What a head makes of the M boxes of one image.

    fates [M] int64: LEARNED .. UNKNOWN; fits [M]: the largest IoU of a box with an anchor that answers for it or, where
    none does, with any; nan without anchors. kept: what is detected, None where that is not known.
    """

    fates: Tensor
    fits: Tensor
    kept: Detection | None


@torch.no_grad()
def perfect(head: Head, features: Features, target: Target, size: Size) -> Outcome:
    """What a head makes of one image, assigned by its own code and selected by its own code.

    features: maps of the padded image, whose values do not matter; size: before padding.
    FCOS: a location answers for the box that `assign` gives it, and predicts that box; its class score is 1, its
    centerness what it is trained to be. Then come the head's threshold, candidates a level, NMS and limit.
    Faster R-CNN: an anchor answers for the box that the RPN's `assign` gives it and predicts that box, as far as deltas
    can; the more it overlaps it the surer it is; background is never a proposal. Then come the RPN's limits and NMS. Of
    the proposals, those that the first box head's thresholds assign a box predict that box and its class with a score
    of 1; then come NMS and limit.
    RefineDet: an anchor answers for the box that `assign` gives it in the ARM, which refines it to that box, as far as
    deltas can, and passes all others by. What the ODM then assigns to the refined anchors is predicted, the surer the
    more the anchor overlaps its box; then come candidates a class, NMS and limit.
    """
    if isinstance(head, FCOS):
        return _fcos(head, features, target, size)
    if isinstance(head, FasterRCNN):
        return _faster_rcnn(head, features, target, size)
    if isinstance(head, RefineDet):
        return _refinedet(head, features, target, size)
    fates = torch.full((len(target["boxes"]),), UNKNOWN)
    fates[head.answered(features, [target])[0]] = LEARNED
    return Outcome(fates, torch.full(fates.shape, torch.nan), None)


def anchor_threshold(head: Head) -> float | None:
    """The IoU from which an anchor answers for a box by itself; None for a head without anchors, or of a plugin."""
    if isinstance(head, FasterRCNN):
        return head.rpn.fg_iou_threshold
    return head.fg_iou_threshold if isinstance(head, RefineDet) else None


def _fcos(head: FCOS, features: Features, target: Target, size: Size) -> Outcome:
    points = head.points(features)
    match = head.assign(points, [target])
    fates = torch.full((len(target["boxes"]),), APART)
    fates[match[match > BACKGROUND].unique()] = LEARNED
    place, strides, ranges = head.places(points)
    everywhere = torch.tensor([-torch.inf, torch.inf]).expand(len(place), 2)
    for box in (fates == APART).nonzero()[:, 0].tolist():
        alone = target["boxes"][box : box + 1], target["ignore"], head.radius
        if (match_points(place, strides, ranges, *alone, open_ranges=head.open_ranges) > BACKGROUND).any():
            fates[box] = HIDDEN
        elif (match_points(place, strides, everywhere, *alone) > BACKGROUND).any():
            fates[box] = BETWEEN
    _, location, boxes, labels = positives_of(match, [target])
    distances = boxes_to_distances(place[location], boxes)
    numbers = [int(count) for count in torch.bincount(_levels(points)[location], minlength=len(points))]
    logits = torch.full((len(location), head.num_classes), -torch.inf)
    logits[torch.arange(len(location)), labels] = torch.inf

    def by_level(x: Tensor) -> list[Tensor]:
        return [part[None] for part in x.split(numbers)]

    centerness = centerness_targets(distances).logit()
    outputs = by_level(logits), by_level(distances), by_level(centerness)
    (kept,) = head.decode(list(place[location].split(numbers)), *outputs, [size])
    return Outcome(fates, torch.full(fates.shape, torch.nan), kept)


def _faster_rcnn(head: FasterRCNN, features: Features, target: Target, size: Size) -> Outcome:
    rpn, boxes = head.rpn, target["boxes"]
    levels = rpn.anchors(features)
    anchors = torch.cat(levels)
    match = rpn.assign(anchors, [target])[0]
    positive = (match > BACKGROUND).nonzero()[:, 0]
    fates, fits, overlaps = _fitting(anchors, boxes, match, positive, rpn.fg_iou_threshold)
    deltas = encode_deltas(anchors[positive], boxes[match[positive]])
    numbers = [int(count) for count in torch.bincount(_levels(levels)[positive], minlength=len(levels))]
    proposals = rpn.select(
        list(anchors[positive].split(numbers)),
        [x[None] for x in overlaps.split(numbers)],
        [x[None] for x in deltas.split(numbers)],
        [size],
        "test",
    ).boxes[0]
    second = match_boxes(proposals, boxes, target["ignore"], *head.thresholds[0])
    found = (second > BACKGROUND).nonzero()[:, 0]
    samples = head.label(proposals, second, found, found[:0], target, 0, len(head.box_heads) - 1)
    scores = torch.zeros(len(found), head.num_classes + 1)
    scores[torch.arange(len(found)), samples.labels] = 1.0
    columns = 1 if head.cls_agnostic else head.num_classes
    kept = head.decode(scores, samples.deltas[:, None].expand(-1, columns, -1), samples.boxes, size)
    return Outcome(fates, fits, kept)


def _refinedet(head: RefineDet, features: Features, target: Target, size: Size) -> Outcome:
    anchors, boxes = head.anchors(features), target["boxes"]
    match = head.assign(anchors[None], [target])[0]
    positive = (match > BACKGROUND).nonzero()[:, 0]
    fates, fits, overlaps = _fitting(anchors, boxes, match, positive, head.fg_iou_threshold)
    arm_deltas = encode_deltas(anchors[positive], boxes[match[positive]], head.weights)
    refined = decode_deltas(anchors[positive], arm_deltas, head.weights)
    second = head.assign(refined[None], [target])[0]
    found = (second > BACKGROUND).nonzero()[:, 0]
    odm_deltas = encode_deltas(refined[found], boxes[second[found]], head.weights)
    odm_logits = torch.zeros(len(found), head.num_classes + 1)
    # Near 1, and far enough from it to tell one overlap from another.
    odm_logits[torch.arange(len(found)), target["labels"][second[found]]] = 10 + 4 * overlaps[found]
    arm_logits = torch.tensor([20.0, 0.0]).expand(len(found), 2)
    kept = head.decode(anchors[positive][found], Outputs(arm_logits, arm_deltas[found], odm_logits, odm_deltas), size)
    return Outcome(fates, fits, kept)


def _fitting(
    anchors: Tensor, boxes: Tensor, match: Tensor, positive: Tensor, threshold: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Fates and fits of the boxes, and the overlap of each positive anchor with the box it answers for."""
    owner = match[positive]
    overlaps = paired_iou(anchors[positive], boxes[owner])
    fits = torch.full((len(boxes),), -1.0).scatter_reduce(0, owner, overlaps, "amax")
    answered = fits >= 0
    for box in (~answered).nonzero()[:, 0].tolist():
        fits[box] = pairwise_iou(boxes[box : box + 1], anchors).amax() if len(anchors) else 0.0
    fates = torch.where(fits >= threshold, LEARNED, WEAK)
    fates[~answered] = torch.where(fits[~answered] > 0, HIDDEN, APART)
    return fates, fits, overlaps


def _levels(parts: list[Tensor]) -> Tensor:
    """The level of every location or anchor."""
    return torch.arange(len(parts)).repeat_interleave(torch.tensor([len(part) for part in parts]))
