"""Names of data sets, and where their pictures and annotations lie."""

import logging
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from detector.data.formats import voc
from detector.data.formats.voc import ANNOTATIONS, CLASSES, LISTS, PICTURES
from detector.data.index import load_index
from detector.data.names import leads_out, with_real_names
from detector.data.packed import PackedIndex
from detector.data.problems import Problems
from detector.data.shapes import ensure_shapes
from detector.errors import MissingFileError, UnknownNameError, UserError
from detector.files import user_path
from detector.registry import Registry


class Location(NamedTuple):
    """Where a data set lies: the folder of its pictures and its annotation file.

    make: writes it where it is not there yet.
    """

    folder: Path
    annotations: Path
    make: Callable[[], object] | None = None


class VocLocation(NamedTuple):
    """A split of a folder in VOC's layout; classes: its names in order, None for those found in the folder.

    difficult: whether its difficult objects are meant to be trained on.
    """

    folder: Path
    split: str
    classes: tuple[str, ...] | None = None
    difficult: bool = False


@dataclass(frozen=True, eq=False)
class Source:
    """A data set that was found and read; folder: of its pictures.

    name: the catalog's name, or the stem of a COCO file, or FOLDER_SPLIT of VOC's layout; difficult: whether its
    difficult objects are meant to be trained on.
    """

    name: str
    folder: Path
    index: PackedIndex
    difficult: bool = False


DATASETS: Registry[Callable[[Path], Location | VocLocation]] = Registry("dataset", "datasets")
"""Catalog name -> function of the root folder."""

_log = logging.getLogger("detector")
_VOC = "voc:"
FORMS = "IMAGE_FOLDER:ANNOTATIONS.json or voc:FOLDER:SPLIT"


def _coco(images: str, annotations: str, root: Path) -> Location:
    return Location(root / "coco" / images, root / "coco" / "annotations" / annotations)


def _shapes(part: str, root: Path) -> Location:
    folder = root / "shapes"
    return Location(folder / part, folder / "annotations" / f"{part}.json", partial(ensure_shapes, folder))


def _voc(year: int, split: str, root: Path) -> VocLocation:
    """The folder as the archives unpack it, or beside them, or where maskrcnn-benchmark has it."""
    places = [root / parent / f"VOC{year}" for parent in ("VOCdevkit", "", "voc")]
    folder = next((place for place in places if place.is_dir()), places[0])
    return VocLocation(folder, split, CLASSES, difficult=year == 2007)


for _name, _images, _annotations in (
    ("coco_2014_train", "train2014", "instances_train2014.json"),
    ("coco_2014_val", "val2014", "instances_val2014.json"),
    ("coco_2014_minival", "val2014", "instances_minival2014.json"),
    ("coco_2014_valminusminival", "val2014", "instances_valminusminival2014.json"),
    ("coco_2017_train", "train2017", "instances_train2017.json"),
    ("coco_2017_val", "val2017", "instances_val2017.json"),
):
    DATASETS.register(_name)(partial(_coco, _images, _annotations))
for _part in ("train", "val"):
    DATASETS.register(f"shapes_{_part}")(partial(_shapes, _part))
for _year, _splits in ((2007, ("train", "val", "trainval", "test")), (2012, ("train", "val", "trainval"))):
    for _part in _splits:
        DATASETS.register(f"voc_{_year}_{_part}")(partial(_voc, _year, _part))


def load_dataset(entry: str, root: str | Path, problems: Problems | None = None) -> Source:
    """Finds and reads a data set.

    entry: a name of the catalog, or "IMAGE_FOLDER:ANNOTATIONS.json", or "voc:FOLDER:SPLIT" for a folder in VOC's
    layout, with paths relative to the working directory or, failing that, to root. The generated set "shapes" is
    written under root when it is first asked for.
    problems: what the reader finds goes there; without it, a line of the log is written for each kind.
    Raises KeyError with the nearest names for an unknown name, FileNotFoundError when folder or file is missing.
    """
    if problems is None:
        problems = Problems()
        source = load_dataset(entry, root, problems)
        for line in problems.lines:
            _log.warning("%s", line)
        return source
    root = Path(root)
    place = _find(entry, root)
    if isinstance(place, Location) and place.make:
        place.make()
    if not place.folder.is_dir():
        what = "folder" if isinstance(place, VocLocation) else "folder of pictures"
        raise MissingFileError(f"dataset {entry!r}: its {what} is expected at {place.folder}; {_hint(entry, root)}")
    named = entry in DATASETS
    if isinstance(place, VocLocation):
        name = entry if named else f"{place.folder.resolve().name}_{place.split}"
        index = voc.read(place.folder, place.split, place.classes, problems)
        return Source(name, index.folder or place.folder, index, place.difficult)
    if not place.annotations.is_file():
        raise MissingFileError(
            f"dataset {entry!r}: its annotation file is expected at {place.annotations}; {_hint(entry, root)}"
        )
    index = with_real_names(load_index(place.annotations, place.folder, problems), place.folder, problems)
    return Source(entry if named else place.annotations.stem, place.folder, index)


def check_inside(source: Source) -> None:
    """Raises ValueError when a record names a picture that is not inside the folder of the pictures.

    Names are looked at, not links: those in the folder are its owner's.
    """
    names = source.index.file_names.tolist()
    doubtful = [i for i, name in enumerate(names) if ".." in name or ":" in name or name[:1] in ("/", "\\", "~")]
    outside = [i for i in doubtful if leads_out(names[i])]
    if outside:
        raise UserError(
            f"{names[outside[0]]!r} ({source.index.record(outside[0])}) lies outside the folder of pictures "
            f"{source.folder} ({len(outside)} such records): name files relative to it, or write "
            "DATASETS.ALLOW_OUTSIDE True if you trust the annotations"
        )


def _find(entry: str, root: Path) -> Location | VocLocation:
    pair = split_entry(entry)
    if pair is None or entry in DATASETS:
        try:
            return DATASETS[entry](root)
        except UnknownNameError as error:
            raise UnknownNameError(_folder_hint(entry, root) or f"{error.args[0]}; own data: {FORMS}") from None
    if entry.startswith(_VOC) and not entry.endswith(".json"):
        pair = split_entry(entry.removeprefix(_VOC))
        if pair is None or not all(pair):
            raise UserError(f"dataset {entry!r}: write voc:FOLDER:SPLIT, e.g. {entry.rstrip(':')}:trainval")
        return VocLocation(_resolve(pair[0], root), pair[1])
    return Location(_resolve(pair[0], root), _resolve(pair[1], root))


def split_entry(entry: str) -> tuple[str, str] | None:
    r"""The two paths of "IMAGE_FOLDER:ANNOTATIONS.json"; None for a name without a colon.

    The colon of a Windows drive ("C:\pictures:D:\annotations.json") separates nothing.
    """
    drives = {match.end(1) for match in re.finditer(r"(?:^|(?<=:))([A-Za-z])(?=:[\\/])", entry)}
    colons = [i for i, letter in enumerate(entry) if letter == ":"]
    separators = [i for i in colons if i not in drives] or colons
    return (entry[: separators[-1]], entry[separators[-1] + 1 :]) if separators else None


def _resolve(part: str, root: Path) -> Path:
    path = user_path(part)
    under_root = root / path
    return under_root if under_root.exists() and not path.exists() else path


def _folder_hint(entry: str, root: Path) -> str:
    """What to write instead of a bare folder; "" where the entry is none."""
    folder = _resolve(entry, root)
    if not folder.is_dir():
        return ""
    files = sorted(path.relative_to(folder) for pattern in ("*.json", "*/*.json") for path in folder.glob(pattern))
    if files and not (folder / PICTURES[0]).is_dir():
        place = os.path.join(entry, files[0])
        return (
            f"dataset {entry!r} is a folder: write IMAGE_FOLDER:FILE.json, for instance {entry}:{place}, where the "
            f"first names the folder of the pictures ({len(files)} JSON files are there)"
        )
    if splits := voc.splits(folder):
        return (
            f"dataset {entry!r} is a folder in VOC's layout: write voc:{entry}:SPLIT, with SPLIT one of "
            f"{', '.join(splits)}"
        )
    return (
        f"dataset {entry!r} is a folder without annotations: expected is {FORMS}, where FOLDER holds JPEGImages/ and "
        "Annotations/, or pictures and their XML files side by side"
    )


def _hint(entry: str, root: Path) -> str:
    if entry not in DATASETS:
        return f"write {FORMS} with paths from here or from DATASETS.ROOT (now {root})"
    place = DATASETS[entry](root)
    if isinstance(place, VocLocation):
        layout = f"({PICTURES[0]}/*.jpg, {ANNOTATIONS[0]}/*.xml, {LISTS}/{place.split}.txt)"
    else:
        layout = f"(the pictures in {place.folder}, their records in {place.annotations})"
    return f"put it there {layout}, or set DATASETS.ROOT (now {root}) to where it is"
