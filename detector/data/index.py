"""The one way to an annotation file in COCO's format."""

import logging
from pathlib import Path

from detector.data.formats import coco
from detector.data.packed import PackedIndex, check_same_classes
from detector.data.problems import Problems

__all__ = ["PackedIndex", "check_same_classes", "load_index"]

_log = logging.getLogger("detector")


def load_index(path: str | Path, folder: Path | None = None, problems: Problems | None = None) -> PackedIndex:
    """Reads an annotation file in COCO format, see `formats.coco.read`. folder: of the pictures.

    problems: what is found goes there; without it, a line of the log is written for each kind.
    """
    if problems is not None:
        return coco.read(path, folder, problems)
    problems = Problems()
    index = coco.read(path, folder, problems)
    for line in problems.lines:
        _log.warning("%s", line)
    return index
