"""RefineDet: anchors are refined, then refined once more and classified. Zhang et al. 2018."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from yacs.config import CfgNode

from detector.errors import UserError
from detector.models.heads.base import Head, Standard, flatten, register_head, shared
from detector.models.layers import (
    conv_layer,
    deconv_layer,
    initialise_caffe,
    optional_norm,
    projection_bottleneck,
)
from detector.models.necks.base import NeckKeys
from detector.models.norm import Norm
from detector.ops.anchors import anchor_cells, grid_anchors
from detector.ops.boxes import clip_boxes, decode_deltas, encode_deltas
from detector.ops.matching import BACKGROUND, match_bipartite, mine_hard_negatives
from detector.ops.select import select_per_class, suppress
from detector.structures import ClassRows, Detection, Features, Level, Size, Target

BOTTLENECK_WIDTH = 256  # 256-256-1024 channels before the predictors of the ResNet-101 recipe
MIN_SIDE = 0.01  # pixels; a clipped detection with a shorter side holds nothing


class TransferConnection(nn.Module):
    """Transfer connection block: a source level and the block above become features to classify. Sec. 3.2, fig. 2.

    channels: of the source; top: there is no block above; norm: behind every convolution; None: biases instead.
    """

    def __init__(self, channels: int, out: int, *, top: bool, norm: Norm | None) -> None:
        super().__init__()
        self.conv1 = conv_layer(channels, out, 3, norm=norm)
        self.conv2 = conv_layer(out, out, 3, norm=norm)
        self.up = None if top else deconv_layer(out, norm)
        self.conv3 = conv_layer(out, out, 3, norm=norm)

    def forward(self, x: Tensor, above: Tensor | None) -> Tensor:
        """[N, channels, H, W] and [N, out, ceil(H / 2), ceil(W / 2)] -> [N, out, H, W]."""
        x = self.conv2(self.conv1(x).relu_())
        if self.up is not None and above is not None:
            up = self.up(above)
            # Where a side of the finer map is odd, its last row or column is half a cell of the coarser one: cut.
            x = x + F.pad(up, (0, x.shape[-1] - up.shape[-1], 0, x.shape[-2] - up.shape[-2]))
        return self.conv3(x.relu_()).relu_()


class Outputs(NamedTuple):
    """What the layers of a RefineDet put out for P anchors: by level, row by row, the A anchors of a cell together.

    arm_logits [N, P, 2] object, background; arm_deltas [N, P, 4] of the anchors; odm_logits [N, P, C + 1], background
    last; odm_deltas [N, P, 4] of the refined anchors.
    """

    arm_logits: Tensor
    arm_deltas: Tensor
    odm_logits: Tensor
    odm_deltas: Tensor


class RefineDet(Head):
    """Anchor refinement module (ARM), transfer connection blocks, object detection module (ODM). Zhang et al. 2018.

    levels: what the neck puts out, each half the resolution of the one before, of any channels. The other arguments
    are the keys of MODEL.REFINEDET in lower case, but norm: a layer or None.
    Raises ValueError when the levels do not halve, the thresholds cross, or bottlenecks have no norm.
    """

    def __init__(
        self,
        levels: dict[str, Level],
        num_classes: int,
        *,
        anchor_scale: float = 4.0,
        aspect_ratios: Sequence[float] = (1.0, 0.5, 2.0),
        clip_anchors: bool = False,
        tcb_channels: int = 256,
        predictor_bottleneck: bool = False,
        norm: Norm | None = None,
        fg_iou_threshold: float = 0.5,
        bg_iou_threshold: float = 0.5,
        variances: Sequence[float] = (0.1, 0.1, 0.2, 0.2),
        neg_pos_ratio: float = 3.0,
        objectness_thresh: float = 0.01,
        score_thresh: float = 0.01,
        pre_nms_top_n: int = 1000,
        nms: float = 0.45,
        detections_per_img: int = 500,
    ) -> None:
        super().__init__()
        self.strides = {name: level.stride for name, level in levels.items()}
        strides = list(self.strides.values())
        if strides != [strides[0] * 2**i for i in range(len(strides))]:
            raise UserError(f"RefineDet needs levels that halve from one to the next; the neck has {levels}")
        if bg_iou_threshold > fg_iou_threshold:
            raise UserError(
                f"MODEL.REFINEDET.BG_IOU_THRESHOLD {bg_iou_threshold} is above FG_IOU_THRESHOLD {fg_iou_threshold}"
            )
        if predictor_bottleneck and norm is None:
            raise UserError("MODEL.REFINEDET.PREDICTOR_BOTTLENECK needs a MODEL.REFINEDET.NORM: bn, sync_bn or gn")
        self.num_classes = num_classes
        self.anchor_scale, self.aspect_ratios = anchor_scale, tuple(aspect_ratios)
        self.clip_anchors = clip_anchors
        self.fg_iou_threshold, self.bg_iou_threshold = fg_iou_threshold, bg_iou_threshold
        self.weights = tuple(1 / v for v in variances)
        self.neg_pos_ratio, self.objectness_thresh = neg_pos_ratio, objectness_thresh
        self.score_thresh, self.pre_nms_top_n, self.nms = score_thresh, pre_nms_top_n, nms
        self.detections_per_img = detections_per_img

        number = len(self.aspect_ratios)
        self.classifier = {f"odm_cls.{i}": ClassRows(number, background=True) for i in range(len(levels))}
        self.arm_inter, self.odm_inter = nn.ModuleList(), nn.ModuleList()
        self.arm_cls, self.arm_reg = nn.ModuleList(), nn.ModuleList()
        self.odm_cls, self.odm_reg = nn.ModuleList(), nn.ModuleList()
        self.tcbs = nn.ModuleList()
        for i, level in enumerate(levels.values()):
            self.tcbs.append(TransferConnection(level.channels, tcb_channels, top=i == len(levels) - 1, norm=norm))
            widths = level.channels, tcb_channels
            if predictor_bottleneck and norm is not None:
                for inter, channels in zip((self.arm_inter, self.odm_inter), widths, strict=True):
                    inter.append(projection_bottleneck(channels, BOTTLENECK_WIDTH, 1, norm))
                widths = (4 * BOTTLENECK_WIDTH,) * 2
            for layers, channels, out in (
                (self.arm_cls, widths[0], 2),
                (self.arm_reg, widths[0], 4),
                (self.odm_cls, widths[1], num_classes + 1),
                (self.odm_reg, widths[1], 4),
            ):
                conv = nn.Conv2d(channels, number * out, 3, padding=1)
                initialise_caffe(conv)
                layers.append(conv)

    def forward(self, features: Features) -> Outputs:
        """The raw outputs for the anchors of all levels, in float32 at least."""
        sources = [features[name] for name in self.strides]
        blocks: list[Tensor] = []
        above = None
        for source, tcb in zip(reversed(sources), reversed(self.tcbs), strict=True):
            above = tcb(source, above)
            blocks.insert(0, above)
        if self.arm_inter:
            sources = [inter(x) for inter, x in zip(self.arm_inter, sources, strict=True)]
            blocks = [inter(x) for inter, x in zip(self.odm_inter, blocks, strict=True)]
        return Outputs(
            self.predict_levels(self.arm_cls, sources),
            self.predict_levels(self.arm_reg, sources),
            self.predict_levels(self.odm_cls, blocks),
            self.predict_levels(self.odm_reg, blocks),
        )

    def predict_levels(self, layers: nn.ModuleList, inputs: list[Tensor]) -> Tensor:
        """A predictor's outputs of all levels, one row an anchor: [N, P, ..]."""
        number = len(self.aspect_ratios)
        outputs = [flatten(layer(x)) for layer, x in zip(layers, inputs, strict=True)]
        return torch.cat([x.unflatten(2, (number, -1)).flatten(1, 2) for x in outputs], dim=1)

    def anchors(self, features: Features) -> Tensor:
        """The anchors of all levels: [P, 4] xyxy pixels, also beyond the image. Sec. 3.3.

        With clip_anchors no side is longer than the padded input's. The input's sides are the finest map's times its
        stride.
        """
        anchors = []
        for name, stride in self.strides.items():
            x = features[name]
            cells = anchor_cells([self.anchor_scale * stride], self.aspect_ratios).to(x.device)
            anchors.append(grid_anchors(cells + stride / 2, (x.shape[-2], x.shape[-1]), (stride, stride)))
        every = torch.cat(anchors)
        if self.clip_anchors:
            name, stride = next(iter(self.strides.items()))
            height, width = features[name].shape[-2:]
            centre, half = (every[:, :2] + every[:, 2:]) / 2, (every[:, 2:] - every[:, :2]) / 2
            half = torch.minimum(half, half.new_tensor([width, height]) * stride / 2)
            every = torch.cat([centre - half, centre + half], dim=1)
        return every

    def assign(self, anchors: Tensor, targets: list[Target]) -> Tensor:
        """The box of every anchor [N, P, 4]: [N, P] index into the image's boxes, BACKGROUND or IGNORED. Sec. 3.3."""
        thresholds = self.fg_iou_threshold, self.bg_iou_threshold
        matches = [
            match_bipartite(a, t["boxes"], t["ignore"], *thresholds) for a, t in zip(anchors, targets, strict=True)
        ]
        return torch.stack(matches)

    def answered(self, features: Features, targets: list[Target]) -> list[Tensor]:
        """The boxes of each image that some anchor answers for, before it is refined."""
        matches = self.assign(self.anchors(features).expand(len(targets), -1, -1), targets)
        return [match[match > BACKGROUND].unique() for match in matches]

    def normalisers(self, features: Features, targets: list[Target], parts: int) -> Tensor:
        """The number of the ARM's positives. The ODM's depend on the ARM's boxes: each micro-batch has its own."""
        match = self.assign(self.anchors(features).expand(len(targets), -1, -1), targets)
        return shared((match > BACKGROUND).sum()[None].float(), parts=parts)

    def loss(
        self, features: Features, targets: list[Target], sizes: list[Size], normalisers: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Classification and regression of the ARM's two classes and of the ODM's. Sec. 3.3, eq. 1."""
        return self.losses(self.anchors(features), self(features), targets, normalisers)

    def losses(
        self, anchors: Tensor, outputs: Outputs, targets: list[Target], normalisers: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Losses from the outputs of `forward`, each divided by the number of its module's positives in the batch.

        anchors [P, 4]; normalisers [1]: that number of the ARM, if it is that of more images. Where nothing is
        positive, zeros that still carry gradients.
        """
        arm_logits, arm_deltas, odm_logits, odm_deltas = outputs
        every = anchors.expand(len(targets), -1, -1)
        refined = decode_deltas(anchors, arm_deltas.detach(), self.weights)
        # Anchors that are surely background teach the ODM nothing. Those with a box are trained nevertheless.
        unsure = arm_logits.detach().softmax(-1)[..., 0] >= self.objectness_thresh
        binary: list[Target] = [{**t, "labels": torch.zeros_like(t["labels"])} for t in targets]
        arm_cls, arm_reg = self.multibox(every, arm_logits, arm_deltas, binary, torch.ones_like(unsure), normalisers)
        odm_cls, odm_reg = self.multibox(refined, odm_logits, odm_deltas, targets, unsure)
        return {"loss_arm_cls": arm_cls, "loss_arm_reg": arm_reg, "loss_odm_cls": odm_cls, "loss_odm_reg": odm_reg}

    def multibox(
        self,
        references: Tensor,
        logits: Tensor,
        deltas: Tensor,
        targets: list[Target],
        unsure: Tensor,
        normalisers: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """SSD's loss: cross entropy of positives and hard negatives, smooth L1 of positives. Liu et al. 2016, eq. 1.

        references and deltas [N, P, 4]; logits [N, P, K + 1], background last; unsure [N, P] bool: may be negative;
        normalisers [1]: what both are divided by, None: the number of positives.
        """
        match = self.assign(references, targets)
        positive = match > BACKGROUND
        boxes, classes = (
            torch.cat([t[key][m[m > BACKGROUND]] for t, m in zip(targets, match, strict=True)])  # type: ignore[literal-required]
            for key in ("boxes", "labels")
        )
        labels = torch.full_like(match, logits.shape[-1] - 1)
        labels[positive] = classes
        hardness = -logits.detach().log_softmax(-1)[..., -1]
        negative = (match == BACKGROUND) & unsure
        chosen = positive | mine_hard_negatives(hardness, positive, negative, self.neg_pos_ratio)
        (number,) = shared(logits.new_full((1,), len(classes))) if normalisers is None else normalisers
        wanted = encode_deltas(references[positive], boxes.to(references.dtype), self.weights)
        regression = F.smooth_l1_loss(deltas[positive], wanted, reduction="sum")
        entropy = F.cross_entropy(logits[chosen], labels[chosen], reduction="sum")
        return entropy / number, regression / number

    def predict(self, features: Features, sizes: list[Size]) -> list[Detection]:
        """Detections of each image, in pixels of the network input, clipped to the image."""
        anchors, outputs = self.anchors(features), self(features)
        images = zip(*outputs, sizes, strict=True)
        return [self.decode(anchors, Outputs(*output), size) for *output, size in images]

    def decode(self, anchors: Tensor, outputs: Outputs, size: Size) -> Detection:
        """The detections of one image from its outputs, without the dimension N.

        Anchors that are surely background are left out, the best of each class decoded twice, NMS within classes, cap.
        """
        arm_logits, arm_deltas, odm_logits, odm_deltas = outputs
        unsure = (arm_logits.softmax(-1)[:, 0] >= self.objectness_thresh).nonzero()[:, 0]
        scores = odm_logits[unsure].softmax(-1)[:, :-1]
        score, row, label = select_per_class(scores, self.score_thresh, self.pre_nms_top_n)
        place = unsure[row]
        refined = decode_deltas(anchors[place], arm_deltas[place], self.weights)
        boxes = decode_deltas(refined, odm_deltas[place], self.weights)
        found = suppress(boxes, score, label, self.nms, self.detections_per_img)
        # Clipped last, so that NMS compares what was predicted; then a box may turn out to lie outside.
        boxes = clip_boxes(found["boxes"], size)
        inside = (boxes[:, 2:] - boxes[:, :2]).amin(1) >= MIN_SIDE
        return Detection(boxes=boxes[inside], labels=found["labels"][inside], scores=found["scores"][inside])


@register_head(
    "refinedet",
    Standard("refinedet_sources", NeckKeys(("c3", "c4", "c5"), "c6", l2norm_scales=(10.0, 8.0)), size_divisibility=64),
)
def build_refinedet(cfg: CfgNode, levels: dict[str, Level]) -> RefineDet:
    """One stage in two steps: anchors are refined and sorted out, then classified and refined. MODEL.REFINEDET."""
    node = cfg.MODEL.REFINEDET
    return RefineDet(
        levels,
        cfg.MODEL.NUM_CLASSES,
        anchor_scale=node.ANCHOR_SCALE,
        aspect_ratios=node.ASPECT_RATIOS,
        clip_anchors=node.CLIP_ANCHORS,
        tcb_channels=node.TCB_CHANNELS,
        predictor_bottleneck=node.PREDICTOR_BOTTLENECK,
        norm=optional_norm(node.NORM, "MODEL.REFINEDET.NORM"),
        fg_iou_threshold=node.FG_IOU_THRESHOLD,
        bg_iou_threshold=node.BG_IOU_THRESHOLD,
        variances=node.VARIANCES,
        neg_pos_ratio=node.NEG_POS_RATIO,
        objectness_thresh=node.OBJECTNESS_THRESH,
        score_thresh=node.SCORE_THRESH,
        pre_nms_top_n=node.PRE_NMS_TOP_N,
        nms=node.NMS,
        detections_per_img=cfg.TEST.DETECTIONS_PER_IMG,
    )
