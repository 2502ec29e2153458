"""What log.jsonl says of a run: losses, rates, times and evaluations over its steps."""

import math
import statistics
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from detector.engine.records import NAME, OF_EVALUATIONS, read_line
from detector.errors import FileAccessError, MissingFileError, UserError
from detector.text import none_of

BEGINNINGS = ("start", "resume")
"""Events at whose step a run begins or goes on: what the log has of later steps is made again."""

_NO_VALUE = -1.0  # of a measure, where there is nothing to find


class History(NamedTuple):
    """A run's log, each step once and in order.

    name: of the folder; steps: the last one of which there is a line; losses: (step, value), means of the 20 steps up
    to it, or of those since the start; terms: likewise, by the name of each loss term; rates: (step, value) of the step
    itself; evaluations: (step, AP, AP50), fractions, means over the test sets that have something to find, NaN where
    that was not measured; step_s: seconds a step, the median of the lines; train_s: seconds of all steps, without
    evaluations and checkpoints; memory_mb: the peak; NaN where nothing says so; header: what the first line says of
    program and machine; notes: what happened, in sentences; patience, nonfinite: the step at which patience ended it,
    and after which losses were no numbers, the last of each.
    """

    name: str
    steps: int
    losses: list[tuple[int, float]]
    terms: dict[str, list[tuple[int, float]]]
    rates: list[tuple[int, float]]
    evaluations: list[tuple[int, float, float]]
    step_s: float
    train_s: float
    memory_mb: float
    header: dict[str, Any]
    notes: list[str]
    patience: int | None = None
    nonfinite: int | None = None

    def best(self) -> tuple[int, float]:
        """(step, AP) of the best evaluation, the first of equal ones; (0, NaN) without any."""
        known = [(step, ap) for step, ap, _ in self.evaluations if not math.isnan(ap)]
        return max(known, key=lambda one: one[1], default=(0, math.nan))


def read_log(folder: str | Path) -> History:
    """The history of a run's folder, which may still be written.

    Lines that are no record, such as the half one of a run that is writing or was killed, are left out and counted in
    the notes. Raises ValueError or OSError with the remedy where there is no log, or it holds no record.
    """
    folder = Path(folder)
    path = folder / NAME
    if not folder.is_dir():
        raise MissingFileError(f"RUN {folder}: there is no such folder; write that of a run, output/NAME")
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        inner = sorted(log.parent.name for log in folder.glob(f"*/{NAME}"))
        remedy = f"write the runs in it, {folder / inner[0]} .." if inner else "a run's folder has one"
        raise MissingFileError(f"RUN {folder} holds no {NAME}; {remedy}") from None
    except OSError as error:
        raise FileAccessError(f"{path}: {error.strerror or error}") from None
    records = [record for line in lines if (record := read_line(line)) is not None]
    if lines and not records:
        raise UserError(
            f"{path}: {none_of(len(lines), 'line|lines')} is a record of a training; is it the log of a run?"
        )
    notes = []
    if broken := len(lines) - len(records):
        notes.append(f"{_lines(broken)} of {NAME} not written to the end, left out")
    return _history(folder.resolve().name, records, notes)


def _history(name: str, records: Sequence[Mapping[str, Any]], notes: list[str]) -> History:
    steps, tests = dict[int, Mapping[str, Any]](), dict[int, Mapping[str, Any]]()
    header = dict[str, Any]()
    ends = dict[str, int]()
    for record in records:
        step, event = record["step"], record.get("event")
        if event in ("patience", "nonfinite"):
            ends[event] = step
        if event in BEGINNINGS:
            ends = {one: end for one, end in ends.items() if end <= step}
            for done in (steps, tests):
                for later in [one for one in done if one > step]:
                    del done[later]
            header = header or {key: value for key, value in record.items() if key not in ("step", "event")}
        if event is None:
            steps[step] = record
        elif event == OF_EVALUATIONS[0]:
            tests[step] = record
        elif text := _told(record):
            notes.append(text)
    known = [steps[step] for step in sorted(steps)]
    names = dict.fromkeys(key for record in known for key in record if key.startswith("loss_"))
    each = _column(known, "step_s")
    begins = [0, *(record["step"] for record in known)]
    spans = {end: end - begin for begin, end in pairwise(begins)}
    memory = [value for _, value in _column(known, "memory_mb") if not math.isnan(value)]
    times = [value for _, value in each if not math.isnan(value)]
    return History(
        name=name,
        steps=max([*steps, *tests, *(record["step"] for record in records[-1:])], default=0),
        losses=_column(known, "loss"),
        terms={one: _column(known, one) for one in names},
        rates=_column(known, "lr"),
        evaluations=[(step, *_measured(tests[step].get("metrics"))) for step in sorted(tests)],
        step_s=statistics.median(times) if times else math.nan,
        train_s=sum(spans[step] * value for step, value in each if not math.isnan(value)) if times else math.nan,
        memory_mb=max(memory, default=math.nan),
        header=header,
        notes=notes,
        patience=ends.get("patience"),
        nonfinite=ends.get("nonfinite"),
    )


def _column(records: Sequence[Mapping[str, Any]], name: str) -> list[tuple[int, float]]:
    """(step, value) of the records that have it; null, which stands for what is no number, is NaN."""
    return [(record["step"], _number(record[name])) for record in records if name in record]


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def _measured(metrics: object) -> tuple[float, float]:
    """AP and AP50 of an evaluation: means over its test sets."""
    sets = [one for one in metrics.values() if isinstance(one, Mapping)] if isinstance(metrics, Mapping) else []
    found = []
    for name in ("AP", "AP50"):
        values = [value for one in sets if not math.isnan(value := _number(one.get(name))) and value != _NO_VALUE]
        found.append(sum(values) / len(values) if values else math.nan)
    return found[0], found[1]


def _told(record: Mapping[str, Any]) -> str:
    """An event in words; "" for one that is not worth them."""
    step = record["step"]
    match record.get("event"):
        case "resume":
            return f"resumed at step {step}"
        case "stopped":
            return f"stopped at step {step} by {record.get('by')}"
        case "nonfinite":
            return f"losses that are no numbers after step {step}"
        case "patience":
            return f"ended at step {step} by patience, the best at step {record.get('best_step')}"
    return ""


def _lines(number: int) -> str:
    return "1 line" if number == 1 else f"{number} lines"
