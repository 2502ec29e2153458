"""Where the label file of a picture lies in YOLO's layout."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from detector.text import forms

PICTURES = ("images", "jpegimages")
"""Folders, in any case of their letters, that have a folder of labels beside them."""

LABELS = ("labels", "Labels")

_SPLITS = ("train", "val", "valid", "validation", "test")
_LOOKED = 200  # folders in which a label file is looked for that is not where it belongs
_DEPTH = 4  # of them within each other


def label_folder(folder: str) -> str:
    """The folder of the label files of the pictures in a folder: the same path, with `labels` for the last `images`.

    Where there is no such folder, that of the pictures itself.
    """
    for path in dict.fromkeys((folder, os.path.abspath(folder))):  # it may be relative to a folder below `images`
        parts = path.split(os.sep)
        places = [i for i, part in enumerate(parts) if part.lower() in PICTURES]
        for name in LABELS if places else ():
            found = os.sep.join([*parts[: places[-1]], name, *parts[places[-1] + 1 :]])
            if os.path.isdir(found):
                return found
    return folder


def _wanted_folder(folder: str) -> str:
    """Where the label files of the pictures in a folder belong, if there are none yet."""
    for path in dict.fromkeys((folder, os.path.abspath(folder))):
        parts = path.split(os.sep)
        places = [i for i, part in enumerate(parts) if part.lower() in PICTURES]
        if places:
            return os.sep.join([*parts[: places[-1]], LABELS[0], *parts[places[-1] + 1 :]])
    return folder


def label_file(picture: Path) -> Path:
    """The label file of a picture; where there is none, where it belongs."""
    folder = str(picture.parent)
    home = label_folder(folder)
    found = _named_as(picture.name, _stems(home))
    return Path(home, found) if found else Path(_missing_from(folder, home), f"{picture.stem}.txt")


def first_wanted(picture: Path) -> str:
    """Where the label file of a picture that has none is looked for, and where one of its name lies, for messages."""
    return f"the label file of the first is looked for at {label_file(picture)}{lies_elsewhere(picture)}"


def lies_elsewhere(picture: Path) -> str:
    """A clause on a text file of a picture's name in another folder, with the remedy; "" where none is near."""
    parts = os.path.abspath(picture.parent).split(os.sep)
    places = [i for i, part in enumerate(parts) if part.lower() in PICTURES]
    top = os.sep.join(parts[: places[-1]]) if places else os.path.dirname(os.path.abspath(picture.parent))
    if places and places[-1] == len(parts) - 1 and parts[-2].lower() in _SPLITS:  # "train/images"
        top = os.path.dirname(top)
    for number, (place, below, files) in enumerate(os.walk(top or os.sep)):
        below[:] = sorted(name for name in below if not name.startswith("."))
        if number == _LOOKED or place[len(top) :].count(os.sep) >= _DEPTH:
            below.clear()
        if found := _named_as(picture.name, {name[:-4]: name for name in files if name.lower().endswith(".txt")}):
            return (
                f" while {os.path.join(place, found)} has its name; give the folders of the labels the names of those "
                "of the pictures, with `labels` for `images`"
            )
        if number == _LOOKED:
            break
    return ""


def _named_as(picture: str, stems: Mapping[str, str]) -> str:
    """The file of a picture's name, with or without its suffix: "a.txt" or "a.jpg.txt"; "" where there is none."""
    found = (stems.get(form) for name in (os.path.splitext(picture)[0], picture) for form in (name, *forms(name)))
    return next(filter(None, found), "")


def _missing_from(folder: str, home: str, used: bool = False) -> str:
    """Where a label file is missing from that is not in `home`; used: whether others are there."""
    return _wanted_folder(folder) if home == folder and not used else home


class LabelFiles(NamedTuple):
    """labels [N]: the label file of each picture, "" for none; expected: where the first one that is missing would be.

    stray: label files without picture; homes: of the folders of pictures, below that of all, where others would be.
    """

    labels: list[str]
    expected: str
    stray: list[str]
    homes: dict[str, str]

    def place(self, name: str) -> str:
        """Where the label file of a picture that has none would be."""
        folder, _, base = name.rpartition("/")
        return f"{self.homes[folder]}{os.sep}{os.path.splitext(base)[0]}.txt"


_OTHERS = {"classes", "obj", "predefined_classes", "notes", "train", "val", "valid", "test", "requirements", "_darknet"}
"""Text files that lie among labels and are none, without suffix."""


def find_label_files(folder: str, names: Sequence[str], scanned: Sequence[str]) -> LabelFiles:
    """The label files of pictures `names` in a folder; each folder is listed once.

    scanned: folders in which every label file should have a picture.
    """
    stems: dict[str, dict[str, str]] = {}
    homes: dict[str, str] = {}
    used: dict[str, set[str]] = {}
    labels: list[str] = []
    for name in names:
        place, _, base = name.rpartition("/")
        if place not in homes:
            home = homes[place] = label_folder(os.path.join(folder, place) if place else folder)
            stems.setdefault(home, _stems(home))
            used.setdefault(home, set())
        home = homes[place]
        file = _named_as(base, stems[home])
        labels.append(f"{home}{os.sep}{file}" if file else "")
        used[home].add(file[:-4])
    taken: dict[str, set[str]] = {}
    for home, some in used.items():
        taken.setdefault(os.path.abspath(home), set()).update(some)
    stray: dict[str, None] = {}
    for one in dict.fromkeys(map(label_folder, scanned)):
        for place, _, _ in os.walk(one):
            there = _stems(place)
            others = there.keys() - taken.get(os.path.abspath(place), set()) - _OTHERS
            stray |= dict.fromkeys(f"{place}{os.sep}{there[stem]}" for stem in sorted(others))
    for place, home in homes.items():
        pictures = os.path.join(folder, place) if place else folder
        homes[place] = _missing_from(pictures, home, bool(stems[home].keys() - _OTHERS))
    some_stray = [path for path in stray if not os.path.basename(path).startswith("README")]
    files = LabelFiles(labels, "", some_stray, homes)
    missing = next((name for name, path in zip(names, labels, strict=True) if not path), "")
    return files._replace(expected=files.place(missing)) if missing else files


def _stems(folder: str) -> dict[str, str]:
    """The text files of a folder by their names without suffix; of two that differ in its letters the small one."""
    try:
        with os.scandir(folder) as entries:
            names = [one.name for one in entries if one.name.lower().endswith(".txt") and not one.name.startswith(".")]
    except (FileNotFoundError, NotADirectoryError):
        return {}
    return {name[:-4]: name for name in sorted(names)}  # capitals come first, so the last one is the small one
