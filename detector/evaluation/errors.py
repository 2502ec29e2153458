"""The kinds of errors of a detector, and what each costs in AP50. Bolya et al. 2020 (TIDE), arXiv 2008.08052, sec. 2.

An overlap of 0.5 makes a detection right, one above 0.1 makes it more than background. Each wrong detection is of the
first of these kinds that fits it; an object that was not found is found by a repair of the first two, or missed:

- localisation: it overlaps an object of its class by 0.1 or more, and none by 0.5. Repair: the box becomes right.
- classification: it overlaps an object of another class by 0.5. Repair: the class becomes right.
- duplicate: it overlaps an object of its class by 0.5, which another detection found. Repair: it is taken away.
- background: it overlaps no object by more than 0.1. Repair: it is taken away.
- both: it overlaps objects of other classes only, by more than 0.1 and less than 0.5. Repair: it is taken away.
- missed: the object is not looked for any more; what is found stays as precise as it was.

The box or class of a detection becomes right for the object that it overlaps most. If that was found without it, or a
better scored detection of either kind stands for it, a repaired one would be a duplicate: it is taken away.
A cost is what the mean AP50 of the classes gains by the repair of one kind alone, so costs need not add up; what is
gained by one repair after the other does, since with all of them nothing is wrong any more.

These are the rules of the authors' program, tidecv 1.0.1, and its numbers too where scores are distinct, nothing is a
crowd, each class has objects, and an image has a hundred detections at most. All else is as COCO's evaluation has it:
docs/analyze.md says where the two part, and why.
"""

from typing import NamedTuple

import numpy as np

from detector.evaluation.matching import Guesses, Matching, Truth, overlaps, spans
from detector.evaluation.precision import at_recalls

KINDS = ("classification", "localisation", "both", "duplicate", "background", "missed")
"""In the order of the article, in which they are repaired one after the other."""

SPECIAL = ("false positives", "false negatives")
"""Repairs of all kinds of wrong detections, or of objects that were not found, whatever the reason.

Wrong detections go behind all right ones; objects that were not found are not looked for.
"""

FOREGROUND, BACKGROUND = 0.5, 0.1
"""Overlaps: from the former on a detection is right, above the latter it is no background."""

CLASSIFICATION, LOCALISATION, BOTH, DUPLICATE, EMPTY, MISSED = range(len(KINDS))

_PAIRS = 1 << 19  # whose overlap is computed at once


class Errors(NamedTuple):
    """K detections of a `Matching`, M objects, C classes.

    kind [K] int8: place in `KINDS`, -1 for a detection that is right or does not count; object [K] int64: the one that
    a repair of its class or box is about, else -1; finds [K] bool: the repair finds that object; missed [M] bool.
    objects [C]: how many count; numbers [8, C]: of each of `KINDS`, then of `SPECIAL`, by the class of the detection or
    the object that was not found. AP50, fractions, nan for a class without an object that counts: ap50 [C] as it is;
    alone [8, C] after each repair of `KINDS`, then of `SPECIAL`; in_turn [6, C] after those of the kinds up to it.
    """

    kind: np.ndarray
    object: np.ndarray
    finds: np.ndarray
    missed: np.ndarray
    objects: np.ndarray
    numbers: np.ndarray
    ap50: np.ndarray
    alone: np.ndarray
    in_turn: np.ndarray

    def costs(self) -> np.ndarray:
        """[8, C] what each repair alone gains in AP50; nan for a class without an object that counts."""
        return self.alone - self.ap50

    def mean(self, values: np.ndarray) -> np.ndarray:
        """Means over the classes that have objects, of values [.., C]; nan without any."""
        return values[..., self.objects > 0].mean(-1) if self.objects.any() else np.full(values.shape[:-1], np.nan)


def find_errors(truth: Truth, guesses: Guesses, matching: Matching, classes: int) -> Errors:
    """The kind of every error, and what the repairs gain.

    matching: of truth and guesses. Neither crowds nor what lies in them are errors or objects here.
    """
    right, wrong = matching.right()[0], np.flatnonzero(matching.wrong()[0])
    found = np.zeros(len(truth.labels), bool)
    found[matching.object[0, 0, right]] = True
    kind, object_ = np.full(len(right), -1, np.int8), np.full(len(right), -1)
    kind[wrong], object_[wrong] = _kinds(truth, guesses, matching, wrong)
    finds = _first_claims(matching, np.where(np.isin(object_, np.flatnonzero(~found)), object_, -1))
    missed = matching.counts[0] & ~found
    missed[object_[finds]] = False
    by_kind = [matching.labels[kind == which] for which in range(MISSED)]
    lost = truth.labels[matching.counts[0] & ~found]
    labels = [*by_kind, truth.labels[missed], matching.labels[wrong], lost]
    repairs = _Repairs(matching, truth.labels, kind, object_, finds, missed, classes)
    return Errors(
        kind, object_, finds, missed, repairs.objects,
        np.stack([np.bincount(some, minlength=classes) for some in labels]),
        repairs.done(()),
        np.stack([*(repairs.done((which,)) for which in range(len(KINDS))), repairs.precise(), repairs.complete()]),
        np.stack([repairs.done(range(which + 1)) for which in range(len(KINDS))]),
    )  # fmt: skip


def _kinds(truth: Truth, guesses: Guesses, matching: Matching, wrong: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Kind [W] and object [W] of wrong detections [W], which are places in the matching."""
    own, other = np.zeros(len(wrong)), np.zeros(len(wrong))
    own_object, other_object = np.full(len(wrong), -1), np.full(len(wrong), -1)
    counts = np.flatnonzero(matching.counts[0])
    by_image = counts[np.argsort(truth.image[counts], kind="stable")]
    image = truth.image[by_image]
    first = np.searchsorted(image, matching.image[wrong], "left")
    number = np.searchsorted(image, matching.image[wrong], "right") - first
    near = np.flatnonzero(number)
    for begin, end in spans(np.cumsum(number[near]), _PAIRS):
        rows = near[begin:end]
        starts = np.cumsum(number[rows]) - number[rows]
        row = np.repeat(rows, number[rows])
        objects = by_image[np.arange(len(row)) + np.repeat(first[rows] - starts, number[rows])]
        detection = wrong[row]
        iou = overlaps(guesses.xywh[matching.source[detection]], truth.xywh[objects], np.zeros(len(row), bool))
        same = truth.labels[objects] == matching.labels[detection]
        for chosen, best, place in ((same, own, own_object), (~same, other, other_object)):
            best[rows], at = _largest(np.where(chosen, iou, 0), starts, number[rows])
            place[rows] = objects[at]
    kind = np.select(
        [
            (own >= BACKGROUND) & (own < FOREGROUND),
            other >= FOREGROUND,
            own >= FOREGROUND,
            np.maximum(own, other) <= BACKGROUND,
        ],
        [LOCALISATION, CLASSIFICATION, DUPLICATE, EMPTY],
        BOTH,
    )
    return kind, np.select([kind == LOCALISATION, kind == CLASSIFICATION], [own_object, other_object], -1)


def _largest(values: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The largest of each span of values, and the place of the first that is as large."""
    largest = np.maximum.reduceat(values, starts)
    places = np.where(values == np.repeat(largest, lengths), np.arange(len(values)), len(values))
    return largest, np.minimum.reduceat(places, starts)


def _first_claims(matching: Matching, claimed: np.ndarray) -> np.ndarray:
    """[K] bool: detections of the best score, then of the first place, that claim an object; claimed [K]: it, or -1."""
    by_score = np.lexsort((matching.source, -matching.scores))
    by_score = by_score[claimed[by_score] >= 0]
    _, first = np.unique(claimed[by_score], return_index=True)
    finds = np.zeros(len(claimed), bool)
    finds[by_score[first]] = True
    return finds


class _Repairs:
    """The AP50 of each class [C] once some errors are repaired. objects [C]: how many count."""

    def __init__(
        self, matching: Matching, labels: np.ndarray, kind: np.ndarray, object_: np.ndarray, finds: np.ndarray,
        missed: np.ndarray, classes: int,
    ) -> None:  # fmt: skip
        """All as in `Errors`; labels [M]: of the objects."""
        order = np.lexsort((matching.source, matching.image, -matching.scores))
        self._order = order[~matching.ignored[0, 0, order]]  # ties of score as in the matching, whatever the class
        self._right, self._labels = matching.right()[0], matching.labels
        self._kind, self._finds = kind, finds
        self._becomes = self._labels.copy()
        self._becomes[kind == CLASSIFICATION] = labels[object_[kind == CLASSIFICATION]]
        self.objects = np.bincount(labels[matching.counts[0]], minlength=classes)
        self._missed = np.bincount(labels[missed], minlength=classes)

    def done(self, kinds: tuple[int, ...] | range) -> np.ndarray:
        """After the repair of some kinds."""
        repaired = np.isin(self._kind, kinds)
        found = repaired & self._finds
        labels = np.where(found, self._becomes, self._labels)
        objects = self.objects - self._missed * (MISSED in kinds)
        return self._precisions(labels, self._right | found, ~repaired | found, objects)

    def precise(self) -> np.ndarray:
        """With all wrong detections behind the right ones, where they do no harm."""
        return self._precisions(self._labels, self._right, self._right, self.objects)

    def complete(self) -> np.ndarray:
        """With no other objects than those that were found."""
        found = np.bincount(self._labels[self._right], minlength=len(self.objects))
        return self._precisions(self._labels, self._right, np.ones_like(self._right), found)

    def _precisions(self, labels: np.ndarray, right: np.ndarray, kept: np.ndarray, objects: np.ndarray) -> np.ndarray:
        """Of the detections that are kept. A class with no object left is whole if nothing wrong is left either."""
        order = self._order[kept[self._order]]
        order = order[np.argsort(labels[order], kind="stable")]
        labels = labels[order]
        starts = np.searchsorted(labels, np.arange(len(objects) + 1))
        found = np.flatnonzero(right[order])
        counted = found - starts[labels[found]] + 1
        ends = np.searchsorted(found, starts)
        values = np.full(len(objects), np.nan)
        for k in np.flatnonzero(self.objects).tolist():
            if objects[k]:
                values[k] = at_recalls(counted[ends[k] : ends[k + 1]], int(objects[k])).mean()
            else:
                values[k] = float(starts[k] == starts[k + 1])
        return values
