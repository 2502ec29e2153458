"""The task of detecting: from a config to a trained run, and from a run to its measures."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from os.path import realpath
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from detector.config import config_text, save_config
from detector.console import show_log
from detector.data.check import check_tests, check_training
from detector.data.dataset import CocoDetection, JoinedDataset
from detector.data.loader import (
    batches_per_epoch,
    build_test_datasets,
    build_train_dataset,
    check_memory,
    train_loader,
    view_loader,
)
from detector.data.sources import Origin
from detector.distributed import first_here, from_main, gathered, is_main, joined, largest, world_size, wrap
from detector.engine import loop
from detector.engine.device import pick_device, say_slow_precisions
from detector.engine.ema import average_weights
from detector.engine.loop import Plan, due
from detector.engine.run import Run, claimed, to_resume
from detector.engine.stop import Stopped, beginning, held, listening
from detector.engine.tensorboard import require_tensorboard
from detector.engine.trouble import explained
from detector.errors import UserError
from detector.evaluation.base import Evaluator
from detector.evaluation.build import build_evaluators
from detector.inference.augmented import build_augmentation
from detector.inference.detect import detect_all, of_real_classes
from detector.inference.prepare import prepare_for_inference
from detector.models.build import build_detector, check_deformable, check_names, pixel_statistics
from detector.models.detector import Detector
from detector.models.norm import check_batch
from detector.structures import Batch
from detector.tasks.began import knowing_where
from detector.tasks.best import best_by, carry_over, check_best_by, score
from detector.tasks.compare import classes_to_resume, compare, compare_tasks
from detector.tasks.distilled import add_teacher, check_teacher, compare_teachers
from detector.tasks.header import FOUND, detection_farewell, detection_header
from detector.tasks.measured import Subject, check_folder, naming, save_measures, state_digest
from detector.tasks.pictures import drawn
from detector.tasks.plan import batch_of_run, fitting_batch
from detector.tasks.remedies import divergence_advice, remedies
from detector.tasks.resolve import resolve, resolve_model
from detector.tasks.several import divided, images_together, padded, to_device, unreached
from detector.tasks.solver import build_optimizer, check_shares, idle_schedule, learning_rate_factor
from detector.tasks.trained import Trained, find_trained, load_found, load_weights
from detector.weights.checkpoint import BEST
from detector.weights.read import WeightFile

log = logging.getLogger("detector")

T = TypeVar("T", bound="DetectionTask")

Metrics = dict[str, dict[str, float]]
"""Measures (fractions 0..1) by test set."""


class DetectionTask:
    """How a batch becomes a detector's losses, and a detector its measures on the test sets."""

    kept: ClassVar[str] = FOUND
    """What results.json holds."""

    def __init__(
        self,
        cfg: CfgNode,
        device: torch.device,
        train_set: CocoDetection | JoinedDataset,
        tests: Mapping[str, CocoDetection],
    ) -> None:
        self.cfg, self.device, self.train_set, self.tests = cfg, device, train_set, tests
        self.remedies = remedies(cfg, training=True)
        self.advice = divergence_advice(cfg.SOLVER)

    @classmethod
    def from_config(cls: type[T], cfg: CfgNode, auto_batch: bool = False, found: WeightFile | None = None) -> T:
        """The task of a config and its data, whose pictures are looked at.

        auto_batch: the images a step are those that fit, see `fitting_batch`; found: the checkpoint that is resumed,
        whose classes count.
        Raises ValueError or OSError where one of them is at fault: first names of parts, which take no time to check.
        """
        device = pick_device(cfg.MODEL.DEVICE)
        check_names(cfg)
        check_deformable(cfg)
        check_teacher(cfg)
        if not auto_batch:
            check_shares(cfg.SOLVER)
        with first_here():
            classes, origin = classes_to_resume(found)
            train_set = build_train_dataset(cfg, pixel_statistics(cfg).rgb_mean(), classes, origin)
            tests = build_test_datasets(cfg, train_set, classes, origin) if cfg.DATASETS.TEST else {}
            check_best_by(cfg, tests)
            train_set, tests = check_training(train_set, tests, cfg.DATALOADER.BROKEN)
        if auto_batch:
            cfg = fitting_batch(cfg, device, train_set)
            check_shares(cfg.SOLVER)
        cfg = resolve(cfg, len(train_set.classes), batches_per_epoch(cfg, train_set))
        check_memory(cfg, train_set, tests.values())
        return cls(cfg, device, train_set, tests)

    def build(self) -> nn.Module:
        """The model with random weights."""
        return build_detector(self.cfg)

    def batches(self, start: int, stop: int) -> Iterator[Batch]:
        """This process's batches of the steps from `start` to before `stop`, padded as those of all others."""
        for batch in train_loader(self.cfg, self.train_set, start, stop):
            yield batch if world_size() == 1 else padded(batch, *largest(batch.images.shape[2:]))

    def parts(self, batch: Batch, number: int) -> list[Batch]:
        """A batch as micro-batches: the images m, m + number, .. are the m-th. For one, the batch itself."""
        return [batch] if number == 1 else divided(batch, number, self.device)

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """The head's weighted losses."""
        images = batch.images.to(self.device, non_blocking=True)
        targets = [to_device(target, self.device) for target in batch.targets]
        return model(images, batch.sizes, targets, *[batch.whole] * (batch.whole is not None))

    def names(self, batch: Batch) -> list[str]:
        """The ids of the images."""
        return [str(target["image_id"]) for target in batch.targets]

    def measures(self, run: Run) -> Metrics:
        """Evaluate every test set, exactly as `test` does it; files and prints what was found.

        The weights are copied, as what is prepared for prediction cannot be trained on; the copy lives as long as this.
        """
        path = run.checkpoint(last=run.step == self.cfg.SOLVER.MAX_ITER)
        subject = Subject(
            str(path) if path.exists() else "",
            state_digest(run.averaged.state_dict()),
            run.step,
            newest=True,
            training=True,
        )
        model = prepare_for_inference(deepcopy(run.averaged), self.cfg.TEST.AMP)  # type: ignore[arg-type]
        return self.evaluate(model, run.folder, subject)

    def evaluate(self, model: Detector, folder: Path, subject: Subject) -> Metrics:
        """The measures of a model that is prepared for prediction, which are filed."""
        return evaluate(model, self.tests, self.cfg, folder, subject)

    def score(self, metrics: Mapping[str, Mapping[str, float]]) -> float:
        """The mean of the measure that TEST.BEST_BY names over the test sets."""
        return score(metrics, best_by(self.cfg))

    def pictures(self, run: Run) -> dict[str, np.ndarray]:
        """The first LOG.PICTURES of each test set, detections beside the truth."""
        return drawn(run.averaged, self.tests, self.cfg)  # type: ignore[arg-type]

    def weights(self, run: Run) -> dict[str, Any]:
        """The model and what the run says of it: enough to predict with."""
        return {"model": run.averaged.state_dict(), **run.facts}

    @classmethod
    def test(cls, cfg: CfgNode, device: torch.device, found: Trained) -> Metrics:
        """Evaluate what was found on DATASETS.TEST. cfg: its config, with nothing left open but what data say."""
        with first_here():
            datasets = build_test_datasets(cfg, outputs=found.classes, origin=Origin(str(found.file.path)))
            datasets = check_tests(datasets, cfg.DATALOADER.BROKEN)
        classes = next(iter(datasets.values())).classes
        cfg = resolve_model(cfg, len(classes))
        check_memory(cfg, None, datasets.values())
        model, names, _ = load_found(cfg, found, classes)
        if augmentation := build_augmentation(cfg):
            log.info("%s", augmentation.text())
        folder = Path(cfg.OUTPUT_DIR)
        return evaluate_found(
            model, cfg, device, found, lambda *of: evaluate(of[0], datasets, cfg, folder, of[1], names)
        )

    def header(self, run: Run) -> str:
        """What is about to be trained."""
        return detection_header(self.cfg, run, self.device, self.train_set, self.tests)

    def farewell(self, run: Run, start: int) -> str:
        """What the training, from step `start` on, has left, and what to type next."""
        early = run.step < self.cfg.SOLVER.MAX_ITER
        patience, finished = (self.cfg.SOLVER.PATIENCE, 0) if early else (0, run.step * (run.step == start))
        return detection_farewell(run.folder, list(self.tests), patience, self.kept, finished)


def task_of(cfg: CfgNode) -> type[DetectionTask]:
    """The task that MODEL.TASK names; the others build on that of detecting."""
    if cfg.MODEL.TASK == "saliency":
        from detector.tasks.saliency import SaliencyTask

        return SaliencyTask
    return DetectionTask


def train(cfg: CfgNode, resume: bool = False, auto_batch: bool = False) -> Metrics:
    """Train as the config says, evaluating and saving on the way and at the end.

    resume: continue from the newest intact checkpoint of OUTPUT_DIR (from the start if no run is there); auto_batch:
    take as many images a step as the device has memory for, when resumed as many as before.
    Returns the final metrics by test set. Errors name file, record, key and remedy; those before the first step leave
    no file behind. NonFiniteError stops a run that diverges and leaves its checkpoints as they are.
    """
    show_log()
    device = pick_device(cfg.MODEL.DEVICE)
    with joined(device), listening(), claimed(cfg.OUTPUT_DIR, resume) as (folder, make):
        with beginning():
            if cfg.LOG.TENSORBOARD:
                require_tensorboard()
            if auto_batch and resume and (before := batch_of_run(cfg, folder)) is not None:
                cfg, auto_batch = before, False
            found = to_resume(folder, resume)
            if found:
                compare_tasks(found, cfg)
            with knowing_where(folder):
                task = task_of(cfg).from_config(cfg, auto_batch, found)
            with explained(task.remedies):
                run = start(task, folder, found)
        with beginning("no checkpoint was written"), held():
            make()
            if is_main():
                save_config(task.cfg, folder / "config.yaml")
            log.info("%s", task.header(run))
        begun = run.step
        with naming(run, task.tests):
            metrics = loop.train(run, task, plan(task.cfg, tests=bool(task.tests)))
        with suppress(Stopped), held():  # all is done
            log.info("%s", task.farewell(run, begun))
        return metrics


def start(task: DetectionTask, folder: Path, found: WeightFile | None = None) -> Run:
    """A run at step 0 with the weights that MODEL.WEIGHT names, or one that goes on from the checkpoint `found`."""
    cfg, data = task.cfg, task.train_set
    category_ids = data.category_ids
    if found:
        compare(found, cfg, data.classes, len(data))
        category_ids = found.content.get("category_ids") or category_ids
    torch.manual_seed(cfg.SEED)
    model = task.build().to(task.device)
    called, taught = add_teacher(model, cfg, task.device)  # type: ignore[arg-type]
    facts = {"config": config_text(cfg), "classes": data.classes, "category_ids": category_ids, **taught}
    run = Run(
        folder,
        model,
        build_optimizer(cfg.SOLVER, model),
        torch.amp.GradScaler(task.device.type, enabled=cfg.SOLVER.AMP == "fp16"),
        {**facts, "pictures": len(data), "best_by": best_by(cfg), "tests": list(task.tests)},
        average_weights(model, cfg.SOLVER.EMA_DECAY, cfg.SOLVER.EMA_WARMUP) if cfg.SOLVER.EMA_DECAY else None,
        text=config_text(cfg),
        kept=BEST if task.tests and 0 < cfg.SOLVER.TEST_PERIOD < cfg.SOLVER.MAX_ITER else "",
        keep=cfg.SOLVER.CHECKPOINT_KEEP,
        milestones=cfg.SOLVER.CHECKPOINT_MILESTONES,
    )
    if found:
        compare_teachers(found, taught)
        run.restore(found)
        if run.step > cfg.SOLVER.MAX_ITER:
            raise UserError(f"{found.path} is at step {run.step}, beyond SOLVER.MAX_ITER {cfg.SOLVER.MAX_ITER}")
        carry_over(run, found, best_by(cfg))
    else:
        with first_here():  # which may fetch a file
            load_weights(model, cfg, data.classes)  # type: ignore[arg-type]
        if not cfg.MODEL.WEIGHT and cfg.MODEL.BACKBONE.FREEZE_CONV_BODY_AT:
            log.warning(
                "MODEL.WEIGHT is empty, so random weights are frozen by MODEL.BACKBONE.FREEZE_CONV_BODY_AT %d: set it "
                "to 0, and MODEL.BACKBONE.NORM to bn or gn",
                cfg.MODEL.BACKBONE.FREEZE_CONV_BODY_AT,
            )
    tested = {"TEST.AMP": cfg.TEST.AMP} if task.tests else {}
    say_slow_precisions(task.device, {"SOLVER.AMP": cfg.SOLVER.AMP, **tested})
    images, ways = images_together(model.train(), cfg)
    few = check_batch(model, images, from_scratch=not cfg.MODEL.WEIGHT, ways=ways)
    run.wrapped = wrap(called, unused=world_size() > 1 and bool(unreached(task.losses, called, cfg)))
    for warning in filter(None, [few, *idle_schedule(cfg.SOLVER)]):
        log.warning("%s", warning)
    return run


def plan(cfg: CfgNode, tests: bool) -> Plan:
    """When what happens, from SOLVER. tests: whether there is anything to evaluate on."""
    solver = cfg.SOLVER
    return Plan(
        seed=cfg.SEED,
        steps=solver.MAX_ITER,
        rate=lambda step: learning_rate_factor(solver, step),
        saves=lambda step: due(step, solver.CHECKPOINT_PERIOD) or step in solver.CHECKPOINT_MILESTONES,
        tests=lambda step: tests and (due(step, solver.TEST_PERIOD) or step == solver.MAX_ITER),
        clip=solver.CLIP_GRAD_NORM,
        precision=solver.AMP,
        patience=solver.PATIENCE,
        tensorboard=cfg.LOG.TENSORBOARD,
        accumulate=solver.ACCUM_ITERS,
    )


def test(cfg: CfgNode, weight: str | Path | None = None, which: str = "newest") -> Metrics:  # noqa: PT028 - no test of pytest
    """Evaluate a trained model on DATASETS.TEST by its task's measures; files and prints what was found.

    weight, which: see `find_trained`. Raises ValueError or OSError that names the file, key and remedy.
    """
    show_log()
    device = pick_device(cfg.MODEL.DEVICE)
    check_names(cfg)
    with joined(device):
        return _test(cfg, device, weight, which)


def _test(cfg: CfgNode, device: torch.device, weight: str | Path | None, which: str) -> Metrics:
    # Another training may write into the folder: what the first process finds counts.
    chosen = find_trained(cfg, weight, which) if is_main() else None
    path = from_main(None if chosen is None else chosen.file.path)
    found = chosen or find_trained(cfg, path)
    compare_tasks(found.file, cfg)
    cfg = found.resolve(cfg)
    check_folder(Path(cfg.OUTPUT_DIR))
    with knowing_where(found.file.path.parent):
        return task_of(cfg).test(cfg, device, found)


def evaluate_found(
    model: Detector,
    cfg: CfgNode,
    device: torch.device,
    found: Trained,
    measures: Callable[[Detector, Subject], Metrics],
) -> Metrics:
    """What `measures` gives of a model that was found, made ready for prediction, and of what it is."""
    digest = state_digest(model.state_dict())
    say_slow_precisions(device, {"TEST.AMP": cfg.TEST.AMP})
    file, folder = found.file, Path(cfg.OUTPUT_DIR)
    beside = not found.newest and realpath(file.path.parent) == realpath(folder)
    subject = Subject(str(file.path), digest, file.content.get("step"), found.newest, beside)
    with explained(remedies(cfg, training=False)):
        return measures(prepare_for_inference(model.to(device), cfg.TEST.AMP), subject)


def evaluate(
    model: Detector,
    datasets: Mapping[str, CocoDetection],
    cfg: CfgNode,
    folder: Path,
    subject: Subject,
    outputs: Sequence[str] = (),
    find: Callable[..., list[Evaluator]] | None = None,
) -> Metrics:
    """Measure a model on every data set; what is found goes to `folder`, or to a folder each where there are several.

    outputs: names of the model's classes; detections of those that stand for no class are left out; find: another
    task's `detect_on`.
    """
    find = find or detect_on
    metrics = {}
    for name, dataset in datasets.items():
        start = time.perf_counter()
        evaluators = find(model, dataset, cfg, outputs)
        home = folder if len(datasets) == 1 else folder / name
        if is_main():
            metrics[name] = save_measures(home, evaluators, dataset, cfg, subject, time.perf_counter() - start)
    return from_main(metrics)


def detect_on(model: Detector, dataset: CocoDetection, cfg: CfgNode, outputs: Sequence[str] = ()) -> list[Evaluator]:
    """The evaluators of TEST.EVALUATOR with the model's detections on all images of a data set.

    Several processes share the images; the first one's evaluators get the detections of all.
    """
    evaluators = build_evaluators(cfg, dataset)
    for detections, targets in detect_all(model, view_loader(cfg, dataset), cfg.TEST.AMP, build_augmentation(cfg)):
        found = of_real_classes(detections, outputs, dataset.classes)
        for evaluator in evaluators:
            evaluator.add(found, targets)
    merge(evaluators)
    return evaluators


def merge(evaluators: Sequence[Evaluator]) -> None:
    """Give the first process's evaluators what those of all others were given."""
    others = gathered([evaluator.given for evaluator in evaluators])[1:]
    for i, evaluator in enumerate(evaluators):
        evaluator.merge(given[i] for given in others)
