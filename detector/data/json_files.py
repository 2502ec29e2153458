"""A look into JSON files: whether they are data sets in COCO's format, and which folder has their pictures."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from detector.data.formats.other_json import whose
from detector.data.formats.voc_layout import ANNOTATIONS, OTHER_NAMES
from detector.data.names import number_found
from detector.data.suffixes import SUFFIXES

WHOLE, INCOMPLETE, OTHER = range(3)
"""Ranks: objects, or a list of them that is empty; without any; no data set."""

_TRIED = 20  # names of pictures that say which folder they are in


class JsonFile(NamedTuple):
    """What a look into a file shows.

    rank: how likely it is what is meant; why: what it lacks; names: some of its pictures; key: the same for files with
    the same pictures, None where that is unknown.
    """

    path: Path
    rank: int
    why: str = ""
    names: tuple[str, ...] = ()
    key: object = None


class _Image(msgspec.Struct):
    file_name: Any = ""


class _File(msgspec.Struct):
    images: list[_Image]
    annotations: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    categories: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _Listed(msgspec.Struct):
    images: list[Any]
    categories: msgspec.Raw


def look_into(path: Path) -> JsonFile:
    """Whether a JSON file is a data set; a broken one that speaks of images is, and its reader says what is wrong."""
    try:
        data = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    except OSError:
        return JsonFile(path, WHOLE)
    try:
        file = msgspec.json.decode(data, type=_File)
    except msgspec.ValidationError:
        if _is_listed(data):
            return JsonFile(path, WHOLE)
        return JsonFile(path, OTHER, whose(path) or "it has no list of `images`")
    except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
        return JsonFile(path, WHOLE if b'"images"' in data else INCOMPLETE, "it is no JSON")
    if file.annotations is msgspec.UNSET and file.categories is msgspec.UNSET:
        return JsonFile(path, OTHER, "it has neither `annotations` nor `categories`")
    names = [image.file_name for image in file.images if isinstance(image.file_name, str) and image.file_name]
    some = tuple(names[:: -(-len(names) // _TRIED)]) if names else ()
    key = (len(names), hash(frozenset(names))) if names else None
    rank, why = WHOLE, ""
    if isinstance(file.annotations, msgspec.UnsetType):
        rank, why = INCOMPLETE, "it has no `annotations`"
    elif bytes(file.annotations).strip(b"[] \r\n\t") and not any(
        word in data for word in (b'"bbox"', b'"segmentation"')
    ):
        rank, why = INCOMPLETE, "its annotations have no `bbox`"
    return JsonFile(path, rank, why, some, key)


def _is_listed(data: bytes) -> bool:
    """Whether there are lists of images and of categories, whatever is in them."""
    try:
        msgspec.json.decode(data, type=_Listed)
    except (ValueError, RecursionError):
        return False
    return True


def best_folder(file: JsonFile, folders: Sequence[Path]) -> Path:
    """The folder in which most of a file's pictures are, also under another reading of their names.

    Of several the one in which they are as they are written, beside the file, called as it, or near to it. Where there
    are none, that of other pictures, or that of the file.
    """
    beside = file.path.parent
    if not file.names:
        return beside
    folders = list(dict.fromkeys((beside, *folders)))
    written = {folder: sum(os.path.isfile(folder / name) for name in file.names) for folder in folders}
    found = dict(written)
    if max(found.values()) < len(file.names):
        found = {folder: number_found(folder, file.names) for folder in folders}
    if not any(found.values()):
        if beside.name not in ANNOTATIONS:
            return beside
        found = {folder: int(_has_pictures(folder)) for folder in folders}
        if not any(found.values()):
            return beside

    def closeness(folder: Path) -> tuple[int, ...]:
        near = len(Path(os.path.commonpath((folder, beside))).parts) if folder != beside else len(beside.parts)
        called = len(folder.name) if folder.name.lower() in file.path.stem.lower() else 0
        alike = _split(folder.name) is not None and _split(folder.name) == _split(file.path.stem)
        return found[folder], written[folder], int(folder == beside), called, int(alike), near, -len(folder.parts)

    return max(folders, key=closeness)


def _split(name: str) -> str | None:
    """The split that a name speaks of."""
    low = name.lower()
    return next((split for split, more in OTHER_NAMES.items() if any(word in low for word in (split, *more))), None)


def _has_pictures(folder: Path) -> bool:
    try:
        with os.scandir(folder) as files:
            return any(os.path.splitext(one.name)[1].lower() in SUFFIXES for one in files)
    except OSError:
        return False
