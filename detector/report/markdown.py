"""report.md: the page of a comparison in Markdown, from report.json alone; values in points of a hundred."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from detector.evaluation.report import MEASURES, PER_CLASS
from detector.report.headline import headline, reading, warnings
from detector.report.shown import (
    LEAST,
    Cost,
    Document,
    budget,
    chance,
    class_names,
    explained,
    fact,
    known_costs,
    made_with,
    measured,
    rounds_text,
    setting,
    sizes_text,
    subject,
    told,
    verdict,
)
from detector.text import agreeing, printable

_MOST_CLASSES = 20
"""Whose AP stands in a table; of more, that of those that differ."""


def markdown(document: Document) -> str:
    """The whole report."""
    parts = [
        ["# Comparison", "", _line(f"{subject(document)}.")],
        *([f"**{_line(line)}**"] for line in warnings(document)),
        [_line(" ".join([*headline(document), budget(document)]).strip())],
        [f"- {_line(line)}" for line in [*reading(document), *(document.get("notes") or [])]],
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
    if sizes_text(document):
        yield [_line(sizes_text(document))]
    yield from _classes(document)
    costs = known_costs(document)
    if costs:
        values = [[(cost, fact(model, cost.key)) for cost in costs] for model in models.values()]
        yield ["## Costs"]
        yield _table(["model", *(cost.title for cost in costs)], [
            [name, *(_cost(models[name], cost, value) for cost, value in row)]
            for name, row in zip(models, values, strict=True)
        ])  # fmt: skip
        yield [_line(" ".join(explained(document)))]


def _cost(model: Mapping[str, Any], cost: Cost, value: float | None) -> str:
    if value is None:
        return "-"
    spread = rounds_text(model, cost)
    return f"{cost.text(value)} ({spread})" if spread else cost.text(value)


def _classes(document: Document) -> Iterator[list[str]]:
    """AP of each class; of many those that differ in a pair."""
    names, models = class_names(document), document["models"]
    if not names:
        return
    chosen = names
    if len(names) > _MOST_CLASSES:
        differ = {name for pair in document["differences"] for name in told(pair, names)}
        chosen = [name for name in names if name in differ]
    if not chosen and not document["differences"]:
        yield [f"The AP of each of {len(names):,} {agreeing(len(names), 'class|classes')} is in report.json."]
        return
    yield ["## AP by class"]
    if chosen:
        yield _table(["class", *models], [
            [name, *(measured(model.get(PER_CLASS + name)) for model in models.values())] for name in chosen
        ])  # fmt: skip
    if len(chosen) < len(names):
        those = "those that differ from the first model's" if chosen else "none of which differs from the first model's"
        yield [
            f"{len(chosen)} of {len(names):,} {agreeing(len(names), 'class|classes')}, {those}; report.json has all."
        ]


def _pair(pair: Mapping[str, Any], classes: Sequence[str]) -> list[str]:
    other, first = pair["models"]
    flips = any((pair[name].get("seeds") or {}).get("p") is not None for name in MEASURES if name in pair)
    lines = [
        f"## {_line(other)} minus {_line(first)}",
        "",
        *_table(["measure", "difference", "p", *["p, sign-flip"] * flips, "verdict"], [
            [
                name, measured(pair[name], sign=True), chance(pair[name]["p"]),
                *[chance((pair[name].get("seeds") or {}).get("p"))] * flips, verdict(pair[name], pair["models"]),
            ]
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
