"""The study of trainings: losses, rates and measures of several runs over their steps."""

import argparse
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from detector.commands.base import output_folder, show
from detector.commands.output import folder
from detector.commands.studies import Adder
from detector.commands.studies.drawing import picture
from detector.commands.studies.networks import number, points, table
from detector.files import user_path, write_atomic, write_json
from detector.text import counted, printable

if TYPE_CHECKING:
    from detector.report.curves import Family, Run

log = logging.getLogger("detector")

EXAMPLE = "detector analyze curves output/*_seed0 output/*_seed1 --output output/curves"


def add(command: Adder) -> None:
    """The command `curves`."""
    one = command("curves", "loss, its terms, rate, AP and AP50 of trainings over their steps", EXAMPLE)
    one.add_argument(
        "runs", nargs="+", type=user_path, metavar="RUN",
        help="a run's folder, also of one that is training; those that differ in an ending like _seed1 alone are drawn "
        "as their mean, in the range of their values",
    )  # fmt: skip
    one.add_argument(
        "--output", type=folder, metavar="FOLDER", help="None: RUN/analysis of a single run, or output/analysis"
    )
    one.set_defaults(study=curves)


def curves(args: argparse.Namespace) -> None:
    """Print a line for each run; write curves.json, curves.csv and curves.png."""
    from detector.report.curve_charts import save_curves_chart
    from detector.report.curves import as_csv, document, families, read_runs

    runs = read_runs(args.runs)
    output = output_folder(args.output or (runs[0].folder / "analysis" if len(runs) == 1 else Path("output/analysis")))
    together = families(runs)
    show(_table(runs))
    for line in [*_seeds(together), *_notes(runs)]:
        show(printable(line))
    write_json(output / "curves.json", document(runs))
    write_atomic(output / "curves.csv", as_csv(runs))
    for name in ("json", "csv"):
        log.info("-> %s", output / f"curves.{name}")
    with picture(output / "curves.png"):
        save_curves_chart(output / "curves.png", together)


def _table(runs: Sequence["Run"]) -> str:
    lines = [["run", "steps", "loss", "best AP", "at step", "last AP", "last AP50", "s/step", "hours", "MiB"]]
    for run in runs:
        history = run.history
        step, best = history.best()
        last = history.evaluations[-1][1:] if history.evaluations else (math.nan, math.nan)
        loss = next((value for _, value in reversed(history.losses)), math.nan)
        hours, memory = history.train_s / 3600, history.memory_mb
        lines.append(
            [
                printable(run.name),
                str(history.steps),
                number(loss),
                points(best),
                str(step) if step else "-",
                *map(points, last),
                number(history.step_s),
                "-" if math.isnan(hours) else f"{hours:.2f}",
                "-" if math.isnan(memory) else f"{memory:.0f}",
            ]
        )
    return table(lines)


def _seeds(together: Sequence["Family"]) -> list[str]:
    """Of families of several runs the last measures in common."""
    lines = []
    for family in together:
        known = [name for name in ("AP", "AP50") if name in family.bands]
        if known:
            steps = family.bands[known[0]][0]
            values = [
                f"{name} {points(mean)} ({points(low)} to {points(high)})"
                for name in known
                for _, mean, low, high in [family.bands[name][:, -1]]
            ]
            text = ", ".join(values)
            lines.append(
                f"{family.name}: {text}, mean and range of {counted(len(family.runs), 'run|runs')} at step "
                f"{steps[-1]:.0f}"
            )
    return lines


def _notes(runs: Sequence["Run"]) -> list[str]:
    lines = []
    for run in runs:
        history = run.history
        notes = list(history.notes)
        if not history.losses:
            notes.append("no losses are logged yet")
        if not history.evaluations:
            notes.append("no evaluation")
        elif math.isnan(history.best()[1]):
            notes.append(f"evaluations without an AP: {len(history.evaluations)}")
        lines += [f"{run.name}: {note}" for note in notes]
    return lines
