"""Runs that exist compared, several seeds of each architecture: the document of their report."""

import logging
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from detector.console import progress
from detector.data.packed import PackedIndex
from detector.engine.history import History, read_log
from detector.errors import FileAccessError, MissingFileError, UserError
from detector.evaluation.report import MEASURES
from detector.report.arms import (
    Run,
    arm_names,
    check_seeds,
    differing,
    find_runs,
    group,
    home_of,
    read_settings,
    settings_of,
)
from detector.report.document import Measurer, Model, Truth, build, facts
from detector.report.facts import correlation, counts
from detector.tasks.examined import examine_run
from detector.version import versions

log = logging.getLogger("detector")

SPEED = "speed.json"
"""What was measured of all arms beside their runs: {"arms": {NAME: {"step_s", "image_s", "memory_mb"}}, "device"}."""

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
    their settings. speed: as `SPEED`, whose times count before those of the logs; failed: what could not be trained,
    and why.
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
        raise UserError(f"no run was tested: {'; '.join(f'{name}: {why}' for name, why in missing.items())}")
    runs, truth = _measure(found, replicates)
    if given is None:
        grouped = group(runs)
        chosen = dict(zip(arm_names(grouped), grouped, strict=True))
    else:
        chosen = {name: [run for run, of in zip(runs, given, strict=True) if of == name] for name in arms or ()}
        chosen = {name: sorted(some, key=lambda run: run.seed) for name, some in chosen.items() if some}
    for name, some in chosen.items():
        check_seeds(name, some)
    logs = {run.folder: _log(run) for run in runs}
    notes = _notes(chosen, logs, speed)
    models = {}
    for name, some in chosen.items():
        models[name] = Model([run.training for run in some], _said(name, some, logs, speed, notes))
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
        notes=notes,
    )


def read_speed(folders: Sequence[str | Path]) -> dict[str, Any] | None:
    """The first `SPEED` in these folders, None where there is none. Raises ValueError for one that is none."""
    for path in (Path(folder) / SPEED for folder in folders):
        if not path.is_file():
            continue
        try:
            content = msgspec.json.decode(path.read_bytes())
        except OSError as error:
            raise FileAccessError(f"{path}: {error.strerror or error}") from None
        except msgspec.DecodeError as error:
            raise UserError(f"{path} is no JSON: {error}; delete it") from None
        if isinstance(content, dict) and isinstance(content.get("arms"), dict):
            return content
        raise UserError(f'{path} says nothing of times: it holds no "arms"; delete it')
    return None


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
    speed: Mapping[str, Any] | None,
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
    told = _speed_of(name, first, speed)
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
            step_s=told.get("step_s") or _mean([one.step_s for one in histories], statistics.median),
            image_s=told.get("image_s"),
            memory_mb=told.get("memory_mb") or _mean([one.memory_mb for one in histories], max),
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


def _log(run: Run) -> History | None:
    try:
        return read_log(run.home)
    except MissingFileError:
        return None


def _steps(run: Run, history: History | None) -> int | None:
    """Of the training that the measured weights have behind them."""
    step = run.measured.get("step")
    return step if isinstance(step, int) else history.steps if history else None


def _speed_of(name: str, run: Run, speed: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """The times that were measured of an arm, {} for none."""
    arms = (speed or {}).get("arms", {})
    names = (name, f"{run.cfg.MODEL.HEAD.NAME} {run.cfg.MODEL.BACKBONE.NAME}")
    return next((arms[one] for one in names if isinstance(arms.get(one), dict)), {})


def _mean(values: Sequence[float], middle: Any = statistics.fmean) -> float | None:  # noqa: ANN401
    known = [value for value in values if not math.isnan(value)]
    return middle(known) if known else None


def _notes(
    arms: Mapping[str, Sequence[Run]], logs: Mapping[Path, History | None], speed: Mapping[str, Any] | None
) -> list[str]:
    """What makes a comparison less than fair, or less than known."""
    notes, runs = [], [run for arm in arms.values() for run in arm]
    budgets = {
        name: (_steps(arm[0], logs[arm[0].folder]), arm[0].cfg.SOLVER.IMS_PER_BATCH) for name, arm in arms.items()
    }
    if len({*budgets.values()}) > 1:
        told = "; ".join(f"{name}: {steps} steps of {batch} images" for name, (steps, batch) in budgets.items())
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
    if speed and speed.get("device"):
        said = (
            " Memory is that of a step's tensors." if any("memory_mb" in arm for arm in speed["arms"].values()) else ""
        )
        notes.append(f"The times of a step and of an image were measured in turns on {speed['device']}.{said}")
    return notes


def _distinct(headers: Sequence[Mapping[str, Any]], key: str) -> list[str]:
    """The different values of a key, as texts, in the order in which they come."""
    values = [header[key] for header in headers if header.get(key) is not None]
    texts = [
        ", ".join(f"{name} {one}" for name, one in value.items()) if isinstance(value, dict) else str(value)
        for value in values
    ]
    return [*dict.fromkeys(texts)]
