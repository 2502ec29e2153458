"""Where the files of a folder in VOC's layout lie: annotations, and their pictures."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from detector.data.suffixes import SUFFIXES
from detector.errors import MissingFileError, UserError
from detector.text import forms

PICTURES = ("JPEGImages", "images")
ANNOTATIONS = ("Annotations", "annotations", "annots")
LISTS = "ImageSets/Main"

ALL = "all"
"""The split of everything."""

DIVISION = ("train", "val", "trainval", "test")
"""Splits of a folder without lists."""

OTHER_NAMES = {"train": ("training",), "val": ("valid", "validation"), "test": ("testing",)}
"""Words that mean the same split."""

_TEXTS = {".xml", ".txt", ".md", ".rst", ".json", ".csv", ".yaml", ".yml", ".html", ".ini", ".db", ".pbtxt", ".names"}
_HEAD = 4096  # bytes of a file that tell its kind
SHELVES = {*PICTURES, *ANNOTATIONS, "xmls"}
"""Folders that only tell pictures from annotation files."""


class Place(NamedTuple):
    """Where one data set lies.

    home: of lists and classes; annotations, pictures: whose files may lie in folders of their own; both are the same
    where pictures and XML lie side by side; every: where all annotation files lie whose classes count.
    """

    home: Path
    annotations: Path
    pictures: Path
    every: Path

    @property
    def beside(self) -> bool:
        """Whether pictures and XML lie side by side."""
        return self.annotations == self.pictures


class Scan(NamedTuple):
    """The files of a place by name: their path below its root without suffix, "cam1/a".

    annotations, pictures: name -> file below the root; others: paths of files that are neither, but for texts.
    """

    annotations: dict[str, str]
    pictures: dict[str, list[str]]
    others: list[Path]


def find_place(folder: Path, split: str) -> tuple[Place, str]:
    """Where the files of a split lie, and what it is called there.

    A place is a folder that holds annotation files in Annotations/, or side by side with the pictures; so is
    FOLDER/SPLIT of a folder without lists, where valid, validation and val mean the same. Raises FileNotFoundError
    where there is no annotation file.
    """
    place = _place(folder)
    if place is None:
        if any((folder / name).is_dir() for name in PICTURES):
            for name in ANNOTATIONS:
                if (folder / name).is_dir():
                    other = next((one for one in files_below(folder / name) if one.lower().endswith(".xml.txt")), "")
                    more = f"; {other} and those like it should end in .xml: rename them" if other else ""
                    raise UserError(f"{folder / name}: there are no XML files in this folder{more}")
        raise MissingFileError(
            f"{folder}: its pictures are expected in {'/ or '.join(PICTURES)}/ and its annotation files in "
            f"{'/ or '.join(ANNOTATIONS)}/, or both side by side, in it or in folders that are called as its splits"
        )
    if split == ALL or lists_of(folder):
        return place, split
    parts = parts_of(place)
    for name in alike(split, parts):
        part = parts[name]
        if place.beside:
            inner = _place(part)
            return (inner or place)._replace(home=folder, every=place.every), ALL
        pictures = next((p for p in place.pictures.iterdir() if p.name.lower() == name.lower() and p.is_dir()), None)
        return place._replace(annotations=part, pictures=pictures or place.pictures), ALL
    if split == "trainval" and any(alike("train", parts)) and any(alike("val", parts)):
        return place, split
    if folders := {name for known in OTHER_NAMES for name in alike(known, parts)}:
        raise MissingFileError(
            f"{folder}: there is no split {split!r}; its folders are {', '.join(sorted(folders))}, and there is {ALL}"
        )
    return place, split


def splits(folder: Path) -> list[str]:
    """The splits that a folder has, as far as they have a name; empty where it is not in VOC's layout."""
    place = _place(folder)
    if place is None and not any((folder / name).is_dir() for name in (*ANNOTATIONS, *PICTURES)):
        return []
    parts = parts_of(place) if place else {}
    named = [name for known in OTHER_NAMES for name in alike(known, parts)]
    return [*(lists_of(folder) or named or DIVISION), ALL]


def lists_of(folder: Path) -> dict[str, Path]:
    """The lists of a folder's splits by name."""
    for home in (folder / LISTS, folder / Path(LISTS).parent):
        if found := {path.stem: path for path in sorted(home.glob("*.txt")) if not path.name.startswith(".")}:
            return found
    names = {*DIVISION, *(name for names in OTHER_NAMES.values() for name in names)}
    return {name: folder / f"{name}.txt" for name in sorted(names) if (folder / f"{name}.txt").is_file()}


def scan(place: Place) -> Scan:
    """The files of a place at every depth, but for hidden ones, sorted."""
    annotations: dict[str, str] = {}
    pictures: dict[str, list[str]] = {}
    others: dict[Path, None] = {}
    for root in dict.fromkeys((place.annotations, place.pictures)):
        for file in files_below(root):
            name, suffix = os.path.splitext(file)
            kind = suffix.lower()
            if kind == ".xml" and root == place.annotations:
                annotations[name] = file
            elif kind in SUFFIXES and root == place.pictures:
                pictures.setdefault(name, []).append(file)
            elif kind not in _TEXTS:
                others[root / file] = None
    return Scan(annotations, pictures, list(others))


def files_below(root: Path) -> list[str]:
    """The files at every depth below a folder, with slashes, sorted; hidden ones, which some archives bring, are none.

    Links are followed, but into no folder a second time.
    """
    seen: set[tuple[int, int]] = set()

    def walk(folder: str, below: str) -> Iterator[str]:
        state = os.stat(folder)
        if (state.st_dev, state.st_ino) in seen:
            return
        seen.add((state.st_dev, state.st_ino))
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if entry.name.startswith(".") or entry.name == "__MACOSX":
                    continue
                if entry.is_dir():
                    yield from walk(entry.path, f"{below}{entry.name}/")
                else:
                    yield below + entry.name

    return sorted(walk(str(root), ""))


def outside(place: Place) -> list[str]:
    """The annotation files of a folder beside that which is read, below the folder; those of its splits are in it."""
    if place.every == place.home:
        return []
    found: list[str] = []
    for entry in sorted(os.scandir(place.home), key=lambda entry: entry.name):
        if entry.name.startswith(".") or entry.name == "__MACOSX":
            continue
        if not entry.is_dir():
            found.append(entry.name)
        elif not os.path.samefile(entry.path, place.every):
            with suppress(OSError):  # of folders that only others may read, as lost+found
                found += [f"{entry.name}/{file}" for file in files_below(Path(entry.path))]
    return [file for file in found if file.lower().endswith(".xml") and _is_annotation(place.home / file)]


def match(found: Scan) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """The pictures of each annotation file, and those that are left, both name -> files.

    A file's pictures are those of its name, else the one of its name's last part that no other file could mean. Folders
    that are only shelves ("train/Annotations/a", "train/JPEGImages/a") do not tell names apart.
    """
    whole = {file: name for name, files in found.pictures.items() for file in files}
    chosen: dict[str, list[str]] = {}
    left = dict(found.pictures)
    for name in found.annotations:
        if own := next((form for form in forms(name) if form in left), None):
            chosen[name] = left.pop(own)
        elif name in whole and whole[name] not in found.annotations:  # "a.jpg.xml" goes with "a.jpg"
            chosen[name] = [name]
            left.pop(whole[name], None)
    for short in (_unshelved, last_part):
        pictures: dict[str, list[str]] = {}
        for name in left:
            pictures.setdefault(forms(short(name))[-1], []).append(name)
        lonely = [name for name in found.annotations if name not in chosen]
        wanted = Counter(forms(short(without_suffix(name)))[-1] for name in lonely)
        for name in lonely:
            key = forms(short(without_suffix(name)))[-1]
            names = pictures.get(key, [])
            if len(names) == wanted[key] == 1:
                chosen[name] = left.pop(names[0])
    return chosen, left


def parts_of(place: Place) -> dict[str, Path]:
    """The folders by name that may be a split's: those with annotation files, also inside images/."""
    homes = [place.annotations]
    if place.beside:
        homes += [place.annotations / name for name in PICTURES if (place.annotations / name).is_dir()]
    found: dict[str, Path] = {}
    for home in homes:
        with os.scandir(home) as entries:
            inside = sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
        for name in inside:
            if name not in found and _has_xml(home / name):
                found[name] = home / name
    return found


def alike(split: str, names: Iterable[str]) -> list[str]:
    """Those of the names that mean a split, the same word first."""
    words = next(([known, *more] for known, more in OTHER_NAMES.items() if split in (known, *more)), [split])
    by_word = {name.lower(): name for name in names}
    exact = [split] if split in by_word.values() else []
    return list(dict.fromkeys([*exact, *(by_word[word] for word in (split, *words) if word in by_word)]))


def last_part(name: str) -> str:
    """A name without the folders above it."""
    return name.rpartition("/")[2]


def without_suffix(name: str) -> str:
    """A name without the suffix of a picture or an annotation file."""
    stem, suffix = os.path.splitext(name)
    return stem if suffix.lower() in SUFFIXES or suffix.lower() in (".xml", ".gif", ".avif") else name


def _place(folder: Path) -> Place | None:
    """Annotations/ with the pictures in JPEGImages/ or in the folder itself, else the folder with both side by side."""
    annotations = next((folder / n for n in ANNOTATIONS if (folder / n).is_dir() and _has_xml(folder / n)), None)
    if annotations is not None:
        pictures = next((folder / name for name in PICTURES if (folder / name).is_dir()), folder)
        return Place(folder, annotations, pictures, annotations)
    return Place(folder, folder, folder, folder) if folder.is_dir() and _has_xml(folder) else None


def _is_annotation(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return b"<annotation" in file.read(_HEAD).replace(b"\0", b"")
    except OSError:
        return False


def _has_xml(folder: Path) -> bool:
    return any(file.lower().endswith(".xml") for file in files_below(folder))


def _unshelved(name: str) -> str:
    return "/".join(part for part in name.split("/") if part not in SHELVES)
