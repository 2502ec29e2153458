"""The augmentation of SSD (Liu et al. 2016, sec. 2.2 and 3.6), which RefineDet has too (Zhang et al. 2018)."""

from collections.abc import Sequence

import cv2
import numpy as np

from detector.data.transforms import Sample, resize

ANY_INTERPOLATION = (cv2.INTER_LINEAR, cv2.INTER_AREA, cv2.INTER_NEAREST, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4)
"""What the warp to a square draws from in training."""

MAX_CANVAS = 2**24  # pixels; 4 x 4 times a photo of a modern camera would fill the memory


class PhotometricDistort:
    """Changes brightness, contrast, saturation and hue, each with probability prob.

    brightness: largest shift, of 0..255; contrast, saturation: ranges of the factor; hue: largest turn, in steps of two
    degrees. Contrast changes before the colours or, as often, after them.
    """

    def __init__(
        self,
        prob: float = 0.5,
        brightness: int = 32,
        contrast: tuple[float, float] = (0.5, 1.5),
        saturation: tuple[float, float] = (0.5, 1.5),
        hue: int = 18,
    ) -> None:
        self.prob = prob
        self.brightness = brightness
        self.contrast = contrast
        self.saturation = saturation
        self.hue = hue

    def __call__(self, image: np.ndarray, sample: Sample, rng: np.random.Generator) -> tuple[np.ndarray, Sample]:
        """The changed picture; boxes stay."""
        change = rng.random(4) < self.prob
        shift = rng.uniform(-self.brightness, self.brightness) if change[0] else 0.0
        contrast = rng.uniform(*self.contrast) if change[1] else 1.0
        saturation = rng.uniform(*self.saturation) if change[2] else 1.0
        turn = rng.uniform(-self.hue, self.hue) if change[3] else 0.0
        contrast_first = rng.random() < 0.5
        image = _map_levels(image, 1.0, shift)
        if contrast_first:
            image = _map_levels(image, contrast, 0.0)
        image = _turn_colours(image, saturation, turn)
        return (image if contrast_first else _map_levels(image, contrast, 0.0)), sample


class Expand:
    """Puts the picture, with probability prob, somewhere on a canvas of 1 to max_ratio times its sides.

    fill: RGB, 0..255, of the canvas. A picture whose canvas would have more than MAX_CANVAS pixels is shrunk first.
    """

    def __init__(self, fill: Sequence[float], max_ratio: float = 4.0, prob: float = 0.5) -> None:
        self.fill = np.rint(fill).astype(np.uint8)
        self.max_ratio = max_ratio
        self.prob = prob

    def __call__(self, image: np.ndarray, sample: Sample, rng: np.random.Generator) -> tuple[np.ndarray, Sample]:
        """The canvas, and boxes that moved with the picture."""
        if rng.random() >= self.prob:
            return image, sample
        ratio = rng.uniform(1, self.max_ratio)
        across, down = rng.random(2)
        shrink = min(1.0, (MAX_CANVAS / (image.shape[0] * image.shape[1])) ** 0.5 / ratio)
        if shrink < 1:
            height, width = (max(int(side * shrink), 1) for side in image.shape[:2])
            image, sample = resize(image, sample, height, width, cv2.INTER_AREA)
        height, width = image.shape[:2]
        canvas = np.empty((int(height * ratio), int(width * ratio), 3), np.uint8)
        canvas[:] = self.fill
        top, left = int(down * (canvas.shape[0] - height)), int(across * (canvas.shape[1] - width))
        canvas[top : top + height, left : left + width] = image
        shift = np.array([left, top] * 2, np.float32)
        return canvas, sample._replace(boxes=sample.boxes + shift, ignore=sample.ignore + shift)


class MinIoUCrop:
    """Crops a part that overlaps some box with an IoU of at least a drawn minimum, and keeps the centre of a box.

    Every minimum of min_ious gets `trials` random parts, of which the first that fits counts; among those that were
    found, and the whole picture, one is drawn. Sides are `scale` times the picture's, stretched by a factor within
    `aspect` (width to height, relative to the picture). Boxes stay if their centre does, crowds if a part of them does.
    A picture without boxes stays whole.
    """

    def __init__(
        self,
        min_ious: Sequence[float] = (0.1, 0.3, 0.5, 0.7, 0.9, 0.0),
        scale: tuple[float, float] = (0.3, 1.0),
        aspect: tuple[float, float] = (0.5, 2.0),
        trials: int = 50,
    ) -> None:
        self.min_ious = np.array(min_ious)
        self.scale = scale
        self.aspect = aspect
        self.trials = trials

    def __call__(self, image: np.ndarray, sample: Sample, rng: np.random.Generator) -> tuple[np.ndarray, Sample]:
        """The part and what is in it, or the whole."""
        if not len(sample.boxes):
            return image, sample
        height, width = image.shape[:2]
        parts = self._draw(height, width, rng)
        fits = _overlaps(parts, sample.boxes) >= np.repeat(self.min_ious, self.trials)
        fits &= _holds_centre(parts[:, None], sample.boxes).any(1)
        fits = fits.reshape(len(self.min_ious), self.trials)
        found = parts.reshape(*fits.shape, 4)[np.arange(len(fits)), fits.argmax(1)][fits.any(1)]
        choice = int(rng.integers(len(found) + 1))
        return (image, sample) if choice == len(found) else crop(image, sample, found[choice])

    def _draw(self, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
        """Random parts [P, 4] int64 xyxy, whole pixels, at least one wide and high."""
        count = len(self.min_ious) * self.trials
        scale = rng.uniform(*self.scale, count)
        low, high = np.maximum(self.aspect[0], scale**2), np.minimum(self.aspect[1], scale**-2)
        stretch = np.sqrt(low + rng.random(count) * (high - low))
        limits = np.array([width, height])
        sides = np.clip(np.rint(np.stack([scale * stretch, scale / stretch], 1) * limits), 1, limits).astype(np.int64)
        corners = (rng.random((count, 2)) * (limits - sides + 1)).astype(np.int64)
        return np.concatenate([corners, corners + sides], 1)


def crop(image: np.ndarray, sample: Sample, part: np.ndarray) -> tuple[np.ndarray, Sample]:
    """A part [4] int xyxy of the picture; boxes whose centre is in it, and crowds that reach into it, clipped."""
    left, top, right, bottom = part.tolist()
    kept = _holds_centre(part, sample.boxes)
    boxes, ignore = (_clip(some, part) for some in (sample.boxes[kept], sample.ignore))
    ignore = ignore[(ignore[:, 2:] > ignore[:, :2]).all(1)]
    return np.ascontiguousarray(image[top:bottom, left:right]), Sample(boxes, sample.labels[kept], ignore)


def _clip(boxes: np.ndarray, part: np.ndarray) -> np.ndarray:
    shift = np.concatenate([part[:2], part[:2]]).astype(np.float32)
    limits = np.concatenate([part[2:] - part[:2]] * 2).astype(np.float32)
    return np.clip(boxes - shift, 0, limits)


def _holds_centre(parts: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Whether parts [.., 4] hold the centres of boxes [M, 4]; [.., M]."""
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    return ((centres >= parts[..., :2]) & (centres <= parts[..., 2:])).all(-1)


def _overlaps(parts: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """[P]: the largest IoU of each of parts [P, 4] with boxes [M, 4]."""
    low = np.maximum(parts[:, None, :2], boxes[:, :2])
    high = np.minimum(parts[:, None, 2:], boxes[:, 2:])
    common = np.maximum(high - low, 0).prod(2)
    areas = (parts[:, 2:] - parts[:, :2]).prod(1)[:, None] + (boxes[:, 2:] - boxes[:, :2]).prod(1)
    return (common / (areas - common)).max(1)


def _map_levels(image: np.ndarray, factor: float, shift: float) -> np.ndarray:
    """The values 0..255 times a factor plus a shift, rounded and clipped."""
    if factor == 1 and shift == 0:
        return image
    return cv2.LUT(image, np.clip(np.rint(np.arange(256) * factor + shift), 0, 255).astype(np.uint8))


def _turn_colours(image: np.ndarray, saturation: float, turn: float) -> np.ndarray:
    """The saturation times a factor, the hue turned by steps of two degrees."""
    if saturation == 1 and turn == 0:
        return image
    levels = np.arange(256)
    hues = np.rint(levels + turn) % 180
    table = np.stack([hues, np.clip(np.rint(levels * saturation), 0, 255), levels], 1).astype(np.uint8)
    return cv2.cvtColor(cv2.LUT(cv2.cvtColor(image, cv2.COLOR_RGB2HSV), table[None]), cv2.COLOR_HSV2RGB)
