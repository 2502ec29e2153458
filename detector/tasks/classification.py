"""The task of classifying: pre-training of a backbone's classification network, and weights for the detector."""

import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from detector.console import show_log
from detector.data.capacity import check_shared_memory
from detector.data.image_folder import (
    UNLABELLED,
    FolderLoader,
    ImageFolder,
    LabelledImages,
    check_one_batch,
    eval_loader,
    open_train_and_val,
    train_loader,
)
from detector.distributed import first_here, is_main, joined, mean_over, world_size, wrap
from detector.engine import loop
from detector.engine.device import pick_device, say_slow_precisions
from detector.engine.ema import average_weights
from detector.engine.loop import Plan, due
from detector.engine.optim import make_optimizer
from detector.engine.run import Run, claimed, to_resume
from detector.engine.stop import Stopped, beginning, held, listening
from detector.engine.tensorboard import require_tensorboard
from detector.engine.trouble import Remedies
from detector.errors import UserError
from detector.models.backbones import BACKBONES, Classifier, build_backbone, find_weights
from detector.tasks.accuracy import PixelInput, evaluate
from detector.tasks.classifier_teacher import Teacher, load_teacher
from detector.tasks.classifier_weights import check_classes, export_state, load_start
from detector.tasks.header import classification_farewell, classification_header
from detector.tasks.recipe import DEFAULTS, Recipe, build_mix, parameter_groups, rate_factor
from detector.text import counted
from detector.weights.address import shown
from detector.weights.checkpoint import save_checkpoint
from detector.weights.read import read_file

log = logging.getLogger("detector")

WEIGHTS, BEST = "weights.pth", "weights_best.pth"

TAUGHT_BY = "teacher_sha256"
"""The setting of a run that is the digest of its teacher's tensors, "" without one."""

SEEN = "pictures_sha256"
"""The setting of a run that is the digest of its pictures' names and labels."""

ESSENTIAL = ("backbone", "passes", "norm", "optimizer", "batch_size", "images", SEEN, "teacher", TAUGHT_BY)
"""Settings without which a checkpoint's tensors, its place in the data, or what it has learned, mean nothing."""

SWITCHES = ("ema", "stage_lr_factors")
"""Settings of which a checkpoint holds more tensors, or the same in other groups, where they are not 0 or ()."""

FREE = (
    *("data", "unlabelled", "output", "weight", "teacher_weight"),
    *("workers", "checkpoint_steps", "checkpoint_stages", "device", "tensorboard"),
)
"""Settings that may change in a run without changing its result: of folders what they hold counts, not their places."""


class ClassificationTask:
    """How a batch of pictures becomes a loss, and a network its accuracy on the pictures of val/.

    teacher: whose classes a student learns; without, the loss is the cross entropy of the true ones.
    """

    advice = "Lower --lr, lengthen --warmup-epochs or write --amp off"

    def __init__(
        self,
        recipe: Recipe,
        device: torch.device,
        train_set: ImageFolder,
        val_set: ImageFolder,
        teacher: Teacher | None = None,
    ) -> None:
        self.recipe, self.device, self.train_set, self.val_set = recipe, device, train_set, val_set
        self.remedies = Remedies(
            f"--amp bf16, or fp16 on older cards (now {recipe.amp}); a smaller --batch-size (now {recipe.batch_size}); "
            f"a smaller --crop (now {recipe.crop})",
            f"--workers (now {recipe.workers})",
        )
        self.pinned = device.type == "cuda"
        self.prepare = PixelInput(BACKBONES[recipe.backbone].weights.pixels, device)
        self.teacher, self.num_classes = teacher, len(train_set.classes)
        # A teacher may see pictures without a label, which have a place of their own behind all classes.
        self.mix = build_mix(recipe, self.num_classes + (teacher is not None))
        self.tests = eval_loader(val_set, recipe.batch_size, recipe.workers, self.pinned)

    def batches(self, start: int, stop: int) -> FolderLoader:
        """The batches of the steps from `start` to before `stop`."""
        return train_loader(
            self.train_set, self.recipe.batch_size, self.recipe.workers, start, stop, pin_memory=self.pinned
        )

    def parts(self, batch: LabelledImages, number: int) -> list[LabelledImages]:
        """A batch as micro-batches: the images m, m + number, .. are the m-th. For one, the batch itself."""
        return [LabelledImages(*(x[m::number] for x in batch)) for m in range(number)] if number > 1 else [batch]

    def losses(self, model: nn.Module, batch: LabelledImages) -> dict[str, Tensor]:
        """The cross entropy of the pictures, mixed and smoothed as the recipe says; or what `Teacher.losses` gives.

        Of several processes each mixes its own pictures.
        """
        labels = batch.labels.to(self.device, non_blocking=True)
        images = batch.images.to(self.device, non_blocking=True)
        if self.teacher is None:
            images, labels = self.mix(self.prepare(images), labels)
            loss = F.cross_entropy(model(images).float(), labels, label_smoothing=self.recipe.label_smoothing)
            losses = {"loss": loss}
        else:  # both see the same mixed pictures, in the pixels of their own weights
            labels = labels.where(labels != UNLABELLED, self.num_classes)
            images, labels = self.mix(images.float(), labels)
            losses = self.teacher.losses(model(self.prepare(images)).float(), images, labels)
        if world_size() > 1:  # whose numbers of pictures may differ by one
            number = images.new_full((), len(images), dtype=torch.float32)
            losses = {name: loss * number / mean_over(number) for name, loss in losses.items()}
        return losses

    def names(self, batch: LabelledImages) -> list[str]:
        """Nothing: batches carry no names."""
        return []

    def measures(self, run: Run) -> dict[str, float]:
        """Top-1, top-5 (per cent) and loss."""
        accuracy = evaluate(run.averaged, self.tests, self.prepare, self.recipe.amp)
        seen = counted(accuracy.images, "picture|pictures")
        log.info(
            "step %d: top-1 %.2f %%, top-%d %.2f %%, loss %.3f of %s; best top-1 %.2f %%",
            *(run.step, accuracy.top1, accuracy.k, accuracy.topk, accuracy.loss, seen),
            max(run.best, accuracy.top1),
        )
        return accuracy.numbers()

    def score(self, metrics: Mapping[str, float]) -> float:
        """Top-1."""
        return metrics["top1"]

    def pictures(self, run: Run) -> dict[str, np.ndarray]:
        """None: a class is no place."""
        return {}

    def weights(self, run: Run) -> dict[str, Any]:
        """The trained network as MODEL.WEIGHT and `detector classify` take it, with its classes and settings."""
        norm_eps = BACKBONES[self.recipe.backbone].weights.norm_eps
        facts = {name: value for name, value in run.facts.items() if name != "settings"}
        return {"model": export_state(run.averaged, self.recipe.norm, norm_eps), **facts}


def train_classifier(recipe: Recipe, resume: bool = False) -> dict[str, float]:
    """Train and evaluate after each epoch; writes checkpoints, log.jsonl, weights.pth and weights_best.pth.

    resume: continue from the newest intact checkpoint of the output folder (from the start if no run is there). On the
    CPU, a run that was killed anywhere and resumed ends with the same bits as an uninterrupted one.
    Returns the last epoch's top-1 and top-5 (per cent) and loss. Errors name folder, file or flag and the remedy;
    NonFiniteError stops a run that diverges and leaves its checkpoints as they are.
    """
    show_log()
    device = pick_device(recipe.device)
    with joined(device), listening(), claimed(recipe.output, resume) as (folder, make):
        with beginning():
            task, run = prepare(recipe, folder, resume)
        train_set = task.train_set
        per_epoch = -(-len(train_set) // recipe.batch_size)
        with beginning("no checkpoint was written"), held():
            make()
            pictures = train_set.num_labelled, len(task.val_set), len(train_set) - train_set.num_labelled
            steps = recipe.epochs * per_epoch
            log.info("%s", classification_header(recipe, run, task.device, train_set.classes, pictures, steps))
        metrics = loop.train(run, task, plan(recipe, per_epoch))
        with suppress(Stopped), held():  # all is trained
            if not is_main():
                return metrics
            save_checkpoint(folder / WEIGHTS, {**task.weights(run), "step": run.step, "metrics": run.metrics})
            log.info("%s", classification_farewell(folder, recipe))
        return metrics


def prepare(recipe: Recipe, folder: Path, resume: bool) -> tuple[ClassificationTask, Run]:
    """The task of a recipe and its pictures, and its run; nothing is written. Errors as `train_classifier`."""
    if recipe.tensorboard:
        require_tensorboard()
    device = pick_device(recipe.device)
    _ = BACKBONES[recipe.backbone]  # an unknown name is an error of its own
    if recipe.batch_size < world_size():
        raise UserError(
            f"--batch-size {recipe.batch_size} are the pictures of a whole step, which {world_size()} processes share: "
            f"write --batch-size {world_size()} or more"
        )
    train_set, val_set = open_train_and_val(Path(recipe.data), recipe.crop, recipe.seed, recipe.unlabelled)
    check_one_batch(train_set, recipe.batch_size)
    # a training keeps its batches while it evaluates
    check_shared_memory(recipe.workers, 2 * recipe.batch_size * 3 * recipe.crop**2, key="--workers")
    taught = {"--teacher-amp": recipe.teacher_amp} if recipe.teacher else {}
    say_slow_precisions(device, {"--amp": recipe.amp, **taught})
    teacher = load_teacher(recipe, device, train_set) if recipe.teacher else None
    task = ClassificationTask(recipe, device, train_set, val_set, teacher)
    return task, start(task, folder, resume)


def plan(recipe: Recipe, per_epoch: int) -> Plan:
    """When what happens. per_epoch: steps of an epoch, after each of which stand a checkpoint and an evaluation."""
    steps = recipe.epochs * per_epoch
    warmup = round((recipe.warmup_epochs or 0) * per_epoch)
    return Plan(
        seed=recipe.seed,
        steps=steps,
        rate=lambda step: rate_factor(step, steps, warmup),
        saves=lambda step: due(step, per_epoch) or due(step, recipe.checkpoint_steps),
        tests=lambda step: due(step, per_epoch),
        precision=recipe.amp,
        patience=recipe.patience,
        tensorboard=recipe.tensorboard,
    )


def start(task: ClassificationTask, folder: Path, resume: bool = False) -> Run:
    """A run at step 0 with the weights that the recipe names, or the newest checkpoint's.

    Raises ValueError when batch norms would meet a single image, when a checkpoint is of another network or data, and
    as `load_start` does.
    """
    recipe, classes = task.recipe, task.train_set.classes
    found = to_resume(folder, resume)
    torch.manual_seed(recipe.seed)
    entry = BACKBONES[recipe.backbone]
    stages = recipe.checkpoint_stages
    backbone = build_backbone(recipe.backbone, recipe.norm, passes=recipe.passes, recomputed=stages)
    model = Classifier(backbone, len(classes))
    if recipe.batch_size // world_size() == 1 and any(isinstance(module, _BatchNorm) for module in model.modules()):
        raise UserError(
            f"--batch-size {recipe.batch_size} leaves the batch norms of {recipe.backbone} no statistics: write 2 or "
            "more for each process"
        )
    if recipe.weight and not found:
        with first_here():
            file = read_file(find_weights(recipe.backbone, recipe.weight))
        load_start(backbone, model, entry.weights, file, recipe.norm, classes)
    model.to(task.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    digest = task.teacher.digest if task.teacher else ""
    settings = {**asdict(recipe), "images": len(task.train_set), SEEN: task.train_set.digest(), TAUGHT_BY: digest}
    run = Run(
        folder,
        model,
        make_optimizer(recipe.optimizer, parameter_groups(model, recipe), recipe.momentum),
        torch.amp.GradScaler(task.device.type, enabled=recipe.amp == "fp16"),
        {
            **{name: settings[name] for name in ("backbone", "norm", "passes", "crop")},
            "classes": classes,
            "settings": settings,
        },
        average_weights(model, recipe.ema) if recipe.ema else None,
        final="",
        kept=BEST,
        keep=1,
        header={"settings": settings | {name: shown(settings[name]) for name in ("weight", "teacher_weight")}},
        text="".join(f"{name}: {value}\n" for name, value in settings.items()),
    )
    if found:
        path, content = found.path, found.content
        if "settings" not in content:
            raise UserError(f"{path} is a checkpoint of another task; choose another OUTPUT_DIR")
        check_classes(content["classes"], path, task.train_set)
        compare(path, content["settings"], settings)
        run.restore(found)
        steps = recipe.epochs * -(-len(task.train_set) // recipe.batch_size)
        if run.step > steps:
            raise UserError(f"{path} is at step {run.step}, beyond the {steps} of --epochs {recipe.epochs}")
    run.wrapped = wrap(model)
    return run


def compare(path: Path, was: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Say which settings differ from a checkpoint's; raise ValueError where its tensors then mean nothing."""
    was = {**DEFAULTS, TAUGHT_BY: "", **was}
    changed = [k for k, value in now.items() if was.get(k, value) != value and k not in FREE]
    for name in changed:
        old, new = was[name], now[name]
        if name in ESSENTIAL or (name in SWITCHES and not (old and new)):
            shown_old, shown_new = ("none" if value == "" else value for value in (old, new))
            what = f"{name.replace('_', '-')} {shown_old}, this run has {shown_new}: resume with {shown_old}"
            if name == TAUGHT_BY:
                what = (
                    f"a teacher whose tensors have the SHA-256 {old[:16]}.., this run's have {new[:16]}..: resume with "
                    "the --teacher-weight of before"
                )
            if name == SEEN:
                what = (
                    f"as many pictures of other names, in train/ or --unlabelled (SHA-256 {old[:16]}.., here "
                    f"{new[:16]}..): resume with the --data and --unlabelled of before, in their order"
                )
            raise UserError(f"{path} was trained with {what}, or choose another OUTPUT_DIR to start anew")
    for name in changed:
        log.warning("%s was trained with %s %s; it goes on with %s", path, name, was[name], now[name])
