"""The training loop and what surrounds it: output folder, resuming, evaluation, checkpoints."""

import logging
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from yacs.config import CfgNode

from detector.config import config_text, save_config
from detector.data.coco import CocoDetection, JoinedDataset
from detector.data.loader import build_test_datasets, build_train_dataset, train_loader
from detector.engine.device import autocast, peak_memory_mb, pick_device
from detector.engine.evaluate import evaluate
from detector.engine.log import TrainLog
from detector.engine.optim import build_optimizer, learning_rate_factor, scale_to_batch, set_learning_rate
from detector.engine.weights import check_classes, load_detector, load_weights
from detector.evaluation.report import main_measure
from detector.models.build import build_detector
from detector.models.detector import Detector
from detector.models.norm import check_batch
from detector.structures import Batch, Target
from detector.weights.checkpoint import BEST, FINAL, newest_checkpoint, save_checkpoint, step_name

log = logging.getLogger("detector")


class NonFiniteError(RuntimeError):
    """A loss or gradient is infinite or no number; the message names it, the images and the learning rate."""


@dataclass
class State:
    """Everything that a checkpoint holds and --resume restores; `step` counts finished steps."""

    model: Detector
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    facts: dict[str, Any]
    step: int = 0
    evaluated: int = 0
    best: float = -1.0
    source: Path | None = field(default=None)

    def content(self) -> dict[str, Any]:
        """What a checkpoint file holds: tensors and plain values only."""
        return {
            "model": self.model.state_dict(),
            "optimizer": {**self.optimizer.state_dict(), "kind": type(self.optimizer).__name__},
            "scaler": self.scaler.state_dict(),
            "step": self.step,
            "evaluated": self.evaluated,
            "best": self.best,
            "random": {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all()},
            **self.facts,
        }

    def restore(self, path: Path, content: dict[str, Any]) -> None:
        """Take over a checkpoint. Raises ValueError naming the file when it belongs to another model or data."""
        check_classes(content, str(path), self.facts["classes"])
        load_detector(self.model, content["model"], str(path))
        kind = content["optimizer"]["kind"]
        if kind != type(self.optimizer).__name__:
            raise ValueError(f"{path}: its optimiser is {kind}; set SOLVER.OPTIMIZER {kind.lower()} to resume it")
        rates = [group["base_lr"] for group in self.optimizer.param_groups]
        try:
            self.optimizer.load_state_dict(content["optimizer"])
        except ValueError as error:
            raise ValueError(f"{path}: its optimiser does not fit what is trained here: {error}") from None
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["base_lr"] = rate  # the config's, as it may have changed
        if content["scaler"] and self.scaler.is_enabled():  # empty where the run was not in fp16
            self.scaler.load_state_dict(content["scaler"])
        self.step, self.evaluated, self.best = content["step"], content["evaluated"], content["best"]
        torch.set_rng_state(content["random"]["cpu"])
        if len(content["random"]["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(content["random"]["cuda"])
        self.source = path


def train(cfg: CfgNode, resume: bool = False) -> dict[str, dict[str, float]]:
    """Train as the config says, evaluating and saving on the way and at the end.

    resume: continue from the newest intact checkpoint of OUTPUT_DIR (from the start if there is none).
    Returns the final metrics by test set. Errors name file, record, key and remedy; NonFiniteError stops a run that
    diverges and leaves its checkpoints as they are.
    """
    device = pick_device(cfg.MODEL.DEVICE)
    output = open_output(cfg, resume)
    dataset = build_train_dataset(cfg)
    tests = build_test_datasets(cfg, dataset) if cfg.DATASETS.TEST else {}
    save_config(cfg, output / "config.yaml")
    cfg = scale_to_batch(cfg)
    state = build_state(cfg, device, dataset, output, resume)

    steps, period = cfg.SOLVER.MAX_ITER, cfg.SOLVER.TEST_PERIOD
    report = TrainLog(output, state.step, steps)
    try:
        if state.source is not None:
            report.event({"step": state.step, "event": "resume", "checkpoint": state.source.name})
            if 0 < state.step < steps and due(state.step, period) and state.evaluated < state.step:
                run_evaluation(state, tests, cfg, output, report)  # killed between checkpoint and evaluation
        run_steps(state, dataset, tests, cfg, output, report)
        save_checkpoint(output / FINAL, state.content())
        return run_evaluation(state, tests, cfg, output, report)
    finally:
        report.close()


def run_steps(
    state: State,
    dataset: CocoDetection | JoinedDataset,
    tests: dict[str, CocoDetection],
    cfg: CfgNode,
    output: Path,
    report: TrainLog,
) -> None:
    """The loop itself: one batch, one update, MAX_ITER times."""
    if state.step == cfg.SOLVER.MAX_ITER:
        return
    model, optimizer, scaler, solver = state.model, state.optimizer, state.scaler, cfg.SOLVER
    device = model.mean.device
    parameters = [p for p in model.parameters() if p.requires_grad]
    batches = iter(train_loader(cfg, dataset, state.step, solver.MAX_ITER))
    model.train()
    if warning := check_batch(model, solver.IMS_PER_BATCH):
        log.warning("%s", warning)
    report.tick()
    for step in range(state.step, solver.MAX_ITER):
        waited = time.perf_counter()
        batch = next(batches)
        waited = time.perf_counter() - waited
        lr = set_learning_rate(optimizer, learning_rate_factor(solver, step))
        with autocast(device, solver.AMP):
            losses = model(
                batch.images.to(device, non_blocking=True), batch.sizes, [to_device(t, device) for t in batch.targets]
            )
        terms = torch.stack([loss.float() for loss in losses.values()])
        total = terms.sum()
        # one transfer for all of them, as each waits for the device
        values = dict(zip(("loss", *losses), torch.cat([total[None], terms]).tolist(), strict=True))
        require_finite(values, batch, step, lr, output)
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(total).backward()
        scaler.unscale_(optimizer)
        norm = torch.nn.utils.clip_grad_norm_(parameters, solver.CLIP_GRAD_NORM or math.inf).item()
        if not scaler.is_enabled():  # with fp16 the scaler leaves out the update and lowers its scale
            require_finite({"gradient norm": norm}, batch, step, lr, output)
        scaler.step(optimizer)
        scaler.update()
        state.step = step + 1
        numbers = {**values, "grad_norm": norm, "data_s": waited}
        report.step(state.step, numbers, lr, peak_memory_mb(device))

        if state.step == solver.MAX_ITER:
            break
        if due(state.step, solver.CHECKPOINT_PERIOD):
            save_checkpoint(output / step_name(state.step), state.content())
        if due(state.step, solver.TEST_PERIOD):
            run_evaluation(state, tests, cfg, output, report)
            report.tick()


def run_evaluation(
    state: State, tests: dict[str, CocoDetection], cfg: CfgNode, output: Path, report: TrainLog
) -> dict[str, dict[str, float]]:
    """Evaluate all test sets; the best mean of their main measures so far goes to model_best.pth."""
    if not tests:
        return {}
    metrics = evaluate(state.model, tests, cfg, output)
    average = sum(main_measure(m) for m in metrics.values()) / len(metrics)
    state.evaluated = state.step
    if average > state.best or not (output / BEST).exists():
        state.best = average
        save_checkpoint(
            output / BEST,
            {"model": state.model.state_dict(), "step": state.step, "metrics": metrics, **state.facts},
        )
    report.event({"step": state.step, "event": "evaluation", "metrics": metrics})
    return metrics


def open_output(cfg: CfgNode, resume: bool) -> Path:
    """OUTPUT_DIR, made and tried. Raises OSError when it cannot be written, ValueError when it holds another run."""
    output = Path(cfg.OUTPUT_DIR)
    try:
        output.mkdir(parents=True, exist_ok=True)
        probe = output / ".probe"
        probe.write_bytes(b"0" * 4096)
        probe.unlink()
    except OSError as error:
        raise OSError(f"OUTPUT_DIR {output} cannot be written: {error.strerror or error}; choose another") from None
    held = sorted(path.name for path in output.glob("model_*.pth"))
    if held and not resume:
        raise ValueError(
            f"OUTPUT_DIR {output} already holds a run ({held[-1]}): add --resume to continue it, or write "
            "OUTPUT_DIR another/folder to start anew; MODEL.WEIGHT FILE.pth starts from its weights"
        )
    return output


def build_state(
    cfg: CfgNode, device: torch.device, dataset: CocoDetection | JoinedDataset, output: Path, resume: bool
) -> State:
    """Model, optimiser and scaler, new or from the newest checkpoint."""
    torch.manual_seed(cfg.SEED)
    model = build_detector(cfg).to(device)
    state = State(
        model,
        build_optimizer(cfg.SOLVER, model),
        torch.amp.GradScaler(device.type, enabled=cfg.SOLVER.AMP == "fp16"),
        {"config": config_text(cfg), "classes": dataset.classes, "category_ids": dataset.category_ids},
    )
    found = newest_checkpoint(output) if resume else None
    if found:
        state.restore(*found)
        if state.step > cfg.SOLVER.MAX_ITER:
            raise ValueError(f"{found[0]} is at step {state.step}, beyond SOLVER.MAX_ITER {cfg.SOLVER.MAX_ITER}")
        log.info("resuming from %s at step %d of %d", found[0], state.step, cfg.SOLVER.MAX_ITER)
    else:
        if resume:
            log.info("OUTPUT_DIR %s holds no checkpoint to resume from: starting at step 0", output)
        load_weights(model, cfg, drop_classifier=True)
    return state


def require_finite(values: dict[str, float], batch: Batch, step: int, lr: float, output: Path) -> None:
    """Raise NonFiniteError naming terms, images and rate, after saving the batch, unless all values are finite."""
    bad = {name: value for name, value in values.items() if not math.isfinite(value)}
    if not bad:
        return
    path = output / "nonfinite_batch.pth"
    save_checkpoint(path, {"images": batch.images, "sizes": batch.sizes, "targets": batch.targets, "step": step})
    terms = ", ".join(f"{name} is {value}" for name, value in bad.items() if name != "loss" or len(bad) == 1)
    raise NonFiniteError(
        f"{terms} at step {step}, learning rate {lr:g}, images {', '.join(str(t['image_id']) for t in batch.targets)}. "
        f"The batch is in {path}, earlier checkpoints are intact. Lower SOLVER.BASE_LR, lengthen SOLVER.WARMUP_ITERS, "
        "set SOLVER.CLIP_GRAD_NORM 10 or SOLVER.AMP off, then --resume"
    )


def due(step: int, period: int) -> bool:
    """Whether something that happens every `period` steps happens after `step` of them; never for period 0."""
    return period > 0 and step % period == 0


def to_device(target: Target, device: torch.device) -> Target:
    """A target whose tensors lie on `device`."""
    moved = {key: value.to(device) if isinstance(value, Tensor) else value for key, value in target.items()}
    return moved  # type: ignore[return-value]
