"""Faster R-CNN: proposals are classified and refined. Ren et al. 2015, on a feature pyramid (Lin et al. 2017, FPN)."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import roi_align
from yacs.config import CfgNode

from detector.models.heads.base import Head, register_head
from detector.models.heads.rpn import RPN
from detector.ops.boxes import box_areas, clip_boxes, decode_deltas, encode_deltas
from detector.ops.losses import DELTA_LOSSES, delta_loss_sum
from detector.ops.matching import match_boxes, sample_balanced
from detector.ops.select import suppress
from detector.structures import Detection, Features, Level, Size, Target

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
            raise ValueError(f"regions are pooled from levels of strides 4, 8, .. {MAX_STRIDE}; the neck has {levels}")
        self.resolution, self.sampling_ratio, self.aligned = resolution, sampling_ratio, aligned

    def forward(self, features: Features, boxes: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        """Regions by level, fine to coarse, and where each box went.

        boxes [R, 4] xyxy pixels; image [R] index into the batch. Returns [R, channels, resolution, resolution] and the
        place [R] of every box among them, so that whoever needs the old order restores it on something smaller.
        """
        level = map_levels(boxes, self.lowest, self.lowest + len(self.strides) - 1) - self.lowest
        order = level.argsort(stable=True)
        counts = level.bincount(minlength=len(self.strides)).tolist()
        rois = torch.cat([image[:, None].to(boxes.dtype), boxes], dim=1)[order]
        regions = []
        for (name, stride), part in zip(self.strides.items(), rois.split(counts), strict=True):
            x = features[name].to(boxes.dtype)  # the places of the samples need the digits
            size, ratio = self.resolution, self.sampling_ratio
            regions.append(roi_align(x, part, size, 1 / stride, ratio, self.aligned))
        return torch.cat(regions), order.argsort()


class FasterRCNN(Head):
    """Proposals of an RPN, pooled, classified and refined by two fully connected layers. Lin et al. 2017, sec. 4.2.

    levels: what the neck puts out, all of the same channels. rpn: proposes; the other arguments are the keys of
    MODEL.ROI_HEADS and MODEL.ROI_BOX_HEAD in lower case. cls_agnostic_bbox_reg: one box for all classes.
    Raises ValueError when the loss is unknown, the thresholds cross or the levels do not fit.
    """

    def __init__(
        self,
        levels: dict[str, Level],
        num_classes: int,
        rpn: RPN,
        *,
        fg_iou_threshold: float = 0.5,
        bg_iou_threshold: float = 0.5,
        batch_size_per_image: int = 512,
        positive_fraction: float = 0.25,
        bbox_reg_weights: Sequence[float] = (10.0, 10.0, 5.0, 5.0),
        pooler_resolution: int = 7,
        pooler_sampling_ratio: int = 2,
        pooler_aligned: bool = True,
        mlp_head_dim: int = 1024,
        cls_agnostic_bbox_reg: bool = False,
        bbox_reg_loss_type: str = "smooth_l1",
        smooth_l1_beta: float = 1.0,
        score_thresh: float = 0.05,
        nms: float = 0.5,
        detections_per_img: int = 100,
    ) -> None:
        super().__init__()
        if bbox_reg_loss_type not in DELTA_LOSSES:
            names = ", ".join(DELTA_LOSSES)
            raise ValueError(f"MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE {bbox_reg_loss_type!r}; choose one of {names}")
        if bg_iou_threshold > fg_iou_threshold:
            raise ValueError(
                f"MODEL.ROI_HEADS.BG_IOU_THRESHOLD {bg_iou_threshold} is above FG_IOU_THRESHOLD {fg_iou_threshold}"
            )
        self.num_classes = num_classes
        self.fg_iou_threshold, self.bg_iou_threshold = fg_iou_threshold, bg_iou_threshold
        self.batch_size_per_image, self.positive_fraction = batch_size_per_image, positive_fraction
        self.bbox_reg_weights = tuple(bbox_reg_weights)
        self.cls_agnostic = cls_agnostic_bbox_reg
        self.loss_type, self.smooth_l1_beta = bbox_reg_loss_type, smooth_l1_beta
        self.score_thresh, self.nms, self.detections_per_img = score_thresh, nms, detections_per_img
        self.classifier = ("cls_logits",) if cls_agnostic_bbox_reg else ("cls_logits", "deltas")

        self.rpn = rpn
        self.pooler = Pooler(levels, pooler_resolution, pooler_sampling_ratio, aligned=pooler_aligned)
        channels = next(iter(levels.values())).channels
        self.fc1 = nn.Linear(channels * pooler_resolution**2, mlp_head_dim)
        self.fc2 = nn.Linear(mlp_head_dim, mlp_head_dim)
        self.cls_logits = nn.Linear(mlp_head_dim, num_classes + 1)
        self.deltas = nn.Linear(mlp_head_dim, 4 * (1 if cls_agnostic_bbox_reg else num_classes))
        for layer in (self.fc1, self.fc2):
            nn.init.kaiming_uniform_(layer.weight, a=1)
            nn.init.zeros_(layer.bias)
        for layer, std in ((self.cls_logits, 0.01), (self.deltas, 0.001)):
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)

    def forward(self, regions: Tensor) -> tuple[Tensor, Tensor]:
        """Class logits [R, C + 1], background last, and deltas [R, C or 1, 4] of regions [R, channels, size, size]."""
        x = F.relu(self.fc1(regions.flatten(1)))
        x = F.relu(self.fc2(x))
        dtype = torch.promote_types(x.dtype, torch.float32)
        return self.cls_logits(x).to(dtype), self.deltas(x).to(dtype).unflatten(1, (-1, 4))

    def loss(self, features: Features, targets: list[Target], sizes: list[Size]) -> dict[str, Tensor]:
        """The RPN's two losses and the regions': cross entropy, and regression of the positives over all sampled.

        Ren et al. 2015, eq. 1; Girshick 2015, sec. 2.3. Zeros that still carry gradients where nothing is sampled.
        """
        losses, proposals = self.rpn.loss(features, targets, sizes)
        boxes, labels, wanted, image = self.training_samples(proposals.boxes, targets)
        regions, place = self.pooler(features, boxes, image)
        logits, deltas = self(regions)
        return {**losses, **self.losses(logits[place], deltas[place], boxes, labels, wanted)}

    @torch.no_grad()
    def training_samples(
        self, proposals: Sequence[Tensor], targets: list[Target]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Sampled proposals of all images, the true boxes among them. Girshick 2015, sec. 2.3.

        Returns boxes [R, 4]; labels [R], C is background; deltas to be learned [R, 4], meaningful where the label is
        no background; image [R].
        """
        boxes, labels, wanted, image = [], [], [], []
        for i, (found, target) in enumerate(zip(proposals, targets, strict=True)):
            truth = target["boxes"].to(found.dtype)
            candidates = torch.cat([found, truth])
            thresholds = self.fg_iou_threshold, self.bg_iou_threshold
            match = match_boxes(candidates, truth, target["ignore"], *thresholds)
            positives, background = self.sample(match)
            sampled = torch.cat([positives, background])
            boxes.append(candidates[sampled])
            labels.append(F.pad(target["labels"][match[positives]], (0, len(background)), value=self.num_classes))
            deltas = encode_deltas(candidates[positives], truth[match[positives]], self.bbox_reg_weights)
            wanted.append(F.pad(deltas, (0, 0, 0, len(background))))
            image.append(torch.full_like(sampled, i))
        return torch.cat(boxes), torch.cat(labels), torch.cat(wanted), torch.cat(image)

    def sample(self, match: Tensor) -> tuple[Tensor, Tensor]:
        """Indices of the positives and of the background of one image that are trained; match [R]."""
        return sample_balanced(match, self.batch_size_per_image, self.positive_fraction)

    def losses(
        self, logits: Tensor, deltas: Tensor, boxes: Tensor, labels: Tensor, wanted: Tensor
    ) -> dict[str, Tensor]:
        """Losses from the outputs of `forward` and the samples, both divided by the number of samples."""
        positive = (labels < self.num_classes).nonzero()[:, 0]
        column = torch.zeros_like(positive) if self.cls_agnostic else labels[positive]
        regression = delta_loss_sum(
            deltas[positive, column],
            wanted[positive],
            boxes[positive],
            self.bbox_reg_weights,
            self.loss_type,
            self.smooth_l1_beta,
        )
        number = max(len(labels), 1)
        entropy = F.cross_entropy(logits, labels, reduction="sum")
        return {"loss_classifier": entropy / number, "loss_box_reg": regression / number}

    def predict(self, features: Features, sizes: list[Size]) -> list[Detection]:
        """Detections of each image, in pixels of the network input, clipped to the image."""
        proposals = self.rpn.predict(features, sizes).boxes
        counts = [len(p) for p in proposals]
        boxes = torch.cat(proposals)
        image = torch.arange(len(counts), device=boxes.device).repeat_interleave(boxes.new_tensor(counts).long())
        regions, place = self.pooler(features, boxes, image)
        logits, deltas = self(regions)
        outputs = zip(logits[place].split(counts), deltas[place].split(counts), proposals, sizes, strict=True)
        return [self.decode(*output) for output in outputs]

    def decode(self, logits: Tensor, deltas: Tensor, proposals: Tensor, size: Size) -> Detection:
        """The detections of one image from the outputs of `forward`: threshold, decoding, NMS within classes, cap."""
        scores = logits.softmax(-1)[:, :-1]
        region, label = (scores > self.score_thresh).nonzero(as_tuple=True)
        column = torch.zeros_like(label) if self.cls_agnostic else label
        boxes = clip_boxes(decode_deltas(proposals[region], deltas[region, column], self.bbox_reg_weights), size)
        wide = ((boxes[:, 2:] - boxes[:, :2]).amin(1) >= MIN_SIDE).nonzero()[:, 0]
        score = scores[region[wide], label[wide]]
        return suppress(boxes[wide], score, label[wide], self.nms, self.detections_per_img)

    def fixed_forward(self, features: Features) -> tuple[list[Tensor], list[Tensor], Tensor, Tensor]:
        """The outputs of all layers for as many proposals as an image of a test has at most; their values mean nothing.

        For counting: what the head computes does not depend on what it finds.
        """
        first = next(iter(features.values()))
        side = self.pooler.resolution
        regions = first.new_zeros(self.rpn.post_nms_top_n["test"] * len(first), first.shape[1], side, side)
        return (*self.rpn(features), *self(regions))


@register_head("faster_rcnn")
def build_faster_rcnn(cfg: CfgNode, levels: dict[str, Level]) -> FasterRCNN:
    """Faster R-CNN from MODEL.RPN, MODEL.ROI_HEADS, MODEL.ROI_BOX_HEAD and TEST.DETECTIONS_PER_IMG."""
    node = cfg.MODEL.RPN
    rpn = RPN(
        levels,
        anchor_sizes=node.ANCHOR_SIZES,
        aspect_ratios=node.ASPECT_RATIOS,
        anchors_rounded=node.ANCHORS_ROUNDED,
        padded_strides=node.PADDED_STRIDES,
        num_convs=node.NUM_CONVS,
        fg_iou_threshold=node.FG_IOU_THRESHOLD,
        bg_iou_threshold=node.BG_IOU_THRESHOLD,
        batch_size_per_image=node.BATCH_SIZE_PER_IMAGE,
        positive_fraction=node.POSITIVE_FRACTION,
        smooth_l1_beta=node.SMOOTH_L1_BETA,
        pre_nms_top_n_train=node.PRE_NMS_TOP_N_TRAIN,
        pre_nms_top_n_test=node.PRE_NMS_TOP_N_TEST,
        post_nms_top_n_train=node.POST_NMS_TOP_N_TRAIN,
        post_nms_top_n_test=node.POST_NMS_TOP_N_TEST,
        nms_thresh=node.NMS_THRESH,
        min_size=node.MIN_SIZE,
    )
    heads, box = cfg.MODEL.ROI_HEADS, cfg.MODEL.ROI_BOX_HEAD
    return FasterRCNN(
        levels,
        cfg.MODEL.NUM_CLASSES,
        rpn,
        fg_iou_threshold=heads.FG_IOU_THRESHOLD,
        bg_iou_threshold=heads.BG_IOU_THRESHOLD,
        batch_size_per_image=heads.BATCH_SIZE_PER_IMAGE,
        positive_fraction=heads.POSITIVE_FRACTION,
        bbox_reg_weights=heads.BBOX_REG_WEIGHTS,
        score_thresh=heads.SCORE_THRESH,
        nms=heads.NMS,
        pooler_resolution=box.POOLER_RESOLUTION,
        pooler_sampling_ratio=box.POOLER_SAMPLING_RATIO,
        pooler_aligned=box.POOLER_ALIGNED,
        mlp_head_dim=box.MLP_HEAD_DIM,
        bbox_reg_loss_type=box.BBOX_REG_LOSS_TYPE,
        smooth_l1_beta=box.SMOOTH_L1_BETA,
        cls_agnostic_bbox_reg=cfg.MODEL.CLS_AGNOSTIC_BBOX_REG,
        detections_per_img=cfg.TEST.DETECTIONS_PER_IMG,
    )
