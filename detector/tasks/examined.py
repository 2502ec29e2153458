"""The detections of a run or of a results file, with the test set that they are of."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from detector.config import get_defaults
from detector.config.tasks import BOXES, require_boxes
from detector.data.catalog import Source, distinct, load_dataset, name_of
from detector.data.index import load_index
from detector.data.packed import in_classes, lacking, shown
from detector.data.sources import with_crowds
from detector.engine.records import NAME as LOG
from detector.errors import FileAccessError, MissingFileError, UserError
from detector.evaluation.base import Found, class_names
from detector.evaluation.coco import CocoEvaluator
from detector.evaluation.report import PER_CLASS, VOC
from detector.evaluation.results import read_results
from detector.evaluation.voc import VocEvaluator
from detector.tasks.began import knowing_where
from detector.tasks.measured import MEASURED
from detector.tasks.retest import CONFIG, is_run, retest
from detector.text import counted

SHOWN = 4  # folders that a message names

COCO = "AP"
"""The measure that tells that COCO's were taken."""

ROUNDED = 1e-6
"""By which a measure may differ on another machine."""


class Examined(NamedTuple):
    """Detections and their truth.

    name: of the run or the file, for tables; source: the test set; its `folder` is that of the pictures, and does not
    exist where the truth is a JSON file alone; found: the detections; run: the folder that they lie in, None for a
    results file that was named; measured: what metrics.json says of the run, {} for a file.
    """

    name: str
    source: Source
    found: Found
    run: Path | None
    measured: Mapping[str, Any]


def examine_run(run: str | Path) -> Examined:
    """The newest detections of a run's folder, on the test set that it was tested on.

    Of several test sets each has a folder in the run's. Raises ValueError or OSError with the remedy where there are
    none, or the test set is not there any more.
    """
    folder = Path(run)
    metrics, results = folder / "metrics.json", folder / "results.json"
    if folder.is_file():
        raise UserError(f"RUN {folder} is a file; write the run's folder, or --results FILE --truth JSON|ENTRY")
    if not folder.is_dir():
        raise MissingFileError(f"RUN {folder}: there is no such folder; name that of a run, its OUTPUT_DIR")
    if not metrics.is_file():
        _check_inner(folder)
    if missing := [path.name for path in (metrics, results) if not path.is_file()]:
        lacks = f"RUN {folder} holds no {' and no '.join(missing)}"
        if len(missing) == 1 or is_run(folder):
            raise MissingFileError(
                f"{lacks}: {retest(folder)} makes them; where a test had another OUTPUT_DIR, they lie there: name that"
            )
        raise MissingFileError(
            f"{lacks}: `detector test RUN` makes them, in RUN or in the OUTPUT_DIR that it is given: name that folder"
        )
    content = read_metrics(metrics)
    said = content[MEASURED]
    task = said["config"].get("MODEL.TASK", BOXES) if isinstance(said.get("config"), dict) else BOXES
    require_boxes(task, f"{folder}: to look into detections")
    with knowing_where(metrics.parent, metrics.parent.parent):
        source = as_measured(tested(said, metrics), content, metrics)
    found = read_results(results, source.index)
    check_measures(content, source, found, metrics)
    return Examined(folder.resolve().name, source, found, folder, said)


def _check_inner(folder: Path) -> None:
    """Raises ValueError where a folder without results holds runs, or one for each of several test sets."""
    inner = sorted(path.parent for path in folder.glob("*/metrics.json"))
    trained = sorted({path.parent for name in (CONFIG, LOG) for path in folder.glob(f"*/{name}")})
    own = any((folder / name).is_file() for name in (CONFIG, LOG))
    if trained and not own:
        first = next((run for run in trained if run in inner), trained[0])
        raise UserError(f"RUN {folder} is no run, but holds {_some(trained)}: name one of them, as {first}")
    if inner:
        raise UserError(f"RUN {folder} was tested on {_some(inner)}: write {inner[0]}")


def _some(folders: Sequence[Path]) -> str:
    """The names of the first of some folders, and how many others there are."""
    more = f" and {len(folders) - SHOWN} others" if len(folders) > SHOWN else ""
    return ", ".join(folder.name for folder in folders[:SHOWN]) + more


def examine_file(results: str | Path, truth: str, root: str | Path) -> Examined:
    """The detections of a results file. truth, root: as `load_truth` takes them."""
    source = load_truth(truth, root)
    path = Path(results)
    name = path.resolve().parent.name if path.stem == "results" else path.stem
    return Examined(name, source, read_results(path, source.index), None, {})


def load_truth(truth: str, root: str | Path) -> Source:
    """The test set of an annotation file in COCO's format, or of an entry as in DATASETS.

    Raises KeyError, ValueError or OSError where there is none, or it cannot be read.
    """
    if truth.lower().endswith(".json"):
        if Path(truth).is_file():
            return Source(Path(truth).stem, Path(truth).parent, load_index(truth))
        if ":" not in os.path.splitdrive(truth)[1]:
            raise MissingFileError(f"--truth {truth}: there is no such file of annotations")
    return load_dataset(truth, root)


def read_metrics(path: Path) -> dict[str, Any]:
    """A metrics.json, which says under `MEASURED` what was measured. Raises ValueError where it does not."""
    try:
        content = msgspec.json.decode(path.read_bytes())
    except OSError as error:
        raise FileAccessError(f"{path}: {error.strerror or error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is no JSON: {error}; {retest(path.parent)} writes it anew") from None
    said = content.get(MEASURED) if isinstance(content, dict) else None
    if not isinstance(said, dict) or not isinstance(said.get("data"), dict) or not isinstance(said.get("config"), dict):
        raise UserError(f"{path} does not say what was measured; {retest(path.parent)} writes it anew")
    return content


def tested(said: Mapping[str, Any], metrics: Path) -> Source:
    """The test set that a metrics.json is of. Raises ValueError or OSError where it is gone or another one."""
    config, name = said["config"], said["data"].get("name")
    entries = config.get("DATASETS.TEST", get_defaults().DATASETS.TEST)
    root = config.get("DATASETS.ROOT", get_defaults().DATASETS.ROOT)
    if not isinstance(entries, list | tuple) or not entries or not isinstance(root, str):
        raise UserError(f"{metrics} does not say which test set was measured; write --results FILE --truth ENTRY")
    names = distinct(name_of(str(entry), root) for entry in entries)  # as the test called them
    if name not in names and len(entries) > 1:
        raise UserError(f"{metrics}: the test set {name} is none of {', '.join(map(str, entries))}")
    place = names.index(name) if name in names else 0
    source = replace(load_dataset(str(entries[place]), root), name=names[place])
    if len(source.index) != said["data"].get("images"):
        raise UserError(
            f"{metrics} is of {counted(said['data'].get('images'), 'image|images')} of {name}, which has "
            f"{len(source.index)} now; {retest(metrics.parent)} measures anew"
        )
    return source


def as_measured(source: Source, content: Mapping[str, Any], metrics: Path) -> Source:
    """A test set under the list of classes, and with the crowds, that it was measured with.

    The ids in results are those of that list, which may be the model's: a folder without a list of its own has the
    classes that occur in it. Raises ValueError where the set has a class that is not in it.
    """
    if content[MEASURED]["config"].get("DATASETS.CROWDS") == "objects":
        source = with_crowds(source)
    index = source.index
    prefix = next((one for one in (PER_CLASS, f"{VOC}AP50/") if any(name.startswith(one) for name in content)), None)
    names = [name.removeprefix(prefix) for name in content if name.startswith(prefix)] if prefix else []
    if not names or names == class_names(index):
        return source
    if lost := lacking(index, names):
        raise UserError(
            f"{metrics} is of the classes {shown(names)}, and {index.path} has {shown(lost)} now; "
            f"{retest(metrics.parent)} measures anew"
        )
    ids = None if index.listed else range(1, len(names) + 1)
    return replace(source, index=in_classes(index, names, ids))


def check_measures(content: Mapping[str, Any], source: Source, found: Found, metrics: Path) -> None:
    """Raises ValueError where a metrics.json has other numbers than the detections and the annotations beside it give.

    Evaluators that are not ours cannot be asked again; where both of ours measured, COCO's answers for both.
    """
    asked = content[MEASURED]["config"].get("TEST.EVALUATOR", ["auto"])
    ours = {"coco": (COCO, CocoEvaluator), "voc": (f"{VOC}AP", VocEvaluator)}
    kinds = [kind for one, (name, kind) in ours.items() if name in content and (one in asked or "auto" in asked)]
    if not kinds:
        return
    evaluator = kinds[0](source)
    starts = np.searchsorted(found.image, np.arange(len(source.index) + 1))
    parts = zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True)
    evaluator.merge({i: Found(*(column[a:b] for column in found))} for i, (a, b) in enumerate(parts) if a < b)
    for name, value in evaluator.compute().items():
        was = content.get(name)
        if isinstance(was, int | float) and not abs(was - value) <= ROUNDED:
            raise UserError(
                f"{metrics} has {name} {was:.4f} where results.json beside it has {value:.4f} on the annotations of "
                f"{source.index.path}: one of the three was changed since the test; {retest(metrics.parent)} "
                "measures anew"
            )
