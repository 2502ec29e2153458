"""Folders of pictures with masks of what is salient, in the layouts of the field's data sets."""

import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from detector.data.entries import MASKS, resolve, split_entry
from detector.data.mask_shapes import ensure_mask_shapes
from detector.data.suffixes import SUFFIXES
from detector.errors import MissingDataError, MissingFileError, UnknownNameError, UserError
from detector.text import counted, printable

_log = logging.getLogger("detector")

LAYOUTS = (
    ("images", "ground_truth_mask"),  # ECSSD
    ("imgs", "gt"),  # HKU-IS
    ("DUT-OMRON-image", "pixelwiseGT-new-PNG"),
    ("DUTS-TR-Image", "DUTS-TR-Mask"),
    ("DUTS-TE-Image", "DUTS-TE-Mask"),
    ("images", "masks"),
)
"""Folder of pictures and folder of masks, whose names agree but for the ending; upper and lower case do not count."""

SIDE_BY_SIDE = ("Imgs", "")
"""Folders that hold pictures .jpg and masks .png side by side: PASCAL-S, MSRA-B; or the named folder itself."""

SHAPES = "shapes"
"""The entry of the generated set, in place of a folder."""

LISTS = (".txt", ".lst", "")
_PHOTOS = (".jpg", ".jpeg", ".bmp")  # side by side with .png


class Pair(NamedTuple):
    """A picture and its mask; None: it has none. expected: where the mask would be."""

    picture: Path
    mask: Path | None
    expected: Path


@dataclass(frozen=True)
class MaskFolder:
    """A data set that was found; name: of its folder, and split; path: of the folder; pairs: by name of the picture."""

    name: str
    path: Path
    pairs: dict[str, Pair]


def find_masks(entry: str, root: str | Path) -> MaskFolder:
    """The pictures and masks of an entry "saliency:FOLDER" or "saliency:FOLDER:SPLIT".

    FOLDER: from the working directory or, failing that, from root, in one of LAYOUTS or SIDE_BY_SIDE; "shapes" is the
    generated set under root, written when it is first asked for. SPLIT: of the list SPLIT.txt, SPLIT.lst or SPLIT in
    FOLDER, which names a picture a line, perhaps with its mask behind it, whose folders and endings do not count.
    Raises FileNotFoundError for what is not there; ValueError for two pictures of one name, and for a list that names
    others.
    """
    root = Path(root)
    if not entry.startswith(MASKS):
        raise UnknownNameError(
            f"dataset {entry!r}: MODEL.TASK saliency learns from pictures with masks: write {MASKS}FOLDER or "
            f"{MASKS}FOLDER:SPLIT"
        )
    folder, split = _folder_and_split(entry.removeprefix(MASKS), root)
    if not folder.is_dir():
        raise MissingDataError(
            f"dataset {entry!r}: its folder is expected at {folder}; write {MASKS}FOLDER or {MASKS}FOLDER:SPLIT, with "
            f"a path from here or from DATASETS.ROOT (now {root}), or {MASKS}{SHAPES}:train and {MASKS}{SHAPES}:val"
        )
    pairs = _pairs(entry, folder)
    name = folder.resolve().name
    if not split:
        return MaskFolder(name, folder, pairs)
    return MaskFolder(f"{name}_{split}", folder, _listed(entry, _list_file(entry, folder, split), pairs))


def _folder_and_split(text: str, root: Path) -> tuple[Path, str]:
    if text == SHAPES or text.startswith(f"{SHAPES}:"):
        return ensure_mask_shapes(root / "saliency_shapes"), text.removeprefix(SHAPES).removeprefix(":")
    whole = resolve(text, root)
    pair = None if whole.is_dir() else split_entry(text)
    return (resolve(pair[0], root), pair[1]) if pair and all(pair) else (whole, "")


def _pairs(entry: str, folder: Path) -> dict[str, Pair]:
    """All pictures of a folder, by name, with their masks."""
    inside = {one.name.lower(): one for one in sorted(folder.iterdir()) if one.is_dir()}
    for pictures, masks in LAYOUTS:
        if pictures.lower() in inside and masks.lower() in inside:
            home = inside[masks.lower()]
            return _matched(entry, _files(inside[pictures.lower()], SUFFIXES), _files(home, SUFFIXES), home)
    for name in SIDE_BY_SIDE:
        side = inside.get(name.lower()) if name else folder
        if side and (photos := _files(side, _PHOTOS)) and (beside := _files(side, (".png",))):
            return _matched(entry, photos, beside, side)
    known = ", ".join(f"{pictures}/ with {masks}/" for pictures, masks in LAYOUTS)
    raise MissingFileError(
        f"dataset {entry!r}: no pictures with masks are in {folder}: there may be {known}, or .jpg and .png side by "
        f"side in it or in {SIDE_BY_SIDE[0]}/"
    )


def _files(folder: Path, suffixes: Iterable[str]) -> list[Path]:
    with os.scandir(folder) as entries:
        names = sorted(one.name for one in entries if not one.name.startswith("."))
    return [folder / name for name in names if os.path.splitext(name)[1].lower() in suffixes]


def _matched(entry: str, pictures: Sequence[Path], masks: Sequence[Path], home: Path) -> dict[str, Pair]:
    by_name = _by_name(entry, masks, "masks")
    named = _by_name(entry, pictures, "pictures")
    if not named:
        raise UserError(f"dataset {entry!r}: there is no picture beside the masks in {home}")
    if lone := [path for name, path in by_name.items() if name not in named]:
        _log.warning(
            "%s: %s of no picture and left out: %s%s",
            *(entry, counted(len(lone), "mask|masks is|are"), printable(str(lone[0])), ", .." * (len(lone) > 1)),
        )
    return {name: Pair(path, by_name.get(name), home / f"{name}.png") for name, path in named.items()}


def _by_name(entry: str, paths: Sequence[Path], what: str) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in paths:
        if (other := found.setdefault(path.stem, path)) != path:
            raise UserError(
                f"dataset {entry!r}: {other} and {path.name} are two {what} of one name; which one counts is unknown, "
                "so remove or rename one of them"
            )
    return found


def _list_file(entry: str, folder: Path, split: str) -> Path:
    places = [folder / f"{split}{suffix}" for suffix in LISTS]
    if found := next((place for place in places if place.is_file()), None):
        return found
    there = sorted(one.stem for one in folder.iterdir() if one.suffix in LISTS[:2])
    has = f"there are {', '.join(map(printable, there))}" if there else "the folder has no lists"
    raise MissingFileError(
        f"dataset {entry!r}: the list of its pictures is expected at {places[0]}; {has}; without a split all pictures "
        f"count: {entry.rpartition(':')[0]}"
    )


def _listed(entry: str, path: Path, pairs: dict[str, Pair]) -> dict[str, Pair]:
    """The pairs that a list names, in its order, each once."""
    lines = [line.strip() for line in path.read_text(encoding="utf-8-sig", errors="replace").splitlines()]
    lines = [line for line in lines if line]
    names = [next((name for name in _names(line) if name in pairs), None) for line in lines]
    if unknown := [line for line, name in zip(lines, names, strict=True) if name is None]:
        raise UserError(
            f"dataset {entry!r}: {len(unknown)} of {counted(len(lines), 'line|lines')} of {path} name no picture of "
            f"the folder, the first is {printable(unknown[0])!r}"
        )
    if not lines:
        raise UserError(f"dataset {entry!r}: {path} is empty: write the name of a picture a line")
    return {name: pairs[name] for name in names if name is not None}


def _names(line: str) -> list[str]:
    """What a line of a list may mean: the whole line, or its first word, without folders; with and without ending."""
    ends = [text.replace("\\", "/").rpartition("/")[2] for text in (line, line.split()[0])]
    return [name for end in ends for name in (end, os.path.splitext(end)[0])]
