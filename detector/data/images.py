"""Picture files to 8-bit RGB, upright in the way their annotations expect."""

from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from detector.data import headers
from detector.data.endings import completed, has_end
from detector.errors import MissingFileError, UserError

if TYPE_CHECKING:  # without torch
    from detector.structures import Size

_DAMAGED = "the picture cannot be decoded; it is damaged or of a format that OpenCV cannot read"


def read_rgb(path: str | Path, expected: "Size | None" = None, upright: bool = False) -> np.ndarray:
    """The picture as uint8 [H, W, 3] RGB, whatever its channels and bit depth.

    expected: (height, width) of the annotation file. The picture is turned by its EXIF tag only if that is how it gets
    this size, or if upright. Without an expected size it is always turned, as viewers do.
    Raises FileNotFoundError, or ValueError when the file is empty, cut short, no picture, of another size, or larger
    than `headers.MAX_PIXELS`; what it declares of its size is looked at before it is decoded. A JPEG that lacks nothing
    but its end marker is read.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise MissingFileError(f"{path}: there is no such picture; check the file name and the folder") from None
    if not data:
        raise UserError(f"{path}: the picture file is empty; fetch it again")
    _check_declared(path, data, expected)
    if not has_end(data):
        whole = completed(data)  # as OpenCV may fill the rest with grey and say nothing
        if whole is None:
            raise UserError(f"{path}: the picture file is cut short, its end marker is missing; fetch it again")
        data = whole
    if expected is None:
        return _decode(path, data, cv2.IMREAD_COLOR)
    image = _decode(path, data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if image.shape[:2] == expected and not upright:
        return image
    turned = _decode(path, data, cv2.IMREAD_COLOR)
    if turned.shape[:2] == expected:
        return turned
    raise UserError(f"{path}: {other_size((image.shape[0], image.shape[1]), expected)}")


def _check_declared(path: Path, data: bytes, expected: "Size | None") -> None:
    """Refuse a picture for the size in its header: a small file may declare one that takes gigabytes to decode."""
    try:
        declared = headers.declared_size(data)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    if declared is None:
        return
    height, width = declared
    if expected is not None and expected not in (declared, (width, height)):
        raise UserError(f"{path}: {other_size(declared, expected)}")
    if height * width > headers.MAX_PIXELS:
        raise UserError(f"{path}: {too_large(declared)}")


def too_large(size: "Size") -> str:
    """What is said of a picture that is not decoded, as it is larger than `headers.MAX_PIXELS`."""
    return (
        f"the picture is {size[1]} wide and {size[0]} high, more than {headers.MAX_PIXELS} pixels; cut it into smaller "
        "ones"
    )


def other_size(found: "Size", expected: "Size") -> str:
    """What is said of a picture that has not the size in its annotation file."""
    return (
        f"the picture is {found[1]} wide and {found[0]} high, its annotation file says {expected[1]} wide and "
        f"{expected[0]} high; its boxes may not fit, mend the one or the other"
    )


def no_picture(data: bytes) -> str:
    """What is said of a file that something else was put in the place of; "" where that is unknown."""
    if data.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer, no picture: git lfs pull brings the file"
    head = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head.startswith((b"<!doctype html", b"<html")):
        return "it is a web page (HTML), no picture: fetch the file again"
    return ""


def _decode(path: Path, data: bytes, flags: int) -> np.ndarray:
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise UserError(f"{path}: the picture cannot be decoded: {error}") from None
    if image is None:
        raise UserError(f"{path}: {no_picture(data) or _DAMAGED}")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)
