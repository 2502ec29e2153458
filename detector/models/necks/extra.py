"""The source levels of RefineDet: backbone levels, the finer ones normalised, and a coarser one on top."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from detector.errors import UserError
from detector.models.layers import conv_layer, optional_norm, projection_bottleneck
from detector.models.narrow import convolve
from detector.models.necks.base import EXTRA_LEVELS, Neck, NeckKeys, check_extra_levels, register_neck
from detector.models.norm import Norm, conv_norm
from detector.structures import Features, Level

EPS = 1e-10
EXTRA_LEVELS["refinedet_sources"] = ("none", "c6", "c6_bottleneck")


class L2Norm(nn.Module):
    """Scales the channels of every cell to length 1, then each channel by a learned factor. Liu et al. 2015, ParseNet.

    Sec. 3.3. scale: what the factors start with.
    """

    def __init__(self, channels: int, scale: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels,), float(scale)))

    def forward(self, x: Tensor) -> Tensor:
        """[N, K, H, W] -> the same shape and dtype; computed in float32 at least, as squares overflow."""
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        length = wide.square().sum(1, keepdim=True).add(EPS).sqrt()
        return (wide / length * self.weight[:, None, None]).to(x.dtype)


class SSDExtra(nn.Module):
    """A level of half the resolution: 1x1 and strided 3x3 convolution. Liu et al. 2016, sec. 3; conv6_1 and conv6_2."""

    width, out_channels = 256, 512

    def __init__(self, channels: int, norm: Norm | None) -> None:
        super().__init__()
        self.conv1 = conv_layer(channels, self.width, 1, norm=norm)
        self.conv2 = conv_layer(self.width, self.out_channels, 3, 2, norm)

    def forward(self, x: Tensor) -> Tensor:
        """[N, channels, H, W] -> [N, 512, H / 2, W / 2]."""
        conv, *norm = self.conv2
        x = self.conv1(x).relu_()
        return (conv_norm(conv, norm[0], x) if norm else convolve(conv, x)).relu_()  # type: ignore[arg-type]


class RefineDetSources(Neck):
    """What RefineDet predicts from. Zhang et al. 2018, sec. 3.1 and 4.

    sources: backbone levels, fine to coarse. scales: of the L2 normalisation of the first sources, () for none. extra:
    the level above the coarsest source: "c6" (two convolutions, as on VGG16), "c6_bottleneck" (res6 of ResNet-101) or
    "none"; named "c6" above "c5". norm: of its convolutions; None: biases instead.
    Raises ValueError for an unknown `extra`, more scales than sources, or a bottleneck without norm.
    """

    def __init__(
        self, sources: dict[str, Level], scales: Sequence[float] = (10, 8), extra: str = "c6", norm: Norm | None = None
    ) -> None:
        super().__init__()
        check_extra_levels("refinedet_sources", extra)
        if len(scales) > len(sources):
            raise UserError(
                f"MODEL.NECK.L2NORM_SCALES {tuple(scales)} has a scale for each of {len(scales)} sources, but "
                f"there are {len(sources)} ({', '.join(sources)})"
            )
        self.sources, self.levels = list(sources), dict(sources)
        named = zip(sources.items(), scales, strict=False)
        self.l2norm = nn.ModuleDict({name: L2Norm(level.channels, scale) for (name, level), scale in named})
        self.extra: nn.Module | None = None
        if extra == "none":
            return
        top, (channels, stride) = list(sources.items())[-1]
        if extra == "c6":
            self.extra, out = SSDExtra(channels, norm), SSDExtra.out_channels
        else:
            if norm is None:
                raise UserError("MODEL.NECK.EXTRA_LEVELS c6_bottleneck needs a MODEL.NECK.NORM: bn, sync_bn or gn")
            self.extra, out = projection_bottleneck(channels, 128, 2, norm), 512
        self.levels[f"c{int(top[1:]) + 1}"] = Level(out, 2 * stride)

    def forward(self, features: Features) -> Features:
        """Backbone features -> sources, fine to coarse; any height and width."""
        outputs = [
            self.l2norm[name](features[name]) if name in self.l2norm else features[name] for name in self.sources
        ]
        if self.extra is not None:
            outputs.append(self.extra(features[self.sources[-1]]))
        return dict(zip(self.levels, outputs, strict=True))


@register_neck("refinedet_sources", NeckKeys(extra_levels="c6", l2norm_scales=(10.0, 8.0)))
def build_refinedet_sources(cfg: CfgNode, levels: dict[str, Level]) -> RefineDetSources:
    """RefineDet's source levels, the finest ones normalised to learned lengths, and a coarser one of convolutions.

    Raises ValueError for a source of MODEL.NECK that the backbone lacks.
    """
    node = cfg.MODEL.NECK
    missing = [name for name in node.SOURCES if name not in levels]
    if missing or not node.SOURCES:
        raise UserError(f"MODEL.NECK.SOURCES {tuple(node.SOURCES)}: {cfg.MODEL.BACKBONE.NAME} has {tuple(levels)}")
    sources = {name: levels[name] for name in node.SOURCES}
    norm = optional_norm(node.NORM, "MODEL.NECK.NORM")
    return RefineDetSources(sources, node.L2NORM_SCALES, node.EXTRA_LEVELS, norm)
