"""FCOS: every location inside a box regresses the distances to its sides. Tian et al. 2019."""

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from yacs.config import CfgNode

from detector.errors import UserError
from detector.models.heads.base import Head, Standard, flatten, register_head, shared
from detector.models.necks.base import NeckKeys
from detector.models.norm import group_norm
from detector.models.winograd import WideConv2d
from detector.ops.anchors import grid_points, padded_strides
from detector.ops.boxes import boxes_to_distances, clip_boxes, distances_to_boxes
from detector.ops.losses import IOU_LOSSES, centerness_targets, distance_iou_loss, sigmoid_focal_sum
from detector.ops.matching import BACKGROUND, IGNORED, match_points
from detector.ops.select import select_candidates, suppress
from detector.structures import ClassRows, Detection, Features, Level, Size, Target
from detector.text import counted


class Scale(nn.Module):
    """One learned factor."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        """Any tensor times the factor."""
        return x * self.scale


def tower(channels: int, num_convs: int, norm: str) -> nn.Sequential:
    """3x3 convolutions with ReLU; norm "gn": group norm between them, "none": none. Sec. 4."""
    layers: list[nn.Module] = []
    for _ in range(num_convs):
        layers.append(WideConv2d(channels, channels, 3, padding=1))
        if norm == "gn":
            layers.append(group_norm(channels))
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


def positives_of(match: Tensor, targets: list[Target]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The positive locations of a match [N, P]: image and location [K], with their boxes [K, 4] and labels [K]."""
    image, location = (match > BACKGROUND).nonzero(as_tuple=True)
    # Counted through all images, since a mask for each of them would make the host wait for the device each time.
    before = [0, *accumulate(len(t["labels"]) for t in targets)]
    owner = torch.stack([m + start for m, start in zip(match, before, strict=False)])[image, location]
    boxes, labels = (torch.cat([t[key] for t in targets])[owner] for key in ("boxes", "labels"))  # type: ignore[literal-required]
    return image, location, boxes, labels


class FCOS(Head):
    """Class, centerness and four distances at every location of a pyramid. Tian et al. 2019, sec. 3.

    levels: what the neck puts out, all of the same channels; sizes_of_interest: pixels, the upper end of each level's
    range of largest distances but the last one's; the other arguments are the keys of MODEL.FCOS in lower case.
    Raises ValueError when the levels and ranges do not fit or the IoU loss is unknown.
    """

    classifier: Mapping[str, ClassRows] = {"cls_logits": ClassRows()}

    def __init__(
        self,
        levels: dict[str, Level],
        num_classes: int,
        *,
        num_convs: int = 4,
        norm: str = "gn",
        prior_prob: float = 0.01,
        sizes_of_interest: Sequence[float] = (64, 128, 256, 512),
        open_ranges: bool = False,
        point_offset: float = 0.5,
        padded_strides: bool = False,
        center_sampling_radius: float = 0.0,
        norm_reg_targets: bool = False,
        centerness_on_reg: bool = False,
        level_scales: bool = True,
        iou_loss_type: str = "iou",
        centerness_weights_reg: bool = True,
        loss_alpha: float = 0.25,
        loss_gamma: float = 2.0,
        inference_th: float = 0.05,
        th_with_centerness: bool = False,
        pre_nms_top_n: int = 1000,
        nms_th: float = 0.6,
        detections_per_img: int = 100,
    ) -> None:
        super().__init__()
        widths = {level.channels for level in levels.values()}
        if len(widths) != 1:
            raise UserError(f"FCOS shares its towers over levels of one width, the neck has {levels}")
        if len(sizes_of_interest) != len(levels) - 1:
            raise UserError(
                f"MODEL.FCOS.SIZES_OF_INTEREST {tuple(sizes_of_interest)} parts {len(sizes_of_interest) + 1} ranges, "
                f"but the neck has {counted(len(levels), 'level|levels')} ({', '.join(levels)})"
            )
        if iou_loss_type not in IOU_LOSSES:
            raise UserError(f"MODEL.FCOS.IOU_LOSS_TYPE {iou_loss_type!r}; choose one of {', '.join(IOU_LOSSES)}")
        self.strides = {name: level.stride for name, level in levels.items()}
        bounds = [-1.0, *map(float, sizes_of_interest), math.inf]
        self.ranges = list(pairwise(bounds))
        self.num_classes = num_classes
        self.open_ranges = open_ranges
        self.point_offset, self.padded_strides = point_offset, padded_strides
        self.radius = center_sampling_radius
        self.norm_reg_targets = norm_reg_targets
        self.centerness_on_reg = centerness_on_reg
        self.iou_loss_type = iou_loss_type
        self.centerness_weights_reg = centerness_weights_reg
        self.alpha, self.gamma = loss_alpha, loss_gamma
        self.inference_th, self.th_with_centerness = inference_th, th_with_centerness
        self.pre_nms_top_n, self.nms_th = pre_nms_top_n, nms_th
        self.detections_per_img = detections_per_img

        channels = widths.pop()
        self.cls_tower = tower(channels, num_convs, norm)
        self.bbox_tower = tower(channels, num_convs, norm)
        self.cls_logits = nn.Conv2d(channels, num_classes, 3, padding=1)
        self.bbox_pred = nn.Conv2d(channels, 4, 3, padding=1)
        self.centerness = nn.Conv2d(channels, 1, 3, padding=1)
        self.scales = nn.ModuleList(Scale() if level_scales else nn.Identity() for _ in levels)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        nn.init.constant_(self.get_parameter("cls_logits.bias"), math.log(prior_prob / (1 - prior_prob)))

    def forward(self, features: Features) -> tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor]]:
        """Predictions level by level.

        Returns lists over levels of points [P, 2] x, y pixels; class logits [N, P, C]; distances [N, P, 4] in pixels,
        >= 0; centerness logits [N, P].
        """
        logits, distances, centerness = [], [], []
        for (name, stride), scale in zip(self.strides.items(), self.scales, strict=True):
            x = features[name]
            classes, boxes = self.cls_tower(x), self.bbox_tower(x)
            logits.append(flatten(self.cls_logits(classes)))
            centerness.append(flatten(self.centerness(boxes if self.centerness_on_reg else classes)).squeeze(-1))
            raw = scale(flatten(self.bbox_pred(boxes)))
            distances.append(F.relu(raw) * stride if self.norm_reg_targets else raw.exp())
        return self.points(features), logits, distances, centerness

    def points(self, features: Features) -> list[Tensor]:
        """The locations of each level: [P, 2] x, y in pixels."""
        maps = [features[name] for name in self.strides]
        grids: list[Size] = [(x.shape[-2], x.shape[-1]) for x in maps]
        strides: list[Size] = [(stride, stride) for stride in self.strides.values()]
        if self.padded_strides:
            strides = padded_strides(grids, strides[0][0])
        places = zip(grids, strides, maps, strict=True)
        return [grid_points(*grid, stride, x.device, self.point_offset) for grid, stride, x in places]

    def assign(self, points: list[Tensor], targets: list[Target]) -> Tensor:
        """The box of every location: [N, P] index into the image's boxes, BACKGROUND or IGNORED. Sec. 3.1."""
        place = self.places(points)
        matches = [
            match_points(*place, t["boxes"], t["ignore"], self.radius, open_ranges=self.open_ranges) for t in targets
        ]
        return torch.stack(matches)

    def places(self, points: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """What `match_points` takes of all locations: points [P, 2], strides [P], ranges [P, 2]."""
        strides, ranges = [], []
        for level, stride, bounds in zip(points, self.strides.values(), self.ranges, strict=True):
            strides.append(level.new_full((len(level),), stride))
            ranges.append(torch.stack([level.new_full((len(level),), bound) for bound in bounds], dim=1))
        return torch.cat(points), torch.cat(strides), torch.cat(ranges)

    def answered(self, features: Features, targets: list[Target]) -> list[Tensor]:
        """The boxes of each image that some location answers for, see `assign`."""
        return [match[match > BACKGROUND].unique() for match in self.assign(self.points(features), targets)]

    def normalisers(self, features: Features, targets: list[Target], parts: int) -> Tensor:
        """The number of positive locations, and the sum of their weights in the IoU loss."""
        points = self.points(features)
        _, location, boxes, _ = positives_of(self.assign(points, targets), targets)
        boxes = boxes.to(torch.promote_types(features[next(iter(self.strides))].dtype, torch.float32))
        return self.divisors(centerness_targets(boxes_to_distances(torch.cat(points)[location], boxes)), parts)

    def divisors(self, quality: Tensor, parts: int = 1) -> Tensor:
        """What `normalisers` says, of positive locations with these centerness targets [K]."""
        number = quality.new_full((), len(quality))
        weight = quality.sum() if self.centerness_weights_reg else number
        return shared(torch.stack([number, weight]), (1.0, 1e-6), parts)

    def loss(
        self, features: Features, targets: list[Target], sizes: list[Size], normalisers: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Focal, IoU and centerness loss. Sec. 3.1 and 3.2.

        The first and last are divided by the number of positive locations, the second is the mean over these, weighted
        by the centerness targets unless told otherwise. Without any positive location the latter two are zeros that
        still carry gradients.
        """
        points, *by_level = self(features)
        logits, distances, centerness = (torch.cat(level, dim=1) for level in by_level)
        match = self.assign(points, targets)
        image, location, boxes, labels = positives_of(match, targets)
        if any(len(t["ignore"]) for t in targets):
            # A logit of -inf has neither loss nor gradient.
            logits = logits.masked_fill((match == IGNORED)[..., None], -math.inf)
        rows = image * logits.shape[1] + location
        focal = sigmoid_focal_sum(logits.flatten(0, 1), rows, labels, self.alpha, self.gamma)

        target = boxes_to_distances(torch.cat(points)[location], boxes.to(distances.dtype))
        quality = centerness_targets(target)
        predicted = distances[image, location]
        if self.norm_reg_targets and self.iou_loss_type != "plain_giou":  # which does not depend on the unit
            stride = torch.cat([p.new_full((len(p), 1), s) for p, s in zip(points, self.strides.values(), strict=True)])
            predicted, target = predicted / stride[location], target / stride[location]
        iou = distance_iou_loss(predicted, target, self.iou_loss_type)
        weight = quality if self.centerness_weights_reg else torch.ones_like(quality)
        positives, weights = self.divisors(quality) if normalisers is None else normalisers
        entropy = F.binary_cross_entropy_with_logits(centerness[image, location], quality, reduction="sum")
        return {
            "loss_cls": focal / positives,
            "loss_reg": (weight * iou).sum() / weights,
            "loss_centerness": entropy / positives,
        }

    def predict(self, features: Features, sizes: list[Size]) -> list[Detection]:
        """Detections of each image, in pixels of the network input, clipped to the image. Sec. 3.2 and 4."""
        points, logits, distances, centerness = self(features)
        return self.decode(points, logits, distances, centerness, sizes)

    def decode(
        self,
        points: list[Tensor],
        logits: list[Tensor],
        distances: list[Tensor],
        centerness: list[Tensor],
        sizes: list[Size],
    ) -> list[Detection]:
        """Detections from the outputs of `forward`: threshold, top candidates of each level, NMS within classes."""
        detections = []
        for i, size in enumerate(sizes):
            found = []
            for p, cls, reg, ctr in zip(points, logits, distances, centerness, strict=True):
                scores, locations, labels = select_candidates(
                    cls[i], ctr[i], self.inference_th, self.pre_nms_top_n, joint=self.th_with_centerness
                )
                found.append((distances_to_boxes(p[locations], reg[i, locations]), scores, labels))
            boxes, scores, labels = (torch.cat(parts) for parts in zip(*found, strict=True))
            detections.append(suppress(clip_boxes(boxes, size), scores, labels, self.nms_th, self.detections_per_img))
        return detections


def own_neck(cfg: CfgNode) -> NeckKeys:
    """As published, levels 3 to 7; where MODEL.FCOS.SIZES_OF_INTEREST has fewer ranges, fewer levels above the sources.

    So a small FCOS names its ranges alone, and nothing that would bind another head.
    """
    sources = ("c3", "c4", "c5")
    above = len(cfg.MODEL.FCOS.SIZES_OF_INTEREST) + 1 - len(cfg.MODEL.NECK.SOURCES or sources)
    return NeckKeys(sources, {0: "none", 1: "maxpool"}.get(above, "p6p7_p5"))


@register_head("fcos", Standard("fpn", own_neck))
def build_fcos(cfg: CfgNode, levels: dict[str, Level]) -> FCOS:
    """One stage without anchors: each location has classes, distances to four edges and a centerness. MODEL.FCOS."""
    node = cfg.MODEL.FCOS
    return FCOS(
        levels,
        cfg.MODEL.NUM_CLASSES,
        num_convs=node.NUM_CONVS,
        norm=node.NORM,
        prior_prob=node.PRIOR_PROB,
        sizes_of_interest=node.SIZES_OF_INTEREST,
        open_ranges=node.OPEN_RANGES,
        point_offset=node.POINT_OFFSET,
        padded_strides=node.PADDED_STRIDES,
        center_sampling_radius=node.CENTER_SAMPLING_RADIUS,
        norm_reg_targets=node.NORM_REG_TARGETS,
        centerness_on_reg=node.CENTERNESS_ON_REG,
        level_scales=node.LEVEL_SCALES,
        iou_loss_type=node.IOU_LOSS_TYPE,
        centerness_weights_reg=node.CENTERNESS_WEIGHTS_REG,
        loss_alpha=node.LOSS_ALPHA,
        loss_gamma=node.LOSS_GAMMA,
        inference_th=node.INFERENCE_TH,
        th_with_centerness=node.TH_WITH_CENTERNESS,
        pre_nms_top_n=node.PRE_NMS_TOP_N,
        nms_th=node.NMS_TH,
        detections_per_img=cfg.TEST.DETECTIONS_PER_IMG,
    )
