"""Learning on real data against torchvision's FCOS: the same batches, optimiser, schedule and evaluator for both.

Ours is configs/bccd/<head>_resnet18.yaml, from scratch; the peer is torchvision's FCOS on the same ResNet-18 and
pyramid, with its own normalisation, losses and prediction, and the same score threshold. Both are trained by the loop
of `detector train` on the batches of our loader, seed by seed. Prints AP, AP50 and seconds; writes OUTPUT/learn.json
after every run, which has a folder of its own there with its weights, its log and its detections, for `detector
compare`.
"""

import argparse
import json
import logging
import statistics
import time
import zlib
from collections.abc import Sequence
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
from detector.data.loader import test_loader
from detector.engine.loop import train
from detector.engine.run import open_folder
from detector.errors import UserError
from detector.evaluation.coco import CocoEvaluator
from detector.files import write_json
from detector.inference.detect import detect
from detector.ops.boxes import rescale_boxes
from detector.structures import Batch, Detection
from detector.tasks.detection import DetectionTask, plan, start

log = logging.getLogger("detector")
CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "bccd"
HEADS = ("fcos", "faster_rcnn", "refinedet")
SHOWN = ("AP", "AP50", "AP75", "train_s", "test_s")


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
        raise UserError(f"--seeds {args.seeds}: write whole numbers with commas between them, e.g. 0,1")
    shown = ["ours", "peer"] if args.only is None else [args.only]
    rows: list[dict[str, Any]] = []
    output = Path(args.output)
    output.mkdir(parents=True, exist_ok=True)
    for seed in map(int, args.seeds.split(",")):
        for who in shown:
            cfg = settings(args.head if who == "ours" else "fcos", args.iterations, seed, args.opts)
            task = (Ours if who == "ours" else Peer).from_config(cfg)
            task.channels_last = args.peer_channels_last
            row = {"detector": f"ours {args.head}" if who == "ours" else "torchvision fcos", "seed": seed}
            rows.append(row | measure(task, f"{row['detector']} {seed}", output))
            write_json(output / "learn.json", {"torch": str(torch.__version__), "runs": rows})
            log.info("%s", table(rows[-1:]))
    orders = {row["seed"]: {other["order"] for other in rows if other["seed"] == row["seed"]} for row in rows}
    if any(len(order) > 1 for order in orders.values()):
        raise UserError("the detectors saw the images in different order: the numbers do not compare")
    print(table(rows + means(rows)))
    return rows


def settings(head: str, iterations: int, seed: int, opts: Sequence[str]) -> CfgNode:
    """The config of one run."""
    schedule = ["SOLVER.MAX_ITER", str(iterations), "SOLVER.STEPS", f"[{max(round(0.8 * iterations), 1)}]"]
    return load_config(CONFIGS / f"{head}_resnet18.yaml", [*schedule, "SEED", str(seed), *opts])


class Ours(DetectionTask):
    """The detector of the config; it keeps checksums of what it is shown."""

    order = pixels = 0
    channels_last = False  # of the peer; ours has a key for it

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """The losses of our head."""
        self.watch(batch)
        return super().losses(model, batch)

    def watch(self, batch: Batch) -> None:
        """Add the images' ids and pixels to the checksums."""
        self.order = zlib.crc32(json.dumps([t["image_id"] for t in batch.targets]).encode(), self.order)
        self.pixels = zlib.crc32(batch.images.numpy().tobytes(), self.pixels)

    def detections(self, model: nn.Module, batch: Batch) -> list[Detection]:
        """Detections in original pixels."""
        return detect(model, batch, self.cfg.TEST.AMP)  # type: ignore[arg-type]


class Peer(Ours):
    """torchvision's FCOS with a batch-normalised ResNet-18, all of it trained."""

    def build(self) -> nn.Module:
        """The network, which normalises and pads images that come resized, as ours do."""
        cfg = self.cfg
        backbone = resnet_fpn_backbone(
            backbone_name="resnet18", weights=None, norm_layer=nn.BatchNorm2d, trainable_layers=5,
            returned_layers=[2, 3, 4], extra_blocks=LastLevelP6P7(256, 256),
        )  # fmt: skip
        model = FCOS(
            backbone, cfg.MODEL.NUM_CLASSES, score_thresh=cfg.MODEL.FCOS.INFERENCE_TH, nms_thresh=cfg.MODEL.FCOS.NMS_TH,
            detections_per_img=cfg.TEST.DETECTIONS_PER_IMG, topk_candidates=cfg.MODEL.FCOS.PRE_NMS_TOP_N,
            size_divisible=cfg.DATALOADER.SIZE_DIVISIBILITY,
        )  # fmt: skip
        model.transform.resize = lambda image, target: (image, target)  # its _skip_resize is for training alone
        if self.channels_last:
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return model

    def images(self, batch: Batch) -> list[Tensor]:
        """The images without their padding, 0..1."""
        floats = batch.images.to(self.device).float() / 255
        return [image[:, :height, :width] for image, (height, width) in zip(floats, batch.sizes, strict=True)]

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """The losses of torchvision."""
        self.watch(batch)
        targets = [{key: target[key].to(self.device) for key in ("boxes", "labels")} for target in batch.targets]  # type: ignore[literal-required]
        return model(self.images(batch), targets)

    @torch.inference_mode()
    def detections(self, model: nn.Module, batch: Batch) -> list[Detection]:
        """Detections in original pixels."""
        found = model(self.images(batch))
        return [
            Detection(
                boxes=rescale_boxes(f["boxes"], size, target["original"]).cpu(),
                labels=f["labels"].cpu(),
                scores=f["scores"].cpu(),
            )
            for f, size, target in zip(found, batch.sizes, batch.targets, strict=True)
        ]


def measure(task: Ours, name: str, output: Path) -> dict[str, Any]:
    """Train and evaluate one detector: iterations, seconds, COCO's numbers, and checksums of what it saw."""
    solver = task.cfg.SOLVER
    folder = output / name.replace(" ", "_")
    run = start(task, open_folder(str(folder), resume=False))
    begun = time.perf_counter()
    train(run, task, plan(task.cfg, tests=False))
    train_s = time.perf_counter() - begun
    test_s, metrics = evaluate(task, run.model, name, folder)
    return {
        "iterations": solver.MAX_ITER,
        "parameters": sum(parameter.numel() for parameter in run.model.parameters()),
        "device": str(task.device),
        "threads": torch.get_num_threads(),
        "order": task.order,
        "pixels": task.pixels,
        "train_s": train_s,
        "images_per_s": solver.MAX_ITER * solver.IMS_PER_BATCH / train_s,
        "test_s": test_s,
        **metrics,
    }


def evaluate(task: Ours, model: nn.Module, name: str, folder: Path) -> tuple[float, dict[str, float]]:
    """Seconds of detecting on the first test set, and COCO's numbers; the detections go to results.json."""
    model.eval()
    dataset = next(iter(task.tests.values()))
    evaluator = CocoEvaluator(dataset)
    begun = time.perf_counter()
    batches = test_loader(task.cfg, dataset)
    for batch in tqdm(batches, desc=f"{name}: test", unit="batch", leave=False, dynamic_ncols=True):
        evaluator.add(task.detections(model, batch), batch.targets)
    seconds = time.perf_counter() - begun
    evaluator.save_results(folder / "results.json")
    return seconds, evaluator.compute()


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
    lines = [f"{'detector':<18} {'seed':>4} {'AP':>6} {'AP50':>6} {'AP75':>6} {'train s':>8} {'test s':>7}"]
    for row in rows:
        measures = " ".join(f"{row[name]:>6.3f}" for name in ("AP", "AP50", "AP75"))
        seconds = f"{row['train_s']:>8.0f} {row['test_s']:>7.1f}"
        lines.append(f"{row['detector']:<18} {row['seed']:>4} {measures} {seconds}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
