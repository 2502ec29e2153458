"""Numbers by file name that are kept in the cache folder: what is known of pictures is not looked up again."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import msgspec
import numpy as np

from detector.files import cache_folder, keep_newest, write_atomic

KEPT = 100
"""Files of a kind that are kept; of some 50 bytes a picture."""

_FORMAT = 1


class _File(msgspec.Struct):
    """names: separated by zero bytes; numbers: [R, N] int64."""

    version: int
    names: bytes
    numbers: bytes


def place(kind: str, name: str) -> Path:
    """The file of a kind for what is called `name`."""
    return cache_folder() / kind / f"{hashlib.sha256(as_bytes(name)).hexdigest()[:24]}.bin"


def read_numbers(path: Path, rows: int) -> dict[bytes, tuple[int, ...]]:
    """Name -> its numbers; nothing where there is no file, or one that is damaged or of another version."""
    try:
        file = msgspec.msgpack.decode(path.read_bytes(), type=_File)
        numbers = np.frombuffer(file.numbers, np.int64).reshape(rows, -1)
    except (OSError, ValueError):  # msgspec's errors are ValueErrors
        return {}
    names = file.names.split(b"\0")
    if file.version != _FORMAT or len(names) != numbers.shape[1]:
        return {}
    return dict(zip(names, zip(*numbers.tolist(), strict=True), strict=True))


def write_numbers(path: Path, names: Iterable[bytes], numbers: np.ndarray) -> None:
    """Keep numbers [R, N] int64 of N names; of files that were not written for longest, what is beyond `KEPT` goes.

    Raises OSError where the cache folder cannot be written.
    """
    write_atomic(path, msgspec.msgpack.encode(_File(_FORMAT, b"\0".join(names), numbers.tobytes())))
    keep_newest(path.parent, "*.bin", KEPT)


def as_bytes(name: str) -> bytes:
    """A file name, also one that is no UTF-8 and holds surrogates."""
    return name.encode("utf-8", "surrogatepass")
