"""What an index holds, as a file in COCO's format."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from detector.data.packed import PackedIndex
from detector.errors import UserError
from detector.files import json_bytes, write_atomic
from detector.text import counted

IMAGES, ANNOTATIONS = "images", "annotations"


def held(index: PackedIndex) -> np.ndarray:
    """[M] bool: the annotations that the format holds, which is all of them."""
    return np.ones(len(index.labels), bool)


def write(
    index: PackedIndex, folder: str | Path, split: str = "train", names: Sequence[str] | None = None
) -> list[str]:
    """Writes FOLDER/annotations/SPLIT.json, of pictures in FOLDER/images/SPLIT.

    names [N]: of the pictures there, else the index's. Boxes are written to the last bit, with ids, areas, crowds and
    images without boxes. Ids that are not those of a COCO file, and pycocotools wants whole numbers, count from 1;
    difficult objects have "ignore" 1, which is pycocotools' word. Returns a sentence for each thing that is not held.
    """
    names = index.file_names.tolist() if names is None else names
    ours = index.kind == "coco"
    image_ids = index.image_ids.tolist() if ours else list(range(1, len(index) + 1))
    ids = index.annotation_ids.tolist() if ours else list(range(1, len(index.labels) + 1))
    if len(set(ids)) < len(ids) or len(set(image_ids)) < len(image_ids):
        raise UserError(f"{index.path}: an id stands twice, which no file in COCO's format may have")
    sides = zip(names, index.heights.tolist(), index.widths.tolist(), strict=True)
    images = [
        {"id": image_id, "file_name": name, "height": height, "width": width}
        for image_id, (name, height, width) in zip(image_ids, sides, strict=True)
    ]
    image_of = index.image_of().tolist()
    columns = (index.labels, index.boxes_xywh, index.areas, index.crowd, index.difficult)
    rows = zip(ids, image_of, *(column.tolist() for column in columns), strict=True)
    annotations = [
        _annotation(id_, image_ids[image], index.category_ids[label], box, area, crowd, difficult)
        for id_, image, label, box, area, crowd, difficult in rows
    ]
    categories = [{"id": id_, "name": name} for id_, name in zip(index.category_ids, index.classes, strict=True)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    write_atomic(Path(folder) / ANNOTATIONS / f"{split}.json", json_bytes(content))
    losses = []
    if not ours:
        losses.append(
            f"ids are whole numbers here: {counted(len(image_ids), 'picture|pictures')} and "
            f"{counted(len(ids), 'box|boxes')} are numbered from 1; the names of the pictures stay"
        )
    if number := int(index.difficult.sum()):
        marked = counted(number, "difficult object|objects is|are written with")
        losses.append(f'{marked} "ignore": 1; few readers know that word, others take them for objects like any')
    return losses


def _annotation(
    id_: int | str, image_id: int | str, category_id: int, box: list[float], area: float, crowd: bool, difficult: bool
) -> dict[str, Any]:
    row = {"id": id_, "image_id": image_id, "category_id": category_id, "bbox": box, "area": area}
    return {**row, "iscrowd": int(crowd), **({"ignore": 1} if difficult else {})}
