"""What an index holds, as a folder in the layout of Ultralytics' YOLO."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import yaml  # type: ignore[import-untyped]

from detector.data.formats.losses import lost_ids, those
from detector.data.packed import PackedIndex
from detector.files import write_atomic

IMAGES, LABELS, YAML = "images", "labels", "data.yaml"

DECIMALS = 12
"""Of a fraction: a ten-millionth of a pixel in a picture of 100,000."""


def held(index: PackedIndex) -> np.ndarray:
    """[M] bool: the annotations that the format holds, those of objects with an area inside their picture."""
    return index.usable & ~index.crowd


def write(
    index: PackedIndex, folder: str | Path, split: str = "train", names: Sequence[str] | None = None
) -> list[str]:
    """Writes FOLDER/labels/SPLIT/NAME.txt of each picture in FOLDER/images/SPLIT, and data.yaml.

    names [N]: of the pictures there, else the index's; no two may differ in their suffix only, and none has a folder
    `images`. Boxes are written as fractions of their pictures with twelve decimals, clipped to them unless they were
    read from YOLO's files. Crowds are left out: nobody should train on them as objects. Returns a sentence for each
    thing that is not held.
    """
    folder = Path(folder)
    names = index.file_names.tolist() if names is None else names
    limits = np.stack([index.widths, index.heights], 1).repeat(np.diff(index.offsets), 0)
    low, high = index.boxes_xywh[:, :2], index.boxes_xywh[:, :2] + index.boxes_xywh[:, 2:]
    beyond = np.maximum(-low, high - limits).max(1, initial=0) > 1e-3
    if index.kind == "yolo":
        beyond[:] = False
    else:
        low, high = np.clip(low, 0, limits), np.clip(high, 0, limits)
    fractions = np.concatenate([(low + high) / 2 / limits, (high - low) / limits], 1)
    keep = held(index)
    for i, name in enumerate(names):
        rows = np.arange(index.offsets[i], index.offsets[i + 1])[keep[index.rows(i)]]
        lines = [f"{label} {' '.join(map(_number, box))}\n" for label, box in _rows(index, fractions, rows)]
        write_atomic(folder / LABELS / split / f"{os.path.splitext(name)[0]}.txt", "".join(lines).encode())
    write_yaml(folder, {split: f"{IMAGES}/{split}"}, index.classes)
    return [
        *lost_ids(index, range(len(index.classes)), "names and order stand for them"),
        *those(index.crowd, "crowd region|regions is|are left out: the format has none, and they are no objects"),
        *those(
            index.difficult & keep, "difficult object|objects is|are written like any other: the format has no mark"
        ),
        *those(beyond & keep, "box|boxes reaches|reach out of its|their picture and is|are clipped to it"),
        *those(~index.usable & ~index.crowd, "box|boxes has|have no area inside its|their picture and is|are left out"),
    ]


def write_yaml(folder: Path, splits: Mapping[str, str], classes: Sequence[str]) -> None:
    """FOLDER/data.yaml. It has no `path`: without it Ultralytics starts from the file's own folder, as we do.

    `train` and `val` stand there also where there are none, since Ultralytics wants both.
    """
    content = {"train": None, "val": None, **splits, "nc": len(classes), "names": dict(enumerate(classes))}
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=1 << 20)
    write_atomic(folder / YAML, text.encode())


def _rows(index: PackedIndex, fractions: np.ndarray, rows: np.ndarray) -> list[tuple[int, list[float]]]:
    return list(zip(index.labels[rows].tolist(), fractions[rows].tolist(), strict=True))


def _number(value: float) -> str:
    return f"{value:.{DECIMALS}f}".rstrip("0").rstrip(".")
