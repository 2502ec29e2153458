"""The config in which nothing is left open: parts, classes, epochs, and the schedule's scaling to the batch."""

import logging
from collections.abc import Callable
from itertools import pairwise

from yacs.config import CfgNode

from detector.engine.optim import rate_for_batch
from detector.errors import UserError
from detector.models.build import resolve_parts

log = logging.getLogger("detector")


def resolve(cfg: CfgNode, num_classes: int, batches_per_epoch: int | Callable[[CfgNode], int]) -> CfgNode:
    """The frozen config that a run is made of and that its checkpoints hold: resolving it again changes nothing.

    The model as `resolve_model` says; SOLVER.EPOCHS becomes steps (`resolve_epochs`), and REFERENCE_BATCH is applied
    (`scale_to_batch`). batches_per_epoch: steps of IMS_PER_BATCH images that show every image; where it is a function
    of the config, that is called only if the config counts in epochs.
    Raises ValueError where a schedule is too short to keep its form.
    """
    cfg = resolve_model(cfg, num_classes)
    if cfg.SOLVER.EPOCHS == 0:
        return scale_to_batch(cfg)
    batches = batches_per_epoch if isinstance(batches_per_epoch, int) else batches_per_epoch(cfg)
    return scale_to_batch(resolve_epochs(cfg, batches), rate_only=True)


def resolve_model(cfg: CfgNode, num_classes: int) -> CfgNode:
    """The frozen config that leaves nothing of the model open, which is enough to test and to predict.

    What MODEL.NECK and SIZE_DIVISIBILITY leave open follows the head (`resolve_parts`), and MODEL.NUM_CLASSES 0 becomes
    num_classes: of the data, or of a checkpoint.
    """
    cfg = resolve_parts(cfg)
    return cfg if cfg.MODEL.NUM_CLASSES else _changed(cfg, "MODEL", NUM_CLASSES=num_classes)


def resolve_epochs(cfg: CfgNode, batches: int) -> CfgNode:
    """The config in steps: MAX_ITER is EPOCHS times the batches of an epoch, EPOCHS is 0.

    STEPS and WARMUP_ITERS keep their share of the MAX_ITER that the config had, and TEST_PERIOD 0 becomes an epoch.
    Logs the numbers. Raises ValueError where STEPS fall together, to 0 or to the end, or the warm-up outlasts training.
    """
    solver = cfg.SOLVER
    what = f"SOLVER.EPOCHS {solver.EPOCHS} of {batches} batches"
    cfg = with_steps(cfg, solver.EPOCHS * batches, what, period=batches)
    solver = cfg.SOLVER
    log.info(
        "%s: MAX_ITER %d, STEPS %s, WARMUP_ITERS %d, TEST_PERIOD %d, CHECKPOINT_PERIOD %d",
        *(what, solver.MAX_ITER, solver.STEPS if solver.SCHEDULE == "multi_step" else "unused"),
        *(solver.WARMUP_ITERS, solver.TEST_PERIOD, solver.CHECKPOINT_PERIOD),
    )
    return cfg


def with_steps(cfg: CfgNode, total: int, what: str, period: int = 0) -> CfgNode:
    """The config with MAX_ITER `total` and EPOCHS 0, its schedule in the same form.

    STEPS and WARMUP_ITERS keep their share of the MAX_ITER that the config had. what: where the number is from, as
    messages begin; period: steps that TEST_PERIOD 0 becomes, and that CHECKPOINT_PERIOD is at most; 0: TEST_PERIOD
    keeps its share too. Raises ValueError as `resolve_epochs` does.
    """
    solver = cfg.SOLVER
    share = total / solver.MAX_ITER
    steps, warmup = solver.STEPS, round(solver.WARMUP_ITERS * share)
    if solver.SCHEDULE == "multi_step":
        steps = _scaled_steps(solver, share, what)
        if steps and steps[-1] >= total:
            raise UserError(
                f"{what} end at step {total}, SOLVER.STEPS {solver.STEPS} of MAX_ITER {solver.MAX_ITER} would be "
                f"{steps}: write SOLVER.STEPS below MAX_ITER, or SOLVER.STEPS ()"
            )
    if warmup > total:
        raise UserError(
            f"{what} end at step {total}, SOLVER.WARMUP_ITERS {solver.WARMUP_ITERS} of MAX_ITER {solver.MAX_ITER} "
            f"would be {warmup}: write SOLVER.WARMUP_ITERS below MAX_ITER"
        )
    kept = min(solver.CHECKPOINT_PERIOD, period or total)  # an epoch at most is lost; 0 stays: only at the end
    tests = solver.TEST_PERIOD or period if period else round(solver.TEST_PERIOD * share)
    return _changed(
        cfg,
        "SOLVER",
        EPOCHS=0,
        MAX_ITER=total,
        STEPS=steps,
        WARMUP_ITERS=warmup,
        TEST_PERIOD=tests,
        CHECKPOINT_PERIOD=kept,
    )


def scale_to_batch(cfg: CfgNode, *, rate_only: bool = False) -> CfgNode:
    """Fit BASE_LR, STEPS, MAX_ITER and WARMUP_ITERS to IMS_PER_BATCH when SOLVER.REFERENCE_BATCH is set.

    For k times the images a step 1 / k of the steps, so that each image is seen as often, one at least; and k times the
    rate, with AdamW sqrt(k) times, as `rate_for_batch` says. rate_only: the steps fit already, as those of epochs do.
    Logs the numbers; returns a frozen config whose REFERENCE_BATCH is the batch itself.
    Raises ValueError where STEPS fall together, to 0 or to the end, or nothing is left behind the warm-up.
    """
    solver = cfg.SOLVER
    if solver.REFERENCE_BATCH in (0, solver.IMS_PER_BATCH):
        return cfg
    factor = solver.IMS_PER_BATCH / solver.REFERENCE_BATCH
    what = f"batch {solver.IMS_PER_BATCH} for a reference of {solver.REFERENCE_BATCH}"
    values = {"BASE_LR": solver.BASE_LR * rate_for_batch(solver.OPTIMIZER, factor)}
    if not rate_only:
        total, warmup = max(round(solver.MAX_ITER / factor), 1), round(solver.WARMUP_ITERS / factor)
        steps = _scaled_steps(solver, 1 / factor, what) if solver.SCHEDULE == "multi_step" else solver.STEPS
        _check_end(solver, total, steps, warmup, what)
        values |= {"MAX_ITER": total, "STEPS": steps, "WARMUP_ITERS": warmup}
    log.info("%s: %s", what, ", ".join(f"{key} {_shown(solver[key])} -> {_shown(v)}" for key, v in values.items()))
    return _changed(cfg, "SOLVER", REFERENCE_BATCH=solver.IMS_PER_BATCH, **values)


def _scaled_steps(solver: CfgNode, share: float, what: str) -> tuple[int, ...]:
    """STEPS times `share`, rounded. Raises ValueError, beginning with `what`, when they no longer rise from above 0."""
    steps = tuple(round(step * share) for step in solver.STEPS)
    if not all(a < b for a, b in pairwise((0, *steps))):
        raise UserError(
            f"{what} would make SOLVER.STEPS {solver.STEPS} of MAX_ITER {solver.MAX_ITER} {steps}, which do not rise: "
            "train longer, or write SOLVER.STEPS () or SOLVER.SCHEDULE cosine"
        )
    return steps


def _check_end(solver: CfgNode, total: int, steps: tuple[int, ...], warmup: int, what: str) -> None:
    """Raise ValueError, beginning with `what`, when rounding moves to the end what came before it.

    What lay at or beyond MAX_ITER already, as in a short trial of a long schedule, is no matter of the rounding.
    """
    if solver.SCHEDULE == "multi_step" and steps and solver.STEPS[-1] < solver.MAX_ITER and steps[-1] >= total:
        lost, remedy = f"SOLVER.STEPS {solver.STEPS} -> {steps}", "SOLVER.STEPS ()"
    elif solver.WARMUP_ITERS < solver.MAX_ITER and warmup >= total:
        lost, remedy = f"SOLVER.WARMUP_ITERS {solver.WARMUP_ITERS} -> {warmup}", "SOLVER.WARMUP_ITERS 0"
    else:
        return
    raise UserError(
        f"{what} would make SOLVER.MAX_ITER {solver.MAX_ITER} -> {total} and {lost}, behind which no step is left: "
        f"train longer, or write {remedy}"
    )


def _changed(cfg: CfgNode, section: str, **values: object) -> CfgNode:
    """A frozen copy with other values in one section."""
    changed = cfg.clone()
    changed.defrost()
    changed[section].update(values)
    changed.freeze()
    return changed


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
