"""Annotations packed into flat arrays; files in COCO format decoded into typed records, checked and packed."""

import logging
import re
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import numpy as np
from msgspec import Meta

from detector.errors import UserError
from detector.structures import Size

_log = logging.getLogger("detector")
_LAYOUT = (
    "images need id, file_name, height and width; annotations need id, image_id, category_id and "
    "bbox [x, y, width, height]; categories need id and name"
)
_BOM = b"\xef\xbb\xbf"
_Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]  # what a numpy array of ids holds
LARGEST = 2**31 - 1
"""The largest side of a picture and coordinate of a box, pixels."""
# Names stand in arrays that give every name the space of the longest one.
_Name = Annotated[str, Meta(max_length=1024)]
_Id = _Int64 | Annotated[str, Meta(max_length=256)]
_Side = Annotated[int, Meta(ge=1, le=LARGEST)]


class _Image(msgspec.Struct, gc=False):
    id: _Id
    file_name: _Name
    height: _Side
    width: _Side


class _Annotation(msgspec.Struct, gc=False):
    id: _Id
    image_id: int | str
    category_id: int
    bbox: tuple[float, float, float, float]
    area: float | None = None
    iscrowd: int | bool = 0


class _Category(msgspec.Struct, gc=False):
    id: _Int64
    name: str


class _File(msgspec.Struct, gc=False):
    images: list[_Image]
    categories: list[_Category]
    annotations: list[_Annotation] = []  # test-dev files have none


@dataclass(frozen=True, eq=False)
class PackedIndex:
    """The annotations of a data set as flat arrays, which worker processes share. N images, M annotations, C classes.

    Images stand in the file's order; the annotations of image i are the rows offsets[i]:offsets[i + 1], in the file's
    order. Annotations with a negative side are left out; all others are here as pycocotools would count them.

    path: the file, for VOC the folder of the files; classes, category_ids [C]: names and original ids, sorted by id, so
    label k is category_ids[k]; image_ids [N] int64 or text: original ids; file_names [N] text; heights, widths [N]
    int64, pixels; offsets [N + 1] int64; annotation_ids [M] int64 or text: original ids; labels [M] int64, 0..C-1;
    boxes_xywh [M, 4] float64: x, y, width, height as in the file; areas [M] float64: the file's, else width * height;
    crowd [M] bool; boxes [M, 4] float32 xyxy, clipped to the image; usable [M] bool: the clipped box has an area;
    difficult [M] bool: an object of VOC that evaluation leaves out; kind: the format of the annotations.
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
    kind: Literal["coco", "voc"] = "coco"

    def __len__(self) -> int:
        return len(self.image_ids)

    def rows(self, image: int) -> slice:
        """The rows of the annotations of the image at position `image`."""
        return slice(int(self.offsets[image]), int(self.offsets[image + 1]))

    def image_id(self, image: int) -> int | str:
        """The original id of the image at position `image`, as a Python number or text."""
        return self.image_ids[image].item()

    def size(self, image: int) -> Size:
        """(height, width) of the image at position `image`, pixels."""
        return int(self.heights[image]), int(self.widths[image])

    def record(self, image: int) -> str:
        """The record of the image at position `image`, for messages."""
        if self.kind == "voc":
            return f"{self.path / self.image_id(image)}.xml"  # type: ignore[operator]
        return f"images[{image}], id {self.image_id(image)!r} of {self.path}"

    def trainable(self, difficult: bool = False, rows: slice = slice(None)) -> np.ndarray:
        """Bool for each of the rows: a box to train on. No crowd region is, a difficult object only if asked for."""
        return self.usable[rows] & ~self.crowd[rows] & (~self.difficult[rows] | difficult)

    def num_boxes(self, difficult: bool = False) -> np.ndarray:
        """[N] int64: the boxes of each image that are `trainable`."""
        images = np.repeat(np.arange(len(self)), np.diff(self.offsets))
        return np.bincount(images[self.trainable(difficult)], minlength=len(self))


def load_index(path: str | Path) -> PackedIndex:
    """Reads an annotation file in COCO format.

    Boxes that cannot be trained on, and boxes that reach out of their image by more than a pixel, are counted in one
    warning for each kind. Raises ValueError, naming file, record and remedy, when the file is no JSON, a field is
    missing or of the wrong type, an id occurs twice, or an annotation names an image or category that is not there.
    """
    path = Path(path)
    data = _decode(path)
    if not data.images:
        raise UserError(f"{path}: `images` is empty; a data set needs at least one image")
    if not data.categories:
        raise UserError(f"{path}: `categories` is empty; list every class as {{'id': .., 'name': ..}}")
    _check_unique(path, "images", [image.id for image in data.images])
    _check_unique(path, "annotations", [annotation.id for annotation in data.annotations])
    _check_unique(path, "categories", [category.id for category in data.categories])
    return _pack(path, data)


def check_same_classes(first: PackedIndex, other: PackedIndex) -> None:
    """Raises ValueError when two files do not list the same categories (ids and names), and so would mix labels."""
    ours = list(zip(first.category_ids, first.classes, strict=True))
    theirs = list(zip(other.category_ids, other.classes, strict=True))
    if ours == theirs:
        return
    label = next((k for k, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs)))

    def describe(categories: list[tuple[int, str]]) -> str:
        return "id {} {!r}".format(*categories[label]) if label < len(categories) else "nothing"

    raise UserError(
        f"{first.path} and {other.path} list different categories ({len(ours)} and {len(theirs)}); sorted by id, the "
        f"first difference is label {label}: {describe(ours)} against {describe(theirs)}; "
        "give both files the same `categories`"
    )


def _decode(path: Path) -> _File:
    data = path.read_bytes()
    start = len(_BOM) if data.startswith(_BOM) else 0
    try:
        return msgspec.json.decode(memoryview(data)[start:], type=_File)
    except msgspec.ValidationError as error:
        raise UserError(f"{path}: {error}; {_LAYOUT}") from None
    except RecursionError:
        raise UserError(f"{path}: its lists or objects are nested too deep for a file of annotations") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        found = re.search(r"byte (\d+)\)", str(error))
        position = start + int(found[1]) if found else _first_not_utf8(data)
        line = data.count(b"\n", 0, position) + 1
        column = position - (data.rfind(b"\n", 0, position) + 1) + 1
        reason = re.sub(r" \(byte \d+\)", "", str(error))
        raise UserError(
            f"{path}: not a JSON file: line {line}, column {column} (byte {position}): {reason}; "
            "mend that place or write the file anew (NaN and Infinity are no JSON)"
        ) from None


def _first_not_utf8(data: bytes) -> int:
    try:
        data.decode()
    except UnicodeDecodeError as error:
        return error.start
    return len(data)


def _check_unique(path: Path, kind: str, ids: Sequence[Hashable]) -> None:
    if len({type(value) for value in ids}) > 1:
        raise UserError(f"{path}: the ids of `{kind}` are partly numbers, partly texts; write all of them in one way")
    if len(set(ids)) == len(ids):
        return
    seen: dict[Hashable, int] = {}
    for i, value in enumerate(ids):
        if value in seen:
            raise UserError(f"{path}: {kind}[{seen[value]}] and {kind}[{i}] both have id {value!r}; ids must differ")
        seen[value] = i


def _positions(path: Path, field: str, values: list[int | str], known: list[int | str]) -> np.ndarray:
    """[M] int64: the place of each value among `known`."""
    place = {value: i for i, value in enumerate(known)}
    found = np.fromiter((place.get(value, -1) for value in values), np.int64, len(values))
    if (found < 0).any():
        i = int(np.argmax(found < 0))
        kind = "images" if field == "image_id" else "categories"
        raise UserError(
            f"{path}: annotations[{i}] has {field} {values[i]!r}, which no record of `{kind}` has as its id "
            f"({int((found < 0).sum())} such annotations); remove them or add the missing {kind}"
        )
    return found


def _pack(path: Path, data: _File) -> PackedIndex:
    images, annotations = data.images, data.annotations
    categories = sorted(data.categories, key=lambda category: category.id)
    category_ids = [category.id for category in categories]
    image_of = _positions(path, "image_id", [a.image_id for a in annotations], [image.id for image in images])
    labels = _positions(path, "category_id", [a.category_id for a in annotations], list(category_ids))
    ids = np.array([a.id for a in annotations] or np.empty(0, np.int64))
    boxes_xywh = np.array([a.bbox for a in annotations], np.float64).reshape(-1, 4)
    check_coordinates(boxes_xywh, lambda i: f"{path}: annotations[{i}]")
    areas = np.array([np.nan if a.area is None else a.area for a in annotations], np.float64)
    areas = np.where(np.isnan(areas), boxes_xywh[:, 2] * boxes_xywh[:, 3], areas)
    crowd = np.array([a.iscrowd for a in annotations], bool)
    heights = np.array([image.height for image in images], np.int64)
    widths = np.array([image.width for image in images], np.int64)

    limits = np.stack([widths, heights], 1)[image_of]
    boxes, usable = clip_to_images(path, boxes_xywh, limits, ids)

    rows = np.argsort(image_of, kind="stable")
    rows = rows[(boxes_xywh[rows, 2:] >= 0).all(1)]
    counts = np.bincount(image_of[rows], minlength=len(images))
    return PackedIndex(
        path=path,
        classes=[category.name for category in categories],
        category_ids=category_ids,
        image_ids=np.array([image.id for image in images]),
        file_names=np.array([image.file_name for image in images]),
        heights=heights,
        widths=widths,
        offsets=np.concatenate([[0], np.cumsum(counts)]),
        annotation_ids=ids[rows],
        labels=labels[rows],
        boxes_xywh=boxes_xywh[rows],
        areas=areas[rows],
        crowd=crowd[rows],
        boxes=boxes[rows],
        usable=usable[rows],
        difficult=np.zeros(len(rows), bool),
    )


def check_coordinates(boxes: np.ndarray, record: Callable[[int], str]) -> None:
    """Raises ValueError, naming the record of a row, when one of the boxes [M, 4] is beyond all pictures."""
    far = np.abs(boxes).max(1, initial=0) > LARGEST
    if far.any():
        i = int(np.argmax(far))
        raise UserError(f"{record(i)}: its box {boxes[i].tolist()} is beyond {LARGEST} pixels; mend or remove it")


def clip_to_images(
    path: Path, boxes_xywh: np.ndarray, limits: np.ndarray, ids: np.ndarray, fate: str = "left out of training"
) -> tuple[np.ndarray, np.ndarray]:
    """Boxes [M, 4] float32 xyxy inside limits [M, 2] (width, height), and which of them [M] have an area there.

    Those that have none, or reach out, are counted and named in a warning; fate: what becomes of the former.
    """
    low, high = boxes_xywh[:, :2], boxes_xywh[:, :2] + boxes_xywh[:, 2:]
    boxes = np.concatenate([np.clip(low, 0, limits), np.clip(high, 0, limits)], 1).astype(np.float32)
    flat = np.any(boxes_xywh[:, 2:] <= 0, axis=1)
    usable = np.all(boxes[:, 2:] > boxes[:, :2], axis=1) & ~flat
    outside = ~usable & ~flat
    beyond = usable & (np.maximum(-low, high - limits).max(1, initial=0) > 1)
    for chosen, problem in (
        (flat, f"have a width or height of zero or less and are {fate}"),
        (outside, f"lie outside their image and are {fate}"),
        (beyond, "reach out of their image by more than a pixel and are clipped to it"),
    ):
        if chosen.any():
            first = ", ".join(str(value) for value in ids[chosen][:5])
            _log.warning("%s: %d boxes %s (annotation ids: %s)", path, int(chosen.sum()), problem, first)
    return boxes, usable
