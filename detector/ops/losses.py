"""Loss terms, each summed or per element; heads weigh and normalise them. All expect float32 (or float64)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import generalized_box_iou_loss

from detector.errors import UserError
from detector.ops.boxes import decode_deltas

IOU_LOSSES = ("iou", "linear_iou", "giou", "plain_giou")
DELTA_LOSSES = ("smooth_l1", "l1", "giou")


def sigmoid_focal_sum(logits: Tensor, rows: Tensor, columns: Tensor, alpha: float, gamma: float) -> Tensor:
    """Focal loss summed over all logits, whose target is 1 at (rows, columns) and 0 elsewhere. Lin et al. 2017, eq. 5.

    logits [P, C]; rows and columns [K] index the positives. Equals torchvision.ops.sigmoid_focal_loss on the one-hot
    target, which is never built: nearly all entries are negative, so the few positives are put right afterwards.
    """

    def negative(x: Tensor) -> Tensor:
        return (1 - alpha) * x.sigmoid() ** gamma * F.softplus(x)

    positive = logits[rows, columns]
    correction = alpha * (-positive).sigmoid() ** gamma * F.softplus(-positive) - negative(positive)
    return negative(logits).sum() + correction.sum()


def distance_iou_loss(predicted: Tensor, target: Tensor, kind: str) -> Tensor:
    """IoU losses between boxes given by distances from a common point. Tian et al. 2019, sec. 3.1.

    predicted and target [K, 4] left, top, right, bottom >= 0; kind: "iou" (-log IoU), "linear_iou" (1 - IoU) or
    "giou" (Rezatofighi et al. 2019). IoU is (intersection + 1) / (union + 1), as in FCOS: the ones keep the logarithm
    finite, and they weigh more when the distances are in strides than in pixels. "plain_giou" is without them.
    Returns [K].
    """
    intersection = _area(torch.minimum(predicted, target))
    union = _area(predicted) + _area(target) - intersection
    if kind == "plain_giou":
        # As torchvision.ops.generalized_box_iou_loss, whose masks make the host wait for the device.
        enclosing = _area(torch.maximum(predicted, target))
        return 1 - intersection / (union + 1e-7) + (enclosing - union) / (enclosing + 1e-7)
    iou = (intersection + 1) / (union + 1)
    if kind == "iou":
        return -iou.log()
    if kind == "linear_iou":
        return 1 - iou
    if kind == "giou":
        enclosing = _area(torch.maximum(predicted, target)) + 1e-7
        return 1 - iou + (enclosing - union) / enclosing
    raise UserError(f"unknown IoU loss {kind!r}; choose one of {', '.join(IOU_LOSSES)}")


def delta_loss_sum(
    deltas: Tensor, wanted: Tensor, references: Tensor, weights: Sequence[float], kind: str, beta: float
) -> Tensor:
    """Regression loss of predicted deltas, summed. Ren et al. 2015, eq. 1.

    deltas and wanted [K, 4], coded by `weights` against references [K, 4] xyxy; kind: "smooth_l1" (Girshick 2015,
    eq. 3; quadratic below `beta`, which may be 0), "l1", or "giou" of the decoded boxes (Rezatofighi et al. 2019).
    """
    if kind == "smooth_l1":
        return F.smooth_l1_loss(deltas, wanted, reduction="sum", beta=beta)
    if kind == "l1":
        return F.l1_loss(deltas, wanted, reduction="sum")
    if kind == "giou":
        boxes = (decode_deltas(references, x, weights) for x in (deltas, wanted))
        return generalized_box_iou_loss(*boxes, reduction="sum")
    raise UserError(f"unknown delta loss {kind!r}; choose one of {', '.join(DELTA_LOSSES)}")


def centerness_targets(distances: Tensor) -> Tensor:
    """1 at the centre of a box, 0 at its sides. Tian et al. 2019, eq. 3.

    distances [K, 4] left, top, right, bottom > 0. Returns [K].
    """
    horizontal, vertical = distances[:, 0::2], distances[:, 1::2]
    ratio = horizontal.amin(1) / horizontal.amax(1) * (vertical.amin(1) / vertical.amax(1))
    return ratio.sqrt()


def _area(distances: Tensor) -> Tensor:
    left, top, right, bottom = distances.unbind(-1)
    return (left + right) * (top + bottom)
