"""Region proposal network: objectness and box deltas of anchors -> proposals. Ren et al. 2015; Lin et al. 2017, FPN."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from yacs.config import CfgNode

from detector.errors import UserError
from detector.models.heads.base import chance, flatten, shared
from detector.models.winograd import WideConv2d
from detector.ops.anchors import anchor_cells, grid_anchors, legacy_anchor_cells, padded_strides
from detector.ops.boxes import decode_deltas, encode_deltas
from detector.ops.matching import BACKGROUND, match_boxes, sample_balanced
from detector.ops.select import keep_best
from detector.structures import Features, Level, Size, Target
from detector.text import counted


class Proposals(NamedTuple):
    """What the RPN found, one entry an image, best first.

    boxes: [R, 4] float32 xyxy, pixels of the network input, inside the image; scores: objectness [R] in 0..1.
    """

    boxes: list[Tensor]
    scores: list[Tensor]


class RPN(nn.Module):
    """Scores and shifts of the anchors of every cell, by layers shared over the levels. Ren et al. 2015, sec. 3.1.

    levels: what the neck puts out, all of the same channels, each with the anchors of one entry of `anchor_sizes`;
    the other arguments are the keys of MODEL.RPN in lower case.
    Raises ValueError when levels and sizes do not fit, or the background threshold is above the foreground's.
    """

    cells: Tensor

    def __init__(
        self,
        levels: dict[str, Level],
        *,
        anchor_sizes: Sequence[float] = (32, 64, 128, 256, 512),
        aspect_ratios: Sequence[float] = (0.5, 1.0, 2.0),
        anchors_rounded: bool = False,
        legacy_anchors: bool = False,
        padded_strides: bool = False,
        num_convs: int = 1,
        fg_iou_threshold: float = 0.7,
        bg_iou_threshold: float = 0.3,
        batch_size_per_image: int = 256,
        positive_fraction: float = 0.5,
        smooth_l1_beta: float = 1 / 9,
        pre_nms_top_n_train: int = 2000,
        pre_nms_top_n_test: int = 1000,
        post_nms_top_n_train: int = 2000,
        post_nms_top_n_test: int = 1000,
        nms_thresh: float = 0.7,
        min_size: float = 0.001,
    ) -> None:
        super().__init__()
        if len(anchor_sizes) != len(levels):
            raise UserError(
                f"MODEL.RPN.ANCHOR_SIZES {tuple(anchor_sizes)} has one size for each of "
                f"{counted(len(anchor_sizes), 'level|levels')}, "
                f"but the neck has {len(levels)} ({', '.join(levels)}): write {counted(len(levels), 'size|sizes')}, or "
                f"MODEL.NECK.SOURCES and MODEL.NECK.EXTRA_LEVELS that come to "
                f"{counted(len(anchor_sizes), 'level|levels')}"
            )
        widths = {level.channels for level in levels.values()}
        if len(widths) != 1:
            raise UserError(f"the RPN shares its layers over levels of one width, the neck has {levels}")
        if bg_iou_threshold > fg_iou_threshold:
            raise UserError(
                f"MODEL.RPN.BG_IOU_THRESHOLD {bg_iou_threshold} is above FG_IOU_THRESHOLD {fg_iou_threshold}"
            )
        if legacy_anchors and anchors_rounded:
            raise UserError("MODEL.RPN.LEGACY_ANCHORS and ANCHORS_ROUNDED are two ways of rounding; set one of them")
        self.strides = {name: level.stride for name, level in levels.items()}
        self.padded_strides = padded_strides
        self.fg_iou_threshold, self.bg_iou_threshold = fg_iou_threshold, bg_iou_threshold
        self.batch_size_per_image, self.positive_fraction = batch_size_per_image, positive_fraction
        self.smooth_l1_beta = smooth_l1_beta
        self.pre_nms_top_n = {"train": pre_nms_top_n_train, "test": pre_nms_top_n_test}
        self.post_nms_top_n = {"train": post_nms_top_n_train, "test": post_nms_top_n_test}
        self.nms_thresh, self.min_size = nms_thresh, min_size

        if legacy_anchors:
            cells = [
                legacy_anchor_cells([size], aspect_ratios, stride)
                for size, stride in zip(anchor_sizes, self.strides.values(), strict=True)
            ]
        else:
            cells = [anchor_cells([size], aspect_ratios, rounded=anchors_rounded) for size in anchor_sizes]
        self.register_buffer("cells", torch.stack(cells), persistent=False)
        channels = widths.pop()
        layers = [
            layer for _ in range(num_convs) for layer in (WideConv2d(channels, channels, 3, padding=1), nn.ReLU())
        ]
        self.convs = nn.Sequential(*layers)
        self.objectness = nn.Conv2d(channels, len(aspect_ratios), 1)
        self.deltas = nn.Conv2d(channels, 4 * len(aspect_ratios), 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward(self, features: Features) -> tuple[list[Tensor], list[Tensor]]:
        """Predictions level by level, for P anchors in the order of `anchors`.

        Returns lists over levels of objectness logits [N, P] and deltas [N, P, 4].
        """
        objectness, deltas = [], []
        for name in self.strides:
            x = self.convs(features[name])
            objectness.append(flatten(self.objectness(x)).flatten(1))
            deltas.append(flatten(self.deltas(x)).unflatten(2, (-1, 4)).flatten(1, 2))
        return objectness, deltas

    def anchors(self, features: Features) -> list[Tensor]:
        """The anchors of each level: [P, 4] xyxy pixels, also beyond the image.

        With padded strides they lie as far apart as `ops.anchors.padded_strides` says.
        """
        grids: list[Size] = [(x.shape[-2], x.shape[-1]) for x in (features[name] for name in self.strides)]
        strides: list[Size] = [(stride, stride) for stride in self.strides.values()]
        if self.padded_strides:
            strides = padded_strides(grids, strides[0][0])
        return [grid_anchors(*place) for place in zip(self.cells, grids, strides, strict=True)]

    def normalisers(self, features: Features, targets: list[Target], parts: int) -> Tensor:
        """The number of anchors that are sampled, which does not depend on which they are."""
        match = self.assign(torch.cat(self.anchors(features)), targets)
        positives, background = (match >= 0).sum(1), (match == BACKGROUND).sum(1)
        chosen = positives.clamp(max=int(self.batch_size_per_image * self.positive_fraction))
        number = chosen + torch.minimum(background, self.batch_size_per_image - chosen)
        return shared(number.sum()[None].float(), parts=parts)

    def loss(
        self, features: Features, targets: list[Target], sizes: list[Size], normalisers: Tensor | None = None
    ) -> tuple[dict[str, Tensor], Proposals]:
        """Losses of sampled anchors, divided by their number, and the proposals to train the next stage with.

        Sec. 3.1.2 and 3.1.3. sizes: of the images before padding; normalisers: as the function of this name gives them.
        """
        anchors, (objectness, deltas) = self.anchors(features), self(features)
        proposals = self.select(anchors, objectness, deltas, sizes, "train")
        match = self.assign(torch.cat(anchors), targets)
        outputs = torch.cat(objectness, 1), torch.cat(deltas, 1)
        return self.losses(torch.cat(anchors), *outputs, match, targets, normalisers), proposals

    def predict(self, features: Features, sizes: list[Size]) -> Proposals:
        """The proposals of each image. Sec. 3.1 and 3.3."""
        objectness, deltas = self(features)
        return self.select(self.anchors(features), objectness, deltas, sizes, "test")

    def assign(self, anchors: Tensor, targets: list[Target]) -> Tensor:
        """The box of every anchor [P, 4]: [N, P] index into the image's boxes, BACKGROUND or IGNORED. Sec. 3.1.2."""
        thresholds = self.fg_iou_threshold, self.bg_iou_threshold
        matches = [match_boxes(anchors, t["boxes"], t["ignore"], *thresholds, low_quality=True) for t in targets]
        return torch.stack(matches)

    def sample(self, match: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Indices of the positives and of the background of one image that are trained; match [P]."""
        return sample_balanced(match, self.batch_size_per_image, self.positive_fraction, generator)

    def losses(
        self,
        anchors: Tensor,
        objectness: Tensor,
        deltas: Tensor,
        match: Tensor,
        targets: list[Target],
        normalisers: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Cross entropy of the sampled anchors, smooth L1 of the positives among them; both over their number.

        anchors [P, 4]; objectness [N, P]; deltas [N, P, 4]; match [N, P]; normalisers [1]: that number, if it is that
        of more images. Zeros that still carry gradients where nothing is sampled.
        """
        logits, labels, predicted, wanted = [], [], [], []
        for i, target in enumerate(targets):
            positives, background = self.sample(match[i], chance(target, 0, match.device))
            sampled = torch.cat([positives, background])
            logits.append(objectness[i, sampled])
            labels.append(torch.arange(len(sampled), device=sampled.device) < len(positives))
            predicted.append(deltas[i, positives])
            boxes = target["boxes"].to(anchors.dtype)[match[i, positives]]
            wanted.append(encode_deltas(anchors[positives], boxes))
        logit = torch.cat(logits)
        (number,) = shared(logit.new_full((1,), len(logit))) if normalisers is None else normalisers
        regression = F.smooth_l1_loss(
            torch.cat(predicted), torch.cat(wanted), reduction="sum", beta=self.smooth_l1_beta
        )
        entropy = F.binary_cross_entropy_with_logits(logit, torch.cat(labels).to(logit.dtype), reduction="sum")
        return {"loss_objectness": entropy / number, "loss_rpn_box_reg": regression / number}

    @torch.no_grad()
    def select(
        self, anchors: list[Tensor], objectness: list[Tensor], deltas: list[Tensor], sizes: list[Size], phase: str
    ) -> Proposals:
        """Proposals from the outputs of `forward`; phase: "train" or "test" says how many.

        The best of each level are decoded and clipped; NMS within each level; the best over all levels remain. They
        are in order of their logits, which differ where sigmoids round to the same score.
        """
        boxes, logits, levels = [], [], []
        for i, (cells, level_logits, level_deltas) in enumerate(zip(anchors, objectness, deltas, strict=True)):
            logit, best = level_logits.topk(min(self.pre_nms_top_n[phase], level_logits.shape[1]), dim=1)
            picked = level_deltas.gather(1, best[..., None].expand(-1, -1, 4))
            boxes.append(decode_deltas(cells[best], picked))
            logits.append(logit)
            levels.append(best.new_full(logit.shape[1:], i))
        limits = boxes[0].new_tensor([(w, h, w, h) for h, w in sizes])[:, None]
        box = torch.minimum(torch.cat(boxes, dim=1).clamp(min=0), limits)
        logit, level = torch.cat(logits, dim=1), torch.cat(levels)
        side = (box[..., 2:] - box[..., :2]).amin(-1)
        proposals = Proposals([], [])
        # Image by image: NMS shifts groups apart, and the rounding of that must not depend on the other images.
        for b, s, valid in zip(box, logit, (side >= self.min_size) & (side > 0), strict=True):
            b, s = b[valid], s[valid]
            keep = keep_best(b, s, level[valid], self.nms_thresh, self.post_nms_top_n[phase])
            proposals.boxes.append(b[keep])
            proposals.scores.append(s[keep].sigmoid())
        return proposals


def build_rpn(cfg: CfgNode, levels: dict[str, Level]) -> RPN:
    """The region proposal network from MODEL.RPN."""
    node = cfg.MODEL.RPN
    return RPN(
        levels,
        anchor_sizes=node.ANCHOR_SIZES,
        aspect_ratios=node.ASPECT_RATIOS,
        anchors_rounded=node.ANCHORS_ROUNDED,
        legacy_anchors=node.LEGACY_ANCHORS,
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
