"""A folder in YOLO's layout without YAML file, as darknet, CVAT and labelImg have it: text files say what it holds."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from detector.errors import UserError

SPLITS = ("train", "val", "valid", "validation", "test")

MAX_LIST = 1 << 28
"""Bytes of a list of pictures."""

_CLASS_FILES = ("classes.txt", "obj.names", "*.names", "labels/classes.txt", "*/_darknet.labels", "*/classes.txt")
_DATA_FILES = ("obj.data", "*.data", "data/obj.data", "data/*.data", "cfg/*.data")


class Folder(NamedTuple):
    """roots: what the paths in its lists start from, in order of preference; splits: name -> where it is."""

    roots: tuple[Path, ...]
    classes: list[str]
    splits: dict[str, list[str]]


def read_folder(folder: Path, file: Path | None = None) -> Folder:
    """What a folder holds; file: its obj.data, where somebody named one.

    darknet's obj.data names the list of each split and that of the classes, by paths from where darknet is started:
    they are looked for from the file's folder, those above, and by their ends. Without it the splits are the folders
    and lists that are called so. Raises ValueError, with the remedy, where no file has the names of the classes.
    """
    file = file or _data_file(folder)
    said = _pairs(file) if file else {}
    roots = tuple(dict.fromkeys((folder, file.parent, file.parent.parent))) if file else (folder,)
    named = _find(roots, said["names"]) if said.get("names") else None
    named = named or next(
        (one for pattern in _CLASS_FILES for one in sorted(folder.glob(pattern)) if one.is_file()), None
    )
    if named is None:
        raise UserError(
            f"{folder} has neither data.yaml nor classes.txt, so its classes have no names; write classes.txt with the "
            "name of each class in the order of their numbers, one a line"
        )
    classes = read_lines(named)
    if not classes:
        raise UserError(f"{named}: this list of classes is empty")
    splits = {}
    for split in SPLITS:
        value = said.get(split, "")
        if value and (found := _find(roots, value)):
            inside = folder in found.parents
            splits[split] = [found.relative_to(folder).as_posix() if inside else os.path.abspath(found)]
            continue
        places = (f"images/{split}", f"{split}/images", f"{split}.txt", f"obj_{split}_data", split)
        if place := next((place for place in places if (folder / place).exists()), value):
            splits[split] = [place]
    if not splits:
        splits["all"] = ["images" if (folder / "images").is_dir() else "."]
    return Folder(roots, classes, splits)


def _data_file(folder: Path) -> Path | None:
    """The obj.data of a folder, or its only file of another name."""
    for pattern in _DATA_FILES:
        found = [path for path in folder.glob(pattern) if path.is_file()]
        if len(found) == 1:
            return found[0]
    return None


def _pairs(file: Path) -> dict[str, str]:
    pairs = (line.partition("=") for line in read_lines(file) if not line.startswith(("#", ";")))
    return {key.strip(): value.strip().strip("\"'") for key, mark, value in pairs if mark}


def _find(roots: Sequence[Path], value: str) -> Path | None:
    """The file or folder that a path means, whose first folders may be those of another machine."""
    parts = [part for part in re.split(r"[/\\]", value) if part not in ("", ".", "..")]
    ends = (os.path.join(*parts[start:]) for start in range(len(parts)))
    tried = (root / end for end in (value, *ends) for root in roots)
    return next((path for path in tried if path.exists()), None)


def in_other_letters(root: Path, parts: Sequence[str]) -> str:
    """The path below a folder that differs in capital letters only; "" where there is none."""
    place = root
    for part in parts:
        names = os.listdir(place) if place.is_dir() else []
        name = next((name for name in sorted(names) if name.casefold() == part.casefold()), None)
        if name is None:
            return ""
        place = place / name
    return str(place) if place != root else ""


def read_lines(path: Path) -> list[str]:
    """The lines of a text file that hold anything. Raises ValueError naming the file when it is no text."""
    with path.open("rb") as file:
        data = file.read(MAX_LIST + 1)
    if len(data) > MAX_LIST:
        raise UserError(f"{path}: more than {MAX_LIST} bytes, which no list of pictures or classes has")
    try:
        text = data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: byte {error.start + 1} is not UTF-8; write one name a line, as text") from None
    return [line.strip() for line in text.splitlines() if line.strip()]
