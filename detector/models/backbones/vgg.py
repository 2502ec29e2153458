"""VGG16 whose fully connected layers are convolutions, as SSD and RefineDet use it."""

from collections.abc import Callable, Collection, Sequence
from functools import partial
from itertools import groupby

import torch.nn.functional as F
from torch import Tensor, nn

from detector.models.backbones.base import Backbone, register_backbone
from detector.models.norm import Norm
from detector.models.recompute import recompute
from detector.structures import Features, Level
from detector.weights.record import Decimation, Pixels, Weights

BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
FC = 1024

CAFFE = Pixels("bgr", (104.0, 117.0, 123.0), (1.0, 1.0, 1.0))
"""BGR, 0..255, mean subtracted: the statistics of VGG's and SSD's Caffe weights."""


class VGG16(Backbone):
    """Configuration D of Simonyan and Zisserman 2015, table 1; fc6 and fc7 as Liu et al. 2016, sec. 3.

    c2, c3, c4 are the rectified conv3_3, conv4_3, conv5_3 and c5 is fc7. The pooling keeps the last row and column of
    odd sides, as Caffe does. norm: behind every convolution of the five blocks, none behind fc6 and fc7; None: nowhere.
    """

    def __init__(self, norm: Norm | None) -> None:
        super().__init__()
        self.recomputed: Collection[int] = ()
        layers: list[nn.Module] = []
        channels = 3
        for out, depth in BLOCKS:
            for _ in range(depth):
                layers += [
                    nn.Conv2d(channels, out, 3, padding=1),
                    *([norm(out)] if norm else []),
                    nn.ReLU(inplace=True),
                ]
                channels = out
            layers.append(nn.MaxPool2d(2, 2, ceil_mode=True))
        self.blocks = nn.Sequential(*layers)
        self.fc6 = nn.Conv2d(channels, FC, 3, padding=3, dilation=3)
        self.fc7 = nn.Conv2d(FC, FC, 1)
        sources = [out for out, _ in BLOCKS[2:]]
        self.levels = {f"c{i}": Level(out, 2**i) for i, out in enumerate([*sources, FC], start=2)}
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                # By fan-in: without norms and shortcuts, by fan-out the signal would halve wherever the width doubles.
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def parts(self) -> Sequence[Sequence[nn.Module]]:
        """The five blocks of convolutions, the last one with fc6 and fc7."""
        blocks = [
            list(group) for pool, group in groupby(self.blocks, lambda m: isinstance(m, nn.MaxPool2d)) if not pool
        ]
        return [*blocks[:-1], [*blocks[-1], self.fc6, self.fc7]]

    def set_recomputed(self, stages: Collection[int]) -> None:
        """As Backbone's. A block is a stage's convolutions and the pooling before them, or pooling, fc6 and fc7."""
        self.require_stages(stages, len(BLOCKS) - 1)
        self.recomputed = tuple(stages)

    def add_stem_level(self) -> None:
        """As Backbone's: c1 is the rectified conv2_2."""
        self.levels = {"c1": Level(BLOCKS[1][0], 2), **self.levels}

    def forward(self, images: Tensor) -> Features:
        """Images [N, 3, H, W] float -> c2..c5, and with `add_stem_level` c1."""
        x, ends = images, []
        for number in range(len(BLOCKS)):
            x = self._run(number, partial(self._convolve, number), x)
            ends.append(x)
        fc7 = self._run(len(BLOCKS) - 1, self._classify, x)
        return dict(zip(self.levels, (*ends[-len(self.levels) + 1 :], fc7), strict=True))

    def _run(self, stage: int, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        return recompute(function, self.parts()[stage], x) if stage in self.recomputed else function(x)

    def _convolve(self, number: int, x: Tensor) -> Tensor:
        """The pooling before a block, and the block."""
        ends = [i for i, module in enumerate(self.blocks) if isinstance(module, nn.MaxPool2d)]
        for module in self.blocks[ends[number - 1] if number else 0 : ends[number]]:
            x = module(x)
        return x

    def _classify(self, x: Tensor) -> Tensor:
        """The last pooling, fc6 and fc7."""
        return F.relu(self.fc7(F.relu(self.fc6(self.blocks[-1](x)))))


def _torchvision(name: str, digest: str) -> Weights:
    """What torchvision has; of fc6 and fc7 every 4th channel is used, and of fc6 every 3rd of its 7 rows and columns.

    That leaves a network without a published accuracy. Liu et al. 2016, sec. 3.
    """
    return Weights(
        (f"https://download.pytorch.org/models/{name}-{digest}.pth",),
        sha256=digest,
        decimated=(
            Decimation("classifier.0.weight", (4096, 512, 7, 7), (4, 1, 3, 3)),
            Decimation("classifier.0.bias", (4096,), (4,)),
            Decimation("classifier.3.weight", (4096, 4096, 1, 1), (4, 4, 1, 1)),
            Decimation("classifier.3.bias", (4096,), (4,)),
        ),
        rename=((r"^features\.", "blocks."), (r"^classifier\.0\.", "fc6."), (r"^classifier\.3\.", "fc7.")),
        drop=("fc.", "classifier.6."),
        licence="BSD-3-Clause",
    )


REDUCED = Weights(
    ("https://s3.amazonaws.com/amdegroot-models/vgg16_reducedfc.pth",),
    pixels=CAFFE,
    rename=((r"^31\.", "fc6."), (r"^33\.", "fc7."), (r"^(\d+)\.", r"blocks.\1.")),
    licence="CC-BY",
)
"""SSD's weights, whose layers are numbered through."""


@register_backbone("vgg16", _torchvision("vgg16", "397923af"))
def vgg16(norm: Norm) -> VGG16:
    """VGG16 without norms; `norm` finds no use."""
    return VGG16(None)


@register_backbone("vgg16_caffe", REDUCED)
def vgg16_caffe(norm: Norm) -> VGG16:
    """The same network for SSD's Caffe weights, the ones that RefineDet was published with."""
    return VGG16(None)


@register_backbone("vgg16_bn", _torchvision("vgg16_bn", "6c64b313"))
def vgg16_bn(norm: Norm) -> VGG16:
    """VGG16 with norms."""
    return VGG16(norm)
