"""Pictures that were found good, remembered by size and time: a second look costs one `stat` for each."""

import numpy as np

from detector.data.dataset import CocoDetection
from detector.data.remembered import as_bytes, place, read_numbers, write_numbers

_ROWS = 5


class Known:
    """What is remembered of the pictures of a data set, and how they were found this time. N pictures.

    numbers [5, N] int64: bytes of the file, its time in ns, height and width of its record, and whether it lacks its
    end marker; a time of 0 is a picture that was not found good.
    """

    def __init__(self, dataset: CocoDetection) -> None:
        index, used = dataset.index, dataset.positions
        names = (dataset.folder.resolve(), index.path.resolve(), dataset.name)
        self.path = place("pictures", "\0".join(map(str, names)))
        self.names = [as_bytes(name) for name in index.file_names[used].tolist()]
        self.numbers = np.zeros((_ROWS, len(used)), np.int64)
        self.numbers[2], self.numbers[3] = index.heights[used], index.widths[used]
        self.before = read_numbers(self.path, _ROWS)

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
        """Keep it for the next time. Raises OSError where the cache folder cannot be written."""
        good = self.numbers[1] != 0
        names = (name for name, keep in zip(self.names, good.tolist(), strict=True) if keep)
        write_numbers(self.path, names, self.numbers[:, good])
