"""The loop of every training: batch, losses, update; checkpoints and evaluations on the way."""

import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from detector.distributed import gathered, is_main, mean_over, rank, talking, world_size
from detector.engine.device import autocast, peak_memory_mb
from detector.engine.health import BATCH, SKIPPED, way_out
from detector.engine.keep import Statistics, keep
from detector.engine.log import Silent, TrainLog
from detector.engine.optim import set_learning_rate
from detector.engine.records import header
from detector.engine.run import Run
from detector.engine.stop import Stopped, asked_to_stop, held, listening, stop_if_asked
from detector.engine.tensorboard import Board
from detector.engine.trouble import Remedies, machine_trouble
from detector.errors import LostProcessError, NonFiniteError, UserError
from detector.text import counted, printable
from detector.weights.checkpoint import save_checkpoint

log = logging.getLogger("detector")


class Task(Protocol):
    """What is learned: how a batch becomes losses, and a model measures.

    advice: what its user may change when a training diverges; remedies: what, when the machine runs out of something.
    """

    advice: str
    remedies: Remedies

    def batches(self, start: int, stop: int) -> Iterable[NamedTuple]:
        """This process's batches of the steps from `start` to before `stop`."""

    def parts(self, batch: Any, number: int) -> Sequence[Any]:  # noqa: ANN401
        """A batch as micro-batches: the images m, m + number, .. are the m-th. For one, the batch itself."""

    def losses(self, model: nn.Module, batch: Any) -> Mapping[str, Tensor]:  # noqa: ANN401 - each task has its own
        """Weighted scalars of a micro-batch; their sum's mean over micro-batches and processes is minimised."""

    def names(self, batch: Any) -> Sequence[str]:  # noqa: ANN401
        """What the images of a batch are called, for messages."""

    def measures(self, run: Run) -> dict[str, Any]:
        """Evaluate the run's averaged model and file what was found; nothing where there is no data to test on."""

    def score(self, metrics: Mapping[str, Any]) -> float:
        """The number by which the best checkpoint is chosen; higher is better."""

    def pictures(self, run: Run) -> Mapping[str, np.ndarray]:
        """Pictures by name that show what the run's averaged model finds, uint8 RGB [H, W, 3]; there may be none."""

    def weights(self, run: Run) -> Mapping[str, Any]:
        """What is kept of the best model: its tensors under "model", and facts."""


@dataclass(frozen=True)
class Plan:
    """What happens when, counted in finished steps.

    seed: of all chance, with the step; steps: of the whole training; rate: the factor of the base learning rates in a
    step, from 0; saves, tests: whether a checkpoint is written, an evaluation made after so many steps; clip: largest
    norm of all gradients together, 0 for no limit; precision: off | bf16 | fp16; patience: evaluations in a row
    without a better one that end the training, 0 for none; tensorboard: whether it is written for; accumulate:
    micro-batches of a step in each process.
    """

    seed: int
    steps: int
    rate: Callable[[int], float]
    saves: Callable[[int], bool]
    tests: Callable[[int], bool]
    clip: float = 0.0
    precision: str = "off"
    patience: int = 0
    tensorboard: bool = False
    accumulate: int = 1


def due(step: int, period: int) -> bool:
    """Whether something that happens every `period` steps happens after `step` of them; never for period 0."""
    return period > 0 and step % period == 0


def ended(run: Run, plan: Plan) -> bool:
    """Whether a training is over: all its steps are done, or its patience is at an end."""
    return run.step == plan.steps or run.out_of_patience(plan.patience)


def seed_step(seed: int, step: int, device: torch.device, part: int = 0) -> None:
    """Make what a step leaves to the global states (mixing, drop-out) depend on seed and step alone.

    part: of the step's micro-batches on all processes, which one it is.
    """
    source = [seed, step, part] if part else [seed, step]
    number = int(np.random.SeedSequence(source).generate_state(1, np.uint64)[0])
    torch.default_generator.manual_seed(number)  # torch.manual_seed walks the stack for devices that are not in use
    if device.type == "cuda":
        torch.cuda.manual_seed_all(number)
    elif device.type == "mps":
        torch.mps.manual_seed(number)


def train(run: Run, task: Task, plan: Plan) -> dict[str, Any]:
    """Train from the run's step to the plan's last. Returns the measures of the last evaluation.

    Whatever stops it on the way, the finished steps are kept, and the message says where. Raises Stopped after Ctrl-C
    or SIGTERM; UserError when memory, a process that reads pictures or a picture fails; NonFiniteError, with the run's
    checkpoints as they are, when it diverges.
    """
    start = run.step
    report = open_log(run, plan)
    try:
        with listening(), talking():
            begin(run, plan, report)
            with held():
                if run.source is not None:
                    finish_step(run, task, plan, report, written=run.source)
                    if ended(run, plan):
                        done = run.step == plan.steps
                        every = counted(run.step, "step|steps is|are")
                        text = f"all {every} done" if done else run.patience_text(plan.steps)
                        log.info("nothing is left to train: %s", text)
            if not ended(run, plan):
                run_steps(run, task, plan, report)
                if run.scaler.is_enabled():
                    log.info("%s", run.health.left_out_text(run.step))
        return run.metrics or {}
    except NonFiniteError as error:
        report.event({"step": run.step, "event": "nonfinite", "message": str(error)})
        raise
    except Stopped as stopped:
        raise stop(stopped, run, start, plan, report) from None
    except Exception as error:
        told = str(error) if isinstance(error, UserError) else machine_trouble(error, task.remedies)
        asked = asked_to_stop()
        if asked and (told or isinstance(error, OSError)):  # a terminal or a reader that went with the same signal
            raise stop(asked, run, start, plan, report) from None
        if isinstance(error, UserError) and run.step == start:
            raise
        kept = keep_unharmed(run, start, plan)
        if told and not is_main():  # the first process says what was kept
            if isinstance(error, UserError):
                raise
            raise UserError(told) from error
        if not told:  # a bug
            log.error("%s", kept)
            raise
        both = f"{told.removesuffix('.')}. {kept[0].upper()}{kept[1:]}"
        kind = LostProcessError if isinstance(error, LostProcessError) else UserError
        raise kind(kept if told in kept else both) from error
    finally:
        with suppress(Stopped), held():
            report.close()


def open_log(run: Run, plan: Plan) -> TrainLog | Silent:
    """Where this process's numbers go."""
    if not is_main():
        return Silent()
    board = Board(run.folder, run.step, run.text) if plan.tensorboard else None
    return TrainLog(run.folder, run.step, plan.steps, evaluated=run.evaluated, board=board)


def keep_unharmed(run: Run, start: int, plan: Plan) -> str:
    """`keep`, which no signal breaks off."""
    kept = ""
    with suppress(Stopped), held():
        kept = keep(run, start, plan.steps)
    return kept


def stop(stopped: Stopped, run: Run, start: int, plan: Plan, report: TrainLog | Silent) -> Stopped:
    """Keep the finished steps; returns what to raise."""
    kept = keep_unharmed(run, start, plan)
    with suppress(UserError):  # of a log that cannot be written
        report.event({"step": run.step, "event": "stopped", "by": stopped.signal})
    return Stopped(stopped.number, f"stopped by {stopped.signal}: {kept}")


def begin(run: Run, plan: Plan, report: TrainLog | Silent) -> None:
    """Say where the training begins, and leave the learning rate as it was there."""
    said = {**header(run.text, next(run.model.parameters()).device), **run.header}
    if run.source is None:
        report.event({"step": run.step, "event": "start", **said})
        return
    left_out = f"; {run.health.left_out_text(run.step)}" if run.scaler.is_enabled() else ""
    log.info("resuming from %s at step %d of %d%s", run.source, run.step, plan.steps, left_out)
    report.event({"step": run.step, "event": "resume", "checkpoint": run.source.name, **said})
    set_learning_rate(run.optimizer, plan.rate(max(run.step - 1, 0)))


def run_steps(run: Run, task: Task, plan: Plan, report: TrainLog | Silent) -> None:
    """The loop itself: one batch, one update, until the plan's last step. A signal waits for the end of a step.

    Several processes agree at the beginning of a step whether it is still made.
    """
    parameters = [p for p in run.model.parameters() if p.requires_grad]
    statistics = Statistics(run.model)
    device = parameters[0].device
    batches = iter(task.batches(run.step, plan.steps))
    run.model.train()
    report.tick()
    for step in range(run.step, plan.steps):
        waited = time.perf_counter()
        batch = next(batches)
        waited = time.perf_counter() - waited
        with held():
            stop_if_asked()
            statistics.note()
            try:
                values, rate = update(run, task, plan, batch, parameters, statistics)
            finally:
                if run.step == step:
                    statistics.restore()
            counts = {"skipped": run.health.left_out} if run.scaler.is_enabled() else {}
            report.step(run.step, {**values, "data_s": waited}, rate, peak_memory_mb(device), counts)
            finish_step(run, task, plan, report)
        if ended(run, plan):  # perhaps before its time
            break


def update(
    run: Run, task: Task, plan: Plan, batch: NamedTuple, parameters: Sequence[nn.Parameter], statistics: Statistics
) -> tuple[dict[str, float], float]:
    """One step: losses, gradients, update. Returns the numbers to log, and the rate of the first group."""
    step, scaler, device = run.step, run.scaler, parameters[0].device
    rate = set_learning_rate(run.optimizer, plan.rate(step))
    run.optimizer.zero_grad(set_to_none=True)
    names, terms = backward(run, task, plan, batch, device)
    scaler.unscale_(run.optimizer)
    norm = gradient_norm(parameters, plan.clip)
    own = terms.sum().isfinite()
    terms = mean_over(terms)
    # one transfer for all of them, as each waits for the device
    *numbers, finite = torch.cat([terms.sum()[None], terms, norm[None], own[None]]).tolist()
    values = dict(zip(("loss", *names, "grad_norm"), numbers, strict=True))
    run.health.note(step, values["loss"], scaler.is_enabled() and not math.isfinite(values["grad_norm"]))
    check_finite(values, run, task, batch, step, rate, plan.steps, own=finite == 1)
    run.whole = False
    scaler.step(run.optimizer)
    scaler.update()
    statistics.share()
    if run.average is not None:
        run.average.update_parameters(run.model)
    run.step, run.whole = step + 1, True
    return values, rate


def backward(run: Run, task: Task, plan: Plan, batch: NamedTuple, device: torch.device) -> tuple[list[str], Tensor]:
    """The losses of a batch, micro-batch by micro-batch, and their gradients. Returns their names and values [K]."""
    number = plan.accumulate
    names: list[str] = []
    sums = torch.zeros(0)
    for m, part in enumerate(task.parts(batch, number)):
        seed_step(plan.seed, run.step, device, m * world_size() + rank())
        # Gradients travel to the other processes once, with the last of them.
        travel = nullcontext() if m == number - 1 or world_size() == 1 else run.wrapped.no_sync()  # type: ignore[operator]
        with travel:
            with autocast(device, plan.precision):
                losses = task.losses(run.wrapped, part)
            terms = torch.stack([wide(loss) for loss in losses.values()]) / number
            run.scaler.scale(terms.sum()).backward()
        names, sums = list(losses), terms.detach() + (sums if m else 0)
    return names, sums


def wide(loss: Tensor) -> Tensor:
    """A loss in float32, or float64 where it is."""
    return loss.to(torch.promote_types(loss.dtype, torch.float32))


def gradient_norm(parameters: Sequence[nn.Parameter], limit: float) -> Tensor:
    """The norm of all gradients together, which are then scaled to `limit` where it is larger; 0: they stay."""
    if limit:
        return nn.utils.clip_grad_norm_(parameters, limit)
    return nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])


def finish_step(run: Run, task: Task, plan: Plan, report: TrainLog | Silent, *, written: Path | None = None) -> None:
    """What is due after a step: its checkpoint, its evaluation, and the checkpoint that knows of it.

    written: a checkpoint of this step, which the run comes from; it was perhaps killed before the evaluation.
    """
    last = ended(run, plan)
    saves = last or plan.saves(run.step)
    if saves and written != run.checkpoint(last):
        run.save(last)  # a crash in the evaluation must not cost the steps
        report.tick()
    if (run.evaluated == run.step and run.metrics is not None) or not plan.tests(run.step):
        return
    metrics = task.measures(run)
    run.keep_best(metrics, task.score(metrics), task.weights(run))
    report.evaluation(run.step, metrics, task.pictures(run) if plan.tensorboard and is_main() else {})
    if ended(run, plan) and not last:
        log.info("%s", run.patience_text(plan.steps))
        report.event({"step": run.step, "event": "patience", "evaluations": run.stale, "best_step": run.best_step})
    if saves or ended(run, plan):
        run.save(ended(run, plan))
    report.tick()


def check_finite(
    values: Mapping[str, float],
    run: Run,
    task: Task,
    batch: NamedTuple,
    step: int,
    rate: float,
    steps: int,
    own: bool = True,
) -> None:
    """Raise NonFiniteError naming terms, images, rate and the way out, unless the training still learns.

    The batch is saved before; of several processes' the first one whose losses are not finite. own: whether those of
    this process are. With fp16 the scaler leaves out the update for infinite gradients and lowers its scale;
    that may happen SKIPPED times in a row, and not in all `steps` of a training.
    """
    bad = [name for name, value in values.items() if not math.isfinite(value)]
    skipped, scaled = run.health.skipped, run.scaler.is_enabled()
    if not bad or (scaled and bad == ["grad_norm"] and skipped < min(SKIPPED, steps)):
        return
    named = [name for name in bad if name not in ("loss", "grad_norm")] or bad[:1]
    path = run.folder / BATCH
    kept = f"The batch is in {path}"
    content, images = first_bad(own, batch._asdict(), printable(", ".join(task.names(batch))))
    try:
        facts = {"step": step, "sound": run.health.sound, "resumes": run.health.resumes}
        if is_main():
            save_checkpoint(path, {**content, **facts})
    except UserError as error:
        kept = f"The batch is lost ({error})"
    terms = ", ".join(f"{name.replace('grad_norm', 'gradient norm')} is {values[name]}" for name in named)
    if scaled and named == ["grad_norm"]:
        terms += f" and {skipped} updates in a row were left out, at a scale of {run.scaler.get_scale():g},"
    raise NonFiniteError(
        f"{terms} at step {step}, learning rate {rate:g}{', images ' * bool(images)}{images}. {kept}. "
        f"{task.advice}, {way_out(run.folder, run.health.sound)}"
    )


def first_bad(own: bool, content: dict[str, Any], images: str) -> tuple[dict[str, Any], str]:
    """The batch, with the names of its images, of the first process whose losses are not finite.

    own: whether those of this process are; content, images: its batch. Only the first process is told.
    """
    told = gathered((own, content, images))
    bad = [(content, images) for finite, content, images in told if not finite]
    return (bad or [(content, images)])[0]
