"""What each step from our slowest form in torch to our fastest gives, and what a few tricks do."""

import statistics
from collections.abc import Callable
from copy import deepcopy
from typing import cast

import torch
from peers import clock, take_turns
from torch import Tensor
from torchvision.ops import roi_align

from detector.engine.device import autocast
from detector.inference.prepare import prepare_for_inference
from detector.models.detector import Detector
from detector.models.heads.faster_rcnn import FasterRCNN
from detector.ops.boxes import decode_deltas
from detector.structures import Size


def print_steps(head: str, ours: Detector, image: Tensor, size: Size, rounds: int, device: torch.device) -> None:
    """Seconds of each step of one head, in turns, and of its tricks."""

    def predict(model: Detector, precision: str = "off") -> Callable[[], object]:
        def run() -> object:
            with autocast(device, precision):
                return model(image, [size])

        return run

    with torch.inference_mode():
        best, folded = prepare_for_inference(deepcopy(ours), "bf16"), prepare_for_inference(deepcopy(ours))
        merged = prepare_for_inference(deepcopy(ours).double()).float()  # Winograd's is for float32 alone
        plain = deepcopy(ours).to(memory_format=torch.contiguous_format)
        plain.memory_format = torch.contiguous_format
        steps = {
            "contiguous": predict(plain),
            "channels_last": predict(ours),
            "norms merged": predict(merged),
            "and Winograd": predict(folded),
            "bf16 autocast": predict(ours, "bf16"),
            "and merged, rounded": predict(best, "bf16"),
        }
        by_step = take_turns(steps, rounds, device)
        print("  " + ", ".join(f"{name} {statistics.median(times):.4f} s" for name, times in by_step.items()))
        print("  " + (proposal_tricks if head == "faster_rcnn" else threshold_trick)(ours, image, size, device))


def proposal_tricks(model: Detector, image: Tensor, size: tuple[int, int], device: torch.device) -> str:
    """What pooling by rows and decoding after the selection give."""
    head = cast(FasterRCNN, model.head)
    features = model.neck(model.backbone(model.normalize(image, [size])))
    boxes = head.rpn.predict(features, [size]).boxes[0]
    which = torch.zeros(len(boxes), dtype=torch.int64, device=device)
    finest, stride = next(iter(features.values())), next(iter(head.pooler.strides.values()))
    rois = torch.cat([which[:, None].float(), boxes], dim=1)
    anchors, (_, deltas) = torch.cat(head.rpn.anchors(features)), head.rpn(features)
    every = torch.cat(deltas, dim=1)[0]
    chosen = min(len(every), 5 * head.rpn.pre_nms_top_n["test"])
    runs = {
        "RoIAlign as rows": lambda: head.pooler(features, boxes, which),
        "torchvision's": lambda: roi_align(finest, rois, 7, 1 / stride, 2, False),
        "decoding the best anchors": lambda: decode_deltas(anchors[:chosen], every[:chosen]),
        "all anchors": lambda: decode_deltas(anchors, every),
    }
    return ", ".join(
        f"{name} {statistics.median(clock(run, device) for _ in range(5)):.4f} s" for name, run in runs.items()
    )


def threshold_trick(model: Detector, image: Tensor, size: tuple[int, int], device: torch.device) -> str:
    """What comparing logits before the sigmoid gives."""
    _, logits, _, _ = model.head(model.neck(model.backbone(model.normalize(image, [size]))))
    runs = {
        "threshold on logits": lambda: [(x > -2.94).nonzero() for x in logits],
        "on sigmoids": lambda: [(x.sigmoid() > 0.05).nonzero() for x in logits],
    }
    return ", ".join(
        f"{name} {statistics.median(clock(run, device) for _ in range(5)):.4f} s" for name, run in runs.items()
    )
