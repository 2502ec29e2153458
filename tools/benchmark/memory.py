"""The memory of a training step as `detector plan` counts it against what the allocator measures in the same step.

Three heads with three backbones of random weights: with the stem and layer1 frozen, and with nothing frozen and one,
two and all stages computed again; then what checkpointing and micro-batches leave of a step. On a CPU the allocator's
own record is summed up, which holds what kernels allocate inside, too; on CUDA it is
`torch.cuda.max_memory_allocated`. Every step runs in a process of its own.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import torch
from peers import random_target
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from yacs.config import CfgNode

from detector.config import load_config
from detector.engine.device import autocast, peak_memory_mb
from detector.models.build import build_detector, resolve_parts
from detector.structures import Size
from detector.tasks.footprint import Footprint, Step
from detector.tasks.solver import build_optimizer

HEADS = ("fcos", "faster_rcnn", "refinedet")
BACKBONES = ("resnet50", "sreresnet50", "resnest50")
STANDING = ("weights", "gradients", "optimiser")
ALL = (1, 2, 3, 4)
CASES: tuple[dict[str, Any], ...] = (
    {"at": 2},
    {"at": 0, "stages": (1,)},
    {"at": 0, "stages": (1, 2)},
    {"at": 0, "stages": ALL},
)
"""Of every pair: the parts that are frozen, and the stages that are computed again."""
MIB = 2**20


def main(argv: Sequence[str] | None = None) -> None:
    """`[--size 480 640] [--batch 2] [--device cpu] [--amp off] [--smoke]`."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--size", type=int, nargs=2, default=(480, 640), metavar=("H", "W"), help="of the images")
    parser.add_argument("--batch", type=int, default=2, help="images a step")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--amp", default="off", choices=("off", "bf16", "fp16"))
    parser.add_argument("--heads", nargs="+", choices=HEADS, default=HEADS)
    parser.add_argument("--backbones", nargs="+", default=BACKBONES)
    parser.add_argument("--smoke", action="store_true", help="small networks and images")
    parser.add_argument("--cell", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.cell:
        print(json.dumps(measured(**json.loads(args.cell))))
        return
    size, backbones = ((128, 160), ("resnet10",)) if args.smoke else (tuple(args.size), args.backbones)
    print(f"torch {torch.__version__}, {args.device}, {args.batch} x 3 x {size[0]} x {size[1]}, AMP {args.amp}")
    print(
        f"{'head':<13}{'backbone':<13}{'frozen':>7}  {'again':<9}{'predicted':>9}{'measured':>11}{'error':>8}"
        f"{'process':>10}   MiB"
    )
    worst = 0.0
    for head in args.heads:
        for backbone in backbones:
            for case in CASES:
                row = cell(head, backbone, size, args, **case)
                worst = max(worst, abs(row["error"]))
                again = ",".join(map(str, case.get("stages", ()))) or "-"
                print(
                    f"{head:<13}{backbone:<13}{case['at']:>7}  {again:<9}{row['predicted'] / MIB:9.1f}"
                    f"{row['measured'] / MIB:11.1f}{row['error']:8.1%}{row['process']:10.0f}",
                    flush=True,
                )
    print(f"largest error {worst:.1%}")
    shares("fcos", "resnet10" if args.smoke else "sreresnet50", size, args)


def cell(head: str, backbone: str, size: Size, args: argparse.Namespace, **more: object) -> dict[str, Any]:
    """Prediction and measurement of one step, which has a process of its own."""
    step = {"head": head, "backbone": backbone, "size": size, "images": args.batch, "device": args.device, **more}
    step["precision"] = args.amp
    command = [sys.executable, __file__, "--cell", json.dumps(step)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def shares(head: str, backbone: str, size: Size, args: argparse.Namespace) -> None:
    """Print what checkpointing and micro-batches leave of what a step takes above weights, gradients and optimiser."""
    print(f"{head} with {backbone}, nothing frozen: above weights, gradients and optimiser at the peak, and as a share")
    rows: dict[str, dict[str, object]] = {
        "as it is": {},
        f"CHECKPOINT_STAGES {ALL}": {"stages": ALL},
        "ACCUM_ITERS 2": {"parts": 2},
    }
    first = None
    for name, how in rows.items():
        row = cell(head, backbone, size, args, at=0, **how)
        above = row["measured"] - row["standing"]
        first = first or above
        print(
            f"  {name:<32}{above / MIB:8.1f} MiB {above / first:6.3f}   whole peak {row['measured'] / MIB:8.1f} MiB, "
            f"predicted {row['predicted'] / MIB:8.1f}",
            flush=True,
        )


def measured(
    head: str,
    backbone: str,
    size: Size,
    images: int,
    device: str,
    precision: str,
    at: int,
    stages: Sequence[int] = (),
    parts: int = 1,
) -> dict[str, Any]:
    """Bytes of a step: predicted, measured, and of these what weights, gradients and optimiser hold at the peak."""
    cfg = config(head, backbone, at)
    divisibility = cfg.DATALOADER.SIZE_DIVISIBILITY
    height, width = (-(-side // divisibility) * divisibility for side in size)
    step = Step(images, (height, width), precision, parts, tuple(stages))
    predicted = Footprint(cfg).peak(step)
    number = real_step(cfg, step, torch.device(device))
    return {
        "predicted": predicted.total,
        "measured": number,
        "error": predicted.total / number - 1,
        "standing": sum(predicted.parts.get(name, 0) for name in STANDING),
        "process": peak_memory_mb(torch.device("cpu")),
    }


def config(head: str, backbone: str, at: int) -> CfgNode:
    """The config of a pair, with the first `at` parts frozen."""
    opts = ["MODEL.BACKBONE.NAME", backbone, "MODEL.BACKBONE.FREEZE_CONV_BODY_AT", str(at)]
    return resolve_parts(load_config(f"base/{head}", opts))


def real_step(cfg: CfgNode, step: Step, device: torch.device) -> int:
    """The largest number of bytes that the allocator has given out during a step that is not the first one."""
    torch.manual_seed(0)
    model = build_detector(cfg).to(device).train()
    model.backbone.set_recomputed(step.stages)
    optimizer = build_optimizer(cfg.SOLVER, model)
    for group in optimizer.param_groups:
        group["lr"] = 1e-9
    pictures = torch.randint(0, 256, (step.images, 3, *step.size), dtype=torch.uint8, device=device)
    targets = [random_target(step.size, device) for _ in range(step.images)]

    def run() -> None:
        optimizer.zero_grad(set_to_none=True)
        for m in range(step.parts):
            own = slice(m, None, step.parts)
            with autocast(device, step.precision):
                losses = model(pictures[own], [step.size] * len(targets[own]), targets[own])
            torch.stack([loss.float() for loss in losses.values()]).sum().backward()
        optimizer.step()

    run()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        run()
        return torch.cuda.max_memory_allocated()
    optimizer.zero_grad(set_to_none=True)
    there = [*model.parameters(), *model.buffers(), pictures]
    there += [x for state in optimizer.state.values() for x in state.values() if isinstance(x, Tensor)]
    before = sum({x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for x in there}.values())
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        run()
    found = record.profiler.kineto_results.events()  # type: ignore[union-attr]
    changes = sorted((e.start_ns(), e.nbytes()) for e in found if e.name() == "[memory]")
    total = most = before
    for _, change in changes:
        total += change
        most = max(most, total)
    return most


if __name__ == "__main__":
    main()
