"""Faster R-CNN's selection of all images at once, its cascade included, and its two stages as graphs of their own."""

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import roi_align

from detector.errors import UserError
from detector.inference.export.whole import SecondStage, raw, rule_of, second_stage, select
from detector.models.heads.faster_rcnn import MIN_SIDE, FasterRCNN, Pooler, map_levels
from detector.models.heads.rpn import RPN
from detector.ops.boxes import decode_deltas
from detector.ops.flat import Flat, Padded, limits_of, padded, suppress_flat
from detector.structures import Features


@select.register
def select_faster_rcnn(head: FasterRCNN, features: Features, sizes: Tensor) -> Padded:
    """As `FasterRCNN.predict`. Raises ValueError for soft suppression, which is a loop of its own length."""
    if head.nms_method != "hard":
        raise UserError(
            f"MODEL.ROI_HEADS.NMS_METHOD {head.nms_method} is no part of a graph: write hard, or export with --split"
        )
    number = sizes.shape[0]
    proposals = propose(head.rpn, features, sizes)
    image = proposals.image
    scores, deltas, boxes = classify(head, features, proposals.boxes, image.clamp(max=number - 1), sizes)
    limits = limits_of(sizes, image)
    certain = (scores[:, :-1] > head.score_thresh) & (image < number)[:, None]
    region, label = certain.nonzero(as_tuple=True)
    column = torch.zeros_like(label) if head.cls_agnostic else label
    moved = decode_deltas(boxes[region], deltas[region, column], head.weights[-1])
    moved = torch.minimum(moved.clamp(min=0), limits[region])
    wide = ((moved[:, 2:] - moved[:, :2]).amin(1) >= MIN_SIDE).nonzero()[:, 0]
    found = Flat(moved, scores[region, label], label, image[region]).take(wide)
    kept = suppress_flat(found, number, head.num_classes, head.nms, head.detections_per_img)
    return padded(kept, number, head.detections_per_img)


def propose(rpn: RPN, features: Features, sizes: Tensor) -> Flat:
    """As `RPN.predict`: the proposals of all images and one of nobody. Their labels are levels, their scores logits."""
    boxes, logits, levels = [], [], []
    for i, (cells, logit, deltas) in enumerate(zip(rpn.anchors(features), *rpn(features), strict=True)):
        # So many more of no score, whatever the size, that the number of those taken is a constant.
        limit = rpn.pre_nms_top_n["test"]
        best, place = F.pad(logit, (0, limit), value=-math.inf).topk(limit, dim=1)
        place = place.clamp(max=logit.shape[1] - 1)
        boxes.append(decode_deltas(cells[place], deltas.gather(1, place[..., None].expand(-1, -1, 4))))
        logits.append(best)
        levels.append(torch.full_like(place, i))
    limits = sizes.flip(1).repeat(1, 2).to(boxes[0].dtype)[:, None]
    box = torch.minimum(torch.cat(boxes, dim=1).clamp(min=0), limits)
    side = (box[..., 2:] - box[..., :2]).amin(-1)
    image, slot = ((side >= rpn.min_size) & (side > 0)).nonzero(as_tuple=True)
    found = Flat(box[image, slot], torch.cat(logits, dim=1)[image, slot], torch.cat(levels, dim=1)[image, slot], image)
    return suppress_flat(found, sizes.shape[0], len(levels), rpn.nms_thresh, rpn.post_nms_top_n["test"])


def classify(
    head: "FasterRCNN | RoIHeads", features: Features, boxes: Tensor, image: Tensor, sizes: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Scores [R, C + 1] in 0..1 and deltas [R, C or 1, 4] of the last stage, and the boxes [R, 4] that those move.

    boxes [R, 4] xyxy pixels; image [R] index into the batch; sizes [N, 2] height, width, for a cascade alone.
    """
    torch._check(boxes.shape[0] < 2**31)  # without a limit the graph counts pairs with classes beyond 64 bits
    scores = boxes.new_zeros(boxes.shape[0], head.num_classes + 1)
    deltas = boxes.new_zeros(boxes.shape[0], 1, 4)
    for k, box_head in enumerate(head.box_heads):
        if k and sizes is not None:
            moved = decode_deltas(boxes, deltas[:, 0], head.weights[k - 1])
            boxes = torch.minimum(moved.clamp(min=0), limits_of(sizes, image))
        regions, row = pool(head.pooler, features, boxes, image)
        logits, deltas = (output[row] for output in box_head(regions))
        scores = scores + logits.softmax(-1) / len(head.box_heads)
    return scores, deltas, boxes


def pool(pooler: Pooler, features: Features, boxes: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
    """As `Pooler`: the regions of each level in a row, and the row of each box.

    Behind those of a level stands one of no area, as no runtime likes none. The rows are put in the order of the boxes
    when the box head has made them small: a region is large to move.
    """
    level = map_levels(boxes, pooler.lowest, pooler.lowest + len(pooler.strides) - 1) - pooler.lowest
    regions_of = torch.cat([image[:, None].to(boxes.dtype), boxes], dim=1)
    regions = []
    for i, (name, stride) in enumerate(pooler.strides.items()):
        part = torch.cat([regions_of[(level == i).nonzero()[:, 0]], boxes.new_zeros(1, 5)])
        regions.append(
            roi_align(features[name], part, pooler.resolution, 1 / stride, pooler.sampling_ratio, pooler.aligned)
        )
    owners = (level[:, None] == torch.arange(len(regions), device=level.device)).to(torch.int64)
    counts = owners.sum(0) + 1
    first = counts.cumsum(0) - counts
    return torch.cat(regions), first[level] + owners.cumsum(0).gather(1, level[:, None])[:, 0] - 1


@raw.register
def raw_faster_rcnn(head: FasterRCNN, features: Features) -> NamedTuple:
    """The maps of the levels that are pooled, by their names, and the outputs of `RPN.forward`."""
    names = [*head.pooler.strides, "objectness", "deltas"]
    rpn = (torch.cat(levels, dim=1) for levels in head.rpn(features))
    made = NamedTuple("Raw", [(name, Tensor) for name in names])  # type: ignore[misc] # as many maps as are pooled
    return made(*(features[name] for name in head.pooler.strides), *rpn)  # type: ignore[call-overload, no-any-return]


class RoIHeads(SecondStage):
    """Faster R-CNN's second stage, in a cascade all of them: inputs and outputs as `ops.arrays.of_faster_rcnn` says."""

    def __init__(self, head: FasterRCNN) -> None:
        super().__init__()
        several = len(head.box_heads) > 1
        # So that layers have the names that they have in a whole file.
        self.model = nn.ModuleDict({"head": nn.ModuleDict({"box_heads": head.box_heads})})
        self.layers = ["box_heads"]
        self.pooler, self.weights, self.num_classes = head.pooler, head.weights, head.num_classes
        self.inputs = [*head.pooler.strides, "boxes", "image", *["sizes"] * several]
        self.outputs = ["scores", "deltas", *["moved"] * several]

    @property
    def box_heads(self) -> nn.ModuleList:
        """Of each stage."""
        return self.model["head"]["box_heads"]  # type: ignore[index, return-value]

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        """The outputs, of the inputs in their order."""
        names = list(self.pooler.strides)
        maps = dict(zip(names, given, strict=False))
        boxes, image, *sizes = given[len(names) :]
        return classify(self, maps, boxes, image, sizes[0] if sizes else None)[: len(self.outputs)]


@second_stage.register
def second_stage_faster_rcnn(head: FasterRCNN) -> RoIHeads:
    """See `RoIHeads`."""
    return RoIHeads(head)


@rule_of.register
def rule_of_faster_rcnn(head: FasterRCNN) -> dict[str, Any]:
    """What `ops.arrays.of_faster_rcnn` reads."""
    rpn = head.rpn
    _, sigma, min_score = head.soft_nms
    return {
        "kind": "faster_rcnn",
        "strides": list(rpn.strides.values()),
        "padded_strides": rpn.padded_strides,
        "cells": rpn.cells.tolist(),
        "candidates": rpn.pre_nms_top_n["test"],
        "proposals": rpn.post_nms_top_n["test"],
        "proposal_nms": rpn.nms_thresh,
        "proposal_side": rpn.min_size,
        "levels": list(head.pooler.strides),
        "cascade": len(head.box_heads) > 1,
        "weights": list(head.weights[-1]),
        "agnostic": head.cls_agnostic,
        "threshold": head.score_thresh,
        "method": head.nms_method,
        "nms": head.nms,
        "sigma": sigma,
        "min_score": min_score,
        "limit": head.detections_per_img,
        "side": MIN_SIDE,
    }
