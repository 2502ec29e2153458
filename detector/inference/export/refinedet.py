"""RefineDet's selection of all images at once, and that from the outputs of its layers alone."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from detector.inference.export.whole import raw, rule_of, select, select_raw
from detector.models.heads.refinedet import MIN_SIDE, Outputs, RefineDet
from detector.ops.anchors import anchor_cells
from detector.ops.boxes import decode_deltas
from detector.ops.flat import Flat, Padded, limits_of, padded, suppress_flat
from detector.structures import Detection, Features, Size


@select.register
def select_refinedet(head: RefineDet, features: Features, sizes: Tensor) -> Padded:
    """As `RefineDet.predict`."""
    anchors, (arm_logits, arm_deltas, odm_logits, odm_deltas) = head.anchors(features), head(features)
    unsure = arm_logits.softmax(-1)[..., 0] >= head.objectness_thresh
    scores = torch.where(unsure[..., None], odm_logits.softmax(-1)[..., :-1], -1.0)
    # So many more rows of no score, whatever the size, that the number of those taken is a constant. The threshold is 0
    # or more: what is no detection never exceeds it.
    limit = head.pre_nms_top_n
    # Along the last axis: along another one OpenVINO takes up to a hundred times as long
    # (findings/openvino_topk_is_slow_along_inner_axes.sh), which was most of the time of the whole graph.
    ranked = F.pad(scores.transpose(1, 2), (0, limit), value=-1.0).topk(limit, dim=2)
    best, rows = (entry.transpose(1, 2) for entry in ranked)
    image, rank, label = (best > head.score_thresh).nonzero(as_tuple=True)
    place = rows[image, rank, label]
    refined = decode_deltas(anchors[place], arm_deltas[image, place], head.weights)
    boxes = decode_deltas(refined, odm_deltas[image, place], head.weights)
    found = Flat(boxes, best[image, rank, label], label, image)
    number = sizes.shape[0]
    kept = suppress_flat(found, number, head.num_classes, head.nms, head.detections_per_img)
    # Clipped last, as the head does.
    clipped = torch.minimum(kept.boxes.clamp(min=0), limits_of(sizes, kept.image))
    wide = (clipped[:, 2:] - clipped[:, :2]).amin(1) >= MIN_SIDE
    whole = (wide | (kept.image == number)).nonzero()[:, 0]
    return padded(kept._replace(boxes=clipped).take(whole), number, head.detections_per_img)


@raw.register
def raw_refinedet(head: RefineDet, features: Features) -> Outputs:
    """The outputs of `RefineDet.forward`."""
    return head(features)


@select_raw.register
def select_raw_refinedet(
    head: RefineDet, outputs: Sequence[Tensor], grids: list[Size], sizes: list[Size]
) -> list[Detection]:
    """As `RefineDet.predict`."""
    maps = {name: torch.zeros(()).expand(1, 1, *grid) for name, grid in zip(head.strides, grids, strict=True)}
    anchors = head.anchors(maps)
    images = zip(*outputs, sizes, strict=True)
    return [head.decode(anchors, Outputs(*output), size) for *output, size in images]


@rule_of.register
def rule_of_refinedet(head: RefineDet) -> dict[str, Any]:
    """What `ops.arrays.of_refinedet` reads."""
    strides = list(head.strides.values())
    return {
        "kind": "refinedet",
        "strides": strides,
        "cells": [
            (anchor_cells([head.anchor_scale * stride], head.aspect_ratios) + stride / 2).tolist() for stride in strides
        ],
        "clipped": head.clip_anchors,
        "weights": list(head.weights),
        "objectness": head.objectness_thresh,
        "threshold": head.score_thresh,
        "candidates": head.pre_nms_top_n,
        "nms": head.nms,
        "limit": head.detections_per_img,
        "side": MIN_SIDE,
    }
