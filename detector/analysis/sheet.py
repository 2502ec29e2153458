"""A contact sheet: pictures of one width side by side, each with lines of text below it."""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from detector.structures import Size
from detector.visualize import in_ascii

CELL = (360, 480)
"""The largest height and width of a picture on the sheet, pixels."""

MOST = 100
"""Pictures on a sheet: a JPEG ends at 65,535 pixels, and nobody looks through more."""

_COLUMNS = 3
_GAP, _LINE, _TEXT = 14, 18, 0.45  # pixels around a cell and for a line of text; scale of the font
_LEAST = 48  # pixels, a side of a picture, however narrow: lines and labels need a ground
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_PAPER, _INK, _FAINT = 250, (0, 0, 0), (105, 105, 105)


class Cell(NamedTuple):
    """picture [h, w, 3] uint8 RGB, no larger than `CELL`; lines: of text, the first one is the title."""

    picture: np.ndarray
    lines: Sequence[str]


def shown_size(size: Size) -> Size:
    """The size that a picture has on the sheet: of the same shape, as large as `CELL` allows."""
    scale = min(CELL[0] / size[0], CELL[1] / size[1])
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def fitted(image: np.ndarray) -> np.ndarray:
    """A picture in its `shown_size`; a very narrow one gets a margin to the right or below."""
    height, width = shown_size((image.shape[0], image.shape[1]))
    smaller = height < image.shape[0]
    scaled = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)
    margin = (max(0, _LEAST - height), max(0, _LEAST - width))
    return np.pad(scaled, ((0, margin[0]), (0, margin[1]), (0, 0)), constant_values=_PAPER)


def contact_sheet(title: str, cells: Sequence[Cell]) -> np.ndarray:
    """The cells row by row below a title, uint8 RGB [H, W, 3]; a row is as high as its highest picture."""
    columns = min(_COLUMNS, len(cells))
    rows = [cells[start : start + columns] for start in range(0, len(cells), columns)]
    heights = [max(one.picture.shape[0] for one in row) + _LINE * max(len(one.lines) for one in row) for row in rows]
    head = 2 * _LINE
    width = _GAP + columns * (CELL[1] + _GAP)
    sheet = np.full((head + sum(heights) + _GAP * (len(rows) + 1), width, 3), _PAPER, np.uint8)
    _write(sheet, title, (_GAP, _GAP + _LINE), width - 2 * _GAP, _INK, _TEXT * 1.3)
    top = head + _GAP
    for row, height in zip(rows, heights, strict=True):
        for place, one in enumerate(row):
            left = _GAP + place * (CELL[1] + _GAP)
            below = top + one.picture.shape[0]
            sheet[top:below, left : left + one.picture.shape[1]] = one.picture
            for number, line in enumerate(one.lines, start=1):
                _write(sheet, line, (left, below + number * _LINE - 4), CELL[1], _FAINT if number > 1 else _INK)
        top += height + _GAP
    return sheet


def _write(
    sheet: np.ndarray, text: str, place: tuple[int, int], width: int, color: tuple[int, int, int], scale: float = _TEXT
) -> None:
    """A line of text that begins at x, y, cut where it is too long."""
    text = in_ascii(text)
    if _width(text, scale) > width:
        while text and _width(text + "..", scale) > width:
            text = text[:-1]
        text += ".."
    cv2.putText(sheet, text, place, _FONT, scale, color, 1, cv2.LINE_AA)


def _width(text: str, scale: float) -> int:
    return int(cv2.getTextSize(text, _FONT, scale, 1)[0][0])
