"""iResNet, iResGroup, ResGroup and ResStage: improved flow of information, shortcut and building block."""

from typing import Any

import torch
from torch import Tensor, nn

from detector.models.backbones.base import register_backbone
from detector.models.backbones.resnet import BasicBlock, Bottleneck
from detector.models.backbones.trunk import ConvNorm, Place, ResidualBlock, ResidualTrunk
from detector.models.norm import Norm
from detector.weights.record import Weights


def max_pool_shortcut(channels: int, out: int, stride: int, norm: Norm) -> nn.Module:
    """Max pooling, then a 1x1 projection unless the channels stay the same. Duta et al. 2020, sec. 3.2."""
    pool = nn.MaxPool2d(3, stride, 1)
    if channels == out:
        return pool
    return ConvNorm(pool, nn.Conv2d(channels, out, 1, bias=False), norm(out))


class StageBlock(ResidualBlock):
    """A block whose place in its stage decides on its norms and activations. Duta et al. 2020, sec. 3.1, fig. 1c.

    The first block of a stage normalises its branch, the last one its sum, and only the last one rectifies the sum;
    all but the first activate their input. Mixed in before the block whose convolutions it arranges.
    """

    def __init__(
        self,
        channels: int,
        width: int,
        stride: int,
        shortcut: nn.Module | None,
        norm: Norm,
        place: Place,
        **block_args: Any,  # noqa: ANN401 - each block has its own
    ) -> None:
        """As ResidualBlock; block_args: keywords of the block behind."""
        super().__init__(channels, width, stride, shortcut, norm, place, **block_args)
        self.place = place
        if place.index > 1:
            self.bn0 = norm(channels)
        if 0 < place.index == place.depth - 1:
            self.norm_of_sum = f"bn{self.last}"
        elif place.index > 0:
            delattr(self, f"bn{self.last}")

    def forward(self, x: Tensor) -> Tensor:
        """Maps x [N, channels, H, W] to [N, width * expansion, H / stride, W / stride]."""
        convolve = getattr(self, f"conv{self.last}")
        if self.place.index == 0:
            residual = self.body(x)
        elif self.place.index == 1:
            # The identity, too: the published networks (iduta/iresnet babdc4f) rectify this block's input in place.
            # Autograd may have saved it, as the sum of an earlier pass; without autograd nothing else holds it.
            x = x.relu() if torch.is_grad_enabled() else x.relu_()
            residual = convolve(self.branch(x))
        else:
            residual = convolve(self.branch(self.bn0(x).relu_()))
        total = residual.add_(x if self.downsample is None else self.downsample(x))
        return getattr(self, self.norm_of_sum)(total).relu_() if self.norm_of_sum else total


class IBasicBlock(StageBlock, BasicBlock):
    """Two 3x3 convolutions, arranged by place."""


class IBottleneck(StageBlock, Bottleneck):
    """1x1, 3x3, 1x1 convolutions, arranged by place."""


class ResGroupBlock(Bottleneck):
    """A bottleneck whose 3x3, in groups, has the most channels. Duta et al. 2020, sec. 3.3, fig. 3."""

    expansion = 2

    def __init__(
        self,
        channels: int,
        width: int,
        stride: int,
        shortcut: nn.Module | None,
        norm: Norm,
        place: Place,
        *,
        groups: int | None = None,
    ) -> None:
        """As ResidualBlock; groups: of the 3x3 in every stage; None doubles them with the width, from 8 to 64."""
        groups = groups or width // 8
        super().__init__(channels, width, stride, shortcut, norm, place, groups=groups, group_width=4 * 64 // groups)


class IResGroupBlock(StageBlock, ResGroupBlock):
    """ResGroup's block, arranged by place."""


def _trunk(block: type[ResidualBlock], depths: tuple[int, ...], norm: Norm, **block_args: Any) -> ResidualTrunk:  # noqa: ANN401
    """Without max pooling in the stem: the first block's shortcut and 3x3 take its place. Sec. 3.2."""
    return ResidualTrunk(block, depths, norm=norm, stem_pool=False, shortcut=max_pool_shortcut, **block_args)


def _drive(file: str, top1: float | None = None, top5: float | None = None) -> Weights:
    """The record of a file of the authors' on Google Drive, which publishes no digest."""
    return Weights((f"https://drive.google.com/uc?export=download&id={file}",), licence="MIT", top1=top1, top5=top5)


@register_backbone("iresnet18", Weights())
def iresnet18(norm: Norm) -> ResidualTrunk:
    """iResNet-18. Duta et al. 2020. No weights are published."""
    return _trunk(IBasicBlock, (2, 2, 2, 2), norm)


@register_backbone("iresnet34", Weights())
def iresnet34(norm: Norm) -> ResidualTrunk:
    """iResNet-34. Duta et al. 2020. No weights are published."""
    return _trunk(IBasicBlock, (3, 4, 6, 3), norm)


@register_backbone("iresnet50", _drive("1Waw3ob8KPXCY9iCLdAD6RUA0nvVguc6K", 77.168, 93.588))
def iresnet50(norm: Norm) -> ResidualTrunk:
    """iResNet-50. Duta et al. 2020."""
    return _trunk(IBottleneck, (3, 4, 6, 3), norm)


@register_backbone("iresnet101", _drive("1cZ4XhwZfUOm_o0WZvenknHIqgeqkY34y", 78.632, 94.238))
def iresnet101(norm: Norm) -> ResidualTrunk:
    """iResNet-101. Duta et al. 2020."""
    return _trunk(IBottleneck, (3, 4, 23, 3), norm)


@register_backbone("iresnet152", _drive("10heFLYX7VNlaSrDy4SZbdOOV9xwzwyli", 79.154, 94.508))
def iresnet152(norm: Norm) -> ResidualTrunk:
    """iResNet-152. Duta et al. 2020."""
    return _trunk(IBottleneck, (3, 8, 36, 3), norm)


@register_backbone("iresnet200", _drive("1Ao-f--jNU7MYPqSW8UMonXVrq3mkLRpW", 79.308, 94.626))
def iresnet200(norm: Norm) -> ResidualTrunk:
    """iResNet-200. Duta et al. 2020."""
    return _trunk(IBottleneck, (3, 24, 36, 3), norm)


@register_backbone("iresnet302", _drive("1UcyvLhLzORJZBUQDNJdsx3USCloXZT6V"))
def iresnet302(norm: Norm) -> ResidualTrunk:
    """iResNet-302. Duta et al. 2020."""
    return _trunk(IBottleneck, (4, 34, 58, 4), norm)


@register_backbone("iresnet404", _drive("1hEOHErsD6AF1b3qQi56mgxvYDneTvMIq"))
def iresnet404(norm: Norm) -> ResidualTrunk:
    """iResNet-404. Duta et al. 2020."""
    return _trunk(IBottleneck, (4, 46, 80, 4), norm)


@register_backbone("iresnet1001", Weights())
def iresnet1001(norm: Norm) -> ResidualTrunk:
    """iResNet-1001. Duta et al. 2020. No weights are published."""
    return _trunk(IBottleneck, (4, 155, 170, 4), norm)


@register_backbone("iresgroup50", _drive("1mCcUKTLbJfjLr2ZiUZPT89wlNf6WxWr_"))
def iresgroup50(norm: Norm) -> ResidualTrunk:
    """iResGroup-50: 8 to 64 groups. Duta et al. 2020."""
    return _trunk(IResGroupBlock, (3, 4, 6, 3), norm)


@register_backbone("iresgroup101", _drive("1i_btVQzQeXFgHFfDi5nTEb_fb7gCtqLG"))
def iresgroup101(norm: Norm) -> ResidualTrunk:
    """iResGroup-101: 8 to 64 groups. Duta et al. 2020."""
    return _trunk(IResGroupBlock, (3, 4, 23, 3), norm)


@register_backbone("iresgroup152", _drive("1rXDMj-yWcKEiO3LILLZlarh69HEibXMc"))
def iresgroup152(norm: Norm) -> ResidualTrunk:
    """iResGroup-152: 8 to 64 groups. Duta et al. 2020."""
    return _trunk(IResGroupBlock, (3, 8, 36, 3), norm)


@register_backbone("iresgroupfix50", _drive("12oeCmPhaID2s3Doay8ZXMehnaaWqa_ek"))
def iresgroupfix50(norm: Norm) -> ResidualTrunk:
    """iResGroup-50 of 64 groups in every stage."""
    return _trunk(IResGroupBlock, (3, 4, 6, 3), norm, groups=64)


@register_backbone("iresgroupfix101", _drive("1A8MIGI1ZEIfaB1bn_NN4QkoHKGRGxW_i"))
def iresgroupfix101(norm: Norm) -> ResidualTrunk:
    """iResGroup-101 of 64 groups in every stage."""
    return _trunk(IResGroupBlock, (3, 4, 23, 3), norm, groups=64)


@register_backbone("iresgroupfix152", _drive("1s-4zKwbwlAJruSm-OFYmw96_qew7F2nw"))
def iresgroupfix152(norm: Norm) -> ResidualTrunk:
    """iResGroup-152 of 64 groups in every stage."""
    return _trunk(IResGroupBlock, (3, 8, 36, 3), norm, groups=64)


@register_backbone("resgroup50", _drive("1iKdFnKcQoGdqfCpRPkTzQcyzdZV8Ur-3"))
def resgroup50(norm: Norm) -> ResidualTrunk:
    """ResNet-50 of ResGroup blocks: 8 to 64 groups."""
    return ResidualTrunk(ResGroupBlock, (3, 4, 6, 3), norm=norm)


@register_backbone("resgroupfix50", _drive("1O9-pGasclSTY8jVB_ez1ANv-DTZ8Sgo9"))
def resgroupfix50(norm: Norm) -> ResidualTrunk:
    """ResNet-50 of ResGroup blocks: 64 groups in every stage."""
    return ResidualTrunk(ResGroupBlock, (3, 4, 6, 3), norm=norm, groups=64)


@register_backbone("resstage50", _drive("1r2GvTm50xF6euU4Z6A_MYoMkiKbYRO3a"))
def resstage50(norm: Norm) -> ResidualTrunk:
    """ResNet-50 whose blocks are arranged by stage: stem and shortcut of ResNet."""
    return ResidualTrunk(IBottleneck, (3, 4, 6, 3), norm=norm)
