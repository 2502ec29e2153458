"""Detectors on one test set compared by their results files: measures with intervals, differences, ties called ties."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from detector.data.packed import PackedIndex
from detector.errors import UserError
from detector.evaluation.base import class_names
from detector.evaluation.report import PER_CLASS
from detector.evaluation.results import read_results
from detector.evaluation.significance import (
    Difference,
    Judged,
    Resampled,
    alone,
    check_same,
    gaps,
    holm,
    judge,
    resample,
)

VERSION = 1
"""Of the JSON document."""


class Model(NamedTuple):
    """A results file. name: as tables show it; measures, classes: each with its intervals."""

    name: str
    file: Path
    measures: dict[str, Difference]
    classes: list[Difference]


class Pair(NamedTuple):
    """A model minus the first one. adjusted: p of each class after Holm's correction, nan where there is none."""

    models: tuple[str, str]
    measures: dict[str, Difference]
    classes: list[Difference]
    adjusted: list[float]


class Comparison(NamedTuple):
    """What was compared, on which truth, with how many replicates of the bootstrap; classes: their names."""

    truth: Path
    images: int
    objects: int
    replicates: int
    classes: list[str]
    models: list[Model]
    pairs: list[Pair]


def compare_results(
    files: Sequence[str | Path], index: PackedIndex, replicates: int = 10_000, seed: int = 0
) -> Comparison:
    """Measures of each file of detections, and of each but the first their differences to the first one's.

    The intervals say what another choice of test images would change, and nothing of another seed of a training.
    Raises ValueError for fewer than two files, and as `read_results` does.
    """
    if len(files) < 2:
        raise UserError("--results: name two files or more; the others are compared with the first")
    names = short_names([Path(file) for file in files])
    judged: list[Judged] = [judge(index, read_results(file, index)) for file in files]
    for one in judged[1:]:
        check_same(judged[0], one)
    drawn: list[Resampled] = [resample(one, replicates, seed) for one in judged]
    models = [Model(name, Path(file), *alone(one)) for name, file, one in zip(names, files, drawn, strict=True)]
    pairs = []
    for name, other in zip(names[1:], drawn[1:], strict=True):
        measures, classes = gaps(other, drawn[0])
        pairs.append(Pair((name, names[0]), measures, classes, holm([each.p for each in classes])))
    counted = ~(index.crowd | index.difficult)
    return Comparison(index.path, len(index), int(counted.sum()), replicates, class_names(index), models, pairs)


def short_names(files: Sequence[Path]) -> list[str]:
    """The stem of each file, or its folder's name where that is `results`; with the folder, or whole, if not unique."""
    forms = (
        [file.resolve().parent.name if file.stem == "results" else file.stem for file in files],
        [f"{file.resolve().parent.name}/{file.stem}" for file in files],
        [str(file) for file in files],
    )
    chosen = next((names for names in forms if len({*names}) == len(names)), None)
    return chosen or [f"{name} ({place})" for place, name in enumerate(forms[0], start=1)]


def document(found: Comparison) -> dict[str, Any]:
    """Everything, as plain values under the names of metrics.json; nan becomes null.

    A difference is the value of the first model named minus that of the second.
    """
    models, differences = {}, []
    for model in found.models:
        models[model.name] = {"file": str(model.file), **_rows(found, model.measures, model.classes)}
        for one in models[model.name].values():
            if isinstance(one, dict):
                del one["p"], one["tie"]
    for pair in found.pairs:
        rows = _rows(found, pair.measures, pair.classes)
        for name, p in zip(found.classes, pair.adjusted, strict=True):
            rows[PER_CLASS + name]["p_holm"] = p
        differences.append({"models": list(pair.models), **rows})
    return {
        "version": VERSION,
        "truth": str(found.truth),
        "images": found.images,
        "objects": found.objects,
        "replicates": found.replicates,
        "models": models,
        "differences": differences,
    }


def _rows(found: Comparison, measures: dict[str, Difference], classes: Sequence[Difference]) -> dict[str, Any]:
    of_class = {PER_CLASS + name: one for name, one in zip(found.classes, classes, strict=True)}
    return {name: _plain(one) for name, one in (measures | of_class).items()}


def _plain(one: Difference) -> dict[str, Any]:
    return {
        "value": one.value,
        "se": one.se,
        "interval95": list(one.interval),
        "bca95": list(one.bca),
        "p": one.p,
        "tie": one.tie,
    }
