"""The lines of YOLO's label files: boxes, polygons and poses, each as a class and a box."""

import math
from array import array
from collections.abc import Callable, Sequence
from itertools import chain

import numpy as np

from detector.data.formats.yolo_folder import Layout
from detector.data.formats.yolo_poses import POSES, Poses
from detector.data.problems import SHOWN, Finding, Problems, declare, named
from detector.errors import UserError, cut
from detector.text import agreeing

LINE = declare(
    "yolo-line",
    "error",
    "lines of label files are neither boxes nor polygons",
    "Write the class, then centre x, centre y, width, height as fractions of the picture; or the corners x1 y1 x2 ..",
)
CLASS = declare(
    "yolo-class",
    "error",
    "lines have a class that is not listed",
    "Add its name to `names`, or mend the lines: classes count from 0.",
)
FILE = declare("yolo-label-file", "error", "label files cannot be read", "Fetch or write them anew, or delete them.")
PIXELS = declare(
    "yolo-pixels",
    "error",
    "lines hold pixels where fractions belong",
    "Divide x and width by the picture's width, y and height by its height.",
)
TWICE = declare("yolo-line-twice", "warning", "lines stand twice in their files", "They count once; delete the others.")
SCORES = declare(
    "yolo-sixth-number",
    "warning",
    "lines have a sixth number, as predictions have for their score",
    "It is passed over; check that these are labels.",
)
MAX_BYTES = 1 << 26
"""The largest label file."""

LARGEST = 2.0
"""What is above is no fraction of a picture that somebody wrote a little too large."""

_BOX = 5
_TWICE = "line|lines stands|stand twice in its|their file|files and counts|count once"


class Lines:
    """The lines of all label files: what they say as five numbers each, and where they stand."""

    def __init__(self, pose: int | None, problems: Problems) -> None:
        self.pose, self.problems = pose, problems
        self.poses = Poses()
        self.values, self.images, self.numbers = array("d"), array("q"), array("q")
        self.scores: list[str] = []
        self.lost: list[int] = []
        self.first: Finding | None = None
        self.more = 0

    def fault(self, finding: Finding) -> None:
        """What stops the loader, once all lines are read."""
        if self.problems.everything:
            self.problems.error(finding)
        elif self.first:
            self.more += 1
        else:
            self.first = finding

    def tell(self, entry: str) -> None:
        """Raises the first fault, for the loader, and says how many more there are."""
        if self.first:
            more = f" (and {self.more} more: `detector check {entry}` lists them)" if self.more else ""
            self.problems.error(self.first._replace(text=self.first.text + more))

    def read(self, image: int, path: str, picture: str) -> None:
        """Adds the lines of a picture's label file. A picture whose file cannot be read is `lost`."""
        data, fault = b"", ""
        try:
            with open(path, "rb", buffering=0) as file:
                data = file.read(MAX_BYTES + 1)
        except OSError as error:
            fault = f"{error.strerror}; fetch it again, or delete it"
        if len(data) > MAX_BYTES:
            fault = f"more than {MAX_BYTES} bytes, which no label file has; is it another file?"
        if fault:
            self.lost.append(image)
            self.fault(Finding(FILE, f"{path}: {fault}", picture, path))
            return
        if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
            data = data.decode("utf-16", "replace").encode()
        rows = [line.split() for line in data.removeprefix(b"\xef\xbb\xbf").splitlines()]
        if all(len(row) == _BOX for row in rows) and b"_" not in data:
            try:
                values = list(map(float, chain.from_iterable(rows)))
            except ValueError:
                pass  # said below, with the line
            else:
                self.values.extend(values)
                self.images.extend([image] * len(rows))
                self.numbers.extend(range(1, len(rows) + 1))
                return
        for number, row in enumerate(rows, 1):
            if row:
                self._add(image, number, row, path, picture)

    def _add(self, image: int, number: int, row: Sequence[bytes], path: str, picture: str) -> None:
        try:
            said = [_number(text) for text in row]
            values = self._box(said)
        except UserError as error:
            shown = cut(b" ".join(row[:8]).decode("utf-8", "replace") + " .." * (len(row) > 8))
            text = f"{path}, line {number}: {shown}: {error}"
            self.fault(Finding(LINE, text, picture, f"{path}:{number}"))
            return
        if len(row) == _BOX + 1 and len(row) != self.pose:
            self.scores.append(f"{path}:{number}")
        if self.pose is None and len(row) > _BOX and len(row) % 2:
            self.poses.look(len(self.numbers), said)
        self.values.extend(values)
        self.images.append(image)
        self.numbers.append(number)

    def _box(self, values: list[float]) -> list[float]:
        """Class, centre x, centre y, width and height of a line of any kind."""
        count = len(values)
        if count in (_BOX, _BOX + 1, self.pose):
            return values[:_BOX]
        if count > _BOX and count % 2:
            xs, ys = values[1::2], values[2::2]
            if not all(map(math.isfinite, values)):
                return [math.nan] * _BOX
            left, top, right, bottom = min(xs), min(ys), max(xs), max(ys)
            return [values[0], (left + right) / 2, (top + bottom) / 2, right - left, bottom - top]
        if count < _BOX:
            raise UserError(f"it has {count} numbers; write class, centre x, centre y, width and height")
        raise UserError(
            f"it has {count} numbers, which is neither a box (5) nor a class with the corners of a polygon (an odd "
            "number); if these are points of a pose, the YAML file needs kpt_shape"
        )

    def checked(
        self, layout: Layout, names: Sequence[str], labels: Sequence[str]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The lines that can be used: [M, 5] float64, their pictures [M] and their numbers in the file [M], int64.

        Tells what is wrong with the others. names, labels [N]: of the pictures and their label files.
        """
        found = self.poses.found()
        if found:
            for row, box in self.poses.rows.items():
                self.values[row * _BOX : (row + 1) * _BOX] = array("d", box)
        values = np.array(self.values, np.float64).reshape(-1, _BOX)
        images, numbers = np.array(self.images, np.int64), np.array(self.numbers, np.int64)

        def where(row: int) -> tuple[str, str]:
            return names[images[row]], f"{labels[images[row]]}:{numbers[row]}"

        if found:
            posed = list(self.poses.rows)
            what = (
                f"lines look like a box and {found[0]} points of {found[1]} values, as poses have, and are taken as "
                f"boxes: write kpt_shape: {list(found)}, or an empty kpt_shape if they are polygons"
            )
            line = named(layout.path, len(posed), what, [where(row)[1] for row in posed[: SHOWN + 1]], "e.g.")
            self.problems.several(
                line, posed, lambda row: Finding(POSES, f"{where(row)[1]}: it looks like a pose", *where(row))
            )
        if self.scores:
            what = agreeing(
                len(self.scores), "line|lines has|have a sixth number, as predictions have; it is passed over"
            )
            line = named(layout.path, len(self.scores), what, self.scores, "e.g.")
            rows = range(len(self.scores))
            self.problems.several(
                line, rows, lambda i: Finding(SCORES, f"{self.scores[i]}: it has a sixth number", "", self.scores[i])
            )
        keep = _usable(layout, values, where, self.fault)
        keep[keep] = ~_again(layout, values[keep], images[keep], np.flatnonzero(keep), where, self.problems)
        return values[keep], images[keep], numbers[keep]


def _number(text: bytes) -> float:
    try:
        if b"_" not in text:  # Python would take 1_000
            return float(text)
    except ValueError:
        pass
    shown = cut(text.decode("utf-8", "replace"))
    raise UserError(f"{shown} is no number; the class is its place among the names, from 0, and decimals have a point")


def _usable(
    layout: Layout,
    values: np.ndarray,
    where: Callable[[int], tuple[str, str]],
    fault: Callable[[Finding], None],
) -> np.ndarray:
    """[M] bool: class and box are what they should be; the others are errors, in the order of the lines."""
    classes = len(layout.classes)
    finite = np.isfinite(values).all(1)
    safe = np.where(finite[:, None], values, 0)
    whole = safe[:, 0] == np.floor(safe[:, 0])
    known = (safe[:, 0] >= 0) & (safe[:, 0] < classes)
    pixels = np.abs(safe[:, 1:]).max(1, initial=0) > LARGEST
    flipped = (safe[:, 3:] < 0).any(1)
    good = finite & whole & known & ~pixels & ~flipped
    numbers = safe[finite & whole, 0]
    # Then those that are listed have the names of others.
    from_one = len(numbers) > 1 and numbers.min() == 1 and numbers.max() == classes
    shifted = "; no line is of class 0: if yours count from 1, subtract 1 from all of them" if from_one else ""
    for row in np.flatnonzero(~good).tolist():
        picture, record = where(row)
        number, box = values[row, 0], tuple(values[row, 1:].tolist())
        if not finite[row]:
            kind, text = LINE, "it has a value that is no finite number; mend or delete the line"
        elif not whole[row]:
            kind, text = LINE, f"its class is {number}, which is no whole number; mend or delete the line"
        elif not known[row]:
            kind, text = (
                CLASS,
                (
                    f"its class is {int(number)}, but {layout.path} names {classes}, 0 to {classes - 1}; add the "
                    f"name, or mend the line{shifted}"
                ),
            )
        elif pixels[row]:
            kind, text = (
                PIXELS,
                (
                    f"its box is {list(box)}, but belongs in fractions of the picture, 0 to 1; divide pixels by the "
                    "picture's width and height"
                ),
            )
        else:
            kind, text = LINE, f"its width or height is below 0: {list(box[2:])}; mend or delete the line"
        fault(Finding(kind, f"{record}: {text}", picture, record))
    return good


def _again(
    layout: Layout,
    values: np.ndarray,
    images: np.ndarray,
    rows: np.ndarray,
    where: Callable[[int], tuple[str, str]],
    problems: Problems,
) -> np.ndarray:
    """[M] bool: the same class and box stand before, in the same file. rows [M]: for `where`."""
    order = np.lexsort((*values.T, images))
    same = (np.diff(images[order]) == 0) & (np.diff(values[order], axis=0) == 0).all(1)
    again = np.zeros(len(values), bool)
    again[order[1:]] = same
    found = rows[again].tolist()
    records = [where(row)[1] for row in found]
    line = named(layout.path, len(found), agreeing(len(found), _TWICE), records, "e.g.")
    problems.several(
        line,
        range(len(found)),
        lambda i: Finding(TWICE, f"{records[i]}: it stands twice", where(found[i])[0], records[i]),
    )
    return again
