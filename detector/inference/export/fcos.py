"""FCOS's selection of all images at once, and that from the outputs of its layers alone."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from detector.inference.export.whole import raw, rule_of, select, select_raw
from detector.models.heads.fcos import FCOS
from detector.ops.boxes import distances_to_boxes
from detector.ops.flat import Flat, Padded, limits_of, padded, suppress_flat
from detector.structures import Detection, Features, Size


@select.register
def select_fcos(head: FCOS, features: Features, sizes: Tensor) -> Padded:
    """As `FCOS.predict`."""
    boxes, scores, labels = [], [], []
    for points, logits, distances, centerness in zip(*head(features), strict=True):
        score, place, label = best_pairs(
            logits, centerness, head.inference_th, head.pre_nms_top_n, joint=head.th_with_centerness
        )
        boxes.append(distances_to_boxes(points[place], distances.gather(1, place[..., None].expand(-1, -1, 4))))
        scores.append(score)
        labels.append(label)
    score = torch.cat(scores, dim=1)
    image, slot = (score > 0).nonzero(as_tuple=True)
    box = torch.cat(boxes, dim=1)[image, slot].clamp(min=0)
    found = Flat(
        torch.minimum(box, limits_of(sizes, image)), score[image, slot], torch.cat(labels, dim=1)[image, slot], image
    )
    number = sizes.shape[0]
    kept = suppress_flat(found, number, head.num_classes, head.nms_th, head.detections_per_img)
    return padded(kept, number, head.detections_per_img)


def best_pairs(
    logits: Tensor, quality: Tensor, threshold: float, limit: int, *, joint: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """As `ops.select.select_candidates`, of N images at once; what that leaves out has the score 0.

    logits [N, P, C]; quality [N, P]. Returns scores, locations and labels [N, limit], scores descending.
    """
    least = threshold**2 if joint else threshold
    cut = math.log(least / (1 - least)) if least > 0 else -math.inf
    scores = torch.where(logits > cut, logits.sigmoid() * quality.sigmoid()[..., None], 0.0).flatten(1)
    # So many more of no score, whatever the size, that the number of those taken is a constant.
    scores, pairs = F.pad(scores, (0, limit)).topk(limit, dim=1)
    scores = scores.sqrt()
    if joint:
        scores = torch.where(scores > threshold, scores, 0.0)
    place = (pairs // logits.shape[2]).clamp(max=logits.shape[1] - 1)
    return scores, place, pairs % logits.shape[2]


class Raw(NamedTuple):
    """logits [N, P, C], distances [N, P, 4] pixels, centerness [N, P] logits: of all levels, fine to coarse."""

    logits: Tensor
    distances: Tensor
    centerness: Tensor


@raw.register
def raw_fcos(head: FCOS, features: Features) -> Raw:
    """The outputs of `FCOS.forward`."""
    _, *outputs = head(features)
    return Raw(*(torch.cat(levels, dim=1) for levels in outputs))


@select_raw.register
def select_raw_fcos(head: FCOS, outputs: Sequence[Tensor], grids: list[Size], sizes: list[Size]) -> list[Detection]:
    """As `FCOS.predict`."""
    maps = {name: torch.zeros(()).expand(1, 1, *grid) for name, grid in zip(head.strides, grids, strict=True)}
    cells = [height * width for height, width in grids]
    logits, distances, centerness = (list(output.split(cells, dim=1)) for output in outputs)
    return head.decode(head.points(maps), logits, distances, centerness, sizes)


@rule_of.register
def rule_of_fcos(head: FCOS) -> dict[str, Any]:
    """What `ops.arrays.of_fcos` reads."""
    return {
        "kind": "fcos",
        "strides": list(head.strides.values()),
        "offset": head.point_offset,
        "padded_strides": head.padded_strides,
        "threshold": head.inference_th,
        "joint": head.th_with_centerness,
        "candidates": head.pre_nms_top_n,
        "nms": head.nms_th,
        "limit": head.detections_per_img,
    }
