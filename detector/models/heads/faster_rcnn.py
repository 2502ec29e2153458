"""Faster R-CNN: proposals are classified and refined. Ren et al. 2015, on a feature pyramid (Lin et al. 2017, FPN)."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from yacs.config import CfgNode

from detector.errors import UserError
from detector.models.heads.base import Head, Standard, chance, register_head, shared
from detector.models.heads.box_head import BoxHead
from detector.models.heads.rpn import RPN, build_rpn
from detector.models.necks.base import NeckKeys
from detector.ops.boxes import box_areas, clip_boxes, decode_deltas, encode_deltas
from detector.ops.losses import DELTA_LOSSES, delta_loss_sum
from detector.ops.matching import BACKGROUND, match_boxes, sample_balanced
from detector.ops.roi_align import pool_regions
from detector.ops.select import suppress, suppress_softly
from detector.structures import ClassRows, Detection, Features, Level, Size, Target

MAX_STRIDE = 32  # coarser levels serve the RPN only. Lin et al. 2017, sec. 4.1
CANONICAL_SIDE, CANONICAL_LEVEL = 224, 4  # a region of 224 x 224 pixels belongs on p4. Lin et al. 2017, eq. 1
MIN_SIDE = 0.01  # pixels; a clipped detection with a shorter side holds nothing


def map_levels(boxes: Tensor, lowest: int, highest: int) -> Tensor:
    """The level of each box by its size: [R, 4] xyxy pixels -> [R] int64 in lowest..highest. Lin et al. 2017, eq. 1.

    Level k has stride 2 ** k. The small term keeps sides of exactly 112, 224, .. from falling below their level.
    """
    level = (CANONICAL_LEVEL + (box_areas(boxes).sqrt() / CANONICAL_SIDE).log2() + 1e-6).floor()
    return level.clamp(lowest, highest).to(torch.int64)


class Pooler(nn.Module):
    """RoIAlign from the level that fits each box. He et al. 2017, Mask R-CNN, sec. 3.

    levels: of the pyramid; those up to MAX_STRIDE are pooled from. resolution: cells a side of the output;
    sampling_ratio: samples a side of each cell, 0: as many as the region has cells of the map below it; aligned: shift
    by half a cell, which is exact.
    Raises ValueError when no level is fine enough, or the strides are no successive powers of two.
    """

    def __init__(
        self, levels: dict[str, Level], resolution: int = 7, sampling_ratio: int = 2, *, aligned: bool = True
    ) -> None:
        super().__init__()
        self.strides = {name: level.stride for name, level in levels.items() if level.stride <= MAX_STRIDE}
        self.lowest = round(math.log2(min(self.strides.values(), default=1)))
        if not self.strides or list(self.strides.values()) != [
            2 ** (self.lowest + i) for i in range(len(self.strides))
        ]:
            raise UserError(f"regions are pooled from levels of strides 4, 8, .. {MAX_STRIDE}; the neck has {levels}")
        self.resolution, self.sampling_ratio, self.aligned = resolution, sampling_ratio, aligned

    def forward(self, features: Features, boxes: Tensor, image: Tensor) -> Tensor:
        """Regions [R, channels, resolution, resolution] of boxes [R, 4] xyxy pixels; image [R] index into the batch."""
        level = map_levels(boxes, self.lowest, self.lowest + len(self.strides) - 1) - self.lowest
        maps = [features[name] for name in self.strides]
        how = self.resolution, self.sampling_ratio, self.aligned
        return pool_regions(maps, list(self.strides.values()), boxes, image, level, *how)


class Samples(NamedTuple):
    """The regions that a box head is trained on, all images together.

    boxes [R, 4] xyxy pixels; labels [R], C is background; deltas to be learned [R, 4], meaningful where the label is no
    background; image [R] index into the batch.
    """

    boxes: Tensor
    labels: Tensor
    deltas: Tensor
    image: Tensor


class FasterRCNN(Head):
    """Proposals of an RPN, pooled, classified and refined. Ren et al. 2015; Lin et al. 2017, FPN, sec. 4.2.

    rpn: proposes; pooler: cuts regions out of the pyramid; box_heads: one, or several for a cascade, each of which
    refines the boxes of the one before (Cai and Vasconcelos 2018); cascade_ious: IoU from which a region is positive,
    below which it is background, for each of several. The other arguments are the keys of MODEL.ROI_HEADS and
    MODEL.ROI_BOX_HEAD in lower case. cls_agnostic_bbox_reg: one box for all classes.
    Raises ValueError when the loss is unknown, the thresholds cross or a cascade has a box for each class.
    """

    def __init__(
        self,
        num_classes: int,
        rpn: RPN,
        pooler: Pooler,
        box_heads: Sequence[BoxHead],
        *,
        cascade_ious: Sequence[float] = (),
        fg_iou_threshold: float = 0.5,
        bg_iou_threshold: float = 0.5,
        batch_size_per_image: int = 512,
        positive_fraction: float = 0.25,
        bbox_reg_weights: Sequence[float] = (10.0, 10.0, 5.0, 5.0),
        cls_agnostic_bbox_reg: bool = False,
        bbox_reg_loss_type: str = "smooth_l1",
        smooth_l1_beta: float = 1.0,
        score_thresh: float = 0.05,
        nms: float = 0.5,
        nms_method: str = "hard",
        soft_nms_sigma: float = 0.5,
        soft_nms_min_score: float = 0.001,
        detections_per_img: int = 100,
    ) -> None:
        super().__init__()
        if bbox_reg_loss_type not in DELTA_LOSSES:
            names = ", ".join(DELTA_LOSSES)
            raise UserError(f"MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE {bbox_reg_loss_type!r}; choose one of {names}")
        if bg_iou_threshold > fg_iou_threshold:
            raise UserError(
                f"MODEL.ROI_HEADS.BG_IOU_THRESHOLD {bg_iou_threshold} is above FG_IOU_THRESHOLD {fg_iou_threshold}"
            )
        if cascade_ious and not cls_agnostic_bbox_reg:
            raise UserError("MODEL.ROI_HEADS.CASCADE_IOUS refines one box a region: set CLS_AGNOSTIC_BBOX_REG True")
        self.num_classes = num_classes
        self.thresholds = [(iou, iou) for iou in cascade_ious] or [(fg_iou_threshold, bg_iou_threshold)]
        self.batch_size_per_image, self.positive_fraction = batch_size_per_image, positive_fraction
        # The errors shrink from stage to stage: 10, 20, 30 in the cascade's paper, sec. 4.1.
        self.weights = [tuple(w * (k + 1) for w in bbox_reg_weights) for k in range(len(box_heads))]
        self.cls_agnostic = cls_agnostic_bbox_reg
        self.loss_type, self.smooth_l1_beta = bbox_reg_loss_type, smooth_l1_beta
        self.score_thresh, self.nms, self.detections_per_img = score_thresh, nms, detections_per_img
        self.nms_method, self.soft_nms = nms_method, (nms, soft_nms_sigma, soft_nms_min_score)
        layers = {"cls_logits": ClassRows(background=True)}
        if not cls_agnostic_bbox_reg:
            layers["deltas"] = ClassRows(after=4)
        stages = range(len(box_heads))
        self.classifier = {f"box_heads.{k}.{name}": rows for k in stages for name, rows in layers.items()}
        self.rpn, self.pooler, self.box_heads = rpn, pooler, nn.ModuleList(box_heads)

    def answered(self, features: Features, targets: list[Target]) -> list[Tensor]:
        """All boxes of each image: they are regions themselves, whatever the anchors."""
        return [torch.arange(len(target["boxes"])) for target in targets]

    def normalisers(self, features: Features, targets: list[Target], parts: int) -> Tensor:
        """The RPN's number of anchors. That of the regions depends on its proposals: each micro-batch has its own."""
        return self.rpn.normalisers(features, targets, parts)

    def loss(
        self, features: Features, targets: list[Target], sizes: list[Size], normalisers: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The RPN's two losses and the regions': cross entropy, and regression of the positives over all sampled.

        Ren et al. 2015, eq. 1; Girshick 2015, sec. 2.3. Zeros that still carry gradients where nothing is sampled. The
        names of a cascade's losses end in the number of the stage, from 0.
        """
        losses, proposals = self.rpn.loss(features, targets, sizes, normalisers)
        samples = self.training_samples(proposals.boxes, targets)
        several = len(self.box_heads) > 1
        for k, box_head in enumerate(self.box_heads):
            regions = self.pooler(features, samples.boxes, samples.image)
            if several and regions.requires_grad:
                # The stages share the features' gradient.
                regions.register_hook(lambda grad: grad / len(self.box_heads))
            logits, deltas = box_head(regions)
            stage = self.losses(logits, deltas, samples, k)
            losses |= {f"{name}_{k}": value for name, value in stage.items()} if several else stage
            if k + 1 < len(self.box_heads):
                boxes = self.refine(samples.boxes, deltas.detach(), samples.image, sizes, k)
                samples = self.relabel(boxes, samples.image, targets, k + 1)
        return losses

    @torch.no_grad()
    def training_samples(self, proposals: Sequence[Tensor], targets: list[Target]) -> Samples:
        """Sampled proposals of all images, the true boxes among them. Girshick 2015, sec. 2.3."""
        samples = []
        for i, (found, target) in enumerate(zip(proposals, targets, strict=True)):
            candidates = torch.cat([found, target["boxes"].to(found.dtype)])
            match = match_boxes(candidates, candidates[len(found) :], target["ignore"], *self.thresholds[0])
            chosen = self.sample(match, chance(target, 1, match.device))
            samples.append(self.label(candidates, match, *chosen, target, i))
        return Samples(*map(torch.cat, zip(*samples, strict=True)))

    @torch.no_grad()
    def relabel(self, boxes: Tensor, image: Tensor, targets: list[Target], stage: int) -> Samples:
        """All refined boxes but those in a crowd or without area, with the labels of a later stage of the cascade."""
        samples = []
        whole = ((boxes[:, 2:] - boxes[:, :2]) > 0).all(1)
        for i, target in enumerate(targets):
            candidates = boxes[(image == i) & whole]
            truth = target["boxes"].to(candidates.dtype)
            match = match_boxes(candidates, truth, target["ignore"], *self.thresholds[stage])
            chosen = (match >= 0).nonzero()[:, 0], (match == BACKGROUND).nonzero()[:, 0]
            samples.append(self.label(candidates, match, *chosen, target, i, stage))
        return Samples(*map(torch.cat, zip(*samples, strict=True)))

    def label(
        self,
        candidates: Tensor,
        match: Tensor,
        positives: Tensor,
        background: Tensor,
        target: Target,
        image: int,
        stage: int = 0,
    ) -> Samples:
        """The chosen candidates of one image with what a stage has to learn of them, positives first."""
        boxes = candidates[torch.cat([positives, background])]
        labels = F.pad(target["labels"][match[positives]], (0, len(background)), value=self.num_classes)
        truth = target["boxes"].to(boxes.dtype)[match[positives]]
        deltas = encode_deltas(candidates[positives], truth, self.weights[stage])
        return Samples(boxes, labels, F.pad(deltas, (0, 0, 0, len(background))), torch.full_like(labels, image))

    def sample(self, match: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Indices of the positives and of the background of one image that are trained; match [R]."""
        return sample_balanced(match, self.batch_size_per_image, self.positive_fraction, generator)

    def losses(self, logits: Tensor, deltas: Tensor, samples: Samples, stage: int = 0) -> dict[str, Tensor]:
        """Losses from the outputs of a box head and what it had to learn, both divided by the number of samples."""
        positive = (samples.labels < self.num_classes).nonzero()[:, 0]
        column = torch.zeros_like(positive) if self.cls_agnostic else samples.labels[positive]
        regression = delta_loss_sum(
            deltas[positive, column],
            samples.deltas[positive],
            samples.boxes[positive],
            self.weights[stage],
            self.loss_type,
            self.smooth_l1_beta,
        )
        (number,) = shared(logits.new_full((1,), len(samples.labels)))
        entropy = F.cross_entropy(logits, samples.labels, reduction="sum")
        return {"loss_classifier": entropy / number, "loss_box_reg": regression / number}

    def refine(self, boxes: Tensor, deltas: Tensor, image: Tensor, sizes: list[Size], stage: int) -> Tensor:
        """Boxes [R, 4] moved by the deltas [R, 1, 4] of a stage and clipped to their images."""
        limits = boxes.new_tensor([(w, h, w, h) for h, w in sizes])[image]
        return torch.minimum(decode_deltas(boxes, deltas[:, 0], self.weights[stage]).clamp(min=0), limits)

    def predict(self, features: Features, sizes: list[Size]) -> list[Detection]:
        """Detections of each image, in pixels of the network input, clipped to the image.

        A cascade averages the scores of all stages and takes the boxes of the last one.
        """
        proposals = self.rpn.predict(features, sizes).boxes
        counts = [len(p) for p in proposals]
        boxes = torch.cat(proposals)
        image = torch.arange(len(counts), device=boxes.device).repeat_interleave(boxes.new_tensor(counts).long())
        scores = boxes.new_zeros(len(boxes), self.num_classes + 1)
        deltas = boxes.new_zeros(len(boxes), 1, 4)
        for k, box_head in enumerate(self.box_heads):
            if k:
                boxes = self.refine(boxes, deltas, image, sizes, k - 1)
            logits, deltas = box_head(self.pooler(features, boxes, image))
            scores = scores + logits.softmax(-1) / len(self.box_heads)
        outputs = zip(scores.split(counts), deltas.split(counts), boxes.split(counts), sizes, strict=True)
        return [self.decode(*output) for output in outputs]

    def decode(self, scores: Tensor, deltas: Tensor, proposals: Tensor, size: Size) -> Detection:
        """The detections of one image: threshold, decoding, NMS within classes, cap.

        scores [R, C + 1] in 0..1, deltas [R, C or 1, 4] and proposals [R, 4] of the last stage.
        """
        region, label = (scores[:, :-1] > self.score_thresh).nonzero(as_tuple=True)
        column = torch.zeros_like(label) if self.cls_agnostic else label
        boxes = clip_boxes(decode_deltas(proposals[region], deltas[region, column], self.weights[-1]), size)
        wide = ((boxes[:, 2:] - boxes[:, :2]).amin(1) >= MIN_SIDE).nonzero()[:, 0]
        found = boxes[wide], scores[region[wide], label[wide]], label[wide]
        if self.nms_method == "hard":
            return suppress(*found, self.nms, self.detections_per_img)
        return suppress_softly(*found, self.nms_method, *self.soft_nms, self.detections_per_img)

    def fixed_forward(self, features: Features) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """The outputs of all layers for as many proposals as an image of a test has at most; their values mean nothing.

        For counting: what the head computes does not depend on what it finds.
        """
        first = next(iter(features.values()))
        side = self.pooler.resolution
        regions = first.new_zeros(self.rpn.post_nms_top_n["test"] * len(first), first.shape[1], side, side)
        return (*self.rpn(features), [x for box_head in self.box_heads for x in box_head(regions)])


@register_head("faster_rcnn", Standard("fpn", NeckKeys(("c2", "c3", "c4", "c5"), "maxpool")))
def build_faster_rcnn(cfg: CfgNode, levels: dict[str, Level]) -> FasterRCNN:
    """Two stages: proposals, then each classified and refined, or in a cascade. MODEL.RPN, ROI_HEADS, ROI_BOX_HEAD."""
    heads, box = cfg.MODEL.ROI_HEADS, cfg.MODEL.ROI_BOX_HEAD
    pooler = Pooler(levels, box.POOLER_RESOLUTION, box.POOLER_SAMPLING_RATIO, aligned=box.POOLER_ALIGNED)
    box_heads = [
        BoxHead(
            next(iter(levels.values())).channels,
            box.POOLER_RESOLUTION,
            cfg.MODEL.NUM_CLASSES,
            num_conv=box.NUM_CONV,
            conv_head_dim=box.CONV_HEAD_DIM,
            num_fc=box.NUM_FC,
            mlp_head_dim=box.MLP_HEAD_DIM,
            norm=box.NORM,
            cls_agnostic=cfg.MODEL.CLS_AGNOSTIC_BBOX_REG,
        )
        for _ in range(max(1, len(heads.CASCADE_IOUS)))
    ]
    return FasterRCNN(
        cfg.MODEL.NUM_CLASSES,
        build_rpn(cfg, levels),
        pooler,
        box_heads,
        cascade_ious=heads.CASCADE_IOUS,
        fg_iou_threshold=heads.FG_IOU_THRESHOLD,
        bg_iou_threshold=heads.BG_IOU_THRESHOLD,
        batch_size_per_image=heads.BATCH_SIZE_PER_IMAGE,
        positive_fraction=heads.POSITIVE_FRACTION,
        bbox_reg_weights=heads.BBOX_REG_WEIGHTS,
        score_thresh=heads.SCORE_THRESH,
        nms=heads.NMS,
        nms_method=heads.NMS_METHOD,
        soft_nms_sigma=heads.SOFT_NMS_SIGMA,
        soft_nms_min_score=heads.SOFT_NMS_MIN_SCORE,
        bbox_reg_loss_type=box.BBOX_REG_LOSS_TYPE,
        smooth_l1_beta=box.SMOOTH_L1_BETA,
        cls_agnostic_bbox_reg=cfg.MODEL.CLS_AGNOSTIC_BBOX_REG,
        detections_per_img=cfg.TEST.DETECTIONS_PER_IMG,
    )
