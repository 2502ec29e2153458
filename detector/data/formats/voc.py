"""Folders in the layout of Pascal VOC: an XML file for each picture, text files that list the pictures of a split."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING
from xml.parsers import expat

import numpy as np

from detector.data.headers import declared_size
from detector.data.names import readings
from detector.data.packed import LARGEST, PackedIndex, clip_to_images
from detector.data.problems import Problems
from detector.errors import MissingFileError, UserError, cut

if TYPE_CHECKING:  # without torch
    from detector.structures import Size

CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
"""The classes of Pascal VOC, in its order."""

PICTURES = ("JPEGImages", "images")
ANNOTATIONS = ("Annotations", "annotations", "annots")
LISTS = "ImageSets/Main"
CLASS_FILE = "classes.txt"
ALL = "all"
"""The split of every annotated picture."""

DIVISION = ("train", "val", "trainval", "test")
"""Splits of a folder without lists."""

MAX_BYTES = 1 << 24
"""The largest annotation file, list of a split or list of classes."""

MAX_DEPTH = 64
"""How deep the elements of an annotation file may nest; VOC's are 4 deep."""

_HELD_BACK = 0.15  # share of the pictures in val, and as many in test
_SEED = 0
_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}
_EDGES = ("xmin", "ymin", "xmax", "ymax")
_IMAGE_FIELDS = {"filename", "size/width", "size/height"}
_OBJECT_FIELDS = {"object/name", "object/difficult", *(f"object/bndbox/{edge}" for edge in _EDGES)}


class _RefusedError(Exception):
    """What a file may not hold."""


@dataclass
class Annotation:
    """What one XML file says: texts by their place under the root, e.g. "size/width"; those of each object likewise."""

    path: Path
    image: dict[str, str] = field(default_factory=dict)
    objects: list[dict[str, str]] = field(default_factory=list)

    def problem(self, number: int, text: str) -> ValueError:
        """The error of the object at place `number`."""
        name = self.objects[number].get("object/name", "")
        return UserError(f"{self.path}: object {number + 1} ({cut(name)}): {text}")


def read(
    folder: str | Path, split: str = ALL, classes: Sequence[str] | None = None, problems: Problems | None = None
) -> PackedIndex:
    """Reads one split of a folder.

    classes: the names in the order of their labels. Without them the lines of classes.txt count, or else the sorted
    names of all objects in all annotation files, so that the splits of a folder agree; without any object, none.
    split: the stem of a file in ImageSets/Main that lists the pictures, one a line, without suffix; "all": all that
    have an annotation file. A folder without lists is divided, see `divide`.
    Boxes count their pixels from 1 and include the last one, as in VOC: xmin - 1, ymin - 1, xmax, ymax are the edges.
    Boxes whose xmax (ymax) is not larger than xmin (ymin), or that lie outside their picture, are dropped, counted and
    named; difficult objects are marked. A size that is missing or 0 is taken from the picture.
    Raises FileNotFoundError for a missing folder, split, annotation file or picture; ValueError naming file, object
    and remedy for a broken file, an unknown class, or a value that is no number.
    """
    folder, problems = Path(folder), problems or Problems()
    pictures, annotations = _child(folder, PICTURES, "pictures"), _child(folder, ANNOTATIONS, "annotation files")
    known = {path.stem: path for path in _files(annotations, {".xml"})}
    if not known:
        raise UserError(f"{annotations}: there are no XML files in this folder")
    names = split_names(folder, split, sorted(known))
    missing = sorted(set(names) - set(known))
    if missing:
        raise MissingFileError(
            f"{annotations / missing[0]}.xml: there is no such annotation file, but split {split!r} names it "
            f"({len(missing)} missing); its list holds the names of pictures without suffix, one a line"
        )
    classes = _listed_classes(folder) if classes is None else list(classes)
    if classes is None:
        every = {name: read_annotation(path) for name, path in known.items()}
        found = [every[name] for name in names]
        classes = sorted({text for one in every.values() for text in _texts(one, "object/name")})
    else:
        found = [read_annotation(known[name]) for name in names]
    return _pack(annotations, pictures, found, classes, problems)


def split_names(folder: Path, split: str, known: Sequence[str]) -> list[str]:
    """The pictures of a split, without suffix; known: those that have an annotation file, sorted.

    Raises FileNotFoundError for a split that is not there, ValueError for an empty list or a name that stands twice.
    """
    lists = folder / LISTS
    path = lists / f"{split}.txt"
    if path.is_file():
        names = _lines(path)
        if not names:
            raise UserError(f"{path}: this list of pictures is empty")
        if len(set(names)) < len(names):
            twice = next(name for name, count in Counter(names).items() if count > 1)
            raise UserError(f"{path}: {twice!r} stands twice; a picture may be listed once")
        return names
    if split == ALL:
        return list(known)
    if lists.is_dir() and any(lists.glob("*.txt")):
        splits = sorted(path.stem for path in lists.glob("*.txt"))
        raise MissingFileError(f"{path}: there is no such split; there are {', '.join([*splits, ALL])}")
    if split not in DIVISION:
        raise MissingFileError(
            f"{path}: there is no such split; a folder without lists is divided into {', '.join(DIVISION)}, and has "
            f"{ALL}"
        )
    names = divide(known)[split]
    if not names:
        raise UserError(f"{folder}: {len(known)} pictures are too few to be divided; write split {ALL!r}")
    return names


def divide(names: Iterable[str]) -> dict[str, list[str]]:
    """Splits of a folder that has no lists: test and val have 15 % each (at least one picture), train the rest.

    The order of sha256 of "0:name" decides; so a run on another day or machine divides alike, and pictures that are
    added later move few others. Each split is sorted; fewer than three names are all in train.
    """
    order = sorted(names, key=lambda name: sha256(f"{_SEED}:{name}".encode()).digest())
    held_back = max(1, round(_HELD_BACK * len(order))) if len(order) > 2 else 0
    test, val, train = order[:held_back], order[held_back : 2 * held_back], order[2 * held_back :]
    return {"train": sorted(train), "val": sorted(val), "trainval": sorted(train + val), "test": sorted(test)}


def read_annotation(path: Path) -> Annotation:
    """The texts of one file. Nothing in it is expanded or fetched: a file with a document type is refused.

    Raises ValueError naming the file when it is no XML or no annotation of VOC.
    """
    one = Annotation(path)
    stack: list[str] = []
    text: list[str] = []
    row: dict[str, str] = {}

    def start(name: str, attributes: dict[str, str]) -> None:
        if not stack and name != "annotation":
            raise UserError(f"{path}: its outermost element is <{name}>; an annotation of VOC begins with <annotation>")
        if len(stack) >= MAX_DEPTH:
            raise _RefusedError(f"its elements nest more than {MAX_DEPTH} deep, which no annotation of VOC does")
        stack.append(name)
        text.clear()

    def end(name: str) -> None:
        place = "/".join(stack[1:])
        stack.pop()
        if place in _OBJECT_FIELDS:
            row[place] = "".join(text).strip()
        elif place in _IMAGE_FIELDS:
            one.image[place] = "".join(text).strip()
        elif place == "object":
            one.objects.append(row.copy())
            row.clear()
        text.clear()

    def document_type(*declaration: object) -> None:
        raise _RefusedError("delete its <!DOCTYPE ..>: such declarations define entities and are never read")

    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = text.append
    parser.StartDoctypeDeclHandler = document_type
    data = _read(path)
    try:
        parser.Parse(data, True)
    except _RefusedError as error:
        raise UserError(f"{path}: {error}") from None
    except (expat.ExpatError, LookupError, ValueError) as error:
        raise UserError(f"{path}: not an XML file: {error}; mend that place or write the file anew") from None
    return one


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise UserError(f"{path}: more than {MAX_BYTES} bytes, which no annotation of VOC needs; is it another file?")
    return data


def _lines(path: Path) -> list[str]:
    """The lines of a text file that hold anything. Raises ValueError naming the file when it is no text."""
    try:
        text = _read(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: byte {error.start + 1} is not UTF-8; write one name a line, as text") from None
    return [line.strip() for line in text.splitlines() if line.strip()]


def _child(folder: Path, names: Sequence[str], what: str) -> Path:
    for name in names:
        if (folder / name).is_dir():
            return folder / name
    raise MissingFileError(f"{folder}: its {what} are expected in {' or '.join(f'{name}/' for name in names)}")


def _files(folder: Path, suffixes: set[str]) -> list[Path]:
    """The files of a folder with one of the suffixes, in any case; not the hidden ones that some archives bring."""
    return [p for p in folder.iterdir() if p.suffix.lower() in suffixes and not p.name.startswith(".")]


def _listed_classes(folder: Path) -> list[str] | None:
    path = folder / CLASS_FILE
    if not path.is_file():
        return None
    names = _lines(path)
    if len(set(names)) < len(names) or not names:
        raise UserError(f"{path}: write the name of each class once, one a line")
    return names


def _texts(one: Annotation, place: str) -> list[str]:
    """A text that every object has to have."""
    for number, row in enumerate(one.objects):
        if not row.get(place):
            raise one.problem(number, f"it has no <{place.removeprefix('object/').replace('/', '>, <')}>")
    return [row[place] for row in one.objects]


def _numbers(one: Annotation, edge: str) -> list[float]:
    numbers = []
    for number, text in enumerate(_texts(one, f"object/bndbox/{edge}")):
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise one.problem(number, f"{edge} is {cut(text)}, which is no number")
        if abs(value) > LARGEST:
            raise one.problem(number, f"{edge} is {cut(text)}, beyond {LARGEST}: such a picture there is not")
        numbers.append(value)
    return numbers


def _difficult(one: Annotation) -> list[bool]:
    flags = [row.get("object/difficult", "") for row in one.objects]
    for number, flag in enumerate(flags):
        if flag not in ("", "0", "1"):
            raise one.problem(number, f"difficult is {cut(flag)}; it has to be 0 or 1")
    return [flag == "1" for flag in flags]


def _labels(one: Annotation, places: dict[str, int]) -> list[int]:
    names = _texts(one, "object/name")
    for number, name in enumerate(names):
        if name not in places:
            raise one.problem(number, f"unknown class; the classes are {', '.join(places)}")
    return [places[name] for name in names]


def _file_names(found: Sequence[Annotation], pictures: Path) -> list[str]:
    """The picture of each annotation file: of the same name, whatever its suffix; else the one in <filename>."""
    by_stem: dict[str, list[str]] = {}
    files = set()
    for path in _files(pictures, _SUFFIXES):
        by_stem.setdefault(path.stem, []).append(path.name)
        files.add(path.name)
    chosen = []
    for one in found:
        alike, said = by_stem.get(one.path.stem, []), one.image.get("filename", "")
        said = next((name for name in readings(said) if name in files), said)
        if len(alike) == 1:
            chosen.append(alike[0])
        elif said in (alike or files):
            chosen.append(said)
        elif alike:
            raise UserError(
                f"{one.path}: {' and '.join(sorted(alike))} in {pictures} have its name; say which in <filename>, or "
                "delete the others"
            )
        else:
            raise MissingFileError(
                f"{one.path}: {pictures} has no picture {one.path.stem}.jpg (.png, ..), nor what its "
                f"<filename> says ({said!r}); add the picture, or take the name from the split"
            )
    return chosen


def _size(one: Annotation, picture: Path) -> "Size":
    sides = [one.image.get(f"size/{side}", "") or "0" for side in ("height", "width")]
    try:
        height, width = (int(float(side)) for side in sides)
    except (ValueError, OverflowError):
        said = " x ".join(side[:20] for side in sides)
        raise UserError(f"{one.path}: its size is {said}; height and width are whole numbers") from None
    if max(height, width) > LARGEST:
        raise UserError(f"{one.path}: its size is {height} x {width}, beyond {LARGEST}: such a picture there is not")
    if height > 0 and width > 0:
        return height, width
    try:
        size = declared_size(picture.read_bytes())
    except (OSError, UserError):
        size = None
    if size is None or 0 in size:
        raise UserError(f"{one.path}: it has no size, and {picture} cannot be read to learn it")
    return size


def _pack(
    path: Path, pictures: Path, found: Sequence[Annotation], classes: Sequence[str], problems: Problems
) -> PackedIndex:
    places = {name: label for label, name in enumerate(classes)}
    file_names = _file_names(found, pictures)
    sizes = [_size(one, pictures / name) for one, name in zip(found, file_names, strict=True)]
    heights, widths = np.array(sizes, np.int64).T
    image_of = np.repeat(np.arange(len(found)), [len(one.objects) for one in found])
    ids = np.array([f"{one.path.name}#{n}" for one in found for n in range(1, len(one.objects) + 1)], np.str_)
    edges = [[value for one in found for value in _numbers(one, edge)] for edge in _EDGES]
    corners = np.array(edges, np.float64).T
    sides = corners[:, 2:] - corners[:, :2]
    boxes_xywh = np.concatenate([corners[:, :2] - 1, sides + (sides > 0)], 1)
    labels = np.array([label for one in found for label in _labels(one, places)], np.int64)
    difficult = np.array([flag for one in found for flag in _difficult(one)], bool)
    limits = np.stack([widths, heights], 1)[image_of]

    def where(row: int) -> tuple[str, str]:
        return file_names[image_of[row]], f"{path / ids[row].item()}"

    boxes, kept = clip_to_images(path, boxes_xywh, limits, ids, where, problems, "dropped")
    return PackedIndex(
        path=path,
        classes=list(classes),
        category_ids=list(range(1, len(classes) + 1)),
        image_ids=np.array([one.path.stem for one in found]),
        file_names=np.array(file_names),
        heights=heights,
        widths=widths,
        offsets=np.concatenate([[0], np.cumsum(np.bincount(image_of[kept], minlength=len(found)))]),
        annotation_ids=ids[kept],
        labels=labels[kept],
        boxes_xywh=boxes_xywh[kept],
        areas=boxes_xywh[kept, 2:].prod(1),
        crowd=np.zeros(int(kept.sum()), bool),
        boxes=boxes[kept],
        usable=np.ones(int(kept.sum()), bool),
        difficult=difficult[kept],
        kind="voc",
        folder=pictures,
    )
