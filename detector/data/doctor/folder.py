"""What data sets a folder holds, for a person who names nothing but the folder."""

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from detector.data.catalog import DATASETS, split_entry
from detector.data.formats.voc import ALL, ANNOTATIONS, LISTS, PICTURES
from detector.data.formats.yolo_folder import NAMES, find_layout, yaml_of
from detector.data.names import leads_out
from detector.data.problems import Finding, declare
from detector.errors import UserError
from detector.files import user_path

PASSED_OVER = declare(
    "file-passed-over",
    "note",
    "JSON files of the folder are passed over",
    "Name them, as IMAGE_FOLDER:FILE.json, if they are what is to be examined.",
)

SPLITS = (("train", "val", "valid", "test"), ("trainval", "test"))
"""Names of lists that have no picture in common, the finest division first."""

_TRIED = 20  # names of pictures that say which folder they are in
_MANY = 500  # folders that are looked at


class _Image(msgspec.Struct):
    file_name: str = ""


class _Images(msgspec.Struct):
    images: list[_Image]


def entries_in(entry: str, root: str | Path) -> tuple[list[str], list[Finding]]:
    """The entry itself, or where it is a folder, those of the data sets in it: a YOLO export, VOC's layout, COCO files.

    Also a finding for each JSON file there that is passed over. root: where a folder is looked for that is not in the
    working directory. Raises ValueError for a folder in which there is none.
    """
    if entry in DATASETS or split_entry(entry) is not None:
        return [entry], []
    folder = next((path for path in (user_path(entry), Path(root) / entry) if path.is_dir()), None)
    if folder is None:
        return [entry], []  # whose reader says what is wrong
    if found := _yolo(folder) or [*_voc(folder)]:
        return found, []
    found, passed_over = _coco(folder)
    if not found:
        raise UserError(
            f"{folder}: no data set is found in this folder: neither a data.yaml with its labels, nor XML files of "
            "VOC, nor a JSON file with `images`; write IMAGE_FOLDER:FILE.json, voc:FOLDER:SPLIT or yolo:FOLDER:SPLIT"
        )
    return found, passed_over


def _folders(folder: Path) -> list[Path]:
    """The folder, those in it and those in these."""
    some = [folder]
    for level in range(2):
        for place in [path for path in some if len(path.relative_to(folder).parts) == level]:
            inner = sorted(path for path in place.iterdir() if path.is_dir() and not path.name.startswith("."))
            some += inner[: max(_MANY - len(some), 0)]
    return some


def _yolo(folder: Path) -> list[str]:
    """The splits that a YAML file names, or folders beside one of labels; of a broken file one entry, which says so."""
    try:
        if yaml_of(folder) or (folder / "labels").is_dir():
            return [f"yolo:{folder}:{split}" for split in find_layout(folder).splits]
    except UserError:
        if any((folder / name).is_file() for name in NAMES):
            return [f"yolo:{folder}:{ALL}"]
    return []


def _voc(folder: Path) -> Iterator[str]:
    """Folders with a folder of pictures and one of annotations, and others with XML files; none within another."""
    found: list[Path] = []
    for place in _folders(folder):
        if any(place.is_relative_to(one) for one in found):
            continue
        if any((place / name).is_dir() for name in PICTURES) and any(_has_xml(place / name) for name in ANNOTATIONS):
            lists = {path.stem for path in (place / LISTS).glob("*.txt")}
            names = next((names for names in SPLITS if names[0] in lists), ())
            yield from (f"voc:{place}:{split}" for split in [name for name in names if name in lists] or [ALL])
        elif any(path.suffix.lower() == ".xml" and path.is_file() for path in place.iterdir()):
            yield f"voc:{place}:{ALL}"
        else:
            continue
        found.append(place)


def _has_xml(folder: Path) -> bool:
    """Whether a folder, or one in it, holds XML files: COCO's annotations are called alike."""
    return next(folder.rglob("*.[xX][mM][lL]"), None) is not None


def _coco(folder: Path) -> tuple[list[str], list[Finding]]:
    """An entry for each file of annotations; of several for the same pictures for the one with instances, or the first.

    Other files of COCO describe the same pictures in other ways.
    """
    folders = _folders(folder)
    entries: dict[object, str] = {}
    passed_over = []
    files = [path for place in folders for path in place.glob("*.json")]
    for path in sorted(
        files, key=lambda path: (not path.name.startswith("instances"), folders.index(path.parent), path)
    ):
        names = _names(path)
        places = [path.parent, *folders]
        there = [sum(os.path.isfile(place / name) for name in names or ()) for place in places]
        place = places[there.index(max(there))]
        key = (place, *names) if names else path
        if names is None or key in entries:
            why = "it has no images with boxes" if names is None else f"{entries[key]} has the same pictures"
            passed_over.append(Finding(PASSED_OVER, f"{path} is passed over: {why}", record=str(path)))
        else:
            entries[key] = f"{place}:{path}"
    return sorted(entries.values()), passed_over


def _names(path: Path) -> list[str] | None:
    """The first names of pictures in a COCO file; none of a broken file, None for one that is of another kind.

    Those that lead out of a folder, as other machines write them, without their folders.
    """
    try:
        data = path.read_bytes()
        images = msgspec.json.decode(data, type=_Images).images[:_TRIED]
    except msgspec.ValidationError:
        return None
    except (OSError, ValueError, RecursionError):  # msgspec's errors are ValueErrors; the reader says what is wrong
        return []
    if b'"bbox"' not in data or not images:
        return None
    names = [image.file_name.replace("\\", "/") for image in images]
    return [name.rpartition("/")[2] if leads_out(name) else name for name in names]
