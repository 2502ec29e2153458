"""The detections of a run or of a results file, with the test set that they are of."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from detector.config import get_defaults
from detector.data.catalog import Source, load_dataset
from detector.data.index import load_index
from detector.errors import FileAccessError, MissingFileError, UserError
from detector.evaluation.base import Found
from detector.evaluation.results import read_results
from detector.tasks.measured import MEASURED


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
    if not folder.is_dir():
        raise MissingFileError(f"RUN {folder}: there is no such folder; write output/NAME")
    inner = sorted(path.parent.name for path in folder.glob("*/metrics.json"))
    if not metrics.is_file() and inner:
        raise UserError(f"RUN {folder} was tested on {', '.join(inner)}: write {folder}/{inner[0]}")
    if missing := [path.name for path in (metrics, results) if not path.is_file()]:
        raise MissingFileError(f"RUN {folder} holds no {' and no '.join(missing)}: `detector test {folder}` makes them")
    said = read_measured(metrics)
    source = tested(said, metrics)
    return Examined(folder.resolve().name, source, read_results(results, source.index), folder, said)


def examine_file(results: str | Path, truth: str, root: str | Path) -> Examined:
    """The detections of a results file. truth, root: as `load_truth` takes them."""
    source = load_truth(truth, root)
    path = Path(results)
    name = path.resolve().parent.name if path.stem == "results" else path.stem
    return Examined(name, source, read_results(path, source.index), None, {})


def load_truth(truth: str, root: str | Path) -> Source:
    """The test set of an annotation file in COCO's format, or of an entry as in DATASETS."""
    if truth.lower().endswith(".json") and Path(truth).is_file():
        return Source(Path(truth).stem, Path(truth).parent, load_index(truth))
    return load_dataset(truth, root)


def read_measured(path: Path) -> dict[str, Any]:
    """What a metrics.json says of how it was measured. Raises ValueError where it says nothing."""
    try:
        content = msgspec.json.decode(path.read_bytes())
    except OSError as error:
        raise FileAccessError(f"{path}: {error.strerror or error}") from None
    except msgspec.DecodeError as error:
        raise UserError(f"{path} is no JSON: {error}; `detector test {path.parent}` writes it anew") from None
    said = content.get(MEASURED) if isinstance(content, dict) else None
    if not isinstance(said, dict) or not isinstance(said.get("data"), dict) or not isinstance(said.get("config"), dict):
        raise UserError(f"{path} does not say what was measured; `detector test {path.parent}` writes it anew")
    return said


def tested(said: Mapping[str, Any], metrics: Path) -> Source:
    """The test set that a metrics.json is of. Raises ValueError or OSError where it is gone or another one."""
    config, name = said["config"], said["data"].get("name")
    entries = config.get("DATASETS.TEST", get_defaults().DATASETS.TEST)
    root = config.get("DATASETS.ROOT", get_defaults().DATASETS.ROOT)
    if not isinstance(entries, list | tuple) or not entries or not isinstance(root, str):
        raise UserError(f"{metrics} does not say which test set was measured; write --results FILE --truth ENTRY")
    for entry in entries:
        source = load_dataset(str(entry), root)
        if source.name == name or len(entries) == 1:
            break
    else:
        raise UserError(f"{metrics}: the test set {name} is none of {', '.join(map(str, entries))}")
    if len(source.index) != said["data"].get("images"):
        raise UserError(
            f"{metrics} is of {said['data'].get('images')} images of {name}, which has {len(source.index)} now; "
            f"`detector test {metrics.parent}` measures anew"
        )
    return source
