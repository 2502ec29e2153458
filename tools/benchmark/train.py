"""Seconds a training step of our FCOS and Faster R-CNN against torchvision's: the same weights and images, in turns.

A step is losses, backward pass and SGD, with stem and first stage frozen in both. Three comparisons: float32 to
float32; torchvision as most run it (float32) to our best; torchvision at its best to our best (bf16 autocast and
channels_last in both). Then what each step from our slowest form to our fastest gives.
"""

import argparse
import statistics
from collections.abc import Callable
from copy import deepcopy
from typing import cast

import torch
import torch.nn.functional as F
from peers import BOXES, PAIRS, build_pair, clock, matmul_rate, random_target, share, take_turns
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.ops import roi_align, sigmoid_focal_loss

from detector.engine.device import autocast, peak_memory_mb
from detector.models.detector import Detector
from detector.models.heads.faster_rcnn import FasterRCNN
from detector.models.heads.fcos import FCOS
from detector.ops.losses import sigmoid_focal_sum


def main() -> None:
    """`[--heads fcos faster_rcnn] [--size 480 640] [--batch 2] [--rounds 5]`."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--heads", nargs="+", choices=("fcos", "faster_rcnn"), default=("fcos", "faster_rcnn"))
    parser.add_argument("--size", type=int, nargs=2, default=(480, 640), metavar=("H", "W"), help="of the images")
    parser.add_argument("--batch", type=int, default=2, help="images a step")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    device, (height, width) = torch.device(args.device), args.size
    print(
        f"torch {torch.__version__}, {device}, {torch.get_num_threads()} threads, {args.batch} x 3 x {height} x {width}"
    )
    for head in args.heads:
        compare(head, args.batch, (height, width), args.rounds, device)


def compare(head: str, number: int, size: tuple[int, int], rounds: int, device: torch.device) -> None:
    """Print everything about one head."""
    theirs, ours = build_pair(head, *size, device)
    theirs.train(), ours.train()
    images = torch.randint(0, 256, (number, 3, *size), dtype=torch.uint8, device=device)
    targets = [random_target(size, device) for _ in range(number)]
    theirs_best = deepcopy(theirs).to(memory_format=torch.channels_last)
    plain = deepcopy(ours).to(memory_format=torch.contiguous_format)
    plain.memory_format = torch.contiguous_format

    def step(model: nn.Module, precision: str = "off") -> Callable[[], dict[str, Tensor]]:
        parameters = [p for p in model.parameters() if p.requires_grad]
        # A rate this small leaves the weights alike, so that every round does the same work.
        optimizer = torch.optim.SGD(parameters, 1e-12, 0.9)
        floats = [image.float() / 255 for image in images]
        # Two-stage detectors of torchvision count the background as class 0.
        shifted = [{"boxes": t["boxes"], "labels": t["labels"] + (head == "faster_rcnn")} for t in targets]

        def run() -> dict[str, Tensor]:
            with autocast(device, precision):
                if isinstance(model, Detector):
                    losses = model(images, [size] * number, targets)
                else:
                    losses = model(floats, shifted)
            optimizer.zero_grad(set_to_none=True)
            torch.stack([loss.float() for loss in losses.values()]).sum().backward()
            optimizer.step()
            return losses

        return run

    runs = {
        "torchvision fp32": step(theirs),
        "ours fp32": step(ours),
        "torchvision best": step(theirs_best, "bf16"),
        "ours best": step(deepcopy(ours), "bf16"),
    }
    print(f"\n{head}")
    for name, run in runs.items():
        torch.manual_seed(0)  # of the samples that a two-stage detector draws
        values = ", ".join(f"{term.removeprefix('loss_')} {loss:.4f}" for term, loss in run().items())
        print(f"  {name:<18}losses {values}")
    seconds = take_turns(runs, rounds, device)
    with FlopCounterMode(display=False) as counter:
        runs["ours best"]()  # which has no filtering that saves multiplications
    macs = counter.get_total_flops() / 2
    for name, spent in seconds.items():
        rate = matmul_rate(torch.bfloat16 if name.endswith("best") else torch.float32, device)
        middle = statistics.median(spent)
        print(
            f"  {name:<18}{middle:8.3f} s   {macs / rate / middle:6.1%} of the arithmetic limit ({macs / 1e9:.0f} GMAC)"
        )
    for mine, other, words in PAIRS:
        print(f"  {words}: {share(seconds, mine, other)} of torchvision's time")
    steps = {"contiguous": step(plain), "channels_last": runs["ours fp32"], "and bf16 autocast": runs["ours best"]}
    by_step = take_turns(steps, max(rounds // 2, 2), device)
    print("  " + ", ".join(f"{name} {statistics.median(times):.3f} s" for name, times in by_step.items()))
    print("  " + (region_trick if head == "faster_rcnn" else loss_trick)(ours, images, size, device))
    print(f"  peak memory of the process {peak_memory_mb(device):.0f} MiB")


def region_trick(model: Detector, images: Tensor, size: tuple[int, int], device: torch.device) -> str:
    """What pooling by rows gives, forward and backward, for the regions of a step."""
    head = cast(FasterRCNN, model.head)
    with torch.no_grad():
        features = model.neck(model.backbone(model.normalize(images, [size] * len(images))))
    features = {name: x.requires_grad_() for name, x in features.items()}
    count = head.batch_size_per_image
    boxes = torch.cat([random_target(size, device)["boxes"] for _ in range(count * len(images) // BOXES)])
    which = torch.arange(len(images), device=device).repeat_interleave(count)
    finest, stride = next(iter(features.values())), next(iter(head.pooler.strides.values()))
    rois = torch.cat([which[:, None].float(), boxes], dim=1)
    runs = {
        "RoIAlign as rows": lambda: head.pooler(features, boxes, which).sum().backward(),
        "torchvision's": lambda: roi_align(finest, rois, 7, 1 / stride, 2, False).sum().backward(),
    }
    return ", ".join(
        f"{name} {statistics.median(clock(run, device) for _ in range(3)):.3f} s" for name, run in runs.items()
    )


def loss_trick(model: Detector, images: Tensor, size: tuple[int, int], device: torch.device) -> str:
    """What the focal loss without a one-hot target gives, forward and backward, for the logits of a step."""
    head = cast(FCOS, model.head)
    cells = sum(-(-size[0] // s) * -(-size[1] // s) for s in head.strides.values()) * len(images)
    logits = torch.randn(cells, head.num_classes, device=device, requires_grad=True)
    rows = torch.randperm(cells, device=device)[:200]
    columns = torch.randint(head.num_classes, (200,), device=device)

    def one_hot() -> None:
        target = F.one_hot(torch.zeros(cells, dtype=torch.int64, device=device), head.num_classes).float() * 0
        target[rows, columns] = 1
        sigmoid_focal_loss(logits, target, reduction="sum").backward()

    runs = {
        "focal loss by index": lambda: sigmoid_focal_sum(logits, rows, columns, 0.25, 2.0).backward(),
        "of a one-hot target": one_hot,
    }
    return ", ".join(
        f"{name} {statistics.median(clock(run, device) for _ in range(5)):.4f} s" for name, run in runs.items()
    )


if __name__ == "__main__":
    main()
