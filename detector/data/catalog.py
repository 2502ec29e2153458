"""Names of data sets, and where their pictures and annotations lie."""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PureWindowsPath
from typing import NamedTuple

from detector.data.entries import FORMS, MASKS, VOC, YOLO, resolve, split_entry, split_there
from detector.data.formats import voc, yolo
from detector.data.formats.voc import ANNOTATIONS, CLASSES, LISTS, PICTURES
from detector.data.hints import hint, other_layout
from detector.data.index import load_index
from detector.data.names import leads_out, with_real_names
from detector.data.origins import origin_of
from detector.data.packed import PackedIndex
from detector.data.problems import Problems, logged
from detector.data.shapes import ensure_shapes
from detector.errors import MissingDataError, MissingFileError, UnknownNameError, UserError
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


class YoloLocation(NamedTuple):
    """A split of a folder in YOLO's layout, or of its YAML file."""

    folder: Path
    split: str


@dataclass(frozen=True, eq=False)
class Source:
    """A data set that was found and read; folder: of its pictures.

    name: the catalog's name, or the stem of a COCO file, or FOLDER_SPLIT of VOC's and YOLO's layout; difficult: whether
    its difficult objects are meant to be trained on.
    """

    name: str
    folder: Path
    index: PackedIndex
    difficult: bool = False


DATASETS: Registry[Callable[[Path], Location | VocLocation | YoloLocation]] = Registry("dataset", "datasets")
"""Catalog name -> function of the root folder."""


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
    layout, or "yolo:FOLDER:SPLIT" for one in YOLO's or for its YAML file, with paths relative to the working directory
    or, failing that, to root. The generated set "shapes" is written under root when it is first asked for.
    problems: what the reader finds goes there; without it, a line of the log is written for each kind.
    Raises KeyError with the nearest names for an unknown name, FileNotFoundError when folder or file is missing.
    """
    if problems is None:
        return logged(partial(load_dataset, entry, root))
    root = Path(root)
    place = _find(entry, root)
    if isinstance(place, Location) and place.make:
        place.make()
    if isinstance(place, YoloLocation):
        return _load_yolo(entry, place, root, problems)
    if not os.path.isdir(place.folder):
        what = "folder" if isinstance(place, VocLocation) else "folder of pictures"
        raise _missing(entry, f"its {what} is expected at", place.folder, root)
    if isinstance(place, VocLocation):
        try:
            index = voc.read(place.folder, place.split, place.classes, problems)
        except UserError as error:
            raise _explained(entry, root, error) from None
        return Source(_called(entry, place), index.folder or place.folder, index, place.difficult)
    if not os.path.exists(place.annotations) or os.path.isdir(place.annotations):
        raise _missing(entry, "its annotation file is expected at", place.annotations, root)
    index = with_real_names(load_index(place.annotations, place.folder, problems), place.folder, problems)
    return Source(_called(entry, place), place.folder, index)


def _load_yolo(entry: str, place: YoloLocation, root: Path, problems: Problems) -> Source:
    if not os.path.exists(place.folder):
        raise _missing(entry, "nothing is at", place.folder, root)
    try:
        index = yolo.read(place.folder, place.split, problems)
    except UserError as error:
        raise _explained(entry, root, error) from None
    home = place.folder if place.folder.is_dir() else place.folder.parent
    return Source(_called(entry, place), index.folder or home, index)


def name_of(entry: str, root: str | Path) -> str:
    """The name of the source that an entry names, whose files need not be there. Raises KeyError for an unknown one."""
    return _called(entry, _find(entry, Path(root)))


def _called(entry: str, place: Location | VocLocation | YoloLocation) -> str:
    if entry in DATASETS:
        return entry
    if isinstance(place, Location):
        return place.annotations.stem
    file = isinstance(place, YoloLocation) and not place.folder.is_dir()
    return f"{(place.folder.parent if file else place.folder).resolve().name}_{place.split}"


def distinct(names: Iterable[str]) -> list[str]:
    """Names of data sets that are used together: of one that is there already the next ones are NAME_2, NAME_3, .."""
    found: dict[str, None] = {}
    for name in names:
        one, copies = name, 1
        while one in found:
            copies += 1
            one = f"{name}_{copies}"
        found[one] = None
    return [*found]


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


def _find(entry: str, root: Path) -> Location | VocLocation | YoloLocation:
    if entry.startswith(MASKS) and not entry.endswith(".json"):
        raise UserError(
            f"dataset {entry!r}: pictures with masks have no boxes: they are for `detector train`, `test` and "
            "`predict` with MODEL.TASK saliency"
        )
    if entry in DATASETS or split_entry(entry) is None or _is_there(entry, root):
        try:
            return DATASETS[entry](root)
        except UnknownNameError as error:
            text = hint(entry, root)
            raise UnknownNameError(
                _of(entry, text) if text else f"{error.args[0]}; {_none_there(entry, root)}; own data: {FORMS}"
            ) from None
    if entry.startswith(VOC) and not entry.endswith(".json"):
        return VocLocation(*_folder_and_split(entry, VOC, "trainval", root))
    if entry.startswith(YOLO) and not entry.endswith(".json"):
        return YoloLocation(*_folder_and_split(entry, YOLO, "train", root))
    pair = split_there(entry, root) or ("", "")
    if pair[0].endswith((".yaml", ".yml")):
        raise UserError(f"dataset {entry!r}: write yolo:{entry} for a split of a YAML file of YOLO")
    return Location(resolve(pair[0], root), resolve(pair[1], root))


def _is_there(entry: str, root: Path) -> bool:
    """Whether a folder or file is called so, colons and all."""
    return os.path.exists(resolve(entry, root))  # False for what is too long for a path


def _none_there(entry: str, root: Path) -> str:
    """A clause on the folder that is not there, where a word is no name of the catalog."""
    return f"there is no folder {entry} here or in {os.path.abspath(root)}"


def _of(entry: str, text: str) -> str:
    return f"dataset {text}" if text.startswith(repr(entry)) else f"dataset {entry!r}: {text}"


def _folder_and_split(entry: str, form: str, split: str, root: Path) -> tuple[Path, str]:
    pair = split_entry(entry.removeprefix(form))
    if pair is None or not all(pair):
        text = hint(entry.rstrip(":"), root) or f"e.g. {entry.rstrip(':')}:{split}"
        raise UnknownNameError(f"dataset {entry!r}: write {form}FOLDER:SPLIT; {text}")
    return resolve(pair[0], root), pair[1]


def _explained(entry: str, root: Path, error: UserError) -> UserError:
    """The error of a reader, or where the folder is in another layout than the entry says, one that says so."""
    text = "" if entry in DATASETS else other_layout(entry, root)
    return MissingFileError(_of(entry, text)) if text else error


def _missing(entry: str, what: str, path: Path, root: Path) -> MissingDataError:
    """Of a folder or file that is not there: what else to write; else its path in full, and where it is to be had."""
    said, origin = "" if entry in DATASETS else hint(entry, root), origin_of(entry, path)
    places = [str(path)]
    if not PureWindowsPath(path.name).drive and (origin or not said):
        places = [os.path.abspath(one) for one in ((path,) if entry in DATASETS else (root / path, path))]
    what += " " + " or at ".join(dict.fromkeys(places))
    if not said and (entry in DATASETS or not origin):
        said = _layout(entry, root)
    return MissingDataError(f"dataset {entry!r}: {'; '.join(filter(None, (what, said, origin)))}")


def _layout(entry: str, root: Path) -> str:
    """What to write, or where to put the data set of a name of the catalog."""
    if entry not in DATASETS:
        return f"write {FORMS} with paths from here or from DATASETS.ROOT (now {root})"
    place = DATASETS[entry](root)
    if isinstance(place, YoloLocation):
        layout = "(data.yaml, images/, labels/)"
    elif isinstance(place, VocLocation):
        layout = f"({PICTURES[0]}/*.jpg, {ANNOTATIONS[0]}/*.xml, {LISTS}/{place.split}.txt)"
    else:
        layout = f"(the pictures in {place.folder}, their records in {place.annotations})"
    return f"put it there {layout}, or set DATASETS.ROOT (now {root}) to where it is"
