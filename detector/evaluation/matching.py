"""Detections matched with objects by COCO's rules, for all images, classes, sizes and IoUs at once.

The rules are pycocotools': within an image and a class, detections take objects in the order of their scores, each the
one of the largest IoU that is left and reaches the threshold; objects that do not count (crowds, and those outside the
range of areas) are taken only where no other can be, and crowds by any number of detections.
"""

from typing import NamedTuple

import numpy as np

IOUS = np.linspace(0.5, 0.95, 10)
"""The thresholds, T = 10."""

AREAS = {"all": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
"""Ranges of areas, square pixels, both ends included; R = 4."""

DETECTIONS = 100
"""Detections of an image and a class that count: those of the highest scores."""

_PAIRS = 1 << 21  # whose IoU is computed at once


class Truth(NamedTuple):
    """M objects.

    image [M] int64: ranks of the images, in which ties of scores fall; labels [M] int64; xywh [M, 4], areas [M]
    float64, pixels; crowd [M] bool: may be taken by many detections and does not count.
    """

    image: np.ndarray
    labels: np.ndarray
    xywh: np.ndarray
    areas: np.ndarray
    crowd: np.ndarray


class Guesses(NamedTuple):
    """D detections: image [D] int64, ranks as in `Truth`; labels [D]; xywh [D, 4], scores [D] float64."""

    image: np.ndarray
    labels: np.ndarray
    xywh: np.ndarray
    scores: np.ndarray


class Matching(NamedTuple):
    """What became of the K detections that count, class by class and in each by falling score.

    source [K] int64: their places in `Guesses`; image, labels [K] int64; scores [K]; rank [K] int64: the place among
    those of its image and class, 0 the best; object [R, T, K] int32: the place in `Truth` of the object that it took,
    -1 for none; ignored [R, T, K] bool: it counts neither as right nor as wrong; counts [R, M] bool: the objects that
    are to be found.
    """

    source: np.ndarray
    image: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    rank: np.ndarray
    object: np.ndarray
    ignored: np.ndarray
    counts: np.ndarray

    def right(self, area: int = 0) -> np.ndarray:
        """[T, K] bool: detections that found an object which counts; area: place in `AREAS`."""
        return (self.object[area] >= 0) & ~self.ignored[area]

    def wrong(self, area: int = 0) -> np.ndarray:
        """[T, K] bool: detections that count and found none."""
        return (self.object[area] < 0) & ~self.ignored[area]


class _Pairs(NamedTuple):
    """Detections and objects that overlap by the lowest threshold or more, in the order in which they are matched.

    detection, object [P] int64; iou [P]; starts [Q] int64: where each of the Q detections begins; rounds: where in
    `starts` each round begins; of an image and a class there is one detection in a round.
    """

    detection: np.ndarray
    object: np.ndarray
    iou: np.ndarray
    starts: np.ndarray
    rounds: np.ndarray


def match(truth: Truth, guesses: Guesses) -> Matching:
    """Match all detections; see the head of this file."""
    images = 1 + max(truth.image.max(initial=-1), guesses.image.max(initial=-1))
    group, truth_group = guesses.labels * images + guesses.image, truth.labels * images + truth.image
    order = np.lexsort((-guesses.scores, group))
    ranks = _places(group[order])
    order, ranks = order[ranks < DETECTIONS], ranks[ranks < DETECTIONS]
    by_score = np.lexsort((group[order], -guesses.scores[order], guesses.labels[order]))
    # A stable sort by class and score: those of one score stay in the order of images and their ranks in them.
    source, rank = order[by_score], ranks[by_score]
    low, high = np.array([*AREAS.values()]).T[:, :, None]
    free = truth.crowd | (truth.areas < low) | (truth.areas > high)
    with np.errstate(over="ignore"):
        size = (guesses.xywh[:, 2] * guesses.xywh[:, 3])[source]
    outside = (size < low) | (size > high)
    pairs = _pairs(truth, guesses, truth_group, group, source, rank)
    taken, ignored = _take(pairs, free, truth.crowd, outside)
    return Matching(
        source, guesses.image[source], guesses.labels[source], guesses.scores[source], rank, taken, ignored, ~free
    )


def _places(sorted_keys: np.ndarray) -> np.ndarray:
    """The place of each key among those equal to it."""
    new = np.flatnonzero(np.r_[True, sorted_keys[1:] != sorted_keys[:-1]][: len(sorted_keys)])
    return np.arange(len(sorted_keys)) - np.repeat(new, np.diff(np.r_[new, len(sorted_keys)]))


def _pairs(
    truth: Truth, guesses: Guesses, truth_group: np.ndarray, group: np.ndarray, source: np.ndarray, rank: np.ndarray
) -> _Pairs:
    """All pairs that may be matched; detections by their place in `source`."""
    by_group = np.argsort(truth_group, kind="stable")
    keys, wanted = truth_group[by_group], group[source]
    first, last = np.searchsorted(keys, wanted, "left"), np.searchsorted(keys, wanted, "right")
    near = np.flatnonzero(last > first)
    near = near[np.argsort(wanted[near] * DETECTIONS + rank[near])]  # group by group, in the order of matching
    parts = []
    ends = np.cumsum(last[near] - first[near])
    for begin, end in spans(ends, _PAIRS):
        rows = near[begin:end]
        counts = last[rows] - first[rows]
        detection = np.repeat(rows, counts)
        place = (
            np.arange(len(detection)) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(first[rows], counts)
        )
        object_ = by_group[place]
        iou = overlaps(guesses.xywh[source[detection]], truth.xywh[object_], truth.crowd[object_])
        kept = iou >= IOUS[0]
        parts.append((detection[kept], object_[kept], iou[kept]))
    empty = (np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
    detection, object_, iou = (np.concatenate(some) for some in zip(empty, *parts, strict=True))
    starts = np.flatnonzero(np.r_[True, detection[1:] != detection[:-1]][: len(detection)])
    counts = np.diff(np.r_[starts, len(detection)])
    turn = _places(wanted[detection[starts]])
    by_turn = np.argsort(turn, kind="stable")
    moved = np.repeat(starts[by_turn], counts[by_turn]) + _places(np.repeat(np.arange(len(starts)), counts[by_turn]))
    counts = counts[by_turn]
    rounds = np.searchsorted(turn[by_turn], np.arange(turn.max(initial=-1) + 2))
    return _Pairs(detection[moved], object_[moved], iou[moved], np.cumsum(counts) - counts, rounds)


def spans(ends: np.ndarray, most: int) -> list[tuple[int, int]]:
    """Spans of rows with at most so many pairs each, or one row. ends: how many pairs there are up to each row."""
    found, begin, done = [], 0, 0
    while begin < len(ends):
        end = max(int(np.searchsorted(ends, done + most, "right")), begin + 1)
        found.append((begin, end))
        begin, done = end, int(ends[end - 1])
    return found


def _take(pairs: _Pairs, free: np.ndarray, crowd: np.ndarray, outside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`Matching.object` and `Matching.ignored`.

    free [R, M]: objects that do not count; outside [R, K]: detections that do not where they take nothing.
    """
    ranges, thresholds = len(free), len(IOUS)
    ignored = np.repeat(outside[:, None], thresholds, axis=1)
    taken = np.full(ignored.shape, -1, np.int32)
    gone = np.zeros((ranges, thresholds, free.shape[1]), bool)
    ends = np.r_[pairs.starts[1:], len(pairs.iou)]
    for begin, end in zip(pairs.rounds[:-1], pairs.rounds[1:], strict=True):
        left, right = pairs.starts[begin], ends[end - 1]
        object_, iou = pairs.object[left:right], pairs.iou[left:right]
        starts = pairs.starts[begin:end] - left
        open_ = (iou >= np.minimum(IOUS, 1 - 1e-10)[:, None]) & ~(gone[:, :, object_] & ~crowd[object_])
        unfit = free[:, object_][:, None]
        chosen = _best(np.where(open_ & ~unfit, iou, -1), starts)
        if unfit.any():
            chosen = np.where(chosen >= 0, chosen, _best(np.where(open_ & unfit, iou, -1), starts))
        r, t, d = np.nonzero(chosen >= 0)
        objects = object_[chosen[r, t, d]]
        detections = pairs.detection[pairs.starts[begin:end]][d]
        taken[r, t, detections] = objects
        ignored[r, t, detections] = free[r, objects]
        gone[r, t, objects] = True
    return taken, ignored


def _best(values: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """The last of the largest values [R, T, P] in each span that begins at `starts` [Q], -1 where none is above 0."""
    if len(starts) == values.shape[2]:  # one each
        return np.where(values >= 0, np.arange(len(starts)), -1)
    best = np.maximum.reduceat(values, starts, axis=2)
    lengths = np.diff(np.r_[starts, values.shape[2]])
    equal = (values == np.repeat(best, lengths, axis=2)) & (values >= 0)
    return np.maximum.reduceat(np.where(equal, np.arange(values.shape[2]), -1), starts, axis=2)


def overlaps(boxes: np.ndarray, others: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """[P] IoU of pairs of boxes xywh [P, 4]; with a crowd, the share of the first that lies in it.

    0 where an area is beyond the largest number.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        width, height = (
            np.minimum(boxes[:, side] + boxes[:, 2 + side], others[:, side] + others[:, 2 + side])
            - np.maximum(boxes[:, side], others[:, side])
            for side in (0, 1)
        )
        common = np.where((width > 0) & (height > 0), width * height, 0)
        area = boxes[:, 2] * boxes[:, 3]
        whole = np.where(crowd, area, area + others[:, 2] * others[:, 3] - common)
    return np.divide(common, whole, out=np.zeros_like(common), where=(whole > 0) & (whole < np.inf))
