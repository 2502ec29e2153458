"""What is known of published weights: where they lie, what they expect, how their tensors are named."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

EPS = 1e-5
"""What a norm adds to the variance unless a record says otherwise."""


class Pixels(NamedTuple):
    """What a network's weights expect: (pixel - mean) / std, pixels 0..255, channels in `order`."""

    order: Literal["rgb", "bgr"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def rgb_mean(self) -> tuple[float, float, float]:
        """The mean in the order red, green, blue, whatever order the weights expect."""
        first, second, third = self.mean
        return (first, second, third) if self.order == "rgb" else (third, second, first)


RGB_UNIT = Pixels("rgb", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
"""RGB, the usual ImageNet statistics: mean (0.485, 0.456, 0.406) and std (0.229, 0.224, 0.225) of pixels in 0..1."""

BGR_255 = Pixels("bgr", (102.9801, 115.9465, 122.7717), (1.0, 1.0, 1.0))
"""BGR, 0..255, mean subtracted: Caffe's statistics."""


class Decimation(NamedTuple):
    """A tensor of which every step-th entry of each axis is taken, beginning with the first.

    key: before renaming; shape: of the whole tensor, which may lie flat in the file; steps: one for each axis.
    """

    key: str
    shape: tuple[int, ...]
    steps: tuple[int, ...]


@dataclass(frozen=True)
class Weights:
    """Published weights: where they lie, what they expect, and how they are named.

    urls: mirrors in order, may be empty; sha256: the digest or its beginning, "" if not published; norm_eps: of
    frozen_bn; rename: (pattern, replacement) of `re.sub` for every key; drop: prefixes of keys that a backbone does
    not have; optional: prefixes of keys that a file may lack, as nothing computes with them; transposed: keys, before
    renaming, of linear weights [in, out]; decimated: tensors of which a part is taken; licence: of the weights; top1,
    top5: published ImageNet accuracy, per cent, on central crops of crop x crop pixels.
    """

    urls: tuple[str, ...] = ()
    sha256: str = ""
    pixels: Pixels = RGB_UNIT
    norm_eps: float = EPS
    rename: tuple[tuple[str, str], ...] = ()
    drop: tuple[str, ...] = ("fc.",)
    optional: tuple[str, ...] = ()
    transposed: tuple[str, ...] = ()
    decimated: tuple[Decimation, ...] = ()
    licence: str = ""
    top1: float | None = None
    top5: float | None = None
    crop: int = 224
