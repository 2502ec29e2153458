"""How large a picture says it is, by its first bytes: what its decoding would take is known before it begins."""

import io
import struct
from typing import TYPE_CHECKING

from PIL import Image

from detector.errors import UserError

if TYPE_CHECKING:  # without torch
    from detector.structures import Size

MAX_PIXELS = 1 << 28
"""The largest picture that is decoded: 16384 x 16384, of which the RGB values take 768 MiB."""

ORIENTATION, TURNED = 0x0112, frozenset((5, 6, 7, 8))
"""The EXIF tag, and its values that swap height and width."""

_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # markers of a JPEG that give its size
_LONE = frozenset((0x01, *range(0xD0, 0xD9)))  # markers without a segment


def declared_size(data: bytes) -> "Size | None":
    """(height, width) that the head of a picture file declares, not turned by an EXIF tag; None where it says nothing.

    JPEG, PNG, BMP and TIFF are read here, as that takes microseconds, other formats by Pillow. Raises ValueError for a
    size that Pillow refuses.
    """
    try:
        if data.startswith(b"\xff\xd8"):
            return _jpeg(data)
        if data.startswith(b"\x89PNG\r\n\x1a\n"):
            width, height = struct.unpack_from(">II", data, 16)
            return height, width
        if data.startswith(b"BM"):
            old = struct.unpack_from("<I", data, 14)[0] == 12
            width, height = struct.unpack_from("<HH" if old else "<ii", data, 18)
            return abs(height), width  # below 0 where the first row is the uppermost
        if data.startswith((b"II*\0", b"MM\0*")) and (size := _tiff(data)):
            return size
    except struct.error:
        return None  # it ends before
    try:
        with Image.open(io.BytesIO(data)) as image:
            return image.height, image.width
    except Image.DecompressionBombError as error:
        raise UserError(f"it is too large to be decoded: {error}") from None
    except Exception:  # Pillow's readers raise errors of many kinds, and OpenCV will say what is wrong
        return None


def upright_size(data: bytes) -> "Size | None":
    """(height, width) of a picture file as viewers show it: `declared_size`, turned by the EXIF tag.

    Turned is what OpenCV turns: JPEG, TIFF, and PNG whose tag stands before the pixels.
    """
    size = declared_size(data)
    return size[::-1] if size and orientation(data) in TURNED else size


def orientation(data: bytes) -> int:
    """The value of the EXIF tag in a JPEG, PNG or TIFF, 1 (upright) where there is none."""
    if data.startswith(b"\xff\xd8"):
        at = data.find(b"Exif\0\0")
        at = at + 6 if at >= 4 and data[at - 4 : at - 2] == b"\xff\xe1" else -1
    elif data.startswith(b"\x89PNG"):
        at = data.find(b"eXIf", 0, data.find(b"IDAT")) + 4 if b"eXIf" in data else -1
    else:
        at = 0  # a TIFF, or nothing
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[at : at + 4]) if at >= 0 else None
    if order is None:
        return 1
    try:
        entry = at + struct.unpack_from(f"{order}I", data, at + 4)[0]
        for _ in range(struct.unpack_from(f"{order}H", data, entry)[0]):
            tag, _, _, value = struct.unpack_from(f"{order}HHIH", data, entry + 2)
            if tag == ORIENTATION:
                return value
            entry += 12
    except struct.error:
        pass
    return 1


def _jpeg(data: bytes) -> "Size | None":
    """The size in a JPEG's frame header, found as decoders find it: whatever is no marker is passed over."""
    at = 2
    while (at := data.find(b"\xff", at)) >= 0:
        marker = data[at + 1 : at + 2]
        if marker in (b"\xff", b"\x00", b""):  # fill, or no marker, or the end
            at += 1
            continue
        at += 2
        if marker[0] in _LONE:
            continue
        if marker[0] in _FRAMES:
            return struct.unpack_from(">HH", data, at + 3)
        if marker in (b"\xd9", b"\xda"):
            return None
        at += struct.unpack_from(">H", data, at)[0]
    return None


def _tiff(data: bytes) -> "Size | None":
    """The size in the tags of a TIFF's first picture; None where they are of another type than is usual."""
    order = "<" if data.startswith(b"II") else ">"
    start = struct.unpack_from(f"{order}I", data, 4)[0]
    sides: dict[int, int] = {}
    for entry in range(struct.unpack_from(f"{order}H", data, start)[0]):
        at = start + 2 + 12 * entry
        tag, kind, count = struct.unpack_from(f"{order}HHI", data, at)
        if tag in (256, 257) and kind in (3, 4) and count == 1:
            sides.setdefault(tag, struct.unpack_from(f"{order}{'H' if kind == 3 else 'I'}", data, at + 8)[0])
        if tag >= 257:  # they stand in order
            break
    return (sides[257], sides[256]) if len(sides) == 2 else None
