"""The box around a segmentation of COCO: polygons, or a mask as the lengths of its runs, plain or as a text."""

from typing import Any

import msgspec
import numpy as np

Box = tuple[float, float, float, float]


class _Mask(msgspec.Struct):
    """size: height and width; counts: lengths of runs of pixels, column by column, the first one outside."""

    size: tuple[int, int]
    counts: list[int] | str


_decoder = msgspec.json.Decoder(list[list[float]] | _Mask)


def box_around(raw: msgspec.Raw | Any) -> Box | None:  # noqa: ANN401 - unset where a record has none
    """x, y, width and height, pixels, of a record's segmentation; None where that has no area, or is none."""
    try:
        shape = _decoder.decode(raw)
        box = _of_mask(shape) if isinstance(shape, _Mask) else _of_polygons(shape)
    except (msgspec.DecodeError, TypeError, ValueError, OverflowError):
        return None
    return box if box is not None and box[2] > 0 and box[3] > 0 else None


def _of_polygons(polygons: list[list[float]]) -> Box | None:
    points = [np.array(polygon, np.float64).reshape(-1, 2) for polygon in polygons if len(polygon) >= 6]
    if not points:
        return None
    low, high = np.concatenate(points).min(0), np.concatenate(points).max(0)
    x, y, width, height = (float(number) for number in (*low, *(high - low)))
    return x, y, width, height


def _of_mask(mask: _Mask) -> Box | None:
    (height, width), counts = mask.size, mask.counts
    ends = np.cumsum(_runs(counts) if isinstance(counts, str) else np.array(counts, np.int64))
    if not len(ends) or min(height, width) < 1 or np.diff(ends, prepend=0).min() < 0 or ends[-1] != height * width:
        return None  # not a mask of this size
    starts, ends = ends[:-1:2], ends[1::2] - 1  # of the runs inside, the last pixel included
    inside = ends >= starts
    starts, ends = starts[inside], ends[inside]
    if not len(starts):
        return None
    columns, more = starts // height, ends // height
    whole = columns != more  # goes on in the next column, so from the lowest row to the highest
    top, bottom = np.where(whole, 0, starts % height), np.where(whole, height - 1, ends % height)
    x, y = columns.min(), top.min()
    return float(x), float(y), float(more.max() + 1 - x), float(bottom.max() + 1 - y)


def _runs(text: str) -> np.ndarray:
    """The lengths that a text holds. Raises ValueError for a text that is none.

    Numbers have five bits a letter, the lowest first; from the fourth on they are differences to the last but one.
    """
    runs: list[int] = []
    number = shift = 0
    for letter in text.encode("ascii"):
        bits = letter - 48
        if not 0 <= bits < 64 or shift > 60:
            raise ValueError("no lengths of runs")
        number |= (bits & 31) << shift
        shift += 5
        if bits & 32:  # it goes on
            continue
        if bits & 16:  # it is negative
            number -= 1 << shift
        runs.append(number + (runs[-2] if len(runs) > 2 else 0))
        number = shift = 0
    if shift:
        raise ValueError("it ends within a number")
    return np.array(runs, np.int64)
