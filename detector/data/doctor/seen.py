"""The pictures of a data set, looked at: whether each can be used, and what tells it from the others."""

import hashlib
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from detector.console import progress
from detector.data.endings import completed, has_end
from detector.data.headers import MAX_PIXELS, TURNED, declared_size, orientation
from detector.data.look import look_at_file, reason
from detector.data.packed import PackedIndex
from detector.data.problems import declare
from detector.errors import UserError

MISSING = declare(
    "picture-missing", "error", "pictures are missing", "Add them, or take their records out of the annotations."
)
UNREADABLE = declare("picture-unreadable", "error", "pictures cannot be read", "Fetch or export them again.")
CUT = declare("picture-cut-short", "error", "picture files end too soon", "Fetch or copy them again.")
RESIZED = declare(
    "picture-wrong-size",
    "error",
    "pictures are of another size than their records say",
    "Find out which is right: where the pictures were resized, scale the boxes too; then mend the sizes.",
)
UNENDED = declare(
    "picture-without-end",
    "warning",
    "JPEG files lack only their end marker; they are read",
    "Write them anew some day.",
)
SKIPPED = (MISSING, UNREADABLE, CUT, RESIZED)
"""The kinds of pictures that `DATALOADER.BROKEN skip` leaves out."""
UNDECODED = "has a header and cannot be decoded; it is damaged or of a format that OpenCV cannot read"
"""What is said of a picture that only who decodes it all tells from a good one, as a training does when it needs it."""

TURNED_BY_TAG = declare(
    "picture-turned",
    "warning",
    "pictures have an EXIF tag that turns them in viewers, and records of the size before the turn",
    "They are read without the turn: if the boxes were drawn in a viewer, write the pictures upright, without tag, and "
    "mend the sizes.",
)

DIGEST = 16  # bytes
THUMB = 16  # pixels a side
_HEAD = 1 << 16  # bytes in which an EXIF tag stands, and mostly the size
_CHUNK = 64  # pictures a task of the pool
_GRID = (9, 8)  # columns, rows of the picture of which neighbours are compared: 64 bits
_REDUCED = {
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
}
"""A JPEG is decoded at so much less than its size in a fraction of the time."""


@dataclass(frozen=True, eq=False)
class Seen:
    """What was seen of N pictures.

    faults: image -> kind and what is said of it; unusable [N] bool: it cannot be trained on; digests [N, DIGEST] uint8:
    of the bytes, zeros where unknown; hashes [N] uint64: whether each of 8 x 8 points of a small grey picture is
    brighter than its left neighbour; thumbs [N, THUMB ** 2] uint8: a small grey picture; decoded [N] bool: it has the
    last two.
    """

    faults: dict[int, tuple[str, str]]
    unusable: np.ndarray
    digests: np.ndarray
    hashes: np.ndarray
    thumbs: np.ndarray
    decoded: np.ndarray


def look(folder: Path, index: PackedIndex, deep: bool = True, leave: np.ndarray | None = None) -> Seen:
    """Looks at every picture in a pool of threads, with a bar.

    deep: reads and decodes each, else only its header and its end; leave [N] bool: pictures that are not opened.
    """
    number = len(index)
    seen = Seen(
        {}, np.zeros(number, bool), np.zeros((number, DIGEST), np.uint8), np.zeros(number, np.uint64),
        np.zeros((number, THUMB * THUMB), np.uint8), np.zeros(number, bool),
    )  # fmt: skip
    chosen = np.flatnonzero(~leave) if leave is not None else np.arange(number)
    chunks = [chosen[i : i + _CHUNK].tolist() for i in range(0, len(chosen), _CHUNK)]

    def some(chunk: list[int]) -> None:
        for image in chunk:
            path = os.path.join(folder, str(index.file_names[image]))
            _look_at(path, index.size(image), image, seen, deep, index.upright(image))

    with (
        ThreadPoolExecutor(_threads()) as pool,
        progress(total=len(chosen), desc=f"pictures of {index.path.name}", unit="picture", delay=1, leave=False) as bar,
    ):
        for chunk, _ in zip(chunks, pool.map(some, chunks), strict=True):
            bar.update(len(chunk))
    return seen


def _threads() -> int:
    """As many as there are cores, for decoding; some more, as reading waits."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores + 1


def _look_at(path: str, size: tuple[int, int], image: int, seen: Seen, deep: bool, upright: bool) -> None:
    """Fills in what is seen of one picture. upright: whether it is read as viewers show it in any case."""

    def fault(kind: str, said: str, unusable: bool = True) -> None:
        seen.faults[image] = kind, said
        seen.unusable[image] = unusable

    try:
        state = os.stat(path)
        if not stat.S_ISREG(state.st_mode):  # to open a pipe would wait for ever
            return fault(UNREADABLE, f"{path} is no file")
        found = look_at_file(path, state.st_size, size)
        with open(path, "rb") as file:
            data = file.read(-1 if deep or found.fault else _HEAD)
    except FileNotFoundError:
        return fault(MISSING, f"there is no picture {path}")
    except (OSError, ValueError) as error:  # ValueError: no name that a file can have
        return fault(UNREADABLE, f"{path}: {reason(error)}")
    if found.fault:
        fault(_kind(data, size, found.usable), found.fault, not found.usable)
    if not found.usable:
        return None
    try:
        declared = declared_size(data)
    except UserError as error:
        return fault(UNREADABLE, f"{path}: {error}")
    if declared and declared[0] * declared[1] > MAX_PIXELS:
        return fault(UNREADABLE, f"{path} has {declared[0] * declared[1]} pixels, more than {MAX_PIXELS}")
    if not found.fault and not upright and orientation(data) != 1 and declared == size:
        turned = "turned by 90 degrees" if orientation(data) in TURNED else "turned or mirrored"
        said = f"viewers show {path} {turned}; the record has its size without that, {size[1]} x {size[0]}"
        fault(TURNED_BY_TAG, said, False)
    if not deep:
        return None
    seen.digests[image] = np.frombuffer(hashlib.blake2b(data, digest_size=DIGEST).digest(), np.uint8)
    grey = _small_grey(data if has_end(data) else completed(data) or data, declared or size)
    if grey is not None:
        seen.hashes[image], seen.thumbs[image] = fingerprint(grey)
        seen.decoded[image] = True
    elif not found.fault and not _can_be_read(data):
        fault(UNREADABLE, f"{path} {UNDECODED}")
    return None


def _kind(data: bytes, size: tuple[int, int], usable: bool) -> str:
    """The kind of a picture that is not as it should be."""
    if usable:
        return UNENDED
    try:
        declared = declared_size(data)
    except UserError:
        return UNREADABLE
    if declared and size != declared and not (orientation(data) in TURNED and size == declared[::-1]):
        return RESIZED
    return CUT if declared and not has_end(data) else UNREADABLE


def _small_grey(data: bytes, size: tuple[int, int]) -> np.ndarray | None:
    """The picture in grey, upright, of at least 64 pixels a side where it has them."""
    factor = next((factor for factor in _REDUCED if min(size) >= 64 * factor), 1)
    return _decode(data, _REDUCED.get(factor, cv2.IMREAD_GRAYSCALE))


def _can_be_read(data: bytes) -> bool:
    return _decode(data, cv2.IMREAD_COLOR) is not None


def _decode(data: bytes, flags: int) -> np.ndarray | None:
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        return None


def fingerprint(grey: np.ndarray) -> tuple[np.uint64, np.ndarray]:
    """The hash and the thumb of a grey picture [H, W] uint8, as `Seen` has them."""
    small = cv2.resize(grey, _GRID, interpolation=cv2.INTER_AREA)
    bits = np.packbits(small[:, 1:] > small[:, :-1])
    return bits.view(np.uint64)[0], cv2.resize(grey, (THUMB, THUMB), interpolation=cv2.INTER_AREA).reshape(-1)
