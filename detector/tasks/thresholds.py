"""thresholds.json of a run: the score of each class from which on F1 is the highest, for predictions."""

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from detector.errors import FileAccessError, MissingFileError, UserError
from detector.evaluation.base import distinct_names
from detector.evaluation.curves import Part
from detector.files import write_json
from detector.tasks.examined import Examined
from detector.tasks.measured import state_digest
from detector.text import counted, printable

if TYPE_CHECKING:
    from detector.models.detector import Detector
    from detector.tasks.trained import Trained

log = logging.getLogger("detector")

FILE = "thresholds.json"

_SHOWN = 10  # classes whose thresholds a line of the log names


class _Class(msgspec.Struct):
    """What is known of a class.

    objects: to be found in the test set; detections: that reached the threshold there. It, f1, precision and recall are
    None where the threshold is that of all classes together.
    """

    threshold: float
    f1: float | None
    precision: float | None
    recall: float | None
    objects: int
    detections: int | None


class _File(msgspec.Struct):
    """The content; other: the threshold of all classes together, for those that the test set does not have."""

    version: int
    iou: float
    digest: str | None
    weight: str
    step: int | None
    data: str
    images: int
    classes: dict[str, _Class]
    other: float


def write_thresholds(folder: Path, examined: Examined, iou: float, parts: Sequence[Part], other: float) -> Path:
    """Write the thresholds.json of a run's folder; returns its path. parts: of the classes; other: of all together."""
    rows = {part.name: _class(part) for part in parts}
    said, source = examined.measured, examined.source
    digest, weight, step = said.get("digest"), str(said.get("weight") or ""), said.get("step")
    path = folder / FILE
    write_json(path, _File(1, iou, digest, weight, step, source.name, len(source.index), rows, other))
    return path


def known_iou(folder: Path) -> float | None:
    """The IoU of the thresholds that lie in a run's folder; None where there are none that can be read."""
    try:
        return msgspec.json.decode((folder / FILE).read_bytes(), type=_File).iou
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None


def _class(part: Part) -> _Class:
    best, objects = part.best, part.curve.objects
    if best is None:
        return _Class(part.threshold, None, None, None, objects, None)
    return _Class(best.threshold, best.f1, best.precision, best.recall, objects, best.kept)


class Thresholds(NamedTuple):
    """What a thresholds.json says; folder: of the run."""

    path: Path
    folder: Path
    content: _File

    def of(self, classes: Sequence[str], category_ids: Sequence[int]) -> list[float]:
        """The lowest score of each class of a model; one that the file does not have takes that of all classes."""
        known = self.content.classes
        names = distinct_names(classes, category_ids)
        return [known[name].threshold if name in known else self.content.other for name in names]

    def text(self, classes: Sequence[str], values: Sequence[float], real: Sequence[bool]) -> str:
        """The thresholds of a model's classes, and what they are of, in a line. real: which outputs are classes."""
        content = self.content
        rows = [(v, printable(name)) for name, v, one in zip(classes, values, real, strict=True) if one]
        each = ", ".join(f"{name} {value:g}" for value, name in rows)
        if len(rows) > _SHOWN:
            low, high = (f"{value:g} ({name})" for value, name in (min(rows), max(rows)))
            each = f"{counted(len(rows), 'class|classes')} from {low} to {high}"
        where = f"IoU {content.iou:g} on {printable(content.data)}, {_step_text(content.step)}"
        return f"{each} ({where}; {self.path})"

    def check(self, found: "Trained", model: "Detector") -> None:
        """Raise ValueError where the file is of other weights than a model that was loaded and not prepared yet."""
        if state_digest(model.state_dict()) == self.content.digest:
            return
        weight, step = found.file.path, found.file.content.get("step")
        remedy = f"`detector test {self.folder}` and `detector analyze pr {self.path.parent}` write them anew"
        if not found.newest:
            remedy = (
                f"`detector test {weight} OUTPUT_DIR another/folder` and `detector analyze pr another/folder` write "
                "those of these weights, and OUTPUT_DIR another/folder at the end of this command takes them"
            )
        raise UserError(
            f"--threshold auto: {self.path} is of other weights ({self.content.weight or 'unknown'}, "
            f"{_step_text(self.content.step)}) than {weight} ({_step_text(step)}), whose scores mean something else: "
            f"{remedy}; or write a number"
        )


def read_thresholds(folder: str | Path) -> Thresholds:
    """The thresholds of a run's folder; of one that was tested on several sets, those in the folder of one of them.

    Raises ValueError or OSError with the remedy where there are none, or those of several test sets, or no such file.
    """
    folder = Path(folder)
    path = folder / FILE
    if not path.is_file():
        inner = sorted(folder.glob(f"*/{FILE}"))
        if len(inner) > 1:
            raise UserError(
                f"--threshold auto: {folder} has thresholds of several test sets ({', '.join(map(str, inner))}): copy "
                f"one to {path}"
            )
        if not inner:
            raise MissingFileError(
                f"--threshold auto: there is no {path}: `detector analyze pr {folder}` writes it, from the results of "
                "the newest test"
            )
        path = inner[0]
    try:
        content = msgspec.json.decode(path.read_bytes(), type=_File)
    except OSError as error:
        raise FileAccessError(f"{path}: {error.strerror or error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: {error}; `detector analyze pr {path.parent}` writes it anew") from None
    values = [content.other, *(one.threshold for one in content.classes.values())]
    if content.version != 1 or not all(math.isfinite(value) for value in values):
        raise UserError(f"{path} is of another version; `detector analyze pr {path.parent}` writes it anew")
    return Thresholds(path, folder, content)


def _step_text(step: int | None) -> str:
    return "unknown step" if step is None else f"step {step}"
