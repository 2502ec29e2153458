"""Pre-training of classification networks: the loop, exact resuming, weights for the detector."""

import logging
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import AveragedModel

from detector.data.image_folder import FolderLoader, ImageFolder, eval_loader, open_train_and_val, train_loader
from detector.engine.classify import PixelInput, check_classes, evaluate, export_state, load_start
from detector.engine.device import autocast, peak_memory_mb, pick_device
from detector.engine.log import TrainLog
from detector.engine.optim import make_optimizer, set_learning_rate
from detector.engine.recipe import Recipe, average_weights, build_mix, parameter_groups, rate_factor
from detector.engine.trainer import NonFiniteError, due
from detector.models.backbones import BACKBONES, Classifier, build_backbone, find_weights
from detector.weights.checkpoint import newest_checkpoint, numbered, save_checkpoint, step_name
from detector.weights.load import load_state

log = logging.getLogger("detector")

WEIGHTS, BEST = "weights.pth", "weights_best.pth"

ESSENTIAL = ("backbone", "passes", "norm", "optimizer", "batch_size", "images")
"""Settings without which a checkpoint's tensors, or its place in the data, mean nothing."""

FREE = ("data", "output", "weight", "workers", "checkpoint_steps", "device")
"""Settings that may change in a run without changing its result."""


@dataclass
class State:
    """Everything that a checkpoint holds and --resume restores; `step` counts finished steps.

    facts: what weights.pth says of itself; settings: of the recipe, and the number of images.
    """

    model: Classifier
    average: AveragedModel | None
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    facts: dict[str, Any]
    settings: dict[str, Any]
    step: int = 0
    evaluated: int = 0
    best: float = -1.0
    metrics: dict[str, float] | None = None

    @property
    def trained(self) -> nn.Module:
        """The network that is evaluated and kept: the average if there is one."""
        return self.model if self.average is None else self.average.module

    def content(self) -> dict[str, Any]:
        """What a checkpoint file holds: tensors and plain values only."""
        return {
            "model": self.model.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "step": self.step,
            "evaluated": self.evaluated,
            "best": self.best,
            "metrics": self.metrics,
            "random": {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all()},
            "settings": self.settings,
            **self.facts,
        }

    def restore(self, path: Path, content: dict[str, Any], train_set: ImageFolder) -> None:
        """Take over a checkpoint. Raises ValueError naming the file when it belongs to another network or data."""
        if "settings" not in content:
            raise ValueError(f"{path} is a checkpoint of another tool; choose another OUTPUT_DIR")
        check_classes(content["classes"], path, train_set)
        self._compare(path, content["settings"])
        load_state(self.model, content["model"], source=str(path))
        if self.average is not None:
            self.average.load_state_dict(content["average"])
        own = [{k: v for k, v in group.items() if k != "params"} for group in self.optimizer.param_groups]
        self.optimizer.load_state_dict(content["optimizer"])
        for group, values in zip(self.optimizer.param_groups, own, strict=True):
            group.update(values)  # the recipe's, as it may have changed
        if content["scaler"] and self.scaler.is_enabled():
            self.scaler.load_state_dict(content["scaler"])
        self.step, self.evaluated = content["step"], content["evaluated"]
        self.best, self.metrics = content["best"], content["metrics"]
        torch.set_rng_state(content["random"]["cpu"])
        if len(content["random"]["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(content["random"]["cuda"])

    def _compare(self, path: Path, was: dict[str, Any]) -> None:
        changed = [k for k, value in self.settings.items() if was.get(k, value) != value and k not in FREE]
        for name in changed:
            old, new = was[name], self.settings[name]
            if name in ESSENTIAL or (name == "ema" and 0 in (old, new)):
                raise ValueError(
                    f"{path} was trained with {name.replace('_', '-')} {old}, this run has {new}: resume with {old}, "
                    "or choose another OUTPUT_DIR to start anew"
                )
        for name in changed:
            log.warning("%s was trained with %s %s; it goes on with %s", path, name, was[name], self.settings[name])


def train_classifier(recipe: Recipe, resume: bool = False) -> dict[str, float]:
    """Train and evaluate after each epoch; writes checkpoints, log.jsonl, weights.pth and weights_best.pth.

    resume: continue from the newest intact checkpoint of the output folder (from the start if there is none). On the
    CPU, a run that was killed anywhere and resumed ends with the same bits as an uninterrupted one.
    Returns the last epoch's top-1 and top-5 (per cent) and loss. Errors name folder, file or flag and the remedy;
    NonFiniteError stops a run that diverges and leaves its checkpoints as they are.
    """
    device = pick_device(recipe.device)
    train_set, val_set = open_train_and_val(Path(recipe.data), recipe.crop, recipe.seed)
    output = open_output(recipe.output, resume)
    found = newest_checkpoint(output) if resume else None
    state = build_state(recipe, device, train_set, "" if found else recipe.weight)
    per_epoch = -(-len(train_set) // recipe.batch_size)
    steps = recipe.epochs * per_epoch
    if found:
        state.restore(*found, train_set)
        if state.step > steps:
            raise ValueError(f"{found[0]} is at step {state.step}, beyond the {steps} of --epochs {recipe.epochs}")
        log.info("resuming from %s at step %d of %d", found[0], state.step, steps)
    elif resume:
        log.info("%s holds no checkpoint to resume from: starting at step 0", output)
    log.info(
        "%s: %d classes, %d pictures to train on and %d to evaluate, %d epochs of %d steps, learning rate %g",
        *(recipe.backbone, len(train_set.classes), len(train_set), len(val_set), recipe.epochs, per_epoch, recipe.lr),
    )
    pinned = device.type == "cuda"
    batches = train_loader(train_set, recipe.batch_size, recipe.workers, state.step, steps, pinned)
    tests = eval_loader(val_set, recipe.batch_size, recipe.workers, pinned)
    prepare = PixelInput(BACKBONES[recipe.backbone].weights.pixels, device)
    report = TrainLog(output, state.step, steps)
    try:
        report.event({"step": state.step, "event": "resume" if found else "start", "settings": state.settings})
        run_steps(state, batches, tests, prepare, recipe, per_epoch, output, report)
    finally:
        report.close()
    save_weights(output / WEIGHTS, state)
    log.info("weights of the last epoch -> %s, of the best -> %s", output / WEIGHTS, output / BEST)
    return state.metrics or {}


def run_steps(
    state: State,
    batches: FolderLoader,
    tests: FolderLoader,
    prepare: PixelInput,
    recipe: Recipe,
    per_epoch: int,
    output: Path,
    report: TrainLog,
) -> None:
    """The loop itself: one batch, one update, and after each epoch an evaluation."""
    steps = recipe.epochs * per_epoch
    warmup = round((recipe.warmup_epochs or 0) * per_epoch)
    mix = build_mix(recipe, len(state.facts["classes"]))
    training = iter(batches)
    state.model.train()
    report.tick()
    while True:
        if state.step % per_epoch == 0 and state.evaluated < state.step:
            save(state, output)  # a crash in the evaluation must not cost the epoch
            run_evaluation(state, tests, prepare, recipe.amp, output, report)
            save(state, output)
            report.tick()
        if state.step == steps:
            return
        waited = time.perf_counter()
        batch = next(training)
        waited = time.perf_counter() - waited
        lr = set_learning_rate(state.optimizer, rate_factor(state.step, steps, warmup))
        images, labels = mix(prepare(batch.images), batch.labels.to(prepare.device, non_blocking=True))
        values = train_step(state, images, labels, recipe, lr)
        report.step(state.step, {**values, "data_s": waited}, lr, peak_memory_mb(prepare.device))
        if due(state.step, recipe.checkpoint_steps) and state.step % per_epoch:
            save(state, output)


def train_step(state: State, images: Tensor, labels: Tensor, recipe: Recipe, lr: float) -> dict[str, float]:
    """One update; labels [N] int64 or [N, C] probabilities. Returns loss and gradient norm.

    Raises NonFiniteError before anything is updated when one of them is infinite or no number.
    """
    model, optimizer, scaler = state.model, state.optimizer, state.scaler
    with autocast(images.device, recipe.amp):
        logits = model(images)
    loss = F.cross_entropy(logits.float(), labels, label_smoothing=recipe.label_smoothing)
    optimizer.zero_grad(set_to_none=True)
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    norm = torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], math.inf)
    # one transfer for both, as each waits for the device
    values = dict(zip(("loss", "gradient norm"), torch.stack([loss.detach(), norm]).tolist(), strict=True))
    checked = ("loss",) if scaler.is_enabled() else tuple(values)  # the scaler leaves out an infinite gradient
    for name in checked:
        if not math.isfinite(values[name]):
            raise NonFiniteError(
                f"{name} is {values[name]} at step {state.step}, learning rate {lr:g}. Earlier checkpoints are intact. "
                "Lower --lr, lengthen --warmup-epochs or write --amp off, then --resume"
            )
    scaler.step(optimizer)
    scaler.update()
    if state.average is not None:
        state.average.update_parameters(model)
    state.step += 1
    return {"loss": values["loss"], "grad_norm": values["gradient norm"]}


def run_evaluation(
    state: State, tests: FolderLoader, prepare: PixelInput, amp: str, output: Path, report: TrainLog
) -> None:
    """Evaluate after an epoch; the weights of the best top-1 so far go to weights_best.pth."""
    accuracy = evaluate(state.trained, tests, prepare, amp)
    state.metrics, state.evaluated = accuracy.numbers(), state.step
    if accuracy.top1 > state.best or not (output / BEST).exists():
        state.best = accuracy.top1
        save_weights(output / BEST, state)
    report.event({"step": state.step, "event": "evaluation", "metrics": state.metrics})
    log.info(
        "step %d: top-1 %.2f %%, top-%d %.2f %%, loss %.3f of %d pictures; best top-1 %.2f %%",
        *(state.step, accuracy.top1, accuracy.k, accuracy.topk, accuracy.loss, accuracy.images, state.best),
    )


def open_output(folder: str, resume: bool) -> Path:
    """The output folder, made and tried. Raises OSError if it cannot be written, ValueError if it holds another run."""
    output = Path(folder)
    try:
        output.mkdir(parents=True, exist_ok=True)
        probe = output / ".probe"
        probe.write_bytes(b"0" * 4096)
        probe.unlink()
    except OSError as error:
        raise OSError(f"OUTPUT_DIR {output} cannot be written: {error.strerror or error}; choose another") from None
    held = sorted(path.name for pattern in ("model_*.pth", "weights*.pth") for path in output.glob(pattern))
    if held and not resume:
        raise ValueError(
            f"OUTPUT_DIR {output} already holds a run ({held[-1]}): add --resume to continue it, or choose another "
            "folder to start anew; MODEL.WEIGHT FILE.pth starts from its weights"
        )
    return output


def build_state(recipe: Recipe, device: torch.device, train_set: ImageFolder, weight: str) -> State:
    """Network, average, optimiser and scaler at step 0. weight: what to start from, as in the recipe.

    Raises ValueError when batch norms would meet a single image, and as `load_start` does.
    """
    torch.manual_seed(recipe.seed)
    entry = BACKBONES[recipe.backbone]
    backbone = build_backbone(recipe.backbone, recipe.norm, passes=recipe.passes)
    model = Classifier(backbone, len(train_set.classes))
    if recipe.batch_size == 1 and any(isinstance(module, _BatchNorm) for module in model.modules()):
        raise ValueError(f"--batch-size 1 leaves the batch norms of {recipe.backbone} no statistics: write 2 or more")
    if weight:
        load_start(
            backbone, model, entry.weights, find_weights(recipe.backbone, weight), recipe.norm, train_set.classes
        )
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    settings = {**asdict(recipe), "images": len(train_set)}
    return State(
        model,
        average_weights(model, recipe.ema) if recipe.ema else None,
        make_optimizer(recipe.optimizer, parameter_groups(model, recipe), recipe.momentum),
        torch.amp.GradScaler(device.type, enabled=recipe.amp == "fp16"),
        {**{name: settings[name] for name in ("backbone", "norm", "passes", "crop")}, "classes": train_set.classes},
        settings,
    )


def save(state: State, output: Path) -> None:
    """Write the checkpoint of this step; once it is on the disk, older ones go."""
    path = output / step_name(state.step)
    save_checkpoint(path, state.content())
    for other in [*numbered(output), *output.glob("model_*.pth.tmp")]:
        if other != path:
            other.unlink()


def save_weights(path: Path, state: State) -> None:
    """Write the trained network as MODEL.WEIGHT and tools/test_classifier.py take it, with its classes and settings."""
    norm_eps = BACKBONES[state.facts["backbone"]].weights.norm_eps
    model = export_state(state.trained, state.facts["norm"], norm_eps)
    save_checkpoint(path, {"model": model, **state.facts, "step": state.step, "metrics": state.metrics})
