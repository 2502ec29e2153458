"""How often an epoch shows each image: those with rare classes more than once. Gupta et al. 2019, LVIS."""

from typing import NamedTuple

import numpy as np


class Repeats(NamedTuple):
    """What an epoch shows of n images. factors [n] float64, 1 or more: how often each is to be seen, on average.

    draws: entries of an epoch, the same number in every one: the sum of the factors, rounded.
    """

    factors: np.ndarray
    draws: int

    @classmethod
    def of(cls, factors: np.ndarray) -> "Repeats":
        """The repeats of these factors."""
        return cls(factors, int(np.floor(factors).sum()) + round(float(np.mod(factors, 1).sum())))

    def entries(self, rng: np.random.Generator) -> np.ndarray:
        """[draws] int64: the images of one epoch, each as often as the whole part of its factor says, or once more.

        Systematic sampling over the fractions: one offset for all of them, so that their number is always the same. The
        images stand in an order of chance before, else neighbours would exclude each other.
        """
        order = rng.permutation(len(self.factors))
        whole = np.floor(self.factors).astype(np.int64)
        fractions = np.mod(self.factors, 1)[order]
        extra = self.draws - int(whole.sum())
        ends = np.cumsum(fractions)
        if len(ends):
            ends = np.minimum(ends * (extra / (ends[-1] or 1)), extra)
            ends[-1] = extra  # whatever the rounding
        marks = np.floor(ends + rng.random())
        return np.repeat(order, whole[order] + np.diff(marks, prepend=0).astype(np.int64))


def repeat_factors(threshold: float, images: np.ndarray, labels: np.ndarray, num_images: int) -> np.ndarray:
    """[num_images] float64, 1 or more: how often each image is to be seen in an epoch. Gupta et al. 2019, app. B.

    images, labels [M]: image and class of every box. A class that a share f of the images holds has the factor
    max(1, sqrt(threshold / f)), an image the largest factor of its classes; without boxes 1.
    """
    factors = np.ones(num_images)
    if len(images):
        classes = int(labels.max()) + 1
        pairs = np.unique(images * classes + labels)  # of several boxes of a class in an image one counts
        held = np.bincount(pairs % classes, minlength=classes)
        of_class = np.sqrt(np.maximum(threshold * num_images / np.maximum(held, 1), 1))
        np.maximum.at(factors, pairs // classes, of_class[pairs % classes])
    return factors
