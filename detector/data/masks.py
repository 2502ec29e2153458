"""Masks of salient objects: picture files of grey levels, and what of them is salient."""

from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from detector.data.headers import declared_size, upright_size
from detector.data.images import no_picture
from detector.data.look import look_at_file
from detector.errors import MissingFileError, UserError

if TYPE_CHECKING:  # without torch
    from detector.structures import Size

LEVEL = 128
"""A mask is salient where its grey level is above this, in training and evaluation: pysodmetrics' rule."""

_HEADS = (1 << 12, 1 << 18)  # bytes in which the size of a picture is looked for, before the whole file


def read_mask(path: str | Path, expected: "Size") -> np.ndarray:
    """The mask as uint8 [H, W], 1 where it is salient and 0 elsewhere.

    expected: (height, width) of its picture. An alpha channel does not count.
    Raises FileNotFoundError, or ValueError for a file that cannot be decoded, colours, 16 bits, levels 0 and 1 (which
    would all be dark), or another size.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise MissingFileError(f"{path}: there is no such mask; check the file name and the folder") from None
    try:
        found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    except cv2.error:
        found = None
    if found is None:
        raise UserError(f"{path}: {no_picture(data) or 'the mask cannot be decoded; it is damaged: fetch it again'}")
    if found.dtype != np.uint8:
        raise UserError(f"{path}: the mask has {8 * found.itemsize} bits a level; write one of 8 bits, 0 to 255")
    if found.ndim == 3:
        colours = found[..., :3] if found.shape[2] > 2 else found[..., :1]
        if (colours != colours[..., :1]).any():
            raise UserError(f"{path}: the mask has colours; write one of grey levels, white where an object is salient")
        found = colours[..., 0]
    if found.shape != expected:
        raise UserError(f"{path}: {other_size(found.shape, expected)}")
    if found.max() == 1:
        raise UserError(
            f"{path}: the mask has the levels 0 and 1, and only what is above {LEVEL} is salient: multiply it by 255"
        )
    return (found > LEVEL).astype(np.uint8)


def other_size(found: "Size", expected: "Size") -> str:
    """What is said of a mask that has not the size of its picture."""
    return (
        f"the mask is {found[1]} wide and {found[0]} high, its picture {expected[1]} wide and {expected[0]} high; "
        "scale or turn the one or the other"
    )


def look_at_pair(picture: Path, mask: Path) -> "tuple[Size | None, str]":
    """The (height, width) of a picture as viewers show it, and what is wrong with it or its mask, "" for nothing.

    Both are there, readable, with an end, and of one size. Of the picture little is read; the mask is decoded, as only
    its pixels say whether it has colours, or levels that are all dark. Without a size the picture cannot be used.
    """
    size, fault = _look(picture)
    if fault or size is None:
        return None, f"{picture}: {fault}"
    found, fault = _look(mask)
    if fault or found is None:
        return size, f"{mask}: {fault}"
    if found != size:
        return size, f"{mask}: {other_size(found, size)}"
    try:
        read_mask(mask, size)
    except (OSError, UserError) as error:
        return size, str(error)
    return size, ""


def _look(path: Path) -> "tuple[Size | None, str]":
    """The size of a picture file, and what makes it unreadable."""
    try:
        length = path.stat().st_size
        with path.open("rb") as file:
            head = b""
            for more in (*_HEADS, length):
                head += file.read(max(more - len(head), 0))
                if size := upright_size(head):
                    break
    except OSError as error:
        return None, f"it cannot be opened: {error.strerror}"
    if size is None:
        return None, no_picture(head) or "it is no picture, or a damaged one: fetch it again"
    look = look_at_file(str(path), length, declared_size(head) or size)
    return size, "" if look.usable else look.fault
