"""Arrays in a file that is mapped into memory: nothing is decoded, and all processes share the same pages."""

import hashlib
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from detector.errors import UserError
from detector.files import writing

_MAGIC, _VERSION = b"detarray", 1
_HEAD = len(_MAGIC) + 32 + 8  # bytes: magic, checksum of the header, its length
_ALIGNED = 64
_KINDS = "biufU"  # of numpy's types


class Place(NamedTuple):
    """Where an array lies. offset: bytes from the start of all arrays."""

    dtype: str
    shape: tuple[int, ...]
    offset: int

    @property
    def size(self) -> int:
        """Bytes."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


class _Header(msgspec.Struct):
    version: int
    length: int  # bytes of all arrays
    arrays: dict[str, Place]
    values: Any


class MappedFile:
    """Arrays by name, which are mapped into memory, and plain values.

    Pickled, only its path goes; it is opened anew where it is unpickled, which raises ValueError unless it is still the
    same file. Whoever pickles asks `in_place` first.
    """

    def __init__(self, path: Path, checksum: bytes, header: _Header, start: int) -> None:
        self.path, self.checksum, self.values = path, checksum, header.values
        with path.open("rb") as file:
            self._identity = _identity(os.fstat(file.fileno()))
            self._bytes = np.memmap(file, np.uint8, mode="r")
        self._start = start
        self.arrays = {name: self.array(place) for name, place in header.arrays.items()}

    def array(self, place: Place) -> np.ndarray:
        """The array in a place."""
        begin = self._start + place.offset
        return np.asarray(self._bytes)[begin : begin + place.size].view(place.dtype).reshape(place.shape)

    def place(self, array: np.ndarray) -> Place | None:
        """Where an array lies in the file, None if it does not."""
        offset = _address(array) - _address(self._bytes) - self._start
        inside = 0 <= offset and self._start + offset + array.nbytes <= len(self._bytes)
        return (
            Place(array.dtype.str, array.shape, offset) if array.size and inside and array.flags.c_contiguous else None
        )

    def in_place(self) -> bool:
        """Whether this file still stands under its path; what is mapped stays, whatever became of the name."""
        try:
            return _identity(os.stat(self.path)) == self._identity
        except OSError:
            return False

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self.path, self.checksum)


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray], values: object) -> None:
    """Write numbers, truth values and text for `open_arrays`. values: what msgspec can encode. Raises OSError."""
    table, at = {}, 0
    for name, array in arrays.items():
        table[name] = Place(array.dtype.str, array.shape, at)
        at = _aligned(at + array.nbytes)
    header = msgspec.msgpack.encode(_Header(_VERSION, at, table, values))
    path.parent.mkdir(parents=True, exist_ok=True)
    with writing(path) as file:
        file.write(_MAGIC + hashlib.sha256(header).digest() + len(header).to_bytes(8, "little") + header)
        start = _aligned(file.tell())
        for name, array in arrays.items():
            file.write(bytes(start + table[name].offset - file.tell()))
            if array.size:
                file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        file.write(bytes(start + at - file.tell()))


def open_arrays(path: Path) -> MappedFile | None:
    """What was written; None where there is no file, or one that is damaged or of another version.

    The header is held against its checksum, the file against its length; the arrays themselves are not read.
    """
    try:
        if not path.is_file():  # to open a pipe would wait for ever
            return None
        with path.open("rb") as file:
            begin = file.read(_HEAD)
            length, total = int.from_bytes(begin[-8:], "little"), os.fstat(file.fileno()).st_size
            if len(begin) < _HEAD or not begin.startswith(_MAGIC) or length > total:
                return None
            data = file.read(length)
        checksum, start = begin[len(_MAGIC) : -8], _aligned(_HEAD + length)
        if hashlib.sha256(data).digest() != checksum:
            return None
        header = msgspec.msgpack.decode(data, type=_Header)
        if header.version != _VERSION or start + header.length != total:
            return None
        for place in header.arrays.values():
            if np.dtype(place.dtype).kind not in _KINDS or not 0 <= place.offset <= header.length - place.size:
                return None
        return MappedFile(path, checksum, header, start)
    except (OSError, ValueError, TypeError):  # msgspec's errors are ValueErrors, numpy's TypeErrors
        return None


def _identity(state: os.stat_result) -> tuple[int, int, int, int]:
    return state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns


def _reopen(path: Path, checksum: bytes) -> MappedFile:
    found = open_arrays(path)
    if found is None or found.checksum != checksum:
        raise UserError(f"{path} was changed or deleted while it was in use; begin again")
    return found


def _aligned(number: int) -> int:
    return -(-number // _ALIGNED) * _ALIGNED


def _address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]
