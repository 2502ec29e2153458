"""The curves of several runs: loss, its terms, rate and measures over steps; runs that differ in the seed together."""

import csv
import io
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from detector.engine.history import History, read_log
from detector.errors import UserError

VERSION = 1

Curve = list[tuple[int, float]]
"""(step, value), by rising steps; a value may be NaN."""

_SEED = re.compile(r"[/_.-]*seed[_-]?\d+$", re.IGNORECASE)


class Run(NamedTuple):
    """A run. name: unlike those of the others, as short as can be; family: the name without its seed."""

    name: str
    family: str
    folder: Path
    history: History

    def curves(self) -> dict[str, Curve]:
        """By name: loss, AP, AP50, the terms of the loss, lr; without those that have no point."""
        history = self.history
        every = {
            "loss": history.losses,
            "AP": [(step, ap) for step, ap, _ in history.evaluations],
            "AP50": [(step, ap50) for step, _, ap50 in history.evaluations],
            **history.terms,
            "lr": history.rates,
        }
        return {name: curve for name, curve in every.items() if any(not math.isnan(value) for _, value in curve)}


class Family(NamedTuple):
    """Runs that differ in nothing but the seed that their names end in.

    bands: for each curve of all of them steps [P], their mean, lowest and highest value [P], where all of them have
    values; where one has none at a step it counts as on the straight line between its neighbours.
    """

    name: str
    runs: list[Run]
    bands: dict[str, np.ndarray]


def read_runs(folders: Sequence[str | Path]) -> list[Run]:
    """The runs of some folders, each once. Raises as `read_log`, and ValueError where none has come to a step."""
    paths = list({Path(folder).resolve(): Path(folder) for folder in folders}.values())
    names = _names(paths)
    runs = [Run(name, _family(name, path), path, read_log(path)) for name, path in zip(names, paths, strict=True)]
    if not any(run.curves() for run in runs):
        raise UserError(f"{', '.join(map(str, paths))}: nothing is logged yet; a run files its first losses at step 20")
    return runs


def families(runs: Sequence[Run]) -> list[Family]:
    """The runs by their families, in the order of their first ones."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(run.family, []).append(run)
    return [Family(name, of_it, _bands(of_it) if len(of_it) > 1 else {}) for name, of_it in found.items()]


def rows(runs: Sequence[Run]) -> Iterator[tuple[str, int, str, float]]:
    """Every point of every curve: run, step, name of the curve, value."""
    for run in runs:
        for name, curve in run.curves().items():
            for step, value in curve:
                yield run.name, step, name, value


def as_csv(runs: Sequence[Run]) -> bytes:
    """The `rows` as a table with a head; an empty cell where there is no number."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("run", "step", "curve", "value"))
    writer.writerows((*row[:3], "" if math.isnan(row[3]) else row[3]) for row in rows(runs))
    return text.getvalue().encode(errors="backslashreplace")


def document(runs: Sequence[Run]) -> dict[str, Any]:
    """Everything, as plain values; nan becomes null."""
    return {
        "version": VERSION,
        "runs": [
            {
                "name": run.name,
                "family": run.family,
                "folder": str(run.folder),
                "steps": run.history.steps,
                "step_s": run.history.step_s,
                "train_s": run.history.train_s,
                "memory_mb": run.history.memory_mb,
                "best": dict(zip(("step", "AP"), run.history.best(), strict=True)),
                "curves": run.curves(),
                "notes": run.history.notes,
            }
            for run in runs
        ],
        "families": [
            {
                "name": family.name,
                "runs": [run.name for run in family.runs],
                "curves": {
                    name: {"steps": steps.astype(int).tolist(), "mean": mean, "low": low, "high": high}
                    for name, (steps, *values) in family.bands.items()
                    for mean, low, high in [[value.tolist() for value in values]]
                },
            }
            for family in families(runs)
            if family.bands
        ],
    }


def _bands(runs: Sequence[Run]) -> dict[str, np.ndarray]:
    """[4, P] by name: steps, mean, lowest and highest."""
    curves = [run.curves() for run in runs]
    found = {}
    for name in curves[0]:
        if not all(name in others for others in curves):
            continue
        points = [np.array([one for one in own[name] if not math.isnan(one[1])]).T for own in curves]
        first, last = max(steps[0] for steps, _ in points), min(steps[-1] for steps, _ in points)
        steps = np.unique(np.concatenate([steps for steps, _ in points]))
        steps = steps[(steps >= first) & (steps <= last)]
        if len(steps):
            values = np.stack([np.interp(steps, *own) for own in points])
            found[name] = np.stack([steps, values.mean(0), values.min(0), values.max(0)])
    return found


def _names(folders: Sequence[Path]) -> list[str]:
    """The last parts of the paths, as few as tell them apart; of a folder that is named by its seed alone two."""
    parts = [folder.resolve().parts for folder in folders]
    most = max(map(len, parts))
    for number in range(1, most + 1):
        names = ["/".join(one[-number:]) for one in parts]
        if len({*names}) == len(names) and not any(_SEED.sub("", name) == "" for name in names):
            break
    return names


def _family(name: str, folder: Path) -> str:
    return _SEED.sub("", name) or folder.resolve().parent.name
