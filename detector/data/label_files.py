"""Where the label file of a picture lies in YOLO's layout."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

PICTURES = ("images", "jpegimages")
"""Folders, in any case of their letters, that have a folder of labels beside them."""

LABELS = ("labels", "Labels")


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


def label_file(picture: Path) -> Path:
    """The label file of a picture, whether or not it is there."""
    return Path(label_folder(str(picture.parent)), f"{picture.stem}.txt")


def expected_label_file(picture: str) -> str:
    """Where the label file of a picture belongs: as `label_file`, but beside `images` also where no `labels` is yet."""
    folder, name = os.path.split(picture)
    home = label_folder(folder)
    if home == folder:
        parts = folder.split(os.sep)
        places = [i for i, part in enumerate(parts) if part.lower() in PICTURES]
        if places:
            home = os.sep.join([*parts[: places[-1]], LABELS[0], *parts[places[-1] + 1 :]])
    return os.path.join(home, f"{os.path.splitext(name)[0]}.txt")


class LabelFiles(NamedTuple):
    """labels [N]: the label file of each picture, "" for none; expected: where the first one that is missing would be.

    stray: label files without picture.
    """

    labels: list[str]
    expected: str
    stray: list[str]


_OTHERS = {"classes", "obj", "predefined_classes", "notes", "train", "val", "valid", "test", "requirements", "_darknet"}
"""Text files that lie among labels and are none, without suffix."""


def find_label_files(folder: str, names: Sequence[str], scanned: Sequence[str]) -> LabelFiles:
    """The label files of pictures `names` in a folder; each folder is listed once.

    scanned: folders in which every label file should have a picture.
    """
    stems: dict[str, set[str]] = {}
    homes: dict[str, str] = {}
    used: dict[str, set[str]] = {}
    labels, expected = [], ""
    for name in names:
        place, _, base = name.rpartition("/")
        if place not in homes:
            home = homes[place] = label_folder(os.path.join(folder, place) if place else folder)
            stems.setdefault(home, _stems(home))
            used.setdefault(home, set())
        home, stem = homes[place], os.path.splitext(base)[0]
        path = f"{home}{os.sep}{stem}.txt"
        if stem in stems[home]:
            labels.append(path)
            used[homes[place]].add(stem)
        else:
            labels.append("")
            expected = expected or expected_label_file(os.path.join(folder, name))
    taken: dict[str, set[str]] = {}
    for home, some in used.items():
        taken.setdefault(os.path.abspath(home), set()).update(some)
    stray: dict[str, None] = {}
    for one in dict.fromkeys(map(label_folder, scanned)):
        for place, _, _ in os.walk(one):
            others = _stems(place) - taken.get(os.path.abspath(place), set()) - _OTHERS
            stray |= dict.fromkeys(f"{place}{os.sep}{stem}.txt" for stem in sorted(others))
    return LabelFiles(labels, expected, [path for path in stray if not os.path.basename(path).startswith("README")])


def _stems(folder: str) -> set[str]:
    try:
        with os.scandir(folder) as entries:
            return {one.name[:-4] for one in entries if one.name.endswith(".txt") and not one.name.startswith(".")}
    except (FileNotFoundError, NotADirectoryError):
        return set()
