"""report.md: the page of a comparison in Markdown, from report.json alone; values in points of a hundred."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from detector.evaluation.report import MEASURES, PER_CLASS
from detector.report.headline import headline, reading
from detector.report.shown import (
    LEAST,
    Document,
    budget,
    chance,
    class_names,
    fact,
    known_costs,
    made_with,
    measured,
    setting,
    subject,
    told,
    verdict,
)
from detector.text import printable


def markdown(document: Document) -> str:
    """The whole report."""
    parts = [
        ["# Comparison", "", _line(f"{subject(document)}.")],
        [_line(" ".join([*headline(document), budget(document)]).strip())],
        [_line(" ".join([*reading(document), *(document.get("notes") or [])]))],
        *_models(document),
        *(_pair(pair, class_names(document)) for pair in document["differences"]),
        *_compared(document),
        *_failed(document),
    ]
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def _models(document: Document) -> Iterator[list[str]]:
    models = document["models"]
    yield _table(["measure", *models], [
        [name, *(measured(model.get(name)) for model in models.values())] for name in MEASURES
    ])  # fmt: skip
    costs = known_costs(document)
    if costs:
        values = [[(cost, fact(model, cost.key)) for cost in costs] for model in models.values()]
        yield ["## Costs"]
        yield _table(["model", *(cost.title for cost in costs)], [
            [name, *("-" if value is None else cost.text(value) for cost, value in row)]
            for name, row in zip(models, values, strict=True)
        ])  # fmt: skip


def _pair(pair: Mapping[str, Any], classes: Sequence[str]) -> list[str]:
    other, first = pair["models"]
    lines = [
        f"## {_line(other)} minus {_line(first)}",
        "",
        *_table(["measure", "difference", "p", ""], [
            [name, measured(pair[name], sign=True), chance(pair[name]["p"]), verdict(pair[name], pair["models"])]
            for name in MEASURES if name in pair
        ]),
        "",
    ]  # fmt: skip
    differ = told(pair, classes)
    lines.append(f"Classes that differ (p below {LEAST} after Holm's correction over {len(classes)}):")
    if not differ:
        return [*lines[:-1], f"{lines[-1]} none."]
    rows = [(name, pair[PER_CLASS + name]) for name in differ]
    return [*lines, "", *_table(["class", "difference of AP", "p, corrected"], [
        [name, measured(row, sign=True), chance(row["p_holm"])] for name, row in rows
    ])]  # fmt: skip


def _compared(document: Document) -> Iterator[list[str]]:
    compared = document.get("compared") or {}
    models = document["models"]
    if compared.get("differ"):
        yield ["## Settings that differ"]
        yield _table(["key", *models], [
            [key, *(setting(values[name]) if name in values else "-" for name in models)]
            for key, values in compared["differ"].items()
        ])  # fmt: skip
    if compared.get("same"):
        yield [f"{len(compared['same'])} settings are the same; report.json names them."]
    if made_with(document):
        yield [_line(f"Made with {', '.join(made_with(document))}.")]


def _failed(document: Document) -> Iterator[list[str]]:
    if document.get("failed"):
        yield ["## Failed"]
        yield _table(["cell", "why"], [[str(one["cell"]), str(one["why"])] for one in document["failed"]])


def _line(text: str) -> str:
    r"""Text that neither breaks a line nor is taken for a tag or the edge of a cell: \< and \|."""
    return re.sub(r"(\\*)(\||<(?=[A-Za-z/!?]))", r"\1\1\\\2", printable(text))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    shown = [[_line(cell) for cell in row] for row in (head, *rows)]
    lines = [f"| {' | '.join(row)} |" for row in shown]
    return [lines[0], "|---" * len(head) + "|", *lines[1:]]
