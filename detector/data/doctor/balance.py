"""How many objects there are, of which classes and sizes, in how many pictures; and whether the data sets agree."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from detector.data.doctor.classes import counts, names
from detector.data.doctor.part import Part, apart
from detector.data.problems import Finding, declare
from detector.data.shares import many_crowds, many_difficult, many_without

SKEWED = declare(
    "class-skew",
    "warning",
    "classes are in another share of the pictures in one data set than in another, by more than chance explains",
    "Divide the pictures anew, at random: the measures of such a split say little of the other one.",
)

SMALL, MEDIUM = 32.0**2, 96.0**2
"""Areas, pixels, below which COCO's evaluation calls an object small, or of medium size."""

CHANCE = 1e-3
"""Probability that a random split shows a skew in any class."""

RATIO = 1.5
"""Ratio of the shares from which a skew matters."""

EXPECTED = 5.0
"""Pictures with and without a class that each data set has to expect for the test to hold."""


class Sides(NamedTuple):
    """How pictures are resized: the shorter side to `short`, the longer one to at most `long`; square: all to that."""

    short: int = 800
    long: int = 1333
    square: int = 0

    def scales(self, heights: np.ndarray, widths: np.ndarray) -> np.ndarray:
        """[N, 2] float64: the factors of widths and heights."""
        if self.square:
            return np.stack([self.square / widths, self.square / heights], 1)
        scale = np.minimum(self.short / np.minimum(heights, widths), self.long / np.maximum(heights, widths))
        return np.stack([scale, scale], 1)

    def __str__(self) -> str:
        if self.square:
            return f"{self.square} x {self.square}"
        return f"shorter side {self.short}, longer at most {self.long}"


class Sizes(NamedTuple):
    """Objects by their area: below SMALL, below MEDIUM, and above."""

    small: int
    medium: int
    large: int


class Numbers(NamedTuple):
    """The numbers of one data set.

    objects: boxes that are neither crowds nor left out, of which `difficult` are marked so; empty: images without any;
    small, medium, large: objects by their area in the picture as it is, as the measures count them; resized: by that of
    their box in the resized picture, None where nothing says how it is resized; most, mean: objects an image.
    """

    images: int
    empty: int
    objects: int
    crowds: int
    difficult: int
    small: int
    medium: int
    large: int
    resized: Sizes | None
    most: int
    mean: float


def areas(part: Part, sides: Sides | None = None) -> np.ndarray:
    """[M] float64: the areas of the objects, as COCO's evaluation takes them; sides: of their resized boxes. Pixels."""
    index = part.index
    if sides is None:
        return index.areas
    spans = (index.boxes[:, 2:] - index.boxes[:, :2]).astype(np.float64)
    return (spans * sides.scales(index.heights, index.widths)[part.image_of]).prod(1)


def sizes(found: np.ndarray) -> Sizes:
    """How many of some areas [M] are of which size."""
    small, upto = int((found < SMALL).sum()), int((found < MEDIUM).sum())
    return Sizes(small, upto - small, len(found) - upto)


def numbers(part: Part, sides: Sides | None = None) -> Numbers:
    """The numbers of a data set. sides: how its pictures are resized."""
    index, objects = part.index, part.objects
    per_image = np.bincount(part.image_of[objects], minlength=len(index))
    return Numbers(
        images=len(index),
        empty=int((per_image == 0).sum()),
        objects=int(objects.sum()),
        crowds=int(index.crowd.sum()),
        difficult=int((objects & index.difficult).sum()),
        **sizes(areas(part)[objects])._asdict(),
        resized=sizes(areas(part, sides)[objects]) if sides else None,
        most=int(per_image.max(initial=0)),
        mean=float(per_image.mean()) if len(per_image) else 0.0,
    )


def pictures_with(part: Part) -> dict[str, int]:
    """Class -> images with at least one object of it."""
    index, rows = part.index, np.flatnonzero(part.objects)
    pairs = np.unique(np.stack([part.image_of[rows], index.labels[rows]], 1), axis=0)
    found = np.bincount(pairs[:, 1], minlength=len(index.classes))
    return dict(zip(names(part), found.tolist(), strict=True))


def odd_shares(parts: Sequence[Part]) -> list[Finding]:
    """Data sets of which a large part is crowds, difficult, or pictures without objects."""
    return [
        finding
        for part in parts
        for finding in (
            *many_crowds(part.index),
            *([] if part.role == "train" and part.source.difficult else many_difficult(part.index)),
            *many_without(part.index),
        )
    ]


def skew(parts: Sequence[Part]) -> list[Finding]:
    """Classes whose share of the pictures differs between two data sets by more than a random split explains.

    Pictures are counted, not objects, as those of one picture do not come by chance: a two-proportion z-test with
    pooled variance and continuity correction, at CHANCE over all classes (Bonferroni). A ratio below RATIO is left
    alone, and classes that are missing in one of them are another kind.
    """
    found = []
    for one, other in apart(parts):
        first, second = pictures_with(parts[one]), pictures_with(parts[other])
        sizes = len(parts[one].index), len(parts[other].index)
        both = [name for name in first if first[name] and second.get(name)]
        for name in both:
            pair = first[name], second[name]
            shares = pair[0] / sizes[0], pair[1] / sizes[1]
            if max(shares) >= RATIO * min(shares) and chance(pair, sizes) * len(both) < CHANCE:
                said = " and ".join(
                    f"{share:.1%} of the pictures of {parts[place].entry} ({number} of {size})"
                    for share, place, number, size in zip(shares, (one, other), pair, sizes, strict=True)
                )
                found.append(Finding(SKEWED, f"class {name!r} is in {said}", record=f"class {name!r}"))
    return found


def chance(hits: tuple[int, int], sizes: tuple[int, int]) -> float:
    """The probability of shares that differ so much in two random samples; 1 where there are too few to say."""
    share = sum(hits) / sum(sizes)
    if min(share, 1 - share) * min(sizes) < EXPECTED:
        return 1.0
    apart_by = abs(hits[0] / sizes[0] - hits[1] / sizes[1]) - (1 / sizes[0] + 1 / sizes[1]) / 2
    spread = math.sqrt(share * (1 - share) * (1 / sizes[0] + 1 / sizes[1]))
    return math.erfc(max(apart_by, 0.0) / spread / math.sqrt(2))


class ClassRow(NamedTuple):
    """A class: its objects, and the images with any, in each of the data sets."""

    name: str
    objects: list[int]
    images: list[int]


def classes_table(parts: Sequence[Part]) -> list[ClassRow]:
    """A row for each class, the most frequent first."""
    images = [pictures_with(part) for part in parts]
    rows = [ClassRow(name, found, [one.get(name, 0) for one in images]) for name, found in counts(parts).items()]
    return sorted(rows, key=lambda row: -sum(row.objects))
