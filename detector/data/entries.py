"""How a data set is named: entries of DATASETS.TRAIN and DATASETS.TEST as text."""

import os
import re
from pathlib import Path

from detector.files import user_path

FORMS = "IMAGE_FOLDER:ANNOTATIONS.json, voc:FOLDER:SPLIT or yolo:FOLDER:SPLIT"
VOC, YOLO = "voc:", "yolo:"
MASKS = "saliency:"
"""What entries of pictures with masks begin with, which are for MODEL.TASK saliency."""
MASK_FORMS = f"{MASKS}FOLDER, {MASKS}FOLDER:SPLIT, or {MASKS}shapes:train and {MASKS}shapes:val, which are generated"


def split_entry(entry: str) -> tuple[str, str] | None:
    r"""The two paths of "IMAGE_FOLDER:ANNOTATIONS.json"; None for a name without a colon.

    The colon of a Windows drive ("C:\pictures:D:\annotations.json") separates nothing.
    """
    return next(iter(_halves(entry)), None)


def split_there(entry: str, root: Path) -> tuple[str, str] | None:
    """As `split_entry`; of several colons the one that parts a folder from a file that are there."""
    halves = _halves(entry)
    there = (
        pair for pair in halves if os.path.isdir(resolve(pair[0], root)) and os.path.isfile(resolve(pair[1], root))
    )
    return next(there, halves[0] if halves else None)


def resolve(part: str, root: Path) -> Path:
    """The path that a part of an entry means: from the working directory or, failing that, from root."""
    path = user_path(part)
    under_root = root / path
    return under_root if os.path.exists(under_root) and not os.path.exists(path) else path


def _halves(entry: str) -> list[tuple[str, str]]:
    """What stands before and behind each colon, the last first; those of drives only where there is no other one."""
    drives = {match.end(1) for match in re.finditer(r"(?:^|(?<=:))([A-Za-z])(?=:[\\/])", entry)}
    colons = [i for i, letter in enumerate(entry) if letter == ":"]
    separators = [i for i in colons if i not in drives] or colons
    return [(entry[:i], entry[i + 1 :]) for i in reversed(separators)]
