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
from detector.tasks.classifier_weights import check_classes, export_state, load_start
from detector.tasks.header import classification_farewell, classification_header
from detector.tasks.recipe import Recipe, build_mix, parameter_groups, rate_factor
from detector.weights.address import shown
from detector.weights.checkpoint import save_checkpoint
from detector.weights.read import read_file

log = logging.getLogger("detector")

WEIGHTS, BEST = "weights.pth", "weights_best.pth"

ESSENTIAL = ("backbone", "passes", "norm", "optimizer", "batch_size", "images")
"""Settings without which a checkpoint's tensors, or its place in the data, mean nothing."""

FREE = ("data", "output", "weight", "workers", "checkpoint_steps", "checkpoint_stages", "device", "tensorboard")
"""Settings that may change in a run without changing its result."""


class ClassificationTask:
    """How a batch of pictures becomes a cross entropy, and a network its accuracy on the pictures of val/."""

    advice = "Lower --lr, lengthen --warmup-epochs or write --amp off"

    def __init__(self, recipe: Recipe, device: torch.device, train_set: ImageFolder, val_set: ImageFolder) -> None:
        self.recipe, self.device, self.train_set, self.val_set = recipe, device, train_set, val_set
        self.remedies = Remedies(
            f"--amp bf16, or fp16 on older cards (now {recipe.amp}); a smaller --batch-size (now {recipe.batch_size}); "
            f"a smaller --crop (now {recipe.crop})",
            f"--workers (now {recipe.workers})",
        )
        self.pinned = device.type == "cuda"
        self.prepare = PixelInput(BACKBONES[recipe.backbone].weights.pixels, device)
        self.mix = build_mix(recipe, len(train_set.classes))
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
        """The cross entropy of the pictures, mixed and smoothed as the recipe says.

        Of several processes each mixes its own pictures.
        """
        labels = batch.labels.to(self.device, non_blocking=True)
        images, labels = self.mix(self.prepare(batch.images), labels)
        logits = model(images)
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=self.recipe.label_smoothing)
        if world_size() > 1:  # whose numbers of pictures may differ by one
            loss = loss * len(labels) / mean_over(loss.new_full((), len(labels)))
        return {"loss": loss}

    def names(self, batch: LabelledImages) -> list[str]:
        """Nothing: batches carry no names."""
        return []

    def measures(self, run: Run) -> dict[str, float]:
        """Top-1, top-5 (per cent) and loss."""
        accuracy = evaluate(run.averaged, self.tests, self.prepare, self.recipe.amp)
        log.info(
            "step %d: top-1 %.2f %%, top-%d %.2f %%, loss %.3f of %d pictures; best top-1 %.2f %%",
            *(run.step, accuracy.top1, accuracy.k, accuracy.topk, accuracy.loss, accuracy.images),
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
            pictures = len(train_set), len(task.val_set)
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
    train_set, val_set = open_train_and_val(Path(recipe.data), recipe.crop, recipe.seed)
    check_one_batch(train_set, recipe.batch_size)
    # a training keeps its batches while it evaluates
    check_shared_memory(recipe.workers, 2 * recipe.batch_size * 3 * recipe.crop**2, key="--workers")
    say_slow_precisions(device, {"--amp": recipe.amp})
    task = ClassificationTask(recipe, device, train_set, val_set)
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
    settings = {**asdict(recipe), "images": len(task.train_set)}
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
        header={"settings": {**settings, "weight": shown(recipe.weight)}},
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
    changed = [k for k, value in now.items() if was.get(k, value) != value and k not in FREE]
    for name in changed:
        old, new = was[name], now[name]
        if name in ESSENTIAL or (name == "ema" and 0 in (old, new)):
            raise UserError(
                f"{path} was trained with {name.replace('_', '-')} {old}, this run has {new}: resume with {old}, "
                "or choose another OUTPUT_DIR to start anew"
            )
    for name in changed:
        log.warning("%s was trained with %s %s; it goes on with %s", path, name, was[name], now[name])
