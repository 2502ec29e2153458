"""What the head of a config can reach at best on a data set: which boxes it is not taught, and what it could find."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from yacs.config import CfgNode

from detector.analysis.perfect import Outcome, anchor_threshold, perfect
from detector.console import progress
from detector.data.dataset import sample_of
from detector.data.packed import PackedIndex
from detector.data.pipeline import tested_size
from detector.data.transforms import keep_sides, rescale
from detector.models.build import build_detector, resolve_parts
from detector.models.detector import Detector
from detector.models.heads import HEADS
from detector.models.heads.base import Head
from detector.models.heads.faster_rcnn import FasterRCNN
from detector.ops.boxes import pairwise_iou
from detector.structures import Features, Size, Target

IOUS = (0.5, 0.75)
"""IoU that a detection must have with a box to have found it."""

IMAGES = 2000
"""Images that are looked at; of a larger set so many, evenly spread over its file."""

CELLS = 1.0
"""Cells of the finest level that the shorter side of a box should cover; by default one, which is one stride."""


@dataclass(frozen=True, eq=False)
class Reach:
    """What a head can reach on a data set at best. n images were looked at, with M boxes to train on.

    head: MODEL.HEAD.NAME; images [n]: places in the index; rows [M]: of the index; fates [M]: what becomes of a box in
    training, LEARNED .. UNKNOWN of `detector.analysis.perfect`; fits [M]: IoU with the best anchor, nan without
    anchors; threshold: IoU that an anchor must have, None without anchors; found [2, M] bool: whether a box is found at
    each of IOUS, None for the head of a plugin.

    Of all images: sizes [N, 2]: (height, width) after the resize; stride: pixels of a cell of the finest level; small:
    rows of boxes whose shorter side after the resize covers less than `cells` of them; sides: that side of each,
    pixels; limits: keys and numbers of detections kept; crowded: places of images with more objects than the least of
    them; objects: how many each of these has.
    """

    index: PackedIndex
    head: str
    images: np.ndarray
    rows: np.ndarray
    fates: np.ndarray
    fits: np.ndarray
    threshold: float | None
    found: np.ndarray | None
    sizes: np.ndarray
    stride: int
    cells: float
    small: np.ndarray
    sides: np.ndarray
    limits: dict[str, int]
    crowded: np.ndarray
    objects: np.ndarray

    def of(self, *fates: int) -> np.ndarray:
        """The rows of the boxes with one of these fates."""
        return self.rows[np.isin(self.fates, fates)]

    @property
    def recall(self) -> dict[float, float]:
        """The share of the boxes that is found at each of IOUS; nothing without boxes, or for the head of a plugin."""
        if self.found is None or not len(self.rows):
            return {}
        return dict(zip(IOUS, self.found.mean(1).tolist(), strict=True))


def reach(
    cfg: CfgNode, index: PackedIndex, *, difficult: bool = False, most: int = IMAGES, cells: float = CELLS
) -> Reach:
    """What the head of a config can reach on a data set at best. No picture is read and no network is run.

    Boxes are resized as in a test (INPUT.MIN_SIZE_TEST, MAX_SIZE_TEST, SQUARE_SIZE), and so they are assigned too,
    though a training may draw other sizes (MIN_SIZE_TRAIN), crop and flip; each image is padded by itself. What is
    assigned to a location or anchor regresses perfectly, see `perfect`; a box is found where a detection of its class
    that is kept has the IoU with it, whether or not that one stands for another box too.
    difficult: whether VOC's difficult objects are boxes like others; most, cells: see IMAGES and CELLS. Classes are
    those of the data. Raises ValueError and KeyError as `build_detector` does.
    """
    cfg = _with_classes(cfg, len(index.classes))
    sizes = _sizes(cfg, index)
    with torch.device("meta"):
        detector = build_detector(cfg).eval()
    head = HEADS[cfg.MODEL.HEAD.NAME](cfg, detector.neck.levels)
    images = _spread(len(index), most)
    stride = min(level.stride for level in detector.neck.levels.values())
    outcomes: list[Outcome] = [None] * len(images)  # type: ignore[list-item]
    targets = [_target(index, int(image), difficult, sizes[image]) for image in images]
    with progress(total=len(images), desc=f"reach {cfg.MODEL.HEAD.NAME}", unit="picture", delay=1, leave=False) as bar:
        for place, features in _maps(cfg, detector, sizes[images]):
            height, width = sizes[images[place]].tolist()
            outcomes[place] = perfect(head, features, targets[place], (height, width))
            bar.update()
    trained = index.trainable(difficult)
    of_image = index.image_of()
    scales = sizes / np.stack([index.heights, index.widths], 1)
    shorter = ((index.boxes[:, 2:] - index.boxes[:, :2]) * scales[of_image][:, ::-1]).min(1, initial=np.inf)
    small = np.flatnonzero(trained & (shorter < cells * stride))
    limits = _limits(cfg, head)
    objects = index.num_boxes(difficult)
    crowded = np.flatnonzero(objects > min(limits.values()))
    none = torch.empty(0)
    return Reach(
        index=index,
        head=cfg.MODEL.HEAD.NAME,
        images=images,
        rows=np.flatnonzero(trained & np.isin(of_image, images)),
        fates=torch.cat([none.long(), *(outcome.fates for outcome in outcomes)]).numpy(),
        fits=torch.cat([none, *(outcome.fits for outcome in outcomes)]).numpy(),
        threshold=anchor_threshold(head),
        found=_found(targets, outcomes),
        sizes=sizes,
        stride=stride,
        cells=cells,
        small=small,
        sides=shorter[small],
        limits=limits,
        crowded=crowded,
        objects=objects[crowded],
    )


def _with_classes(cfg: CfgNode, number: int) -> CfgNode:
    """The config with its parts resolved, for so many classes."""
    changed = cfg.clone()
    changed.defrost()
    changed.MODEL.NUM_CLASSES = number
    changed.freeze()
    return resolve_parts(changed)


def _sizes(cfg: CfgNode, index: PackedIndex) -> np.ndarray:
    """[N, 2] int64: (height, width) of every image after the resize."""
    forms, form = np.unique(np.stack([index.heights, index.widths], 1), axis=0, return_inverse=True)
    sizes = [tested_size(cfg, (height, width)) for height, width in forms.tolist()]
    return np.array(sizes, np.int64).reshape(-1, 2)[form.reshape(-1)]


def _spread(number: int, most: int) -> np.ndarray:
    """At most `most` of 0 .. number - 1, rising and evenly spread."""
    taken = min(number, max(most, 1))
    return np.arange(taken) * number // max(taken, 1)


def _target(index: PackedIndex, image: int, difficult: bool, size: np.ndarray) -> Target:
    """The Target of an image as the transforms of evaluation make it, without the picture."""
    new: Size = (int(size[0]), int(size[1]))
    sample = keep_sides(rescale(sample_of(index, image, difficult), index.size(image), new), new)
    return Target(
        boxes=torch.from_numpy(sample.boxes),
        labels=torch.from_numpy(sample.labels),
        ignore=torch.from_numpy(sample.ignore),
        image_id=index.image_id(image),
        original=index.size(image),
        draw=0,
    )


@torch.no_grad()
def _maps(cfg: CfgNode, detector: Detector, sizes: np.ndarray) -> Iterator[tuple[int, Features]]:
    """The place of every size [n, 2] with maps of the shapes that the padded image has; those of one shape together."""
    step = cfg.DATALOADER.SIZE_DIVISIBILITY
    padded, group = np.unique(-(-sizes // step) * step, axis=0, return_inverse=True)
    order = np.argsort(group.reshape(-1), kind="stable")
    for places in np.split(order, np.flatnonzero(np.diff(group.reshape(-1)[order])) + 1):
        height, width = padded[group.reshape(-1)[places[0]]].tolist()
        maps = detector.neck(detector.backbone(torch.empty(1, 3, height, width, device="meta")))
        features = {name: torch.empty(1).expand(1, 1, *x.shape[-2:]) for name, x in maps.items()}
        for place in places.tolist():
            yield place, features


def _limits(cfg: CfgNode, head: Head) -> dict[str, int]:
    """The keys that limit how many detections of an image are kept, with their values."""
    limits = {"TEST.DETECTIONS_PER_IMG": cfg.TEST.DETECTIONS_PER_IMG}
    if isinstance(head, FasterRCNN):
        limits["MODEL.RPN.POST_NMS_TOP_N_TEST"] = cfg.MODEL.RPN.POST_NMS_TOP_N_TEST
    return limits


def _found(targets: list[Target], outcomes: list[Outcome]) -> np.ndarray | None:
    """[2, M] bool: which boxes a detection of their class that is kept overlaps by each of IOUS; None: not known."""
    best = [torch.empty(0)]
    for target, outcome in zip(targets, outcomes, strict=True):
        if (kept := outcome.kept) is None:
            return None
        same = target["labels"][:, None] == kept["labels"]
        overlaps = torch.where(same, pairwise_iou(target["boxes"], kept["boxes"]), 0)
        best.append(overlaps.amax(1) if len(kept["boxes"]) else torch.zeros(len(overlaps)))
    return np.stack([(torch.cat(best) >= iou).numpy() for iou in IOUS])
