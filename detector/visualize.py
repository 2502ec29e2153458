"""Detections and ground truth drawn onto a picture."""

import colorsys
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from torch import Tensor

from detector.structures import Detection, Target
from detector.text import printable

Color = tuple[int, int, int]
Corners = tuple[int, int, int, int]
"""x1, y1, x2, y2 in pixels of the picture."""

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_GOLDEN = 0.61803398875
_BLACK, _WHITE, _RED, _GREY = (0, 0, 0), (255, 255, 255), (255, 0, 0), (128, 128, 128)


class _Pen(NamedTuple):
    """line: width in pixels; scale: of the font; pad: pixels around a text."""

    line: int
    scale: float
    pad: int


def draw(
    image: np.ndarray,
    detections: Detection,
    classes: Sequence[str],
    targets: Target | None = None,
    *,
    untrue: Sequence[bool] = (),
    lost: Sequence[bool] = (),
) -> np.ndarray:
    """A copy of a picture with its detections, and its ground truth in dashes of black and white with gaps between.

    image [H, W, 3] uint8 RGB; detections and targets: boxes in pixels of that picture; classes: name of each label.
    Every class has its own colour, always the same. Labels stay inside the picture; those of high scores lie on top.
    Crowd regions of the targets have grey in place of black. untrue: of each detection whether it is false, which its
    label then says by a cross; lost: of each box of the targets whether it was missed, its dashes are red then, thicker
    and around the box, so that a small object is to be seen; empty where that is not known.
    Returns [H, W, 3] uint8 RGB.

    Raises ValueError for a picture of another shape or type.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"expected a picture [H, W, 3] uint8, got {list(image.shape)} {image.dtype}")
    picture = np.array(image, order="C")
    pen = _pen(picture)
    boxes, labels = np.rint(detections["boxes"].cpu().numpy()).astype(int), detections["labels"].tolist()
    scores = detections["scores"].tolist()
    order = sorted(range(len(scores)), key=lambda i: scores[i])
    for i in order:
        x1, y1, x2, y2 = boxes[i].tolist()
        cv2.rectangle(picture, (x1, y1), (x2, y2), class_color(labels[i]), pen.line)
    if targets is not None:
        grounds = [_RED if missed else _BLACK for missed in lost] or [_BLACK] * len(targets["boxes"])
        grounds += [_GREY] * len(targets["ignore"])
        dashed = [box for group in (targets["boxes"], targets["ignore"]) for box in _corners(group)]
        for box, ground in sorted(zip(dashed, grounds, strict=True), key=lambda one: one[1]):  # red on top
            _dashes(picture, box, pen, ground)
    taken: list[Corners] = []
    places = {}
    for i in reversed(order):
        mark = "x " * bool(untrue and untrue[i])
        text = _fitting(f"{mark}{in_ascii(classes[labels[i]])} {scores[i]:.2f}", picture, pen)
        places[i] = (text, _place(text, tuple(boxes[i].tolist()), picture, pen, taken))
        taken.append(places[i][1])
    for i in order:
        _write(picture, *places[i], class_color(labels[i]), pen)
    return picture


def class_color(label: int) -> Color:
    """The RGB colour of a class: hues as far apart as can be, in three strengths."""
    saturation, value = ((0.85, 1.0), (0.55, 1.0), (0.9, 0.75))[label % 3]
    r, g, b = colorsys.hsv_to_rgb((0.02 + label * _GOLDEN) % 1, saturation, value)
    return round(r * 255), round(g * 255), round(b * 255)


def _pen(picture: np.ndarray) -> _Pen:
    side = float(np.sqrt(picture.shape[0] * picture.shape[1]))
    return _Pen(line=max(1, round(side / 320)), scale=max(0.35, side / 1300), pad=max(2, round(side / 250)))


def _text_size(text: str, pen: _Pen) -> tuple[int, int]:
    """(width, height) of a text with its background, pixels."""
    (width, height), below = cv2.getTextSize(text, _FONT, pen.scale, _thickness(pen))
    return width + 2 * pen.pad, height + below + pen.pad


def _thickness(pen: _Pen) -> int:
    return max(1, round(pen.scale * 1.6))


def _fitting(text: str, picture: np.ndarray, pen: _Pen) -> str:
    """The text, cut at its front part where the picture is too narrow for it."""
    name, score = text.rsplit(" ", 1)
    while name and _text_size(text, pen)[0] > picture.shape[1]:
        name = name[:-1]
        text = f"{name}.. {score}" if name else score
    return text


def _place(text: str, box: Corners, picture: np.ndarray, pen: _Pen, taken: Sequence[Corners]) -> Corners:
    """Where a label goes: above its box, inside, below, or right of its top; the first place that is free."""
    width, height = _text_size(text, pen)
    x1, y1, x2, y2 = box
    edge = pen.line // 2
    wanted = [
        (x1 - edge, y1 - height),
        (x1 + edge, y1 + edge),
        (x2 + edge - width, y1 - height),
        (x1 - edge, y2),
        (x1 + edge, y2 - height),
        (x2 + edge, y1),
    ]
    spots = []
    for x, y in wanted:
        x, y = max(0, min(x, picture.shape[1] - width)), max(0, min(y, picture.shape[0] - height))
        spots.append((x, y, x + width, y + height))
    return min(spots, key=lambda spot: sum(_overlap(spot, other) for other in taken))


def _overlap(a: Corners, b: Corners) -> int:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return width * height if width > 0 and height > 0 else 0


def _write(picture: np.ndarray, text: str, spot: Corners, color: Color, pen: _Pen) -> None:
    x1, y1, x2, y2 = spot
    below = cv2.getTextSize(text, _FONT, pen.scale, _thickness(pen))[1]
    cv2.rectangle(picture, (x1, y1), (x2 - 1, y2 - 1), color, cv2.FILLED)
    bright = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2] > 140
    origin = (x1 + pen.pad, y2 - below - pen.pad // 2)
    cv2.putText(picture, text, origin, _FONT, pen.scale, _BLACK if bright else _WHITE, _thickness(pen), cv2.LINE_AA)


def _corners(boxes: Tensor) -> list[Corners]:
    return [tuple(box) for box in np.rint(boxes.cpu().numpy()).astype(int).tolist()]


def _dashes(picture: np.ndarray, box: Corners, pen: _Pen, ground: Color) -> None:
    """White dashes and dashes of another colour along a box, one of which shows on any ground.

    After two of them a gap of the same length, in which the line of a detection is seen. Red ones have no detection.
    """
    lost = ground == _RED
    line, dash = (pen.line + 1 if lost else max(1, pen.line // 2)), 4 * pen.line + 2
    x1, y1, x2, y2 = box
    # the first pixels of the four lines: outside of the box, or on its edge
    left, top, right, bottom = (x1 - line, y1 - line, x2 + 1, y2 + 1) if lost else (n - line // 2 for n in box)
    for i, color in enumerate((ground, _WHITE)):
        for x in range(left + i * dash, right + line, (2 if lost else 4) * dash):
            for y in (top, bottom):
                end = min(x + dash, right + line) - 1
                cv2.rectangle(picture, (x, y), (end, y + line - 1), color, cv2.FILLED)
        for y in range(top + i * dash, bottom + line, (2 if lost else 4) * dash):
            for x in (left, right):
                end = min(y + dash, bottom + line) - 1
                cv2.rectangle(picture, (x, y), (x + line - 1, end), color, cv2.FILLED)


def in_ascii(text: str) -> str:
    """The text in the letters that OpenCV's fonts have."""
    plain = unicodedata.normalize("NFKD", printable(text))
    return "".join(c for c in plain if not unicodedata.combining(c)).encode("ascii", "replace").decode()
