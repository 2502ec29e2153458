"""torchvision's detectors and ours with the same weights, and how they are timed against each other."""

import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import detection
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import LastLevelP6P7
from tqdm import tqdm
from yacs.config import CfgNode

from detector.conversion import convert
from detector.models.build import build_detector
from detector.models.detector import Detector
from detector.structures import Size, Target
from detector.tasks.trained import load_weights

Foreign = Any
"""A network of another project, or a part of one, whose attributes are not declared."""

BOXES = 8  # of each image
CLASSES = 80

PAIRS = (
    ("ours fp32", "torchvision fp32", "fp32 to fp32"),
    ("ours best", "torchvision fp32", "best to torchvision's fp32"),
    ("ours best", "torchvision best", "best to best"),
)
"""Ours, torchvision's, and the words for their comparison."""


def build_pair(head: str, height: int, width: int, device: torch.device) -> tuple[nn.Module, Detector]:
    """The `head` of torchvision with random weights that find something, and ours converted from its file.

    Stem and first stage are frozen in both. torchvision resizes to height x width, which the images already have.
    """
    theirs = prepared_peer(head, height, width, device)
    return theirs, convert_peer(theirs)[0].to(device)


def prepared_peer(head: str, height: int, width: int, device: torch.device) -> nn.Module:
    """The `head` of torchvision with random weights that find something."""
    torch.manual_seed(0)
    theirs = build_peer(head, height, width).to(device)
    image = torch.rand(3, height, width).to(device)
    damp(theirs)
    lively(theirs, lambda: theirs([image]))
    return theirs


def convert_peer(theirs: nn.Module) -> tuple[Detector, CfgNode]:
    """Ours with the weights of torchvision's, and its config."""
    with tempfile.TemporaryDirectory() as folder:
        torch.save(theirs.state_dict(), Path(folder) / "theirs.pth")
        opts = ["MODEL.BACKBONE.FREEZE_CONV_BODY_AT", "2"]
        cfg = convert("torchvision", Path(folder) / "theirs.pth", Path(folder) / "ours.pth", opts=opts)
        ours = build_detector(cfg)
        load_weights(ours, cfg)
    return ours, cfg


def build_peer(head: str, height: int, width: int) -> nn.Module:
    """What torchvision builds for a pretrained backbone: frozen norms, and three stages that are trained."""
    sides = {"min_size": min(height, width), "max_size": max(height, width)}
    parts = {"backbone_name": "resnet50", "weights": None, "norm_layer": FrozenBatchNorm2d, "trainable_layers": 3}
    if head == "faster_rcnn":
        return detection.FasterRCNN(resnet_fpn_backbone(**parts), 91, **sides)
    above = LastLevelP6P7(256, 256)
    return detection.FCOS(resnet_fpn_backbone(**parts, returned_layers=[2, 3, 4], extra_blocks=above), 91, **sides)


def lively(theirs: Foreign, run: Callable[[], object]) -> Foreign:
    """Random predictors whose outputs make detections of many classes, sizes and levels; run: predicts."""
    theirs.eval()
    with torch.no_grad():
        if isinstance(theirs, detection.FCOS):
            classes, boxes = theirs.head.classification_head, theirs.head.regression_head
            spread(classes.cls_logits, 1.0, run)
            spread(boxes.bbox_reg, 0.7, run)
            spread(boxes.bbox_ctrness, 1.0, run)
            classes.cls_logits.bias -= 3.5
            boxes.bbox_reg.bias += 2
            return theirs
        # The pyramid adds up towards the fine levels, which have more cells as well: without this all would be of p2.
        for i, block in enumerate(theirs.backbone.fpn.layer_blocks):
            spread(block[-1], 1.5**i, run)
        rpn, predictor = theirs.rpn.head, theirs.roi_heads.box_predictor
        # torchvision sorts sigmoids, and where these are 1 the order of the proposals is left to chance.
        for layer, std in ((rpn.cls_logits, 0.3), (rpn.bbox_pred, 0.3), (predictor.cls_score, 2.0)):
            spread(layer, std, run)
        spread(predictor.bbox_pred, 0.5, run)
    return theirs


def damp(theirs: Foreign) -> None:
    """Small last norms of the branches: the residual sums of random blocks would grow without bound."""
    for name, module in theirs.backbone.body.named_modules():
        if name.endswith("bn3"):
            nn.init.uniform_(module.weight, 0.1, 0.3)


def spread(layer: Foreign, std: float, run: Callable[[], object]) -> None:
    """Scale and shift a layer so that its outputs have a standard deviation, and each channel the mean 0."""
    outputs: list[Tensor] = []
    hook = layer.register_forward_hook(lambda module, inputs, output: outputs.append(output.transpose(0, 1).flatten(1)))
    run()
    hook.remove()
    output = torch.cat(outputs, dim=1)
    mean = output.mean(1)
    scale = std / (output - mean[:, None]).std()
    layer.bias.copy_((layer.bias - mean) * scale)
    layer.weight *= scale


def take_turns(runs: Mapping[str, Callable[[], object]], rounds: int, device: torch.device) -> dict[str, list[float]]:
    """Seconds of each run in every round, after a first one that does not count; the order turns every round."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for i in tqdm(range(rounds + 1), unit="round", leave=False):
        names = list(runs) if i % 2 else list(runs)[::-1]
        for name in names:
            spent = clock(runs[name], device)
            if i:
                seconds[name].append(spent)
    return seconds


def clock(run: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def share(seconds: Mapping[str, list[float]], ours: str, theirs: str) -> str:
    """Median over the rounds of our time over theirs, and its quartiles."""
    ratios = [a / b for a, b in zip(seconds[ours], seconds[theirs], strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return f"{middle:.3f} ({low:.2f}..{high:.2f})"


def matmul_rate(dtype: torch.dtype, device: torch.device, side: int = 3072) -> float:
    """Multiply-adds a second of a large matrix product or convolution: what the arithmetic can do at most.

    Of both the faster one: in float32 on AMD's processors torch computes products at half of the speed of convolutions.
    """
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    x = torch.randn(1, 512, 64, 64, device=device).to(dtype, memory_format=torch.channels_last)
    filters = torch.randn(512, 512, 3, 3, device=device).to(dtype, memory_format=torch.channels_last)
    with torch.no_grad():
        product = statistics.median(clock(lambda: a @ b, device) for _ in range(7))
        convolution = statistics.median(clock(lambda: conv2d(x, filters, padding=1), device) for _ in range(7))
    return max(side**3 / product, filters.numel() * x[0, 0].numel() / convolution)


def counted(run: Callable[[], object]) -> float:
    """Multiply-adds of convolutions and matrix products."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops() / 2


def random_target(size: Size, device: torch.device, generator: torch.Generator | None = None) -> Target:
    """Boxes of 5 to 45 % of the sides; generator: on the CPU, None for torch's own."""
    sides = torch.tensor([size[1], size[0]])
    corner = torch.rand(BOXES, 2, generator=generator) * sides * 0.55
    spans = (0.05 + 0.4 * torch.rand(BOXES, 2, generator=generator)) * sides
    return Target(
        boxes=torch.cat([corner, corner + spans], dim=1).to(device),
        labels=torch.randint(CLASSES, (BOXES,), generator=generator).to(device),
        ignore=torch.zeros(0, 4, device=device),
        image_id=0,
        original=size,
        draw=0,
    )
