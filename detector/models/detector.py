"""The whole model: pixels -> backbone -> neck -> head."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from detector.models.backbones import Backbone, Pixels
from detector.models.heads.base import Head
from detector.models.necks.base import Neck
from detector.structures import Detection, Features, Size, Target, Whole
from detector.text import counted


class Detector(nn.Module):
    """A backbone, a neck and a head in a row.

    pixels: channel order, mean and standard deviation that the backbone's weights expect.
    channels_last: whether images enter in that memory format; the numbers are the same.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, backbone: Backbone, neck: Neck, head: Head, pixels: Pixels, *, channels_last: bool = True
    ) -> None:
        super().__init__()
        self.backbone, self.neck, self.head = backbone, neck, head
        self.bgr = pixels.order == "bgr"
        # They belong to the backbone's record, so a checkpoint does not carry them.
        self.register_buffer("mean", torch.tensor(pixels.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(pixels.std).view(1, 3, 1, 1), persistent=False)
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.to(memory_format=self.memory_format)  # type: ignore[call-overload]

    def forward(
        self, images: Tensor, sizes: list[Size], targets: list[Target] | None = None, whole: Whole | None = None
    ) -> dict[str, Tensor] | list[Detection]:
        """Losses when targets are given, else detections, whatever mode the module is in.

        images [N, 3, H, W] uint8 RGB, padded right and bottom; sizes: (height, width) before padding; boxes of targets
        and detections in pixels of `images`; whole: the step that these images are a part of.
        Raises TypeError for images of another dtype, ValueError for other shapes and for sizes or targets that do not
        fit them.
        """
        if not torch.compiler.is_compiling():  # the shapes of a graph are checked when it is made
            check_input(images, sizes, targets)
        features = self.features(images, sizes)
        if targets is None:
            return self.head.predict(features, sizes)
        return self.losses(features, sizes, targets, whole)

    def features(self, images: Tensor, sizes: list[Size]) -> Features:
        """What the neck makes of images, as `forward` takes them: the levels that the head sees."""
        return self.neck(self.backbone(self.normalize(images, sizes)))

    def losses(
        self, features: Features, sizes: list[Size], targets: list[Target], whole: Whole | None = None
    ) -> dict[str, Tensor]:
        """The head's losses on the levels that `features` gives; the other arguments as `forward` takes them."""
        if whole is not None and whole.normalisers is None:
            whole.normalisers = self.head.normalisers(features, whole.targets, whole.parts)
        given = () if whole is None or whole.normalisers is None else (whole.normalisers,)
        return self.head.loss(features, targets, sizes, *given)

    def normalize(self, images: Tensor, sizes: list[Size]) -> Tensor:
        """Images as the backbone's weights expect them, their padding zero.

        images [N, 3, H, W] uint8 RGB. Returns the same shape in the dtype of `mean`.
        """
        x = images.flip(1) if self.bgr else images
        x = ((x.to(self.mean.dtype) - self.mean) / self.std).contiguous(memory_format=self.memory_format)
        for image, (height, width) in zip(x, sizes, strict=True):
            image[:, height:] = 0
            image[:, :, width:] = 0
        return x


def check_input(images: Tensor, sizes: Sequence[Size], targets: Sequence[Target] | None = None) -> None:
    """Raise TypeError or ValueError for what a `Detector` would take without a word and make rubbish of."""
    if not isinstance(images, Tensor) or images.dtype != torch.uint8:
        kind = f"a tensor of {images.dtype}" if isinstance(images, Tensor) else f"{type(images).__name__}"
        raise TypeError(
            f"images are {kind}: pass pixels as they are, uint8 from 0 to 255, RGB; the model normalises them itself"
        )
    if images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape:
        raise ValueError(f"images are {tuple(images.shape)}: pass [N, 3, H, W], a single one as image[None]")
    number, _, height, width = images.shape
    if len(sizes) != number or (targets is not None and len(targets) != number):
        given = f"{len(sizes)} sizes" + (f" and {len(targets)} targets" if targets is not None else "")
        raise ValueError(
            f"{counted(number, 'image|images')} with {given}: pass (height, width) before padding, and a target, for "
            "each"
        )
    for i, (h, w) in enumerate(sizes):
        if not (0 < h <= height and 0 < w <= width):
            raise ValueError(
                f"sizes[{i}] is {h} x {w} (height x width) and the images are {height} x {width}: pass what they had "
                "before padding"
            )
