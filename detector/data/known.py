"""Pictures that were found good, remembered by size and time: a second look costs one `stat` for each."""

import hashlib
from pathlib import Path

import msgspec
import numpy as np

from detector.data.dataset import CocoDetection
from detector.files import cache_folder, write_atomic

KEPT = 100  # data sets that are remembered; each is a file of some 50 bytes a picture

_FORMAT = 1


class _File(msgspec.Struct):
    """names: separated by zero bytes; numbers: [5, N] int64, the rows of `Known.numbers`."""

    version: int
    names: bytes
    numbers: bytes


class Known:
    """What is remembered of the pictures of a data set, and how they were found this time. N pictures.

    numbers [5, N] int64: bytes of the file, its time in ns, height and width of its record, and whether it lacks its
    end marker; a time of 0 is a picture that was not found good.
    """

    def __init__(self, dataset: CocoDetection) -> None:
        index, used = dataset.index, dataset.positions
        place = "\0".join(map(str, (dataset.folder.resolve(), index.path.resolve(), dataset.name)))
        self.path = _folder() / f"{hashlib.sha256(_bytes(place)).hexdigest()[:24]}.bin"
        self.names = [_bytes(name) for name in index.file_names[used].tolist()]
        self.numbers = np.zeros((5, len(used)), np.int64)
        self.numbers[2], self.numbers[3] = index.heights[used], index.widths[used]
        self.before = self._read()

    def endless(self, item: int, size: int, time: int) -> bool | None:
        """Whether a picture lacks its end marker, which is noted; None where it has not the size and time it had."""
        height, width = self.numbers[2:4, item].tolist()
        was = self.before.get(self.names[item])
        if was is None or was[:4] != (size, time, height, width):
            return None
        self.note(item, size, time, bool(was[4]))
        return bool(was[4])

    def note(self, item: int, size: int, time: int, endless: bool) -> None:
        """A picture was found good. endless: but for its end marker."""
        self.numbers[0, item], self.numbers[1, item], self.numbers[4, item] = size, time, endless

    def write(self) -> None:
        """Keep it for the next time; of the data sets that were not looked at for longest, the file goes.

        Raises OSError where the cache folder cannot be written.
        """
        good = self.numbers[1] != 0
        names = b"\0".join(name for name, keep in zip(self.names, good.tolist(), strict=True) if keep)
        write_atomic(self.path, msgspec.msgpack.encode(_File(_FORMAT, names, self.numbers[:, good].tobytes())))
        files = sorted(_folder().glob("*.bin"), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in files[KEPT:]:
            path.unlink(missing_ok=True)

    def _read(self) -> dict[bytes, tuple[int, ...]]:
        """Name -> numbers; nothing where there is no file, or one that is damaged or of another version."""
        try:
            file = msgspec.msgpack.decode(self.path.read_bytes(), type=_File)
            numbers = np.frombuffer(file.numbers, np.int64).reshape(5, -1)
        except (OSError, ValueError):  # msgspec's errors are ValueErrors
            return {}
        names = file.names.split(b"\0")
        if file.version != _FORMAT or len(names) != numbers.shape[1]:
            return {}
        return dict(zip(names, zip(*numbers.tolist(), strict=True), strict=True))


def _folder() -> Path:
    return cache_folder() / "pictures"


def _bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogatepass")  # names that are no UTF-8 hold surrogates
