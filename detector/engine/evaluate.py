"""From a model and a loader to detections in original pixels, and from those to metrics and files."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm
from yacs.config import CfgNode

from detector.data.coco import CocoDetection
from detector.data.loader import BatchLoader, build_test_datasets, test_loader
from detector.engine.device import AMP, autocast, pick_device
from detector.engine.weights import check_classes, is_detector, load_detector
from detector.evaluation.build import build_evaluators
from detector.evaluation.report import summary_text
from detector.files import write_json
from detector.models.backbones import find_weights
from detector.models.build import build_detector
from detector.models.detector import Detector
from detector.models.heads.box_head import BoxHead
from detector.models.norm import fold_norms
from detector.models.winograd import use_winograd
from detector.ops.boxes import rescale_boxes
from detector.structures import Batch, Detection, Target, real_outputs
from detector.weights.checkpoint import newest_checkpoint, read_checkpoint

log = logging.getLogger("detector")


@torch.inference_mode()
def detect(model: Detector, batch: Batch, precision: str = "off") -> list[Detection]:
    """Detections of a batch on the CPU, boxes in the pixels of the original images.

    precision: as TEST.AMP. The model has to be in eval mode.
    """
    device = model.mean.device
    with autocast(device, precision):
        found = model(batch.images.to(device, non_blocking=True), batch.sizes)
    return [
        Detection(
            boxes=rescale_boxes(f["boxes"].float(), size, target["original"]).cpu(),
            labels=f["labels"].cpu(),
            scores=f["scores"].float().cpu(),
        )
        for f, size, target in zip(found, batch.sizes, batch.targets, strict=True)
    ]


def detect_all(model: Detector, loader: BatchLoader, precision: str) -> Iterator[tuple[list[Detection], list[Target]]]:
    """Detections and targets batch by batch, under a progress bar; leaves the model in the mode it was in."""
    mode = model.training
    model.eval()
    try:
        for batch in tqdm(loader, desc="evaluate", unit="batch", leave=False, dynamic_ncols=True):
            yield detect(model, batch, precision), batch.targets
    finally:
        model.train(mode)


def evaluate(
    model: Detector, datasets: dict[str, CocoDetection], cfg: CfgNode, output: Path, outputs: Sequence[str] = ()
) -> dict[str, dict[str, float]]:
    """Evaluate every dataset; writes results.json and metrics.json, in a folder each when there are several.

    outputs: names of the model's classes; detections of those that stand for no class are left out.
    Returns the flat metrics (fractions 0..1) by dataset name.
    """
    metrics = {}
    for name, dataset in datasets.items():
        folder = output if len(datasets) == 1 else output / name
        folder.mkdir(parents=True, exist_ok=True)
        evaluators = build_evaluators(cfg, dataset)
        for detections, targets in detect_all(model, test_loader(cfg, dataset), cfg.TEST.AMP):
            found = of_real_classes(detections, outputs, dataset.classes)
            for evaluator in evaluators:
                evaluator.update(found, targets)
        metrics[name] = {key: value for one in evaluators for key, value in one.compute().items()}
        evaluators[0].save_results(folder / "results.json")
        write_json(folder / "metrics.json", metrics[name])
        log.info("%s\n%s", name, summary_text(metrics[name]))
    return metrics


def test(cfg: CfgNode) -> dict[str, dict[str, float]]:
    """Evaluate MODEL.WEIGHT, else the newest checkpoint of OUTPUT_DIR, on DATASETS.TEST.

    "imagenet" names a backbone only, so it counts as none. Raises ValueError or OSError that names the file, key and
    remedy.
    """
    device = pick_device(cfg.MODEL.DEVICE)
    output = Path(cfg.OUTPUT_DIR)
    found = find_detector(cfg)
    datasets = build_test_datasets(cfg, outputs=found[1].get("classes") or [])
    model, names, _ = load_trained(cfg, found, next(iter(datasets.values())).classes)
    model = prepare_for_inference(model.to(device), cfg.TEST.AMP)
    return evaluate(model, datasets, cfg, output, names)


@torch.no_grad()
def prepare_for_inference(model: Detector, precision: str = "off") -> Detector:
    """Merge norms into convolutions, lay weights out as they are used, round them to `precision` (as TEST.AMP) once.

    In float32 on a CPU, wide 3x3 convolutions are computed by Winograd's minimal filtering. In place; the detections
    are the same but for rounding, and the model is for prediction only.
    """
    model.eval()
    side = 2 * max(level.stride for level in model.neck.levels.values())  # group norm wants more than one cell
    blank = torch.zeros(1, 3, side, side, dtype=torch.uint8, device=model.mean.device)
    fold_norms(model, lambda: model(blank, [(side, side)]))
    for module in model.modules():
        if isinstance(module, BoxHead):
            module.prepare()
    if dtype := AMP[precision]:
        for module in model.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.to(dtype)
    else:
        use_winograd(model)
    return model


def of_real_classes(detections: list[Detection], names: Sequence[str], classes: Sequence[str]) -> list[Detection]:
    """Detections of the outputs `names` that stand for one of the data's classes, with the data's labels."""
    real = torch.tensor(real_outputs(names, classes), dtype=torch.bool)
    if real.all():
        return detections
    label = real.cumsum(0) - 1
    found = []
    for one in detections:
        kept = real[one["labels"]]
        labels = label[one["labels"][kept]]
        found.append(Detection(boxes=one["boxes"][kept], labels=labels, scores=one["scores"][kept]))
    return found


def find_detector(cfg: CfgNode) -> tuple[Path, dict[str, Any]]:
    """The checkpoint that MODEL.WEIGHT names, else the newest one of OUTPUT_DIR: its path and content.

    Raises ValueError or OSError where there is none, or it holds no detector.
    """
    if cfg.MODEL.WEIGHT in ("", "imagenet"):
        found = newest_checkpoint(Path(cfg.OUTPUT_DIR))
        if found is None:
            raise ValueError(
                f"OUTPUT_DIR {cfg.OUTPUT_DIR} has no checkpoint and MODEL.WEIGHT names no detector; "
                "train first, or write MODEL.WEIGHT FILE.pth"
            )
        return found
    path = find_weights(cfg.MODEL.BACKBONE.NAME, cfg.MODEL.WEIGHT)
    content = read_checkpoint(path)
    if not is_detector(content["model"]):
        raise ValueError(
            f"MODEL.WEIGHT {path} holds no detector of this framework; tools/convert_checkpoint.py "
            "makes one of official detectors"
        )
    return path, content


def load_for_inference(cfg: CfgNode) -> tuple[Detector, list[str], list[int]]:
    """`load_trained`, prepared for prediction on MODEL.DEVICE in the precision of TEST.AMP."""
    device = pick_device(cfg.MODEL.DEVICE)
    model, names, category_ids = load_trained(cfg)
    return prepare_for_inference(model.to(device), cfg.TEST.AMP), names, category_ids


def load_trained(
    cfg: CfgNode, found: tuple[Path, dict[str, Any]] | None = None, classes: list[str] | None = None
) -> tuple[Detector, list[str], list[int]]:
    """The detector of the checkpoint that `find_detector` finds, in eval mode and under its own keys.

    found: what it gave, if it has been called; classes: names that the data has and the checkpoint must have. Returns
    the model, the names of its classes and their category ids; a checkpoint without them numbers its classes from 0.
    """
    path, content = found or find_detector(cfg)
    if classes is not None:
        check_classes(content, str(path), classes)
    log.info("weights of %s", path)
    model = build_detector(cfg)
    load_detector(model, content["model"], str(path))
    numbers = list(range(cfg.MODEL.NUM_CLASSES))
    names = list(content.get("classes") or classes or map(str, numbers))
    return model.eval(), names, list(content.get("category_ids") or numbers)
