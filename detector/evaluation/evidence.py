"""How many images a measure rests on: few images cannot tell two detectors apart, whatever a bootstrap says of them.

If two detectors are equally good, their detections on an image could as well have been each other's. Exchanged on any
of the k images that matter to a difference, they make 2^k equally likely differences, of which two are as large as the
observed one whenever all images agree: none exchanged, and all. So no p value is below 2 / 2^k (Fisher 1935, section
21), and fewer than `FEWEST` images reach no 0.05. An image matters to a measure if it holds an object that is to be
found, and if what became of the detections on it differs between the two: k is the smaller of both numbers.

A mean over classes rests on many images, and yet its difference may be that of a class which two of them hold. So
either the classes of fewer than `FEWEST` images must differ by more than signs explain, or the others by more than
such classes with random signs could undo: `flipped`.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import product
from typing import NamedTuple

import numpy as np

from detector.evaluation.matching import AREAS, IOUS, Matching
from detector.evaluation.precision import KEPT
from detector.evaluation.report import MEASURES

FEWEST = 6
"""Images from which on 2 / 2^k is below 0.05."""

_RANGES = [list(AREAS).index(measure.area) for measure in MEASURES.values()]


class Evidence(NamedTuple):
    """On what the measures of detectors rest: the twelve, then the AP of each class.

    holding [12 + C] int64: images with an object that is to be found; images: of the test set; object [H] int64,
    ascending: class * images + image of those that hold objects; held [R, H] bool: in which ranges of areas they are to
    be found; pair [P] int64, ascending: class * images + image of those with detections; digest [R, P] uint64: of what
    became of them in each range of areas, summed over trainings.
    """

    holding: np.ndarray
    images: int
    object: np.ndarray
    held: np.ndarray
    pair: np.ndarray
    digest: np.ndarray


def evidence(matching: Matching, image: np.ndarray, labels: np.ndarray, classes: int, images: int) -> Evidence:
    """Of one detector. image, labels [M]: of the objects."""
    objects, place = np.unique(labels * images + image, return_inverse=True)
    held = np.zeros((len(AREAS), len(objects)), bool)
    r, of = np.nonzero(matching.counts)
    held[r, place[of]] = True
    holding = [len(np.unique(objects[held[r]] % images)) for r in _RANGES]
    of_class = np.bincount(objects[held[0]] // images, minlength=classes)
    digest = np.stack([_digests(matching, r) for r in range(len(AREAS))])
    detections = _summed(matching.labels * images + matching.image, digest)
    return Evidence(np.r_[holding, of_class], images, objects, held, *detections)


def added(parts: Sequence[Evidence]) -> Evidence:
    """Of several trainings together."""
    pair, digest = (np.concatenate(some, axis=-1) for some in zip(*(part[-2:] for part in parts), strict=True))
    return Evidence(*parts[0][:-2], *_summed(pair, digest))


def differing(first: Evidence, second: Evidence) -> np.ndarray:
    """[12 + C] int64: images on which detections of the two did not come to the same. Both have the same objects."""
    both = added([first, second._replace(digest=np.negative(second.digest))])  # modulo 2^64: 0 where they are alike
    unlike, classes = both.digest != 0, len(both.holding) - len(MEASURES)
    images = [len(np.unique(both.pair[some] % both.images)) for some in unlike]
    of_class = np.bincount(both.pair[unlike[0]] // both.images, minlength=classes)
    return np.r_[[images[r] for r in _RANGES], of_class]


def least_p(images: int) -> float:
    """The least p value that so many images can reach."""
    return min(1.0, 2.0 / 2.0 ** min(images, 1000))


def least_ps(first: Evidence, second: Evidence, gaps: np.ndarray) -> np.ndarray:
    """[12 + C] the p values below which none can be. gaps [12, C]: first - second of each measure of each class."""
    images = np.minimum(first.holding, differing(first, second))
    least = np.array([least_p(k) for k in images.tolist()])
    least[: len(MEASURES)] = np.maximum(least[: len(MEASURES)], flipped(first, gaps))
    return least


def flipped(basis: Evidence, gaps: np.ndarray, most: int = 2000) -> np.ndarray:
    """[12] what p of a mean over classes is at least. gaps: as of `least_ps`.

    Of each class that fewer than `FEWEST` images hold, the gap is shared out to them; R is the sum over these images,
    R* the same with random signs, M the sum of the other classes' gaps. The smaller of two: the chance that |R*| is |R|
    or more, and twice the chance that M + R* has not the sign of M + R. All signs are tried, or `most` random ones.
    """
    columns, others = [], np.zeros(len(gaps))
    for j, r in enumerate(_RANGES):
        classes, image = np.divmod(basis.object[basis.held[r]], basis.images)
        holding, row = np.bincount(classes, minlength=gaps.shape[1]), np.nan_to_num(gaps[j])
        few = holding < FEWEST
        others[j] = row[~few].sum()
        shares = np.where(few, row, 0) / np.maximum(holding, 1)
        columns.append(np.bincount(image, shares[classes], minlength=basis.images))
    each = np.stack(columns, axis=1)
    each = each[each.any(1)]
    if 2 ** len(each) <= most:
        signs = all_signs(len(each))
    else:
        signs = 2 * np.random.default_rng(0).integers(0, 2, (most, len(each)), np.int8) - 1
    drawn = signs.astype(np.float64) @ each
    sums = each.sum(0)
    sign = np.sign(sums + others)
    slack = 1e-9 * np.abs(sums)
    alike = (np.abs(drawn) >= np.abs(sums) - slack).mean(0)
    undone = np.minimum(1.0, 2 * (sign * (others + drawn) <= slack).mean(0))
    return np.minimum(alike, undone)


@lru_cache(2)
def all_signs(number: int) -> np.ndarray:
    """[2 ** number, number] of 1 and -1."""
    return np.array(list(product((1, -1), repeat=number))).reshape(2**number, number)


def _digests(matching: Matching, r: int) -> np.ndarray:
    """[K] uint64: numbers that tell outcomes apart, 0 where a detection counts at no IoU."""
    bits = 1 << np.arange(len(IOUS), dtype=np.uint64)
    outcome = bits @ matching.right(r).astype(np.uint64)
    outcome |= (bits @ matching.wrong(r).astype(np.uint64)) << np.uint64(len(IOUS))
    for place, kept in enumerate(KEPT):
        outcome |= (matching.rank < kept).astype(np.uint64) << np.uint64(2 * len(IOUS) + place)
    mixed = _mixed(_mixed(matching.scores.astype(np.float64).view(np.uint64)) ^ outcome)
    counts = outcome & np.uint64((1 << 2 * len(IOUS)) - 1)
    return np.where(counts > 0, mixed, np.uint64(0))


def _mixed(values: np.ndarray) -> np.ndarray:
    """Every bit of the result depends on every bit: multiplications and shifts, all of them reversible."""
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        values = (values ^ (values >> np.uint64(33))) * np.uint64(factor)
    return values ^ (values >> np.uint64(33))


def _summed(pair: np.ndarray, digest: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Digests [R, K] of equal pairs added up."""
    order = np.argsort(pair, kind="stable")
    keys, starts = np.unique(pair[order], return_index=True)
    if not len(keys):
        return keys, digest
    return keys, np.add.reduceat(digest[:, order], starts, axis=1)
