"""Learning on real data against torchvision's FCOS: the same batches, optimiser, schedule and evaluator for both.

Ours is configs/bccd/<head>_resnet18.yaml, from scratch; the peer is torchvision's FCOS on the same ResNet-18 and
pyramid, with its own normalisation, losses and prediction, and the same score threshold. Both are trained by one plain
loop on the batches of our loader, seed by seed. Prints AP, AP50 and seconds; writes OUTPUT/learn.json after every run,
and the weights after every training.
"""

import argparse
import json
import logging
import math
import statistics
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import FCOS
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops.feature_pyramid_network import LastLevelP6P7
from tqdm import tqdm
from yacs.config import CfgNode

from detector.commands.base import run, tool_parser
from detector.config import load_config
from detector.data.coco import CocoDetection
from detector.data.loader import build_test_datasets, build_train_dataset, test_loader, train_loader
from detector.engine.device import autocast, pick_device
from detector.engine.evaluate import detect
from detector.engine.optim import build_optimizer, learning_rate_factor, set_learning_rate
from detector.engine.trainer import NonFiniteError, to_device
from detector.evaluation.coco import CocoEvaluator
from detector.files import write_json
from detector.models.build import build_detector
from detector.ops.boxes import rescale_boxes
from detector.structures import Batch, Detection
from detector.weights.checkpoint import save_checkpoint

log = logging.getLogger("detector")
CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "bccd"
HEADS = ("fcos", "faster_rcnn", "refinedet")
SHOWN = ("AP", "AP50", "train_s", "test_s")

Losses = Callable[[Batch], dict[str, Tensor]]
Detect = Callable[[Batch], list[Detection]]


def main(argv: Sequence[str] | None = None) -> None:
    """`[--iterations 1000] [--seeds 0,1] [--only ours|peer] [--head fcos] [KEY VALUE ...]`."""
    parser = tool_parser((__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add(
        "--iterations", type=int, default=1000, metavar="N", help="steps; the rate falls to a tenth after 80 %% of them"
    )
    add("--seeds", default="0,1", metavar="SEED,..", help="of weights, order of images and flips; a run each")
    add("--only", choices=("ours", "peer"), help="the one without the other")
    add("--head", choices=HEADS, default="fcos", help="of ours")
    add("--peer-channels-last", action="store_true", help="the peer too in ours' memory format, which it does not set")
    add("--output", default="output/learn", metavar="DIR", help="where learn.json goes")
    add("opts", nargs="*", metavar="KEY VALUE", help="overrides, e.g. DATASETS.ROOT /data")
    run(lambda: learn(parser.parse_intermixed_args(argv)))


def learn(args: argparse.Namespace) -> list[dict[str, Any]]:
    """All runs, printed and filed; returns their numbers."""
    if not all(seed.isdecimal() for seed in args.seeds.split(",")):
        raise ValueError(f"--seeds {args.seeds}: write whole numbers with commas between them, e.g. 0,1")
    shown = ["ours", "peer"] if args.only is None else [args.only]
    rows: list[dict[str, Any]] = []
    output = Path(args.output)
    output.mkdir(parents=True, exist_ok=True)
    for seed in map(int, args.seeds.split(",")):
        for who in shown:
            cfg = settings(args.head if who == "ours" else "fcos", args.iterations, seed, args.opts)
            build = build_ours if who == "ours" else build_peer(args.peer_channels_last)
            row = {"detector": f"ours {args.head}" if who == "ours" else "torchvision fcos", "seed": seed}
            rows.append(row | measure(cfg, build, f"{row['detector']} {seed}", output))
            write_json(output / "learn.json", {"torch": str(torch.__version__), "runs": rows})
            log.info("%s", table(rows[-1:]))
    orders = {row["seed"]: {other["order"] for other in rows if other["seed"] == row["seed"]} for row in rows}
    if any(len(order) > 1 for order in orders.values()):
        raise ValueError("the detectors saw the images in different order: the numbers do not compare")
    print(table(rows + means(rows)))
    return rows


def settings(head: str, iterations: int, seed: int, opts: Sequence[str]) -> CfgNode:
    """The config of one run."""
    schedule = ["SOLVER.MAX_ITER", str(iterations), "SOLVER.STEPS", f"[{max(round(0.8 * iterations), 1)}]"]
    return load_config(CONFIGS / f"{head}_resnet18.yaml", [*schedule, "SEED", str(seed), *opts])


def build_ours(cfg: CfgNode, device: torch.device) -> tuple[nn.Module, Losses, Detect]:
    """The detector of the config, and how it gives losses and detections of a batch."""
    model = build_detector(cfg).to(device)

    def losses(batch: Batch) -> dict[str, Tensor]:
        return model(batch.images.to(device), batch.sizes, [to_device(t, device) for t in batch.targets])

    return model, losses, lambda batch: detect(model, batch, cfg.TEST.AMP)


def build_peer(channels_last: bool) -> Callable[[CfgNode, torch.device], tuple[nn.Module, Losses, Detect]]:
    """A builder of torchvision's FCOS with a batch-normalised ResNet-18, all of it trained."""

    def build(cfg: CfgNode, device: torch.device) -> tuple[nn.Module, Losses, Detect]:
        backbone = resnet_fpn_backbone(
            backbone_name="resnet18", weights=None, norm_layer=nn.BatchNorm2d, trainable_layers=5,
            returned_layers=[2, 3, 4], extra_blocks=LastLevelP6P7(256, 256),
        )  # fmt: skip
        # Images come resized, as ours do; it normalises and pads them.
        model = FCOS(
            backbone, cfg.MODEL.NUM_CLASSES, score_thresh=cfg.MODEL.FCOS.INFERENCE_TH, nms_thresh=cfg.MODEL.FCOS.NMS_TH,
            detections_per_img=cfg.TEST.DETECTIONS_PER_IMG, topk_candidates=cfg.MODEL.FCOS.PRE_NMS_TOP_N,
            size_divisible=cfg.DATALOADER.SIZE_DIVISIBILITY,
        ).to(device)  # fmt: skip
        model.transform.resize = lambda image, target: (image, target)  # its _skip_resize is for training alone
        if channels_last:
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

        def images(batch: Batch) -> list[Tensor]:
            floats = batch.images.to(device).float() / 255
            return [image[:, :height, :width] for image, (height, width) in zip(floats, batch.sizes, strict=True)]

        def losses(batch: Batch) -> dict[str, Tensor]:
            targets = [{key: target[key].to(device) for key in ("boxes", "labels")} for target in batch.targets]  # type: ignore[literal-required]
            return model(images(batch), targets)

        @torch.inference_mode()
        def detections(batch: Batch) -> list[Detection]:
            found = model(images(batch))
            return [
                Detection(
                    boxes=rescale_boxes(f["boxes"], size, target["original"]).cpu(),
                    labels=f["labels"].cpu(),
                    scores=f["scores"].cpu(),
                )
                for f, size, target in zip(found, batch.sizes, batch.targets, strict=True)
            ]

        return model, losses, detections

    return build


def measure(
    cfg: CfgNode, build: Callable[[CfgNode, torch.device], tuple[nn.Module, Losses, Detect]], name: str, output: Path
) -> dict[str, Any]:
    """Train and evaluate one detector: iterations, seconds, COCO's numbers, and checksums of what it saw."""
    device = pick_device(cfg.MODEL.DEVICE)
    dataset = build_train_dataset(cfg)
    tests = build_test_datasets(cfg, dataset)
    torch.manual_seed(cfg.SEED)
    model, losses, detections = build(cfg, device)
    batches = iter(train_loader(cfg, dataset, 0, cfg.SOLVER.MAX_ITER))
    train_s, order, pixels = train(cfg, model, losses, batches, name)
    save_checkpoint(output / f"{name.replace(' ', '_')}.pth", {"model": model.state_dict(), "classes": dataset.classes})
    test_s, metrics = evaluate(cfg, model, detections, next(iter(tests.values())), name)
    return {
        "iterations": cfg.SOLVER.MAX_ITER,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "device": str(device),
        "threads": torch.get_num_threads(),
        "order": order,
        "pixels": pixels,
        "train_s": train_s,
        "images_per_s": cfg.SOLVER.MAX_ITER * cfg.SOLVER.IMS_PER_BATCH / train_s,
        "test_s": test_s,
        **metrics,
    }


def train(
    cfg: CfgNode, model: nn.Module, losses: Losses, batches: Iterator[Batch], name: str
) -> tuple[float, int, int]:
    """One plain loop for both; returns its seconds, reading included, and checksums of the images' ids and pixels."""
    model.train()
    solver = cfg.SOLVER
    optimizer = build_optimizer(solver, model)
    parameters = [p for p in model.parameters() if p.requires_grad]
    device = parameters[0].device
    order, pixels, start = 0, 0, time.perf_counter()
    with tqdm(total=solver.MAX_ITER, desc=name, unit="step", dynamic_ncols=True) as bar:
        for step, batch in enumerate(islice(batches, solver.MAX_ITER)):
            order = zlib.crc32(json.dumps([t["image_id"] for t in batch.targets]).encode(), order)
            pixels = zlib.crc32(batch.images.numpy().tobytes(), pixels)
            set_learning_rate(optimizer, learning_rate_factor(solver, step))
            with autocast(device, solver.AMP):
                total = torch.stack([loss.float() for loss in losses(batch).values()]).sum()
            value = total.item()
            if not math.isfinite(value):
                raise NonFiniteError(f"{name}: the loss is {value} at step {step}; lower SOLVER.BASE_LR")
            optimizer.zero_grad(set_to_none=True)
            total.backward()
            nn.utils.clip_grad_norm_(parameters, solver.CLIP_GRAD_NORM or math.inf)
            optimizer.step()
            bar.update()
            bar.set_postfix_str(f"loss {value:.3f}", refresh=False)
    return time.perf_counter() - start, order, pixels


def evaluate(
    cfg: CfgNode, model: nn.Module, detections: Detect, dataset: CocoDetection, name: str
) -> tuple[float, dict[str, float]]:
    """Seconds of detecting on the test set, and COCO's numbers."""
    model.eval()
    evaluator = CocoEvaluator(dataset)
    start = time.perf_counter()
    for batch in tqdm(test_loader(cfg, dataset), desc=f"{name}: test", unit="batch", leave=False, dynamic_ncols=True):
        evaluator.update(detections(batch), batch.targets)
    return time.perf_counter() - start, evaluator.compute()


def means(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row of means for every detector that ran more than once."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row["detector"], []).append(row)
    return [
        {"detector": name, "seed": "mean", **{key: statistics.mean(row[key] for row in some) for key in SHOWN}}
        for name, some in groups.items()
        if len(some) > 1
    ]


def table(rows: list[dict[str, Any]]) -> str:
    """The numbers in columns; seconds are whole."""
    lines = [f"{'detector':<18} {'seed':>4} {'AP':>6} {'AP50':>6} {'train s':>8} {'test s':>7}"]
    for row in rows:
        lines.append(
            f"{row['detector']:<18} {row['seed']:>4} {row['AP']:>6.3f} {row['AP50']:>6.3f} {row['train_s']:>8.0f} "
            f"{row['test_s']:>7.1f}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
