"""Runs that exist compared, several seeds of each architecture: the document of their report."""

import logging
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from detector.console import progress
from detector.data.packed import PackedIndex
from detector.engine.history import History
from detector.errors import UserError
from detector.evaluation.report import MEASURES
from detector.report.arms import (
    Run,
    arm_names,
    check_seeds,
    differing,
    find_runs,
    group,
    home_of,
    log_of,
    read_settings,
    settings_of,
)
from detector.report.document import Measurer, Model, Truth, build, facts
from detector.report.facts import correlation, counts
from detector.report.origin import Times, origin_of, times_of, why_unfinished
from detector.tasks.examined import examine_run
from detector.text import counted
from detector.version import versions

log = logging.getLogger("detector")

_POINTS = 500  # of a learning curve


def runs_document(
    arms: Mapping[str, Sequence[Path]] | None,
    folders: Sequence[str | Path],
    replicates: int = 1000,
    speed: Mapping[str, Any] | None = None,
    failed: Mapping[str, str] | Iterable[tuple[str, str]] = (),
) -> dict[str, Any]:
    """The measures of each arm, and of each but the first its differences to the first one's; see `document.build`.

    arms: the folders of each by its name; where None those of `folders`, as `find_runs` takes them, are grouped by
    their settings. speed: as `origin.SPEED`, whose times count before those of the logs; where None, that of the
    comparison in whose folder a run lies; failed: what could not be trained, and why. Arms with a run that did not come
    to its end stand behind the others.
    Raises ValueError or OSError, naming the folder, where a run has no results, where runs were tested on different
    sets, and where an arm has a seed twice.
    """
    missing = dict(failed)
    if arms is None:
        found, untested = find_runs(folders)
        missing |= untested
        given = None
    else:
        found = [Path(folder) for some in arms.values() for folder in some]
        given = [name for name, some in arms.items() for _ in some]
    if not found:
        told = [f"{name}: {why}" for name, why in missing.items()]
        more = f"; and {len(told) - 2} others" if len(told) > 2 else ""
        raise UserError(f"there is no run to compare: {'; '.join(told[:2])}{more}")
    runs, truth = _measure(found, replicates)
    if given is None:
        grouped = group(runs)
        chosen = dict(zip(arm_names(grouped), grouped, strict=True))
    else:
        chosen = {name: [run for run, of in zip(runs, given, strict=True) if of == name] for name in arms or ()}
        chosen = {name: sorted(some, key=lambda run: run.seed) for name, some in chosen.items() if some}
    for name, some in chosen.items():
        check_seeds(name, some)
    logs = {run.folder: log_of(run.home) for run in runs}
    unfinished = [
        {"model": name, "folder": str(run.folder), "why": why}
        for name, some in chosen.items()
        for run in some
        if (why := why_unfinished(logs[run.folder], _whole(run)))
    ]
    behind = {one["model"] for one in unfinished}
    chosen = dict(
        sorted(chosen.items(), key=lambda arm: arm[0] in behind)
    )  # the first is what others are compared with
    times = times_of({name: [run.home for run in some] for name, some in chosen.items()}, speed)
    notes = _notes(chosen, logs, times)
    models = {}
    for name, some in chosen.items():
        models[name] = Model([run.training for run in some], _said(name, some, logs, times, notes))
    headers = [history.header for history in logs.values() if history]
    return build(
        "runs",
        truth,
        models,
        compared=settings_of({name: some[0] for name, some in chosen.items()}),
        versions=next(
            (header["versions"] for header in headers if isinstance(header.get("versions"), dict)), versions()
        ),
        device=", ".join(_distinct(headers, "device")) or None,
        failed=[{"cell": name, "why": why} for name, why in missing.items()],
        unfinished=unfinished,
        notes=notes,
    )


def _measure(folders: Sequence[Path], replicates: int) -> tuple[list[Run], Truth]:
    """All runs, on the one test set that they have in common."""
    measurer, runs = Measurer(replicates), list[Run]()
    truth: tuple[str, PackedIndex] | None = None
    for folder in progress(folders, desc="runs", unit="run", delay=1, leave=False):
        examined = examine_run(folder)
        index = examined.source.index
        truth = truth or (examined.source.name, index)
        home = home_of(folder)
        cfg, settings = read_settings(home, examined.measured)
        training = measurer.measure(str(folder), index, examined.found, settings["SEED"])
        runs.append(Run(folder, home, cfg, settings, examined.measured, training))
    if truth is None:
        raise ValueError("no runs")
    return runs, Truth(*truth, replicates)


def _said(
    name: str,
    arm: Sequence[Run],
    logs: Mapping[Path, History | None],
    times: Times,
    notes: list[str],
) -> dict[str, Any]:
    """What the document says of an arm beside its measures; what is not known, and why, goes to the notes."""
    rows, curves = [], []
    places = {name: [*MEASURES].index(name) for name in ("AP", "AP50", "AP75")}
    for run in arm:
        history = logs[run.folder]
        values = {name: float(run.training.measures.value[place]) for name, place in places.items()}
        rows.append({
            "folder": str(run.folder), "seed": run.seed, **values,
            "train_s": history.train_s if history else None, "steps": _steps(run, history),
        })  # fmt: skip
        if history:
            curves.append({
                "seed": run.seed, "loss": thinned(history.losses), "evaluations": [list(e) for e in history.evaluations]
            })  # fmt: skip
    first = arm[0]
    histories = [history for run in arm if (history := logs[run.folder])]
    told = times.arms[name]
    if not any(times.arms.values()):  # else one column would hold what was measured in turns, and what was not
        told = {
            "step_s": _mean([one.step_s for one in histories], statistics.median),
            "memory_mb": _mean([one.memory_mb for one in histories], max),
        }
    number, why = counts(first.cfg)
    if why:
        notes.append(f"{name}: parameters and multiply-adds are not counted: {why}.")
    found = [correlation(run.cfg, run.home) for run in arm]
    if lost := [str(run.folder) for run, value in zip(arm, found, strict=True) if value is None]:
        notes.append(f"{', '.join(lost)}: no checkpoint, so the correlation of filters is not known.")
    steps = _steps(first, logs[first.folder])
    return {
        "runs": rows,
        "backbone": first.cfg.MODEL.BACKBONE.NAME,
        "head": first.cfg.MODEL.HEAD.NAME,
        "facts": facts(
            **number,
            **{key: told.get(key) for key in ("step_s", "step_s_rounds", "image_s", "image_s_rounds", "memory_mb")},
            train_s=_mean([one.train_s for one in histories]),
            correlation=_mean([value for value in found if value is not None]),
            steps=steps,
            images_seen=None if steps is None else steps * first.cfg.SOLVER.IMS_PER_BATCH,
        ),
        "curves": curves,
    }


def thinned(points: Sequence[tuple[int, float]], most: int = _POINTS) -> list[list[float]]:
    """At most so many points: means of neighbours, at the step of the last one of them."""
    every = -(-len(points) // most) if points else 1
    parts = [points[begin : begin + every] for begin in range(0, len(points), every)]
    return [[part[-1][0], sum(value for _, value in part) / len(part)] for part in parts]


def _steps(run: Run, history: History | None) -> int | None:
    """Of the training that the measured weights have behind them."""
    step = run.measured.get("step")
    return step if isinstance(step, int) else history.steps if history else None


def _whole(run: Run) -> int | None:
    """Steps of the training, None where epochs count and nothing says how many steps they are."""
    origin = origin_of(run.home)
    if origin and origin.steps:
        return origin.steps
    return None if run.cfg.SOLVER.EPOCHS else run.cfg.SOLVER.MAX_ITER


def _mean(values: Sequence[float], middle: Any = statistics.fmean) -> float | None:  # noqa: ANN401
    known = [value for value in values if not math.isnan(value)]
    return middle(known) if known else None


def _notes(arms: Mapping[str, Sequence[Run]], logs: Mapping[Path, History | None], times: Times) -> list[str]:
    """What makes a comparison less than fair, or less than known."""
    notes, runs = [], [run for arm in arms.values() for run in arm]
    budgets = {
        name: (_steps(arm[0], logs[arm[0].folder]), arm[0].cfg.SOLVER.IMS_PER_BATCH) for name, arm in arms.items()
    }
    if len({*budgets.values()}) > 1:
        told = "; ".join(
            f"{name}: {counted(steps, 'step|steps')} of {counted(batch, 'image|images')}"
            for name, (steps, batch) in budgets.items()
        )
        notes.append(f"The budgets differ: {told}.")
    for name, arm in arms.items():
        if keys := differing(arm):
            notes.append(f"The runs of {name} differ in {', '.join(keys)}.")
    for run in runs:
        history, step, whole = logs[run.folder], run.measured.get("step"), run.cfg.SOLVER.MAX_ITER
        if isinstance(step, int) and step < whole and not run.cfg.SOLVER.EPOCHS:
            notes.append(f"{run.folder} was tested at step {step} of {whole}.")
        if history is None:
            notes.append(f"{run.folder} holds no log.jsonl: its times and curves are not known.")
    headers = [history.header for history in logs.values() if history]
    for key, what in (("versions", "versions"), ("device", "devices"), ("threads", "numbers of threads"),
                      ("processes", "numbers of processes")):  # fmt: skip
        if len(told_ := _distinct(headers, key)) > 1:
            notes.append(f"The runs were trained with different {what}: {'; '.join(told_)}.")
    return notes + _of_times(times, [history for history in logs.values() if history])


def _of_times(times: Times, logs: Sequence[History]) -> list[str]:
    """Where the times and the memory of the costs come from."""
    notes = []
    if any(times.arms.values()):
        where = f" on {', '.join(times.devices)}" if times.devices else ""
        notes.append(f"The times of a step and of an image were measured in turns{where}.")
        if len(times.places) > 1:
            notes[-1] += f" That was done in each of {', '.join(times.places)} by itself: at different times."
        if any("memory_mb" in arm for arm in times.arms.values()):
            notes.append("Memory is that of the tensors of a training step.")
        if without := [name for name, arm in times.arms.items() if not arm]:
            notes.append(f"Not measured with the others, so without times and memory: {', '.join(without)}.")
    elif logs:
        notes.append("The time of a step is the median by the logs, each as its training ran, perhaps beside others.")
        if any(not math.isnan(one.memory_mb) for one in logs):
            notes.append("Memory is the peak by the logs: on CUDA of the tensors, elsewhere of the whole process.")
    return notes


def _distinct(headers: Sequence[Mapping[str, Any]], key: str) -> list[str]:
    """The different values of a key, as texts, in the order in which they come."""
    values = [header[key] for header in headers if header.get(key) is not None]
    texts = [
        ", ".join(f"{name} {one}" for name, one in value.items()) if isinstance(value, dict) else str(value)
        for value in values
    ]
    return [*dict.fromkeys(texts)]
