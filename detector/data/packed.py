"""Annotations packed into flat arrays: what every format is read into and written from."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from detector.data.label_files import label_file
from detector.data.mapped import MappedFile, Place
from detector.data.misplaced import tell_misplaced
from detector.data.problems import SHOWN, Finding, Problems, declare, named
from detector.errors import UserError
from detector.text import agreeing

if TYPE_CHECKING:  # without torch
    from detector.structures import Size

LARGEST = 2**31 - 1
"""The largest side of a picture and coordinate of a box, pixels."""

FLAT = declare(
    "flat-box",
    "warning",
    "boxes have a width or height of zero or less",
    "A training leaves them out; delete them or draw them anew.",
)
OUTSIDE = declare(
    "box-outside", "warning", "boxes lie outside their image", "A training leaves them out; mend or delete them."
)
BEYOND = declare(
    "box-beyond-edge",
    "warning",
    "boxes reach out of their image by more than a pixel",
    "They are clipped; mend them, or the size in the record, where that is not what was meant.",
)
FAR = declare("box-far", "error", f"boxes have a coordinate beyond {LARGEST} pixels", "Mend or remove them.")


@dataclass(frozen=True, eq=False)
class PackedIndex:
    """The annotations of a data set as flat arrays, which worker processes share. N images, M annotations, C classes.

    Images stand in the file's order; the annotations of image i are the rows offsets[i]:offsets[i + 1], in the file's
    order. Annotations with a negative side are left out; all others are here as pycocotools would count them.

    path: the file, or the folder of the files; classes, category_ids [C]: names and original ids, sorted by id, so
    label k is category_ids[k]; image_ids [N] int64 or text: original ids; file_names [N] text; heights, widths [N]
    int64, pixels; offsets [N + 1] int64; annotation_ids [M] int64 or text: original ids; labels [M] int64, 0..C-1;
    boxes_xywh [M, 4] float64: x, y, width, height as in the file; areas [M] float64: the file's, else width * height;
    crowd [M] bool; boxes [M, 4] float32 xyxy, clipped to the image; usable [M] bool: the clipped box has an area;
    difficult [M] bool: an object of VOC that evaluation leaves out; kind: the format of the annotations; folder: of the
    pictures, where the format says it (COCO's does not); listed: whether somebody listed the classes; else they are the
    names that occur; mapped: the file in which arrays lie, of which only the places are pickled; measured [N] bool: the
    record has no size, which was measured from the picture as viewers show it; None for no picture.
    """

    path: Path
    classes: list[str]
    category_ids: list[int]
    image_ids: np.ndarray
    file_names: np.ndarray
    heights: np.ndarray
    widths: np.ndarray
    offsets: np.ndarray
    annotation_ids: np.ndarray
    labels: np.ndarray
    boxes_xywh: np.ndarray
    areas: np.ndarray
    crowd: np.ndarray
    boxes: np.ndarray
    usable: np.ndarray
    difficult: np.ndarray
    kind: Literal["coco", "voc", "yolo"] = "coco"
    folder: Path | None = None
    listed: bool = True
    mapped: MappedFile | None = None
    measured: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.image_ids)

    def __getstate__(self) -> dict[str, Any]:
        # A process that cannot open the file would die while it starts, and this one would wait for it.
        mapped = self.mapped if self.mapped is not None and self.mapped.in_place() else None

        def stored(value: object) -> object:
            return (mapped and isinstance(value, np.ndarray) and mapped.place(value)) or value

        return {name: value if value is None else stored(value) for name, value in vars(self).items()} | {
            "mapped": mapped
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        mapped = state["mapped"]
        vars(self).update({k: mapped.array(v) if isinstance(v, Place) else v for k, v in state.items()})

    def rows(self, image: int) -> slice:
        """The rows of the annotations of the image at position `image`."""
        return slice(int(self.offsets[image]), int(self.offsets[image + 1]))

    def image_id(self, image: int) -> int | str:
        """The original id of the image at position `image`, as a Python number or text."""
        return self.image_ids[image].item()

    def size(self, image: int) -> "Size":
        """(height, width) of the image at position `image`, pixels."""
        return int(self.heights[image]), int(self.widths[image])

    def upright(self, image: int) -> bool:
        """Whether the boxes of the image at position `image` belong to the picture as viewers show it.

        So it is in YOLO's layout, and where no record has the size before the turn of the EXIF tag; else that decides.
        """
        return self.kind == "yolo" or (self.measured is not None and bool(self.measured[image]))

    def record(self, image: int) -> str:
        """The record of the image at position `image`, for messages."""
        if self.kind == "voc":
            return f"{self.path / self.image_id(image)}.xml"  # type: ignore[operator]
        if self.kind == "yolo" and self.folder:
            return str(label_file(self.folder / str(self.file_names[image])))
        return f"images[{image}], id {self.image_id(image)!r} of {self.path}"

    def trainable(self, difficult: bool = False, rows: slice = slice(None)) -> np.ndarray:
        """Bool for each of the rows: a box to train on. No crowd region is, a difficult object only if asked for."""
        return self.usable[rows] & ~self.crowd[rows] & (~self.difficult[rows] | difficult)

    def image_of(self) -> np.ndarray:
        """[M] int64: the position of the image of each annotation."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    def num_boxes(self, difficult: bool = False) -> np.ndarray:
        """[N] int64: the boxes of each image that are `trainable`."""
        images = self.image_of()
        return np.bincount(images[self.trainable(difficult)], minlength=len(self))


def lacking(index: PackedIndex, classes: Sequence[str]) -> list[str]:
    """The names of the index's classes that are not among `classes`; one that occurs twice has to be there twice."""
    there = set(_numbered(classes))
    return [pair[0] for pair in _numbered(index.classes) if pair not in there]


def in_classes(index: PackedIndex, classes: Sequence[str], category_ids: Sequence[int] | None = None) -> PackedIndex:
    """The same annotations under another list of classes [C], label by name.

    category_ids [C]: of these classes. Without them those of the index count, and classes that it lacks get further
    numbers. Raises KeyError for a class of the index that is `lacking`.
    """
    places = {pair: label for label, pair in enumerate(_numbered(classes))}
    table = [places[pair] for pair in _numbered(index.classes)]
    if category_ids is None:
        own = dict(zip(table, index.category_ids, strict=True))
        further = count(max(index.category_ids, default=0) + 1)
        category_ids = [own[label] if label in own else next(further) for label in range(len(classes))]
    labels = index.labels
    if table != list(range(len(table))):
        labels = np.array(table, np.int64)[labels]
    return replace(index, classes=list(classes), category_ids=list(category_ids), labels=labels)


def _numbered(names: Sequence[str]) -> list[tuple[str, int]]:
    """Each name with how often it occurred before."""
    before: Counter[str] = Counter()
    pairs = []
    for name in names:
        pairs.append((name, before[name]))
        before[name] += 1
    return pairs


def check_same_classes(first: PackedIndex, other: PackedIndex) -> None:
    """Raises ValueError when two files do not list the same categories (ids and names), and so would mix labels.

    The message says what each of them has that the other has not.
    """
    ours = list(zip(first.category_ids, first.classes, strict=True))
    theirs = list(zip(other.category_ids, other.classes, strict=True))
    if ours == theirs:
        return

    label = next((k for k, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs)))

    def describe(categories: list[tuple[int, str]]) -> str:
        return "id {} {!r}".format(*categories[label]) if label < len(categories) else "nothing"

    differences = [
        f"only {one.path} has {_some_of(one, names)}"
        for one, others in ((first, other), (other, first))
        if (names := lacking(one, others.classes))
    ]
    differences.append(f"the first difference is label {label}: {describe(ours)} against {describe(theirs)}")
    remedies = {
        "coco": "give both files the same `categories`",
        "voc": "list the same classes in a classes.txt of each folder",
        "yolo": "give both the same `names`",
    }
    remedy = remedies[other.kind] if other.kind == first.kind else "give both the same classes"
    raise UserError(
        f"{first.path} and {other.path} list different categories ({len(ours)} and {len(theirs)}): "
        f"{'; '.join(differences)}; {remedy}, in the same order: a class may be listed that has no object"
    )


def beside(first: PackedIndex, index: PackedIndex) -> PackedIndex:
    """An index under the list of the first. Raises ValueError where it has another one, or a class that lacks there."""
    if index.listed:
        check_same_classes(first, index)
        return index
    if names := lacking(index, first.classes):
        raise UserError(
            f"{index.path} has objects of {shown(names)}, which the classes of {first.path} lack "
            f"({shown(first.classes)}); add them to that list, or rename these objects"
        )
    return in_classes(index, first.classes, first.category_ids)


def shown(names: Sequence[str]) -> str:
    """The first of some names of classes, for messages."""
    return ", ".join(map(repr, names[:SHOWN])) + (", .." if len(names) > SHOWN else "")


def _some_of(index: PackedIndex, names: Sequence[str]) -> str:
    """Names of classes with their ids."""
    ids = dict(zip(index.classes, index.category_ids, strict=True))
    return ", ".join(f"{name!r} (id {ids[name]})" for name in names[:SHOWN]) + (", .." if len(names) > SHOWN else "")


_NO_SIDE = "a width or height of zero or less"
_CLIPPED = "by more than a pixel and is|are clipped to it"
_BLOCK = 1 << 16  # boxes that are clipped at once: of millions, what is made on the way is not

Where = Callable[[int], tuple[str, str]]
"""The picture and the record of the annotation in a row, for messages."""


def check_coordinates(boxes: np.ndarray, where: Where, problems: Problems) -> np.ndarray:
    """Which of the boxes [M, 4] are within what any picture can hold: [M] bool. The others are errors."""
    if boxes.max(initial=0) <= LARGEST and boxes.min(initial=0) >= -LARGEST:
        return np.ones(len(boxes), bool)
    far = np.abs(boxes).max(1, initial=0) > LARGEST
    for row in np.flatnonzero(far).tolist():
        picture, record = where(row)
        box = boxes[row].tolist()
        problems.error(
            Finding(FAR, f"{record}: its box {box} is beyond {LARGEST} pixels; mend or remove it", picture, record, box)
        )
    return ~far


def clip_to_images(
    path: Path,
    boxes_xywh: np.ndarray,
    limits: np.ndarray,
    ids: np.ndarray,
    where: Where,
    problems: Problems,
    fate: str = "left out of training",
    form: Literal["coco", "voc", "yolo"] = "coco",
) -> tuple[np.ndarray, np.ndarray]:
    """Boxes [M, 4] float32 xyxy inside limits [M, 2] (width, height), and which of them [M] have an area there.

    Those that have none, or reach out, are told to `problems`; fate: what becomes of the former; form: of the file.
    """
    boxes, usable = np.empty((len(boxes_xywh), 4), np.float32), np.empty(len(boxes_xywh), bool)
    flat, beyond = usable.copy(), usable.copy()
    for start in range(0, len(boxes), _BLOCK):
        part = slice(start, start + _BLOCK)
        sides, edges = boxes_xywh[part].T, limits[part].T
        flat[part] = (sides[2] <= 0) | (sides[3] <= 0)
        usable[part], beyond[part] = ~flat[part], False
        for axis in (0, 1):
            low, edge = sides[axis], edges[axis]
            high = low + sides[axis + 2]
            boxes[part, axis], boxes[part, axis + 2] = np.clip(low, 0, edge), np.clip(high, 0, edge)
            usable[part] &= boxes[part, axis + 2] > boxes[part, axis]
            beyond[part] |= (low < -1) | (high - edge > 1)
    outside, beyond = ~usable & ~flat, usable & beyond
    for kind, chosen, what, one in (
        (FLAT, flat, f"has|have {_NO_SIDE} and is|are {fate}", f"has {_NO_SIDE}"),
        (OUTSIDE, outside, f"lies|lie outside its|their image and is|are {fate}", "lies outside its image"),
        (BEYOND, beyond, f"reaches|reach out of its|their image {_CLIPPED}", "reaches out of it"),
    ):
        rows = np.flatnonzero(chosen)

        def example(row: int, kind: str = kind, one: str = one) -> Finding:
            picture, record = where(row)
            box = boxes_xywh[row].tolist()
            width, height = limits[row].tolist()
            shown = [round(number, 4) if abs(number) >= 1 else float(f"{number:.4g}") for number in box]
            text = f"{record}: its box {shown} {one} ({width} wide, {height} high)"
            return Finding(kind, text, picture, record, tuple(box))

        line = named(path, len(rows), agreeing(len(rows), f"box|boxes {what}"), ids[rows].tolist())
        problems.several(line, rows.tolist(), example)
    tell_misplaced(path, form, boxes_xywh, limits, flat | outside | beyond, problems)
    return boxes, usable
