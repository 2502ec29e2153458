"""The task of finding salient objects: maps in place of boxes, in the loop, the runs and the commands of detecting."""

import logging
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from yacs.config import CfgNode

from detector.data.capacity import workers_text
from detector.data.dataset import RecordError
from detector.data.loader import batches_per_epoch, collate
from detector.data.mask_set import (
    CLASSES,
    MaskDataset,
    build_mask_tests,
    build_mask_train,
    check_mask_memory,
    mask_test_loader,
)
from detector.data.transforms import UNCHANGED
from detector.distributed import first_here
from detector.engine.device import pick_device
from detector.engine.run import Run
from detector.errors import UserError
from detector.evaluation.saliency import FALLING, MEASURES, SaliencyEvaluator
from detector.inference.salient import find_all_maps, find_maps, side_by_side
from detector.models.backbones import BACKBONES
from detector.models.build import check_deformable, check_name
from detector.models.detector import Detector
from detector.models.saliency import SALIENCY, SaliencyNet, build_saliency
from detector.tasks.best import best_by
from detector.tasks.detection import DetectionTask, Metrics, evaluate, evaluate_found, merge
from detector.tasks.header import (
    averaged_text,
    block,
    decay_text,
    device_text,
    many,
    parameters_text,
    periods_text,
    schedule_text,
)
from detector.tasks.measured import Subject
from detector.tasks.pictures import shown_size
from detector.tasks.resolve import resolve, resolve_model
from detector.tasks.solver import check_shares
from detector.tasks.trained import Trained, load_found
from detector.text import printable
from detector.weights.read import WeightFile

log = logging.getLogger("detector")

T = TypeVar("T", bound="SaliencyTask")


class SaliencyTask(DetectionTask):
    """How a batch of pictures with masks becomes losses, and a network its measures on the test sets.

    Batches, micro-batches and losses are those of detecting, as targets travel through them as they are.
    """

    kept = SaliencyEvaluator.kept
    train_set: MaskDataset  # type: ignore[assignment]
    tests: Mapping[str, MaskDataset]  # type: ignore[assignment]

    @classmethod
    def from_config(cls: type[T], cfg: CfgNode, auto_batch: bool = False, found: WeightFile | None = None) -> T:
        """The task of a config and its data, whose pictures and masks are looked at. Errors as of a DetectionTask."""
        device = pick_device(cfg.MODEL.DEVICE)
        check_saliency_names(cfg)
        check_deformable(cfg)
        if auto_batch:
            raise UserError("--batch auto is for detectors: write SOLVER.IMS_PER_BATCH with MODEL.TASK saliency")
        check_shares(cfg.SOLVER)
        check_best_measure(cfg)
        with first_here():  # which may write the generated set
            train_set = build_mask_train(cfg)
            tests = build_mask_tests(cfg)
        cfg = resolve(cfg, len(CLASSES), batches_per_epoch(cfg, train_set))  # type: ignore[arg-type]
        check_mask_memory(cfg, True, bool(tests))
        return cls(cfg, device, train_set, tests)  # type: ignore[arg-type]

    def build(self) -> SaliencyNet:
        """The network with random weights but for none."""
        return build_saliency(self.cfg)

    def evaluate(self, model: Detector, folder: Path, subject: Subject) -> Metrics:
        """The measures of a network that is prepared for prediction, which are filed."""
        return evaluate(model, self.tests, self.cfg, folder, subject, find=find_on)  # type: ignore[arg-type]

    def pictures(self, run: Run) -> dict[str, np.ndarray]:
        """The first LOG.PICTURES of each test set: picture, as it lies on disk, map and mask in a row."""
        model: SaliencyNet = run.averaged  # type: ignore[assignment]
        mode = model.training
        model.eval()
        found = {}
        try:
            for name, dataset in self.tests.items():
                for place in range(min(self.cfg.LOG.PICTURES, len(dataset))):
                    try:
                        seen, (image, target) = (one[place] for one in (dataset, dataset.transformed(UNCHANGED)))
                    except RecordError:  # of which the evaluation speaks
                        continue
                    batch = collate([seen], self.cfg.DATALOADER.SIZE_DIVISIBILITY)  # type: ignore[list-item]
                    (levels,) = find_maps(model, batch, self.cfg.TEST.AMP)
                    size, mask = shown_size(target["original"]), target["mask"].numpy()
                    shown = side_by_side(image.permute(1, 2, 0).numpy(), levels, mask, size)
                    found[f"{name}/{target['image_id']}"] = shown
        finally:
            model.train(mode)
        return found

    @classmethod
    def test(cls, cfg: CfgNode, device: torch.device, found: Trained) -> Metrics:
        """Evaluate what was found on DATASETS.TEST."""
        check_saliency_names(cfg)
        with first_here():
            tests = build_mask_tests(cfg)
        if not tests:
            raise UserError("DATASETS.TEST is empty, so there is nothing to test on; write saliency:FOLDER")
        cfg = resolve_model(cfg, len(CLASSES))
        check_mask_memory(cfg, False, True)
        model, _, _ = load_found(cfg, found, CLASSES, build_saliency)
        folder = Path(cfg.OUTPUT_DIR)

        def measures(ready: Detector, subject: Subject) -> Metrics:
            return evaluate(ready, tests, cfg, folder, subject, find=find_on)  # type: ignore[arg-type]

        return evaluate_found(model, cfg, device, found, measures)

    def header(self, run: Run) -> str:
        """What is about to be trained, as an aligned block."""
        cfg, solver = self.cfg, self.cfg.SOLVER
        start = f"the weights of {cfg.MODEL.WEIGHT}" if cfg.MODEL.WEIGHT else "random weights"
        levels = ", ".join(run.model.backbone.levels)  # type: ignore[union-attr, arg-type]
        node = cfg.MODEL.BACKBONE
        parts = f"{node.NAME} ({node.NORM}), {cfg.MODEL.SALIENCY.NAME} of {levels}"
        epochs = solver.MAX_ITER * solver.IMS_PER_BATCH / len(self.train_set)
        averaged = averaged_text(solver.EMA_DECAY, solver.EMA_WARMUP)
        tests = [("test", pictures_text(dataset)) for dataset in self.tests.values()] or [("test", "nothing")]
        rows = [
            ("device", device_text(self.device, solver.AMP)),
            ("model", f"{parts}; from {start if run.source is None else run.source.name}"),
            ("parameters", parameters_text(run.model)),
            ("train", pictures_text(self.train_set)),
            *tests,
            ("schedule", schedule_text(run.step, solver.MAX_ITER, solver.IMS_PER_BATCH, epochs, solver.ACCUM_ITERS)),
            ("rate", f"{solver.OPTIMIZER} {solver.BASE_LR:g}, {decay_text(solver)}{averaged}"),
            ("workers", workers_text(cfg.DATALOADER.NUM_WORKERS)),
            ("output", ": ".join([str(run.folder), *filter(None, [periods_text(cfg, bool(self.tests))])])),
        ]
        return block("training", rows)


def pictures_text(dataset: MaskDataset) -> str:
    """Name and pictures of a data set."""
    return f"{printable(dataset.name)}: {many(len(dataset), 'picture')} with masks"


def check_saliency_names(cfg: CfgNode) -> None:
    """Raise KeyError naming key, name and the nearest ones for a part that nobody registered; costs no time."""
    check_name("MODEL.BACKBONE.NAME", BACKBONES, cfg.MODEL.BACKBONE.NAME)
    check_name("MODEL.SALIENCY.NAME", SALIENCY, cfg.MODEL.SALIENCY.NAME)


def check_best_measure(cfg: CfgNode) -> None:
    """Raise ValueError where TEST.BEST_BY names no measure of maps, or one of which less is better."""
    name = best_by(cfg)
    rising = [one for one in MEASURES if one not in FALLING]
    if name in FALLING:
        raise UserError(f"TEST.BEST_BY {name}: less of it is better, and the highest counts: write {', '.join(rising)}")
    if name not in MEASURES:
        near = get_close_matches(name, rising)
        raise UserError(
            f"TEST.BEST_BY {printable(name)}: there is no such measure of salient objects"
            f"{f'; near: {near[0]}' if near else ''}; there are {', '.join(rising)}"
        )


def find_on(
    model: SaliencyNet, dataset: MaskDataset, cfg: CfgNode, outputs: Sequence[str] = ()
) -> list[SaliencyEvaluator]:
    """The evaluator of a data set with the measures of all its maps; of several processes the first one's has all.

    outputs: of a detector, here none.
    """
    evaluator = SaliencyEvaluator(dataset.index.path, dataset.image_ids)
    for found, targets in find_all_maps(model, mask_test_loader(cfg, dataset), cfg.TEST.AMP):
        for levels, target in zip(found, targets, strict=True):
            evaluator.add(levels, target["mask"].numpy(), target["image_id"])
    merge([evaluator])  # type: ignore[list-item]
    return [evaluator]
