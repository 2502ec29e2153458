"""Lines of label files that are poses though nothing says so: a box and points, not the corners of a polygon."""

from collections.abc import Sequence

from detector.data.problems import declare

POSES = declare(
    "yolo-pose",
    "warning",
    "lines look like poses, a box and points, though kpt_shape is not set",
    "They are taken as boxes; write kpt_shape, the number of points and of values each, or an empty kpt_shape if they "
    "are polygons.",
)

_BOX = 5
_LEAST = 2  # points: with one the line may as well be a triangle
_REACH = 0.75  # of a side, from the centre: points of a pose may lie a little outside their box
_MISFITS = 0.1
_FEW = 3  # lines: of fewer, one polygon in a hundred would pass for a pose of two values a point


class Poses:
    """Looks at the lines that have the number of values of a polygon, and decides on all of them together.

    They are poses if all are of one length, of nine in ten the points lie in or near the box that the first numbers
    give, and half of them would make odd polygons: see `_tells`.
    """

    def __init__(self) -> None:
        self.length, self.rows = 0, dict[int, list[float]]()
        self.fits = {2: 0, 3: 0}
        self.tells = {2: 0, 3: 0}

    def look(self, row: int, values: Sequence[float]) -> None:
        """A line, the class and its numbers; row: its number among all lines."""
        self.length = self.length or len(values)
        if len(values) != self.length or (len(self.rows) > 100 and 2 * max(self.fits.values()) < len(self.rows)):
            self.length = -1  # polygons, of which nothing needs to be kept
        if self.length < 0:
            self.rows.clear()
            return
        self.rows[row] = list(values[:_BOX])
        for size in self.fits:
            if _fits(values, size):
                self.fits[size] += 1
                self.tells[size] += _tells(values, size)

    def found(self) -> tuple[int, int] | None:
        """The number of points and of values each, None where the lines are polygons."""
        for size in (3, 2):  # a point with three values is the rarer thing to happen by chance
            wanted = (1 - _MISFITS) * len(self.rows)
            enough = len(self.rows) >= (1 if size == 3 else _FEW)
            if enough and self.fits[size] >= wanted and 2 * self.tells[size] >= len(self.rows):
                return (self.length - _BOX) // size, size
        return None


def _fits(values: Sequence[float], size: int) -> bool:
    """Whether the numbers may be a box inside the picture and points of so many values in or near it."""
    x, y, w, h = values[1:_BOX]
    rest = values[_BOX:]
    if len(rest) % size or len(rest) < _LEAST * size or min(w, h) <= 0:
        return False
    if min(x - w / 2, y - h / 2) < -0.01 or max(x + w / 2, y + h / 2) > 1.01:
        return False
    if size == 3 and not {0, 1, 2}.issuperset(rest[2::size]):
        return False
    points = _points(rest, size)
    return bool(points) and all(abs(px - x) <= _REACH * w and abs(py - y) <= _REACH * h for px, py in points)


def _tells(values: Sequence[float], size: int) -> bool:
    """Whether numbers that fit a pose would make an odd polygon.

    Its second corner would lie far from all others, or the first in the middle of the rest, half as large as which the
    second says; or its numbers are marks of points that are seen.
    """
    x, y, w, h = values[1:_BOX]
    rest = values[_BOX:]
    if abs(w - x) > _REACH * w or abs(h - y) > _REACH * h or (size == 3 and 2 in rest[2::size]):
        return True
    xs, ys = zip(*_points(rest, size), strict=True)
    width = min(max(xs), x + w / 2) - max(min(xs), x - w / 2)
    height = min(max(ys), y + h / 2) - max(min(ys), y - h / 2)
    common = max(width, 0) * max(height, 0)
    return common > 0.5 * (w * h + (max(xs) - min(xs)) * (max(ys) - min(ys)) - common)


def _points(rest: Sequence[float], size: int) -> list[tuple[float, float]]:
    """The points, without those at 0, 0, which nobody placed."""
    return [pair for pair in zip(rest[::size], rest[1::size], strict=True) if any(pair)]
