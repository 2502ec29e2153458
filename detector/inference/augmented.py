"""Test-time augmentation: what is found at several sizes of a picture and in its mirror images, merged."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from yacs.config import CfgNode

from detector.ops.fusion import fuse_boxes
from detector.ops.select import suppress
from detector.structures import Batch, Detection, Size

FUSION_IOU = 0.55  # of the article
MARGIN = 0.05
"""How much more boxes that are fused overlap than those that the head's NMS leaves side by side.

Else a view's own second guesses join a cluster, and pull its box and its score down.
"""


class Augmentation(NamedTuple):
    """The views of a picture, and how their detections become one list.

    mirrored: of each size, INPUT's own first, whether the picture is also seen mirrored left and right; merge: "nms"
    keeps the best box of those of a class that overlap by more than `iou`, "wbf" their weighted mean; limit: detections
    an image that stay; least: what the score of a fused box must exceed, as the head demands it of its own.
    """

    mirrored: tuple[bool, ...]
    merge: str
    iou: float
    limit: int
    least: float = 0.0

    def merged(self, found: Sequence[Sequence[Detection]]) -> list[Detection]:
        """The detections of each image. found: of each image those of its views, in pixels of the original.

        With a single view they are what they were, bit for bit.
        """
        several = [views for views in found if len(views) > 1]
        merged = iter(self._fused(several) if self.merge == "wbf" else [self._best(views) for views in several])
        return [next(merged) if len(views) > 1 else views[0] for views in found]

    def text(self) -> str:
        """What is done, in words."""
        views, sizes = sum(self.mirrored) + len(self.mirrored), len(self.mirrored)
        return (
            f"test-time augmentation: {views} views of a picture ({sizes} size{'s' * (sizes > 1)}, "
            f"{sum(self.mirrored)} mirrored), merged by {self.merge} at IoU {self.iou:g}"
        )

    def _best(self, views: Sequence[Detection]) -> Detection:
        boxes, scores, labels = _joined(views)
        return suppress(boxes, scores, labels, self.iou, self.limit)

    def _fused(self, found: Sequence[Sequence[Detection]]) -> list[Detection]:
        """Those of all images are fused together: their boxes never meet, and each step serves all of them."""
        if not found:
            return []
        parts = [_joined(views) for views in found]
        boxes, scores, labels = map(torch.cat, zip(*parts, strict=True))
        counts = torch.tensor([len(part.scores) for part in parts])
        classes = int(labels.max()) + 1 if len(labels) else 1
        groups = torch.arange(len(parts)).repeat_interleave(counts) * classes + labels
        views = torch.tensor([len(views) for views in found]).repeat_interleave(counts)
        boxes, scores, groups = fuse_boxes(boxes, scores, groups, views, self.iou)
        image, labels = groups // classes, groups % classes
        merged = []
        for i in range(len(parts)):
            kept = ((image == i) & (scores > self.least)).nonzero()[: self.limit, 0]
            merged.append(Detection(boxes=boxes[kept], labels=labels[kept], scores=scores[kept]))
        return merged


def build_augmentation(cfg: CfgNode) -> Augmentation | None:
    """That of TEST.BBOX_AUG; None where it is off, or names no view but the plain one."""
    node = cfg.TEST.BBOX_AUG
    if not node.ENABLED or not (node.H_FLIP or node.SCALES):
        return None
    iou, least = _of_head(cfg)
    if node.MERGE == "wbf":
        iou = max(FUSION_IOU, iou + MARGIN)
    return Augmentation(
        (node.H_FLIP, *[node.SCALE_H_FLIP] * len(node.SCALES)),
        node.MERGE,
        iou if node.MERGE_IOU < 0 else node.MERGE_IOU,
        cfg.TEST.DETECTIONS_PER_IMG,
        least,
    )


def mirrored_batch(batch: Batch) -> Batch:
    """The images mirrored left and right within their sizes, padding where it was; targets stay as they are."""
    images = batch.images.clone()
    for image, (_, width) in zip(images, batch.sizes, strict=True):
        image[..., :width] = image[..., :width].flip(-1)
    return batch._replace(images=images)


def mirrored(found: Detection, size: Size) -> Detection:
    """Detections of the mirror image of a picture of `size` as those of the picture."""
    left, top, right, bottom = found["boxes"].unbind(-1)
    return {**found, "boxes": torch.stack([size[1] - right, top, size[1] - left, bottom], dim=-1)}


class _Joined(NamedTuple):
    """Detections of several views as one list: boxes [K, 4], scores [K], labels [K]."""

    boxes: Tensor
    scores: Tensor
    labels: Tensor


def _joined(views: Sequence[Detection]) -> _Joined:
    return _Joined(*(torch.cat([view[key] for view in views]) for key in ("boxes", "scores", "labels")))  # type: ignore[literal-required]


def _of_head(cfg: CfgNode) -> tuple[float, float]:
    """The IoU of the head's own NMS, and what the scores of its detections exceed; 0.5 and 0 of a plugin's head."""
    node = cfg.MODEL
    if node.HEAD.NAME == "fcos":  # the threshold is for the class score, unless told otherwise
        return node.FCOS.NMS_TH, node.FCOS.INFERENCE_TH if node.FCOS.TH_WITH_CENTERNESS else 0.0
    if node.HEAD.NAME == "faster_rcnn":
        hard = node.ROI_HEADS.NMS_METHOD == "hard"
        return node.ROI_HEADS.NMS, node.ROI_HEADS.SCORE_THRESH if hard else node.ROI_HEADS.SOFT_NMS_MIN_SCORE
    if node.HEAD.NAME == "refinedet":
        return node.REFINEDET.NMS, node.REFINEDET.SCORE_THRESH
    return 0.5, 0.0
