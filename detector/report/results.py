"""Detectors on one test set compared by their results files: measures with intervals, differences, ties called ties."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detector.data.packed import PackedIndex
from detector.errors import UserError
from detector.evaluation.report import MEASURES, PER_CLASS
from detector.evaluation.results import read_results
from detector.report.document import Measurer, Model, Truth, build, facts
from detector.text import printable
from detector.version import versions

LEAST = 0.05
"""The p value below which a class is said to differ, after Holm's correction for their number."""


def results_document(
    files: Sequence[str | Path], index: PackedIndex, replicates: int = 10_000, seed: int = 0
) -> dict[str, Any]:
    """Measures of each file of detections, and of each but the first their differences to the first one's.

    The intervals say what another choice of test images would change, and nothing of another seed of a training.
    Raises ValueError for fewer than two files, and as `read_results` does.
    """
    if len(files) < 2:
        raise UserError("--results: name two files or more; the others are compared with the first")
    measurer = Measurer(replicates, seed)
    models = {}
    for name, file in zip(short_names([Path(file) for file in files]), files, strict=True):
        training = measurer.measure(str(file), index, read_results(file, index))
        models[name] = Model([training], {"file": str(file), "facts": facts(), "curves": []})
    return build("results", Truth(str(index.path), index, replicates), models, versions=versions())


def short_names(files: Sequence[Path]) -> list[str]:
    """The stem of each file, or its folder's name where that is `results`; with the folder, or whole, if not unique."""
    forms = (
        [file.resolve().parent.name if file.stem == "results" else file.stem for file in files],
        [f"{file.resolve().parent.name}/{file.stem}" for file in files],
        [str(file) for file in files],
    )
    chosen = next((names for names in forms if len({*names}) == len(names)), None)
    return chosen or [f"{name} ({place})" for place, name in enumerate(forms[0], start=1)]


def markdown(document: Mapping[str, Any]) -> str:
    """The report as a page of Markdown, in points of a hundred."""
    models, classes = document["models"], document["classes"]
    lines = [
        "# Comparison",
        "",
        f"{len(models)} detectors on {document['truth']}: {document['images']} images with {document['objects']} "
        "objects. In points of a hundred, with 95 % intervals: of a paired bootstrap over the images "
        f"({document['replicates']} replicates), and of the seeds where there are several.",
        "",
        *_table(["measure", *models], [
            [name, *(_value(model[name]) for model in models.values())] for name in MEASURES
        ]),
    ]  # fmt: skip
    for pair in document["differences"]:
        lines += [
            "",
            f"## {' minus '.join(map(printable, pair['models']))}",
            "",
            *_table(["measure", "difference", "p", ""], [
                [name, _value(pair[name], sign=True), _p(pair[name]["p"]), _verdict(pair[name], pair["models"])]
                for name in MEASURES
            ]),
        ]  # fmt: skip
        told = [name for name in classes if (p := pair[PER_CLASS + name]["p_holm"]) is not None and p < LEAST]
        lines += ["", f"Classes that differ (p below {LEAST} after Holm's correction over {len(classes)}):"]
        lines[-1] += "" if told else " none."
        rows = [(name, pair[PER_CLASS + name]) for name in told]
        if told:
            lines += ["", *_table(["class", "difference of AP", "p, corrected"], [
                [name, _value(row, sign=True), _p(row["p_holm"])] for name, row in rows
            ])]  # fmt: skip
    lines += ["", *(f"- {printable(note)}" for note in document["notes"])]
    return "\n".join(lines) + "\n"


def _verdict(one: Mapping[str, Any], models: Sequence[str]) -> str:
    if one["value"] is None:
        return "nothing to find"
    return "a tie" if one["tie"] else f"{models[0] if one['value'] > 0 else models[1]} is better"


def _value(one: Mapping[str, Any], sign: bool = False) -> str:
    if one["value"] is None:
        return "-"
    form = "+.1f" if sign else ".1f"
    low, high = (format(100 * bound, form) for bound in one["interval95"])
    return f"{100 * one['value']:{form}} ({low} .. {high})"


def _p(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}" if value < 0.01 else f"{value:.2f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    shown = [[printable(cell).replace("|", "\\|") for cell in row] for row in (head, *rows)]
    lines = [f"| {' | '.join(row)} |" for row in shown]
    return [lines[0], "|---" * len(head) + "|", *lines[1:]]
