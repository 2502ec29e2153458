"""Boxes of pictures that an EXIF tag turns: from the pixels as stored to those that viewers show, and back."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from detector.data.headers import declared_size, orientation
from detector.data.packed import PackedIndex
from detector.errors import UserError

if TYPE_CHECKING:  # without torch
    from detector.structures import Size

_HEAD = 1 << 16  # bytes in which a JPEG or PNG has its tag

_BACK = {6: 8, 8: 6}  # the others undo themselves


def turned(boxes_xywh: np.ndarray, tag: int, height: float, width: float) -> np.ndarray:
    """Boxes [M, 4] as a viewer shows them that obeys the EXIF tag, 1 to 8; height, width: of the picture as stored."""
    x, y, w, h = boxes_xywh.T
    right, bottom = width - x - w, height - y - h
    columns = {
        2: (right, y, w, h),
        3: (right, bottom, w, h),
        4: (x, bottom, w, h),
        5: (y, x, h, w),
        6: (bottom, x, h, w),
        7: (bottom, right, h, w),
        8: (y, right, h, w),
    }
    return np.stack(columns.get(tag, (x, y, w, h)), 1)


def upright(index: PackedIndex, folder: Path) -> tuple[PackedIndex, int]:
    """The index with boxes and sizes of pictures as viewers show them, and of how many pictures they changed.

    Changed are those of data in COCO's and VOC's format whose boxes belong to pictures as stored: where the record has
    that size, not where it was measured.
    """
    return _reframed(index, folder, to_shown=True)


def as_stored(index: PackedIndex, folder: Path) -> tuple[PackedIndex, int]:
    """The index, with boxes that `upright` takes back to where they were, of pictures that are `upright` by themselves.

    Those are all in YOLO's layout, and those without a size in their record. The size is then one that a record has.
    """
    return _reframed(index, folder, to_shown=False)


def as_recorded(path: Path, boxes_xywh: np.ndarray, size: "Size") -> np.ndarray:
    """Boxes [M, 4] that were found in a picture as viewers show it, as they belong to a record of this size.

    size: (height, width) as viewers show it; where it is also that as stored, such boxes are in the pixels as stored.
    """
    tag, stored = _looked_at(path)
    if tag == 1 or stored != size:
        return boxes_xywh
    return turned(boxes_xywh, _BACK.get(tag, tag), *stored)


def _reframed(index: PackedIndex, folder: Path, to_shown: bool) -> tuple[PackedIndex, int]:
    boxes, sizes = index.boxes_xywh.copy(), np.stack([index.heights, index.widths], 1)
    changed = []
    for i, name in enumerate(index.file_names.tolist()):
        if index.upright(i) == to_shown:
            continue
        tag, stored = _looked_at(folder / name)
        if tag == 1 or stored != index.size(i):  # then its boxes are already those that are shown
            continue
        rows = index.rows(i)
        boxes[rows] = turned(boxes[rows], tag if to_shown else _BACK.get(tag, tag), *stored)
        if tag >= 5:
            sizes[i] = sizes[i, ::-1].copy()
        changed.append(i)
    if not changed:
        return index, 0
    measured = index.measured if to_shown else None
    limits = sizes[:, ::-1].repeat(np.diff(index.offsets), 0)
    low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    clipped = np.concatenate([np.clip(low, 0, limits), np.clip(high, 0, limits)], 1).astype(np.float32)
    heights, widths = np.ascontiguousarray(sizes.T)
    return replace(index, boxes_xywh=boxes, boxes=clipped, heights=heights, widths=widths, measured=measured), len(
        changed
    )


def _looked_at(path: Path) -> tuple[int, tuple[int, int] | None]:
    """The EXIF tag of a picture, 1 for none, and (height, width) as stored."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
        if head.startswith((b"II*\0", b"MM\0*")):  # its tags may be at its end
            head += file.read()
    tag = orientation(head)
    if tag == 1:
        return 1, None
    try:
        return tag, declared_size(head)
    except UserError:
        return 1, None
