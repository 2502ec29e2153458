"""Seconds an image of our FCOS and Faster R-CNN against torchvision's: the same weights and images, in turns.

Three comparisons: float32 to float32; torchvision as most run it (float32) to our best; torchvision at its best (bf16
autocast, channels_last) to our best (the same with norms merged into convolutions and layers rounded once). Then what
each step from our slowest form to our fastest gives, and how far the detections move.
"""

import argparse
import statistics
from collections.abc import Callable
from copy import deepcopy
from typing import cast

import torch
from peers import PAIRS, build_pair, clock, matmul_rate, share, take_turns
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.ops import box_iou, roi_align

from detector.engine.device import autocast, peak_memory_mb
from detector.inference.prepare import prepare_for_inference
from detector.models.detector import Detector
from detector.models.heads.faster_rcnn import FasterRCNN
from detector.ops.boxes import decode_deltas
from detector.structures import Detection


def main() -> None:
    """`[--heads fcos faster_rcnn] [--size 480 640] [--rounds 9] [--compile]`."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--heads", nargs="+", choices=("fcos", "faster_rcnn"), default=("fcos", "faster_rcnn"))
    parser.add_argument("--size", type=int, nargs=2, default=(480, 640), metavar=("H", "W"), help="of the image")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument(
        "--compile", action="store_true", help="also with the backbone by torch.compile (half a minute)"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    device = torch.device(args.device)
    height, width = args.size
    print(f"torch {torch.__version__}, {device}, {torch.get_num_threads()} threads, 1 x 3 x {height} x {width}")
    for head in args.heads:
        with torch.inference_mode():
            compare(head, args.size, args.rounds, device, args.compile)


def compare(head: str, size: tuple[int, int], rounds: int, device: torch.device, compiled: bool) -> None:
    """Print everything about one head."""
    with torch.inference_mode(False):
        theirs, ours = build_pair(head, *size, device)
    theirs.eval(), ours.eval()
    image = torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8, device=device)
    floats = [image[0].float() / 255]
    theirs_best = deepcopy(theirs).to(memory_format=torch.channels_last)
    best, folded = prepare_for_inference(deepcopy(ours), "bf16"), prepare_for_inference(deepcopy(ours))

    def predict(model: nn.Module, precision: str = "off") -> Callable[[], list[Detection]]:
        def run() -> list[Detection]:
            with autocast(device, precision):
                return model(image, [size]) if isinstance(model, Detector) else model(floats)

        return run

    runs = {
        "torchvision fp32": predict(theirs),
        "ours fp32": predict(folded),
        "torchvision best": predict(theirs_best, "bf16"),
        "ours best": predict(best, "bf16"),
    }
    pairs: tuple[tuple[str, str, str], ...] = PAIRS
    if compiled:
        fast = deepcopy(best)
        fast.backbone = torch.compile(fast.backbone, options={"freezing": True})  # type: ignore[assignment]
        runs["ours compiled"] = predict(fast, "bf16")
        pairs = (*PAIRS, ("ours compiled", "torchvision best", "best with a compiled backbone to best"))
    found = {name: run()[0] for name, run in runs.items()}
    print(f"\n{head}: detections " + ", ".join(f"{name} {len(one['scores'])}" for name, one in found.items()))
    for name in (name for name in runs if name != "ours fp32"):
        print(f"  {name} to ours fp32: {moved(found['ours fp32'], found[name], shifted(head, name))}")
    seconds = take_turns(runs, rounds, device)
    macs = {name: counted(run) for name, run in runs.items() if name != "ours compiled"}
    macs["ours compiled"] = macs["ours best"]
    for name, spent in seconds.items():
        rate = matmul_rate(torch.float32 if name.endswith("fp32") else torch.bfloat16, device)
        middle = statistics.median(spent)
        print(
            f"  {name:<18}{middle:8.4f} s   {macs[name] / rate / middle:6.1%} of the arithmetic limit "
            f"({macs[name] / 1e9:.1f} GMAC)"
        )
    for mine, other, words in pairs:
        print(f"  {words}: {share(seconds, mine, other)} of torchvision's time")
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
    print(f"  peak memory of the process {peak_memory_mb(device):.0f} MiB")


def counted(run: Callable[[], object]) -> float:
    """Multiply-adds of convolutions and matrix products."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops() / 2


def shifted(head: str, name: str) -> int:
    """How much higher a peer's labels are: torchvision's Faster R-CNN counts the background as 0."""
    return int(head == "faster_rcnn" and name.startswith("torchvision"))


def moved(reference: Detection, other: Detection, shift: int) -> str:
    """How the detections of the reference are found again: share, IoU, difference of the scores."""
    iou = box_iou(reference["boxes"].float(), other["boxes"].float())
    iou = iou * (reference["labels"][:, None] == other["labels"][None] - shift)
    best, place = iou.max(1)
    again = best > 0.5
    change = (reference["scores"] - other["scores"][place])[again].abs()
    return f"{again.float().mean():.0%} found again, IoU {best[again].mean():.4f}, scores differ by {change.mean():.1e}"


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


if __name__ == "__main__":
    main()
