"""What data sets a folder holds, for a person who names nothing but the folder."""

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from detector.data.catalog import DATASETS, split_entry
from detector.data.formats.voc import ALL, ANNOTATIONS, LISTS, PICTURES
from detector.errors import UserError
from detector.files import user_path

SPLITS = (("train", "val", "valid", "test"), ("trainval", "test"))
"""Names of lists that have no picture in common, the finest division first."""

_TRIED = 20  # names of pictures that say which folder they are in
_MANY = 500  # folders, or JSON files, that are looked at
_YAMLS = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")


class _Image(msgspec.Struct):
    file_name: str = ""


class _Images(msgspec.Struct):
    images: list[_Image]


def entries_in(entry: str, root: str | Path) -> list[str]:
    """The entry itself, or where it is a folder, those of the data sets in it: a YOLO export, VOC's layout, COCO files.

    root: where a folder is looked for that is not in the working directory. Raises ValueError for a folder in which
    there is none.
    """
    if entry in DATASETS or split_entry(entry) is not None:
        return [entry]
    folder = next((path for path in (user_path(entry), Path(root) / entry) if path.is_dir()), None)
    if folder is None:
        return [entry]  # whose reader says what is wrong
    found = _yolo(folder) or [*_voc(folder)] or [*_coco(folder)]
    if not found:
        raise UserError(
            f"{folder}: no data set is found in this folder: neither a data.yaml with its labels, nor XML files of "
            "VOC, nor a JSON file with `images`; write IMAGE_FOLDER:FILE.json, voc:FOLDER:SPLIT or yolo:FOLDER:SPLIT"
        )
    return found


def _folders(folder: Path) -> list[Path]:
    """The folder, those in it and those in these."""
    some = [folder]
    for level in range(2):
        for place in [path for path in some if len(path.relative_to(folder).parts) == level]:
            inner = sorted(path for path in place.iterdir() if path.is_dir() and not path.name.startswith("."))
            some += inner[: max(_MANY - len(some), 0)]
    return some


def _yolo(folder: Path) -> list[str]:
    path = next((folder / name for name in _YAMLS if (folder / name).is_file()), None)
    lines = path.read_text("utf-8", "replace").splitlines() if path else []
    keys = [line.partition(":")[0] for line in lines if line.partition(":")[2].strip()]
    return [f"yolo:{folder}:{split}" for split in ("train", "val", "test") if split in keys]


def _voc(folder: Path) -> Iterator[str]:
    if any((folder / name).is_dir() for name in ANNOTATIONS) and any((folder / name).is_dir() for name in PICTURES):
        lists = {path.stem for path in (folder / LISTS).glob("*.txt")}
        names = next((names for names in SPLITS if names[0] in lists), ())
        yield from (f"voc:{folder}:{split}" for split in [name for name in names if name in lists] or [ALL])
        return
    for place in _folders(folder):
        if any(path.suffix.lower() == ".xml" and path.is_file() for path in place.iterdir()):
            yield f"voc:{place}:{ALL}"


def _coco(folder: Path) -> Iterator[str]:
    folders = _folders(folder)
    files = [path for place in folders for path in sorted(place.glob("*.json"))]
    for path in files[:_MANY]:
        if (names := _names(path)) is not None:
            places = [path.parent, *folders]
            there = [sum(os.path.isfile(place / name) for name in names) for place in places]
            yield f"{places[there.index(max(there))]}:{path}"


def _names(path: Path) -> list[str] | None:
    """The first names of pictures in a COCO file; none of a broken file, None for one that is of another kind."""
    try:
        images = msgspec.json.decode(path.read_bytes(), type=_Images).images[:_TRIED]
    except msgspec.ValidationError:
        return None
    except (OSError, ValueError, RecursionError):  # msgspec's errors are ValueErrors; the reader says what is wrong
        return []
    return [image.file_name.replace("\\", "/") for image in images]
