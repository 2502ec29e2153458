"""What fits into a memory: the largest batch, the largest side, and the cheapest settings that make a wish fit."""

import logging
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from yacs.config import CfgNode

from detector.config import config_from_text
from detector.data.dataset import CocoDetection, JoinedDataset
from detector.data.loader import build_train_dataset, largest_input
from detector.data.pipeline import at_sizes
from detector.distributed import largest, world_size
from detector.engine.memory import CARD, GIB, Overhead, free_memory, overhead
from detector.errors import UserError
from detector.launch import launch
from detector.models.build import check_names
from detector.structures import Size
from detector.tasks.footprint import PARTS, Footprint, Memory, Step
from detector.tasks.resolve import resolve_model
from detector.text import counted
from detector.weights.checkpoint import newest_config

log = logging.getLogger("detector")

MOST = 64
"""Images a step that are looked for at most; the rates of the usual schedules are not meant for more."""
MIN_SIDE = 64
"""Pixels, the shortest side that is looked for."""
TIMES = 4
"""The longest side that is looked for is so many times today's."""


class Remedy(NamedTuple):
    """Settings that save memory, as KEY VALUE words, and the step with them."""

    words: str
    step: Step


def plan(cfg: CfgNode, memory: float) -> str:
    """A report of the memory of a config's training step, of what fits into `memory` GiB, and what makes it fit.

    The data are read only for MODEL.NUM_CLASSES 0. Raises ValueError where a part and its keys do not fit.
    """
    check_names(cfg)
    data = build_train_dataset(cfg) if cfg.MODEL.NUM_CLASSES == 0 else None
    cfg = resolve_model(cfg, 0 if data is None else len(data.classes))
    footprint, step = Footprint(cfg), step_of(cfg, data)
    extra, room = overhead(cfg.MODEL.DEVICE), round(memory * GIB)
    allowed = extra.allowed(room)
    peak = footprint.peak(_at_least(step, footprint))
    lines = [_heading(cfg, step), *_table(peak), *_verdict(peak, extra, room, cfg.MODEL.DEVICE)]
    lines += _of_test(footprint, cfg, extra, room)
    most = largest_batch(footprint, step, allowed)
    lines += ["", f"what fits into {memory:g} GiB with the other settings as they are:"]
    lines.append(f"  the largest batch: SOLVER.IMS_PER_BATCH {most * step.parts}" if most else "  not a single image")
    if step.parts > 1 and most:
        lines[-1] += f", in micro-batches of {most} image{'s' * (most > 1)}"
    if most >= MOST:
        lines[-1] += " or more"
    side = largest_side(footprint, step, allowed, cfg.DATALOADER.SIZE_DIVISIBILITY)
    lines.append(f"  the largest side: {_sides(cfg, side, step.size)}" if side else "  no side that is useful")
    if side and side[0] >= TIMES * step.size[0]:
        lines[-1] += " or more"
    if peak.total > allowed:
        lines += ["", *_advice(footprint, step, extra, room)]
    return "\n".join(lines)


def fitting_batch(cfg: CfgNode, device: torch.device, data: CocoDetection | JoinedDataset) -> CfgNode:
    """The frozen config whose SOLVER.IMS_PER_BATCH is the largest that the free memory of a device allows.

    It is at most SOLVER.REFERENCE_BATCH, or MOST where that is 0; then what the config had becomes the reference.
    Several processes take what fits for all. Raises ValueError where nothing fits, or nobody knows what is free.
    """
    free = free_memory(device)
    several = f" in each of {world_size()} processes" * (world_size() > 1)
    if free is not None and device.type == "cpu":  # which the processes of a machine share
        free //= launch().local_world
    if free is None:
        raise UserError(f"--batch auto: what is free on {device} cannot be told here: write SOLVER.IMS_PER_BATCH N")
    resolved = resolve_model(cfg, len(data.classes))
    footprint, step = Footprint(resolved), step_of(resolved, data)
    solver, allowed = cfg.SOLVER, overhead(device.type).allowed(free)
    limit = min(solver.REFERENCE_BATCH or MOST, len(data))
    share = solver.ACCUM_ITERS * world_size()
    (most,) = largest([-largest_batch(footprint, step, allowed, max(limit // share, 1))])
    found = -most
    if not found:
        needed = overhead(device.type).needed(footprint.peak(step._replace(images=footprint.least * step.parts)).total)
        raise UserError(
            f"--batch auto: {_gib(free)} are free on {device}, and the smallest batch needs {_gib(needed)}: see "
            "`detector plan` for what saves memory"
        )
    images = found * share
    peak = footprint.peak(step._replace(images=found * step.parts)).total
    log.info(
        "--batch auto: SOLVER.IMS_PER_BATCH %d, whose tensors take %s of %s that are free on %s%s",
        *(images, _gib(peak), _gib(free), device, several),
    )
    return _with_batch(cfg, images)


def batch_of_run(cfg: CfgNode, folder: Path) -> CfgNode | None:
    """The frozen config with the images a step of the newest checkpoint in a folder, None where there is none."""
    said = newest_config(folder)
    if said is None:
        return None
    images = config_from_text(said[1], str(said[0])).SOLVER.IMS_PER_BATCH
    log.info("--batch auto: it stays SOLVER.IMS_PER_BATCH %d, which %s was trained with", images, said[0])
    return _with_batch(cfg, images)


def _with_batch(cfg: CfgNode, images: int) -> CfgNode:
    """A frozen copy with so many images a step; what the rate and the steps were meant for is their reference."""
    changed = cfg.clone()
    changed.defrost()
    solver = changed.SOLVER
    solver.REFERENCE_BATCH, solver.IMS_PER_BATCH = solver.REFERENCE_BATCH or solver.IMS_PER_BATCH, images
    changed.freeze()
    return changed


def step_of(cfg: CfgNode, data: CocoDetection | JoinedDataset | None) -> Step:
    """The largest step of a resolved config in one process. data: None: images may have any form."""
    solver = cfg.SOLVER
    images = -(-solver.IMS_PER_BATCH // world_size())
    size = largest_input(cfg, data, train=True)
    return Step(images, size, solver.AMP, solver.ACCUM_ITERS, cfg.MODEL.BACKBONE.CHECKPOINT_STAGES)


def largest_batch(footprint: Footprint, step: Step, allowed: int, most: int = MOST) -> int:
    """The most images of a micro-batch whose step takes `allowed` bytes, up to `most`; 0 where not even the least fits.

    Bytes grow with the images almost in a line, so that few steps have to be counted.
    """

    def total(images: int) -> int:
        return footprint.peak(step._replace(images=images * step.parts)).total

    least = min(footprint.least, most)
    low = total(least)
    if low > allowed:
        return 0
    slope = max(total(least + 1) - low, 1)
    found = min(most, least + (allowed - low) // slope)
    while found > least and (over := total(found) - allowed) > 0:
        found = max(least, found - -(-over // slope))
    while found < most and total(found + 1) <= allowed:
        found += 1
    return found


def largest_side(footprint: Footprint, step: Step, allowed: int, divisibility: int) -> Size | None:
    """The largest padded size of a step's form that takes `allowed` bytes, None where none is useful.

    The shorter side is a multiple of `divisibility` and at most TIMES as long as now.
    """
    short, long = step.size

    def size(number: int) -> Size:
        side = number * divisibility
        return side, -(-side * long // short // divisibility) * divisibility

    def total(number: int) -> int:
        return footprint.peak(_at_least(step, footprint)._replace(size=size(number))).total

    least, now = -(-MIN_SIDE // divisibility), short // divisibility
    most, known = TIMES * now, max(now, least + 1)
    low = total(least)
    if low > allowed:
        return None
    slope = max((total(known) - low) / (known**2 - least**2), 1)
    found = max(least, min(most, int((least**2 + (allowed - low) / slope) ** 0.5)))
    while found > least and total(found) > allowed:
        found -= 1
    while found < most and total(found + 1) <= allowed:
        found += 1
    return size(found)


Choice = tuple[str, dict[str, Any]]
"""KEY VALUE words, and what they change of a Step."""


def remedies(step: Step, stages: Sequence[int]) -> Iterator[list[Remedy]]:
    """Groups of settings that save memory, the cheapest group first, in a group the one that saves least.

    stages: that can be computed again. The order of cost that is assumed: half precision costs nothing, and most cards
    are faster with it; micro-batches cost no arithmetic, but fill a device less; what is computed again costs up to a
    third of a step; then all of them together.
    """
    half: list[Choice] = [("SOLVER.AMP bf16", {"precision": "bf16"})] if step.precision == "off" else []
    parts = [2**k for k in range(1, 12) if step.parts < 2**k <= step.images]
    micro: list[Choice] = [(f"SOLVER.ACCUM_ITERS {number}", {"parts": number}) for number in parts]
    # The first stages have the largest maps.
    sets = [tuple(sorted({*stages[:number], *step.stages})) for number in range(1, len(stages) + 1)]
    again: list[Choice] = [
        (f"MODEL.BACKBONE.CHECKPOINT_STAGES {','.join(map(str, found))}", {"stages": found})
        for found in dict.fromkeys(sets)
        if {*found} != {*step.stages}
    ]
    for group in (
        [half],
        [micro],
        [half, micro],
        [again],
        [half, again],
        [micro[-1:], again[-1:]],
        [half, micro[-1:], again[-1:]],
    ):
        combined: list[Choice] = [("", {})]
        for options in group:
            combined = [(f"{a} {b}".strip(), {**x, **y}) for a, x in combined for b, y in options]
        yield [Remedy(words, step._replace(**changes)) for words, changes in combined]


def _advice(footprint: Footprint, step: Step, extra: Overhead, room: int) -> list[str]:
    """The lines about what makes a step fit, and what does not: of every group the first one that does, or its last."""
    fitting, others, best = list[str](), list[str](), ""
    for group in remedies(step, footprint.recomputable):
        for remedy in group:
            if -(-remedy.step.images // remedy.step.parts) < footprint.least:
                continue
            needed = extra.needed(footprint.peak(remedy.step).total)
            if needed <= room or remedy is group[-1]:
                (fitting if needed <= room else others).append(f"  {remedy.words}: {_gib(needed)}")
                best = best or (remedy.words if needed <= room else "")
                break
        if best and len(fitting) + len(others) > 2:
            break
    lines = ["what makes it fit, the cheapest first:", *fitting] if fitting else []
    if others:
        lines += [f"what saves memory, and is not enough for {_gib(room)}:", *others]
    return [*lines, f"write {best}" if best else "none of them: take a smaller side or backbone"]


def _at_least(step: Step, footprint: Footprint) -> Step:
    """A step of images enough for the norms."""
    return step._replace(images=max(step.images, footprint.least * step.parts))


def _heading(cfg: CfgNode, step: Step) -> str:
    node = cfg.MODEL
    return (
        f"{node.HEAD.NAME} with {node.BACKBONE.NAME}: {counted(step.images, 'image|images')} a step of {step.size[0]} "
        f"x {step.size[1]}, "
        f"SOLVER.AMP {step.precision}, ACCUM_ITERS {step.parts}, CHECKPOINT_STAGES {list(step.stages)}, "
        f"OPTIMIZER {cfg.SOLVER.OPTIMIZER}"
    )


def _table(memory: Memory) -> list[str]:
    rows = [(words, memory.parts.get(name, 0)) for name, words in PARTS.items()]
    rows = [(words, number) for words, number in rows if number >= 2**16]
    width = max(len(words) for words, _ in rows)
    return [f"  {words:<{width}}{number / 2**20:10,.1f} MiB" for words, number in rows]


def _verdict(peak: Memory, extra: Overhead, room: int, device: str) -> list[str]:
    needed = extra.needed(peak.total)
    where = f"a CUDA card (MODEL.DEVICE {device})" if extra is CARD else "the CPU"
    return [
        f"  together {peak.total / 2**20:,.1f} MiB at the peak; on {where} with {_gib(extra.fixed)} for libraries and "
        f"{extra.share:.0%} for workspaces and fragments {_gib(needed)}",
        f"  {'fits' if needed <= room else 'does not fit'} into {_gib(room)}",
    ]


def _of_test(footprint: Footprint, cfg: CfgNode, extra: Overhead, room: int) -> list[str]:
    """A line of the test that comes in the middle or at the end of a training, and what makes it fit."""
    if not cfg.DATASETS.TEST:
        return []
    images = cfg.TEST.IMS_PER_BATCH
    size = max((largest_input(one, None, train=False) for one in at_sizes(cfg)), key=math.prod)
    needed = extra.needed(footprint.test(images, size, cfg.TEST.AMP))
    text = f"  a test meanwhile, of {counted(images, 'image|images')} {size[0]} x {size[1]} at a time: {_gib(needed)}"
    if needed <= room:
        return [f"{text}, fits"]
    while images > 1 and needed > room:
        images //= 2
        needed = extra.needed(footprint.test(images, size, cfg.TEST.AMP))
    return [f"{text}, does not fit" + (f": write TEST.IMS_PER_BATCH {images}" if needed <= room else "")]


def _sides(cfg: CfgNode, side: Size, now: Size) -> str:
    """A padded size as the keys that give it."""
    if cfg.INPUT.SQUARE_SIZE:
        return f"INPUT.SQUARE_SIZE {side[0]}"
    limit = min(side[1], round(side[0] * cfg.INPUT.MAX_SIZE_TRAIN / min(now[0], cfg.INPUT.MAX_SIZE_TRAIN)))
    return f"INPUT.MIN_SIZE_TRAIN {side[0]} INPUT.MAX_SIZE_TRAIN {limit}"


def _gib(number: float) -> str:
    return f"{number / GIB:.2f} GiB"
