"""Changes of a picture and its boxes; each is a callable (image, sample, rng) -> (image, sample)."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import cv2
import numpy as np

from detector.errors import UserError
from detector.structures import Size

MIN_SIDE = 0.01  # pixels; far above the rounding of float32 coordinates, far below any object


class Sample(NamedTuple):
    """What goes with a picture: boxes [M, 4] float32 xyxy, labels [M] int64, ignore [G, 4] float32 crowd regions.

    mask: uint8 [H, W] of what is salient, None where that is not learned.
    """

    boxes: np.ndarray
    labels: np.ndarray
    ignore: np.ndarray
    mask: np.ndarray | None = None


class Transform(Protocol):
    """One change. image uint8 [H, W, 3] RGB; all chance comes from rng."""

    def __call__(  # noqa: D102
        self, image: np.ndarray, sample: Sample, rng: np.random.Generator
    ) -> tuple[np.ndarray, Sample]: ...


class Compose:
    """Transforms one after the other; at the end every box has sides of at least MIN_SIDE inside the picture."""

    def __init__(self, transforms: Sequence[Transform]) -> None:
        self.transforms = tuple(transforms)

    def __call__(self, image: np.ndarray, sample: Sample, rng: np.random.Generator) -> tuple[np.ndarray, Sample]:
        """Applies all of them."""
        for transform in self.transforms:
            image, sample = transform(image, sample, rng)
        return image, keep_sides(sample, (image.shape[0], image.shape[1]))


UNCHANGED = Compose([])
"""Pictures as they lie on disk."""


class Resize:
    """Scales the shorter side to a size drawn from min_sizes, the longer one to at most max_size; pixels.

    Raises ValueError when there is no size to draw from or one is below 1.
    """

    def __init__(self, min_sizes: Sequence[int], max_size: int) -> None:
        if not min_sizes or min((*min_sizes, max_size)) < 1:
            raise UserError(f"sizes of pictures must be at least 1 pixel: shorter {list(min_sizes)}, longer {max_size}")
        self.min_sizes = tuple(min_sizes)
        self.max_size = max_size

    def __call__(self, image: np.ndarray, sample: Sample, rng: np.random.Generator) -> tuple[np.ndarray, Sample]:
        """The scaled picture and boxes."""
        old_h, old_w = image.shape[:2]
        min_size = self.min_sizes[int(rng.integers(len(self.min_sizes)))]
        new_h, new_w = resized((old_h, old_w), min_size, self.max_size)
        if (new_h, new_w) == (old_h, old_w):
            return image, sample
        shrinks = new_h * new_w < old_h * old_w
        return resize(image, sample, new_h, new_w, cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


class Warp:
    """Stretches the picture to a square of `size` pixels a side, by an interpolation drawn from those given.

    Raises ValueError for a size below 1.
    """

    def __init__(self, size: int, interpolations: Sequence[int] = (cv2.INTER_LINEAR,)) -> None:
        if size < 1:
            raise UserError(f"a square must have at least 1 pixel a side, not {size}")
        self.size = size
        self.interpolations = tuple(interpolations)

    def __call__(self, image: np.ndarray, sample: Sample, rng: np.random.Generator) -> tuple[np.ndarray, Sample]:
        """The square and its boxes."""
        how = self.interpolations[int(rng.integers(len(self.interpolations)))]
        return resize(image, sample, self.size, self.size, how)


class HorizontalFlip:
    """Mirrors left and right with probability prob.

    Raises ValueError when prob is not within 0..1.
    """

    def __init__(self, prob: float) -> None:
        if not 0 <= prob <= 1:
            raise UserError(f"the probability of a flip must be within 0..1, not {prob}")
        self.prob = prob

    def __call__(self, image: np.ndarray, sample: Sample, rng: np.random.Generator) -> tuple[np.ndarray, Sample]:
        """The picture and boxes, mirrored or as they were."""
        if rng.random() >= self.prob:
            return image, sample
        width = image.shape[1]
        boxes, ignore = (_mirror(boxes, width) for boxes in (sample.boxes, sample.ignore))
        mask = None if sample.mask is None else cv2.flip(sample.mask, 1)
        return cv2.flip(image, 1), sample._replace(boxes=boxes, ignore=ignore, mask=mask)


def resized(size: Size, min_size: int, max_size: int) -> Size:
    """The (height, width) that brings the shorter side to min_size and the longer one to at most max_size.

    maskrcnn-benchmark's rule; for pictures so long that its rounding exceeds max_size or reaches 0, the limit holds.
    """
    short, long = min(size), max(size)
    if long / short * min_size > max_size:
        min_size = max(round(max_size * short / long), 1)
    other = max(min(int(min_size * long / short), max_size), min_size)
    return (min_size, other) if size[0] <= size[1] else (other, min_size)


def resize(image: np.ndarray, sample: Sample, height: int, width: int, how: int) -> tuple[np.ndarray, Sample]:
    """The picture and its boxes at another size; how: OpenCV's interpolation; of a mask the nearest pixels."""
    sample = rescale(sample, (image.shape[0], image.shape[1]), (height, width))
    if sample.mask is not None:
        mask = cv2.resize(sample.mask, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
        sample = sample._replace(mask=mask)
    return cv2.resize(image, (width, height), interpolation=how), sample


def rescale(sample: Sample, old: Size, new: Size) -> Sample:
    """The boxes of a picture that goes from one size to another."""
    scale = np.array([new[1] / old[1], new[0] / old[0]] * 2, np.float32)
    return sample._replace(boxes=sample.boxes * scale, ignore=sample.ignore * scale)


def keep_sides(sample: Sample, size: Size) -> Sample:
    """Boxes with sides of at least MIN_SIDE inside the picture."""
    return sample._replace(boxes=_keep_sides(sample.boxes, size), ignore=_keep_sides(sample.ignore, size))


def _mirror(boxes: np.ndarray, width: int) -> np.ndarray:
    return np.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], axis=1)


def _keep_sides(boxes: np.ndarray, size: Size) -> np.ndarray:
    limits = np.array([size[1], size[0]], np.float32)
    low = np.clip(boxes[:, :2], 0, limits - MIN_SIDE)
    high = np.clip(boxes[:, 2:], low + np.float32(MIN_SIDE), limits)
    return np.concatenate([low, high], axis=1).astype(np.float32, copy=False)
