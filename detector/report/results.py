"""Detectors on one test set compared by their results files: measures with intervals, differences, ties called ties."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detector.data.catalog import Source
from detector.errors import UserError
from detector.evaluation.results import read_results
from detector.report.document import Measurer, Model, Truth, build, facts
from detector.version import versions


def results_document(files: Sequence[str | Path], truth: Source, replicates: int) -> dict[str, Any]:
    """Measures of each file of detections, and of each but the first their differences to the first one's.

    The intervals say what another choice of test images would change, and nothing of another seed of a training.
    Raises ValueError for fewer than two files, and as `read_results` does.
    """
    if len(files) < 2:
        raise UserError("--results: name two files or more; the others are compared with the first")
    measurer, index = Measurer(replicates), truth.index
    models = {}
    for name, file in zip(short_names([Path(file) for file in files]), files, strict=True):
        training = measurer.measure(str(file), index, read_results(file, index))
        models[name] = Model([training], {"file": str(file), "facts": facts(), "curves": []})
    return build("results", Truth(truth.name, index, replicates), models, versions=versions())


def short_names(files: Sequence[Path]) -> list[str]:
    """The stem of each file, or its folder's name where that is `results`; with the folder, or whole, if not unique."""
    forms = (
        [file.resolve().parent.name if file.stem == "results" else file.stem for file in files],
        [f"{file.resolve().parent.name}/{file.stem}" for file in files],
        [str(file) for file in files],
    )
    chosen = next((names for names in forms if len({*names}) == len(names)), None)
    return chosen or [f"{name} ({place})" for place, name in enumerate(forms[0], start=1)]
