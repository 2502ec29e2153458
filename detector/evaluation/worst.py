"""Which images a detector is worst on: objects that it missed, and false detections that it is sure of."""

from typing import NamedTuple

import numpy as np

from detector.data.packed import PackedIndex
from detector.errors import UserError
from detector.evaluation.base import Found
from detector.evaluation.coco import match_with

MEASURES = ("share", "errors", "missed", "false")
"""What images can be ranked by; see `Mistakes.measure`."""

THRESHOLD = 0.3
"""Score from which a detection counts."""


class Mistakes(NamedTuple):
    """What is right and wrong at an IoU of 0.5, by COCO's matching, for N images with M objects and D detections.

    objects, right, missed, false [N] int64: of each image the objects that are to be found (no crowds, no difficult
    ones), those found, those not, and the detections that count and found none; blame [N] float64: the sum of the
    scores of the false ones; surest [N] int64: place in the detections of the false one of the highest score, -1 for
    none; lost [M] bool: objects that were missed; untrue [D] bool: false detections; shown [D] bool: those that reach
    the threshold, also where they lie on a crowd and count for nothing.
    """

    objects: np.ndarray
    right: np.ndarray
    missed: np.ndarray
    false: np.ndarray
    blame: np.ndarray
    surest: np.ndarray
    lost: np.ndarray
    untrue: np.ndarray
    shown: np.ndarray

    def measure(self, by: str = MEASURES[0]) -> np.ndarray:
        """[N] float64 >= 0: how bad each image is, 0 for one without a mistake.

        errors: the missed objects, and each false detection as much as its score. share: errors / (errors + right + 1),
        the share of errors in all that was there or was claimed, next to one right answer that every image is given:
        it keeps an image whose only object was missed (0.5) behind one of which ten were missed (0.91), and crowded
        images from being the worst just for holding many objects. missed, false: either kind alone, the false ones by
        their scores. Raises ValueError for another name.
        """
        errors = self.missed + self.blame
        values = {
            "share": errors / (errors + self.right + 1),
            "errors": errors,
            "missed": self.missed.astype(np.float64),
            "false": self.blame,
        }
        if by not in values:
            raise UserError(f"--by {by}: there are {', '.join(MEASURES)}")
        return values[by]


def mistakes(index: PackedIndex, found: Found, threshold: float = THRESHOLD) -> Mistakes:
    """The mistakes of detections with a score of at least `threshold`.

    A second detection of an object is false, as is one of another class than the object's, which then is missed too.
    """
    number, detections = len(index), len(found.scores)
    matching = match_with(index, found)
    sure = matching.scores >= threshold
    hit = sure & matching.right()[0]
    wrong = matching.source[sure & matching.wrong()[0]]
    wanted = matching.counts[0]
    lost = wanted.copy()
    lost[matching.object[0, 0][hit]] = False
    image_of = index.image_of()
    untrue = np.zeros(detections, bool)
    untrue[wrong] = True
    surest = np.full(number, -1)
    by_score = wrong[np.argsort(found.scores[wrong], kind="stable")]
    surest[found.image[by_score]] = by_score  # the last one stays
    right = np.bincount(image_of[wanted & ~lost], minlength=number)
    missed = np.bincount(image_of[lost], minlength=number)
    return Mistakes(
        objects=right + missed,
        right=right,
        missed=missed,
        false=np.bincount(found.image[wrong], minlength=number),
        blame=np.bincount(found.image[wrong], weights=found.scores[wrong], minlength=number),
        surest=surest,
        lost=lost,
        untrue=untrue,
        shown=found.scores >= threshold,
    )


def worst_first(index: PackedIndex, values: np.ndarray) -> np.ndarray:
    """[N] int64: places of the images by falling value; equal ones by file name, then by their place in the file."""
    return np.lexsort((np.arange(len(index)), index.file_names.astype(str), -values))
