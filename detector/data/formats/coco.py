"""Files in COCO's format: decoded into typed records, checked and packed."""

import re
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta

from detector.data.packed import LARGEST, PackedIndex, check_coordinates, clip_to_images
from detector.data.problems import Problems
from detector.errors import UserError

_LAYOUT = (
    "images need id, file_name, height and width; annotations need id, image_id, category_id and "
    "bbox [x, y, width, height]; categories need id and name"
)
_BOM = b"\xef\xbb\xbf"
_Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]  # what a numpy array of ids holds
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


def read(path: str | Path, folder: Path | None = None, problems: Problems | None = None) -> PackedIndex:
    """Reads an annotation file in COCO format.

    folder: of the pictures; problems: what is told of boxes that cannot be trained on, or reach out of their image by
    more than a pixel. Raises ValueError, naming file, record and remedy, when the file is no JSON, a field is
    missing or of the wrong type, an id occurs twice, or an annotation names an image or category that is not there.
    """
    path, problems = Path(path), problems or Problems()
    data = _decode(path)
    if not data.images:
        raise UserError(f"{path}: `images` is empty; a data set needs at least one image")
    if not data.categories:
        raise UserError(f"{path}: `categories` is empty; list every class as {{'id': .., 'name': ..}}")
    _check_unique(path, "images", [image.id for image in data.images])
    _check_unique(path, "annotations", [annotation.id for annotation in data.annotations])
    _check_unique(path, "categories", [category.id for category in data.categories])
    return _pack(path, data, problems)


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


def _pack(path: Path, data: _File, problems: Problems) -> PackedIndex:
    images, annotations = data.images, data.annotations
    categories = sorted(data.categories, key=lambda category: category.id)
    category_ids = [category.id for category in categories]
    image_of = _positions(path, "image_id", [a.image_id for a in annotations], [image.id for image in images])
    labels = _positions(path, "category_id", [a.category_id for a in annotations], list(category_ids))
    ids = np.array([a.id for a in annotations] or np.empty(0, np.int64))
    boxes_xywh = np.array([a.bbox for a in annotations], np.float64).reshape(-1, 4)

    def where(row: int) -> tuple[str, str]:
        return images[image_of[row]].file_name, f"{path}: annotations[{row}], id {ids[row].item()!r}"

    check_coordinates(boxes_xywh, where, problems)
    areas = np.array([np.nan if a.area is None else a.area for a in annotations], np.float64)
    areas = np.where(np.isnan(areas), boxes_xywh[:, 2] * boxes_xywh[:, 3], areas)
    crowd = np.array([a.iscrowd for a in annotations], bool)
    heights = np.array([image.height for image in images], np.int64)
    widths = np.array([image.width for image in images], np.int64)

    limits = np.stack([widths, heights], 1)[image_of]
    boxes, usable = clip_to_images(path, boxes_xywh, limits, ids, where, problems)

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
