"""The answer of a comparison as a terminal shows it: sentences, one table, and what must be known; see the report."""

import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

from detector.report.document import FEW
from detector.report.headline import ONE_RUN, headline, warnings
from detector.report.shown import (
    NOTHING,
    TIE,
    Cost,
    Document,
    budget,
    chance,
    fact,
    images_alone,
    known_costs,
    measured,
    seeds,
    subject,
)
from detector.text import printable

WIDTH = 100
"""Letters of a line of sentences."""

_COSTS = ("params", "macs", "image_s", "step_s")
"""Those that stand in the table."""

_LONGEST = 24
"""Letters of a name in a column's title."""


def opening(document: Document) -> str:
    """What was compared on what, what failed, and the answer."""
    return _lines([f"{subject(document)}.", *warnings(document)]) + "\n\n" + _lines(headline(document))


def rows(document: Document) -> list[list[str]]:
    """A table: AP of each model, its difference to the first one's, and what it costs. The first row: titles."""
    models = document["models"]
    first = next(iter(models))
    pairs = {pair["models"][0]: pair for pair in document["differences"] if pair["models"][1] == first}
    costs = [cost for cost in known_costs(document) if cost.key in _COSTS]
    beside = ["difference", "p", "verdict"] if pairs else ["AP50", "AP75"]
    if pairs and len(first) <= _LONGEST:
        beside[0] = f"minus {first}"
    made = [["model", "AP", *beside, *(cost.title for cost in costs)]]
    for name, model in models.items():
        if pairs:
            more = _difference(pairs[name]["AP"]) if name in pairs else ["-"] * len(beside)
        else:
            more = [measured(model.get(measure)) for measure in beside]
        made.append([name, measured(model.get("AP")), *more, *(_cost(model, cost) for cost in costs)])
    return [[printable(cell) for cell in row] for row in made]


def closing(document: Document) -> str:
    """How to read the table, and what makes the comparison less than fair or less than known."""
    what = "images and of the seeds" if seeds(document) else "images alone"
    if alone := images_alone(document):
        what += f"; of the images alone: {alone}"
    said = [f"Points of a hundred; in brackets 95 % intervals: the chance of the test {what}."]
    if "difference" in (titles := rows(document)[0]):
        said.append(f"{titles[2].capitalize()}: minus {next(iter(document['models']))}.")
    told = [note for note in document.get("notes") or () if not note.startswith((ONE_RUN, FEW, "Memory is"))]
    return _lines([" ".join([*said, budget(document)]).strip(), *(f"- {note}" for note in told)])


def _difference(row: Mapping[str, Any]) -> list[str]:
    """Value with interval, p, and the verdict on the model against the first."""
    if row.get("value") is None:
        return ["-", "-", NOTHING]
    verdict = TIE if row["tie"] else "better" if row["value"] > 0 else "worse"
    return [measured(row, sign=True), chance(row.get("p")), verdict]


def _cost(model: Mapping[str, Any], cost: Cost) -> str:
    value = fact(model, cost.key)
    return "-" if value is None else cost.text(value)


def _lines(said: Iterable[str]) -> str:
    """Sentences, each from the beginning of a line."""
    return "\n".join(
        textwrap.fill(
            printable(one), WIDTH, subsequent_indent="  " * one.startswith("- "), break_long_words=False,
            break_on_hyphens=False,
        )
        for one in said
    )  # fmt: skip
