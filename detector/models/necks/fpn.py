"""Feature pyramid network."""

import torch.nn.functional as F
from torch import Tensor, nn
from yacs.config import CfgNode

from detector.errors import UserError
from detector.models.narrow import convolve
from detector.models.necks.base import EXTRA_LEVELS, Neck, NeckKeys, check_extra_levels, register_neck
from detector.models.norm import ConvNorm, norm_factory
from detector.models.packed import conv_plus
from detector.models.winograd import WideConv2d
from detector.structures import Features, Level

ABOVE = {"none": 0, "maxpool": 1, "p6p7_p5": 2, "p6p7_c5": 2}
"""How many levels each word of MODEL.NECK.EXTRA_LEVELS adds."""

EXTRA_LEVELS["fpn"] = tuple(ABOVE)


class FPN(Neck):
    """Top-down pyramid with lateral connections. Lin et al. 2017, sec. 3.

    sources: backbone levels, fine to coarse, each half the resolution of the one before; every "cN" gives a "pN" of
    `channels`. extra: further levels above the coarsest: "none"; "maxpool", one level for Faster R-CNN; "p6p7_p5" and
    "p6p7_c5", two levels by strided convolutions of the coarsest output or source (Lin et al. 2017, RetinaNet, sec. 4).
    norm: of the lateral and the output convolutions, "none" or a name of `norm_factory`; a convolution before a norm
    has no bias.
    Raises ValueError for an unknown `extra` or `norm`.
    """

    def __init__(self, sources: dict[str, Level], channels: int, extra: str = "none", norm: str = "none") -> None:
        super().__init__()

        def conv(source: int, kernel: int) -> nn.Module:
            layer = WideConv2d(source, channels, kernel, padding=kernel // 2, bias=norm == "none")
            if norm == "none":
                return layer
            return ConvNorm(layer, norm_factory(norm, key="MODEL.NECK.NORM")(channels))

        self.inner = nn.ModuleDict({name: conv(level.channels, 1) for name, level in sources.items()})
        self.layer = nn.ModuleDict({name: conv(channels, 3) for name in sources})
        self.extra = extra
        self.levels = {f"p{name[1:]}": Level(channels, level.stride) for name, level in sources.items()}
        top = list(sources)[-1]
        number, stride = int(top[1:]), sources[top].stride
        check_extra_levels("fpn", extra)
        for i in range(1, ABOVE[extra] + 1):
            self.levels[f"p{number + i}"] = Level(channels, stride * 2**i)
        if ABOVE[extra] == 2:
            source_channels = sources[top].channels if extra == "p6p7_c5" else channels
            self.p6 = nn.Conv2d(source_channels, channels, 3, stride=2, padding=1)
            self.p7 = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, features: Features) -> Features:
        """Source features -> pyramid features, fine to coarse; any height and width."""
        outputs: list[Tensor] = []
        above: Tensor | None = None
        for name in reversed(list(self.inner)):
            inner = features[name]
            if above is not None:
                # to the lateral's size, not by a factor of 2: odd sizes come out of strided convolutions rounded up
                above = F.interpolate(above, size=inner.shape[-2:], mode="nearest")
            inner = conv_plus(self.inner[name], inner, above)
            outputs.insert(0, self.layer[name](inner))
            above = inner
        if self.extra == "maxpool":
            outputs.append(F.max_pool2d(outputs[-1], 1, stride=2))
        elif self.extra != "none":
            p6 = convolve(self.p6, features[list(self.inner)[-1]] if self.extra == "p6p7_c5" else outputs[-1])
            outputs += [p6, convolve(self.p7, F.relu(p6))]
        return dict(zip(self.levels, outputs, strict=True))


@register_neck("fpn", NeckKeys(sources=("c2", "c3", "c4", "c5"), extra_levels="maxpool"))
def build_fpn(cfg: CfgNode, levels: dict[str, Level]) -> FPN:
    """Feature pyramid network: coarse levels are added to finer ones.

    Raises ValueError for a source of MODEL.NECK that the backbone lacks.
    """
    node = cfg.MODEL.NECK
    missing = [name for name in node.SOURCES if name not in levels]
    if missing or not node.SOURCES:
        raise UserError(f"MODEL.NECK.SOURCES {tuple(node.SOURCES)}: {cfg.MODEL.BACKBONE.NAME} has {tuple(levels)}")
    return FPN({name: levels[name] for name in node.SOURCES}, node.OUT_CHANNELS, node.EXTRA_LEVELS, node.NORM)
