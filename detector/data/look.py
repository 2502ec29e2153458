"""One picture file, looked at as training needs it: a header, the size in its record, an end."""

from typing import TYPE_CHECKING, NamedTuple

from PIL import Image

from detector.data.endings import JPEG, JPEG_END, PNG, PNG_END, has_end
from detector.data.headers import MAX_PIXELS, ORIENTATION, TURNED, declared_size
from detector.data.images import other_size, read_rgb, too_large
from detector.errors import UserError

if TYPE_CHECKING:  # without torch
    from detector.structures import Size

_HEADS = (1 << 12, 1 << 18)  # bytes in which the size of a picture is looked for, before the whole file
_TAIL = 64  # bytes in which its end is, unless something stands behind it
_ENDS = {JPEG: JPEG_END, PNG: PNG_END}

_PLAIN = {"BMP", "PPM", "TIFF", "WEBP"}
"""Formats of which Pillow reads the header and OpenCV the picture."""

UNENDED = "lacks only its end marker"


class Look(NamedTuple):
    """What was found of a picture; fault: what is wrong, or ""; usable: whether it can be read in spite of it.

    other: (height, width) in its header where that is not the size in the record.
    """

    fault: str = ""
    usable: bool = True
    other: "Size | None" = None


def look_at_file(path: str, length: int, size: "Size") -> Look:
    """Whether a picture file of so many bytes has this size (height, width) and an end.

    Little of it is read, unless something is wrong: then it is decoded as training would.
    """
    try:
        with open(path, "rb", buffering=0) as file:
            head = file.read(_HEADS[0])
            start = next((start for start in _ENDS if head.startswith(start)), b"")
            declared = declared_size(head) if start else None
            if start and not declared:
                for more in (_HEADS[1], length):
                    head += file.read(max(more - len(head), 0))
                    if declared := declared_size(head):
                        break
            if declared and declared != size and not (declared[::-1] == size and _is_turned(path)):
                return Look(other_size(declared, size), usable=False, other=declared)
            if declared and declared[0] * declared[1] > MAX_PIXELS:
                return Look(too_large(declared), usable=False)
            if declared:
                file.seek(max(length - _TAIL, 0))
                if _ENDS[start] in file.read(_TAIL):
                    return Look()
                file.seek(0)
                if has_end(file.read()):
                    return Look()
        if not start and _plain_size(path) == size:
            return Look()
    except (OSError, ValueError) as error:
        return Look(reason(error), usable=False)
    return _decode(path, size)


def _decode(path: str, size: "Size") -> Look:
    """What reading a picture says of it: the last word."""
    try:
        read_rgb(path, size)
        with open(path, "rb") as file:
            return Look("" if has_end(file.read()) else UNENDED)
    except UserError as error:
        return Look(str(error).removeprefix(f"{path}: "), usable=False)
    except OSError as error:
        return Look(reason(error), usable=False)


def _is_turned(path: str) -> bool:
    """Whether the EXIF tag says that height and width are to be swapped."""
    with Image.open(path) as image:
        return image.getexif().get(ORIENTATION) in TURNED


def _plain_size(path: str) -> "Size | None":
    """(height, width) in the header of a file of other formats, None where Pillow cannot say."""
    try:
        with Image.open(path) as image:
            return (image.height, image.width) if image.format in _PLAIN else None
    except (OSError, ValueError, Image.DecompressionBombError):
        return None


def reason(error: OSError | ValueError) -> str:
    """What is said of a picture file that the system, or Pillow, does not open."""
    return f"it cannot be opened: {getattr(error, 'strerror', None) or error}"
