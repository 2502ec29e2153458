"""`detector compare --backbones .. --heads .. --seeds N`: plan, train what is missing, measure times, report."""

import argparse
import logging
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detector.commands.base import add_config_file, output_folder, show
from detector.commands.compare_runs import deliver, new_folder
from detector.commands.studies.networks import table
from detector.console import duration, hushed
from detector.errors import InUseError, MissingPackageError, UserError
from detector.files import write_json
from detector.plugins import load_plugins

if TYPE_CHECKING:
    from detector.tasks.cells import Arm, Budget, Cell, State
    from detector.tasks.pace import Pace

log = logging.getLogger("detector")

ROUNDS = 3
"""In which the times of all arms are measured."""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of a comparison that trains."""
    add_config_file(parser, note=": the data sets, sizes, batch and schedule that all trainings share")
    add = parser.add_argument
    add(
        "--backbones", nargs="+", default=[], metavar="NAME",
        help='registered names, or in quotes with keys of their own: "sre18: resnet18 MODEL.BACKBONE.PASSES 2"; '
        "none: the config's",
    )  # fmt: skip
    add("--heads", nargs="+", default=[], metavar="NAME", help="likewise; none: the config's")
    add("--seeds", type=_positive, metavar="N", help="trainings of each: SEED 0 to N - 1; None: 3")
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--steps", type=_positive, metavar="N", help="of every training; the schedule keeps its form")
    budget.add_argument("--images", type=_positive, metavar="N", help="that every training sees")
    budget.add_argument("--hours", type=_hours, metavar="H", help="of every training's steps on this machine")
    add("--plan", action="store_true", help="print time, memory and disk by a few measured steps, and end")


def _positive(text: str) -> int:
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return int(text)


def _hours(text: str) -> float:
    try:
        hours = float(text)
    except ValueError:
        hours = 0.0
    if not 0 < hours < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of hours above 0")
    return hours


def begin_cells(args: argparse.Namespace) -> None:
    """Plan, train, measure, report; ends with status 1 where a training failed."""
    load_plugins(args.imports)
    from detector.engine.lock import locked
    from detector.tasks.cells import State, cells_of, make_arms
    from detector.tasks.side_by_side import run_cells

    budget = budget_of(args)
    arms = make_arms(args.config_file, args.opts, args.backbones, args.heads, budget)
    folder, seeds = new_folder(args.output), args.seeds or 3
    if len(arms) == 1:
        told = "is its training" if seeds == 1 else f"are its {seeds} trainings, which tell how far seeds lie apart"
        log.warning(
            "there is nothing to compare: %s is the only model; name several --backbones or --heads. What follows %s",
            *(arms[0].name, told),
        )
    if args.plan:
        plan(State(folder), arms, budget, seeds, folder)
        return
    output_folder(folder)
    with in_turn(folder):
        state = State(folder)
        planned, unfit = plan(state, arms, budget, seeds, folder)
        state.write()
    arms = [arm for arm, _ in planned]
    cells = cells_of(arms, {arm.name: pace.steps for arm, pace in planned}, seeds, folder)
    failed = unfit | run_cells(cells, arms, {arm.name: pace.each for arm, pace in planned}, args.imports)
    try:
        with locked(folder, ".report"):
            report(folder, arms, cells, failed, args.replicates)
    except InUseError:
        log.info("another process writes the report of %s", folder)
    if failed:
        raise UserError(
            f"{'; '.join(failed)} failed, as was said: the report leaves that out, and the same command tries it again"
        )


@contextmanager
def in_turn(folder: Path) -> Iterator[None]:
    """A block that one process at a time is in, of those that share a comparison; the others wait."""
    from detector.engine.lock import locked

    with ExitStack() as stack:
        said = False
        while True:
            try:
                stack.enter_context(locked(folder, ".plan"))
                break
            except InUseError:
                if not said:
                    log.info("waiting for another process, which plans the trainings of %s", folder)
                said = True
                time.sleep(1)
        yield


def budget_of(args: argparse.Namespace) -> "Budget":
    """The one flag of the three that was given."""
    from detector.tasks.cells import Budget

    given = {kind: getattr(args, kind) for kind in ("steps", "images", "hours") if getattr(args, kind)}
    return Budget(*next(iter(given.items()))) if given else Budget()


def plan(
    state: "State", arms: "Sequence[Arm]", budget: "Budget", seeds: int, folder: Path
) -> "tuple[list[tuple[Arm, Pace]], dict[str, str]]":
    """Measure the arms that are new, and print what all of it takes.

    Returns the arms with their steps and pace, and why others cannot be trained, by name. Raises ValueError where an
    arm began with other keys, where none can be trained, and where the disk is too small.
    """
    from detector.engine.device import pick_device
    from detector.engine.trouble import machine_trouble
    from detector.tasks.cells import budgeted, cells_of
    from detector.tasks.pace import Pace, Pacer, middle
    from detector.tasks.remedies import remedies
    from detector.tasks.side_by_side import is_done

    planned: list[tuple[Arm, Pace]] = []
    failed: dict[str, str] = {}
    for arm in arms:
        known = state.goes_on(arm, budget)
        if known is not None and known[1].keys() == {*Pace._fields}:  # else another version wrote it
            planned.append((known[0], Pace(**known[1])))
            continue
        arm = arm if known is None else known[0]
        log.info("%s: measuring a few steps", arm.name)
        try:
            with hushed() if planned else nullcontext():  # what it says of the data is the same for all
                pacer = Pacer(arm.cfg)
                medians = middle(*pacer.times())
                if budget.kind == "hours" and known is None:
                    arm = arm._replace(cfg=budgeted(arm.cfg, budget, medians[0]))
                pace = pacer.pace(arm.cfg, medians)
        except (UserError, RuntimeError) as error:
            why = (
                str(error) if isinstance(error, UserError) else machine_trouble(error, remedies(arm.cfg, training=True))
            )
            if not why or isinstance(error, MissingPackageError):
                raise
            failed[arm.name] = why
            log.error("%s cannot be trained, the others go on: %s", arm.name, why)
            continue
        state.note(arm, budget, pace._asdict(), pace.steps)
        planned.append((arm, pace))
    if not planned:
        raise UserError("none can be trained, as was said")
    cells = cells_of([arm for arm, _ in planned], {arm.name: pace.steps for arm, pace in planned}, seeds, folder)
    left = [cell for cell in cells if not is_done(cell)]
    show(plan_text(planned, seeds, left, failed, pick_device(planned[0][0].cfg.MODEL.DEVICE).type))
    disk = {arm.name: pace.disk for arm, pace in planned}
    needed = sum(disk[cell.arm] for cell in left if not cell.folder.exists())
    there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    if needed > (free := shutil.disk_usage(there).free):
        raise UserError(
            f"--output {folder}: the trainings leave {_size(needed)} and {_size(free)} are free there: write "
            "SOLVER.CHECKPOINT_KEEP 1, or --output on another disk"
        )
    return planned, failed


def plan_text(
    planned: "Sequence[tuple[Arm, Pace]]",
    seeds: int,
    left: "Sequence[Cell]",
    failed: Mapping[str, str],
    device: str = "",
) -> str:
    """A table of what one training of each arm takes, and a line of what is left to do. device: that has the memory."""
    from detector.tasks.side_by_side import steps_done

    rows = [["one training", "steps", "s a step", "time", f"memory on {device}" if device else "memory", "disk"]]
    for arm, pace in planned:
        rows.append([
            arm.name, str(pace.steps), f"{pace.step_s:.3g}", duration(pace.seconds), _size(pace.memory),
            _size(pace.disk),
        ])  # fmt: skip
    rows += [[name, *"-----"] for name in failed]
    paces = {arm.name: pace for arm, pace in planned}
    seconds = sum(paces[cell.arm].each * (cell.steps - steps_done(cell)) for cell in left)
    disk = sum(paces[cell.arm].disk for cell in left)
    done = len(planned) * seeds - len(left)
    told = f" ({done} {'is' if done == 1 else 'are'} done)" if done else ""
    return "\n".join(
        [
            table(rows), "",
            f"{_count(len(planned), 'arm')} with {_count(seeds, 'seed')}: {_count(len(left), 'training')}{told}, "
            f"{duration(seconds)} in one process, {_size(disk)} on the disk",
        ]
    )  # fmt: skip


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def report(
    folder: Path, arms: "Sequence[Arm]", cells: "Sequence[Cell]", failed: dict[str, str], replicates: int | None
) -> None:
    """Measure times in turns, then write the report of what was trained."""
    from detector.report.runs import runs_document
    from detector.tasks.side_by_side import is_done

    done = {arm.name: [cell.folder for cell in cells if cell.arm == arm.name and is_done(cell)] for arm in arms}
    trained = {name: folders for name, folders in done.items() if folders}
    if not trained:
        raise UserError(f"all trainings failed: {'; '.join(f'{name}: {why}' for name, why in failed.items())}")
    speed = times(folder, [arm for arm in arms if arm.name in trained], trained)
    for name in tested(trained):
        runs = {arm: [home / name for home in folders] for arm, folders in trained.items()}
        deliver(runs_document(runs, (), replicates or 1000, speed, failed), folder / name)


def tested(trained: "dict[str, list[Path]]") -> list[str]:
    """The folders in each run that hold its results: "." for one test set, else one for each."""
    first = next(folders[0] for folders in trained.values())
    inner = sorted(path.parent.name for path in first.glob("*/metrics.json"))
    return ["."] if (first / "metrics.json").is_file() else inner


def times(folder: Path, arms: "Sequence[Arm]", trained: dict[str, list[Path]]) -> dict[str, Any]:
    """Seconds of a step and an image of each arm; from the file in the folder, which is made where it lacks one."""
    from detector.engine.device import device_name
    from detector.report.origin import SPEED, read_speed
    from detector.tasks.pace import Pacer, alternating, middle

    known = read_speed([folder])
    if known and all(arm.name in known["arms"] for arm in arms):
        return known
    log.info("measuring the times of all, %d rounds in turns", ROUNDS)
    with hushed():
        pacers = [(Pacer(arm.cfg), trained[arm.name][0] / "model_final.pth") for arm in arms]
    rows = {}
    for arm, (pacer, _), found in zip(arms, pacers, alternating(pacers, ROUNDS), strict=True):
        step_s, image_s = middle(*found)
        rounds = {"step_s_rounds": found.steps, "image_s_rounds": found.images}
        rows[arm.name] = {"step_s": step_s, "image_s": image_s or None, "memory_mb": pacer.memory() / 2**20, **rounds}
    content = {"version": 1, "arms": rows, "device": device_name(pacers[0][0].task.device), "rounds": ROUNDS}
    write_json(folder / SPEED, content)
    return content


def _size(number: float) -> str:
    return f"{number / 2**30:.2f} GiB" if number >= 2**29 else f"{number / 2**20:.0f} MiB"
