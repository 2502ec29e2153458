"""Heights and widths of pictures whose annotations do not say them: read from their headers, and kept."""

import logging
import os
import stat
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from detector.console import progress
from detector.data.headers import upright_size
from detector.data.remembered import as_bytes, place, read_numbers, write_numbers
from detector.errors import UserError

_log = logging.getLogger("detector")

_THREADS = 16  # on a disk of the network they wait side by side
_CHUNK = 256  # pictures a task of the pool
_HEADS = (1 << 12, 1 << 18)  # bytes in which a size is looked for, before the whole file
_ROWS = 4  # bytes, time in ns, height, width


def measured(folder: Path, names: Sequence[str]) -> np.ndarray:
    """[N, 2] int64: height and width, pixels, of the pictures `names` in a folder, as viewers show them.

    That is turned by the EXIF tag. 0, 0 where there is no such file or its header says nothing. Little of a file is
    read, and nothing decoded; pictures whose size in bytes and time are as they were are not opened again.
    """
    path = place("sizes", str(folder.resolve()))
    known = read_numbers(path, _ROWS)
    chunks = [range(i, min(i + _CHUNK, len(names))) for i in range(0, len(names), _CHUNK)]
    numbers = np.zeros((len(names), 4), np.int64)

    def look(chunk: range) -> int:
        opened = 0
        for i in chunk:
            before = known.get(as_bytes(names[i]), (0, 0, 0, 0))
            numbers[i], new = _look(os.path.join(folder, names[i]), before)
            opened += new
        return opened

    opened = 0
    with (
        ThreadPoolExecutor(_THREADS) as pool,
        progress(total=len(names), desc="sizes of the pictures", unit="picture", delay=1, leave=False) as bar,
    ):
        for chunk, new in zip(chunks, pool.map(look, chunks), strict=True):
            opened += new
            bar.update(len(chunk))
    if opened:
        found = {
            **known,
            **{as_bytes(name): tuple(row) for name, row in zip(names, numbers.tolist(), strict=True) if row[2]},
        }
        kept = np.array(list(found.values()), np.int64).reshape(-1, 4).T
        try:
            write_numbers(path, found, kept)
        except OSError as error:
            _log.info("the sizes of the pictures cannot be kept for the next time: %s", error)
    return numbers[:, 2:]


def size_of(path: str | Path, length: int) -> tuple[int, int] | None:
    """(height, width) as viewers show a picture file of so many bytes; None where its header does not say it.

    Raises OSError where it cannot be read.
    """
    with open(path, "rb", buffering=0) as file:
        head = b""
        for more in (*_HEADS, length):
            head += file.read(max(more - len(head), 0))
            try:
                if size := upright_size(head):
                    return size
            except UserError:
                return None
            if len(head) >= length:
                break
    return None


def _look(path: str, before: tuple[int, ...]) -> tuple[tuple[int, ...], bool]:
    """Bytes, time, height and width of a file, and whether it was opened; zeros where it cannot be measured."""
    try:
        state = os.stat(path)
        if not stat.S_ISREG(state.st_mode):  # to open a pipe would wait for ever
            return (0, 0, 0, 0), False
        if before[:2] == (state.st_size, state.st_mtime_ns):
            return before, False
        size = size_of(path, state.st_size)
    except (OSError, ValueError):  # ValueError: no name that a file can have
        return (0, 0, 0, 0), False
    return (state.st_size, state.st_mtime_ns, *size) if size and all(size) else (0, 0, 0, 0), True
