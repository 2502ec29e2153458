"""SE and SK nets: channel attention behind a bottleneck, and attention between kernel sizes inside it."""

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import SqueezeExcitation

from detector.models.backbones.base import register_backbone
from detector.models.backbones.resnet import Bottleneck
from detector.models.backbones.trunk import ConvNorm, Place, ResidualBlock, ResidualTrunk
from detector.models.norm import Norm, pooled_norm
from detector.weights.record import Weights

REDUCTION = 16


class SEBottleneck(Bottleneck):
    """A bottleneck with squeeze and excitation before the sum. Hu et al. 2018, fig. 3."""

    def __init__(
        self,
        channels: int,
        width: int,
        stride: int,
        shortcut: nn.Module | None,
        norm: Norm,
        place: Place,
        **block_args: Any,  # noqa: ANN401 - as Bottleneck's
    ) -> None:
        """As Bottleneck."""
        super().__init__(channels, width, stride, shortcut, norm, place, **block_args)
        self.se = SqueezeExcitation(width * self.expansion, width * self.expansion // REDUCTION)

    def body(self, x: Tensor) -> Tensor:
        """The residual, up to the sum."""
        return self.se(super().body(x))


class SelectiveKernel(nn.Module):
    """Two 3x3 convolutions, the second one dilated, weighed per channel by attention. Li et al. 2019, sec. 3.1.

    As in timm each path sees one half of the input channels.
    """

    def __init__(self, channels: int, stride: int, norm: Norm) -> None:
        """Channels of the input and of the output; an even number."""
        super().__init__()
        self.paths = nn.ModuleList(
            _named(nn.Conv2d(channels // 2, channels, 3, stride, dilation, dilation, bias=False), norm)
            for dilation in (1, 2)
        )
        hidden = max(channels // REDUCTION, 8)
        self.attn = nn.Sequential(
            OrderedDict(
                fc_reduce=nn.Conv2d(channels, hidden, 1, bias=False),
                bn=pooled_norm(norm, hidden),
                act=nn.ReLU(inplace=True),
                fc_select=nn.Conv2d(hidden, 2 * channels, 1, bias=False),
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """Maps [N, channels, H, W] to [N, channels, H / stride, W / stride]."""
        near, far = (path(part).relu_() for path, part in zip(self.paths, x.chunk(2, dim=1), strict=True))
        pooled = near.mean((2, 3), keepdim=True) + far.mean((2, 3), keepdim=True)
        first, second = self.attn(pooled).chunk(2, dim=1)
        # softmax over two paths: the weights add up to one
        return torch.lerp(far, near, (first - second).sigmoid().to(far.dtype))


class SKBottleneck(ResidualBlock):
    """A bottleneck around a selective kernel, under timm's names: a convolution and its norm are one child."""

    expansion = 4

    def __init__(
        self, channels: int, width: int, stride: int, shortcut: nn.Module | None, norm: Norm, place: Place
    ) -> None:
        """As ResidualBlock."""
        super().__init__(channels, width, stride, shortcut, norm, place)
        self.conv1 = _named(nn.Conv2d(channels, width, 1, bias=False), norm)
        self.conv2 = SelectiveKernel(width, stride, norm)
        self.conv3 = _named(nn.Conv2d(width, width * self.expansion, 1, bias=False), norm)

    def body(self, x: Tensor) -> Tensor:
        """The residual, up to the sum."""
        return self.conv3(self.conv2(self.conv1(x).relu_()))


def _named(conv: nn.Conv2d, norm: Norm) -> ConvNorm:
    return ConvNorm(OrderedDict(conv=conv, bn=norm(conv.out_channels)))


def _timm(file: str, digest: str, top1: float, top5: float) -> Weights:
    """The record of timm's weights, which timm measured on 288 x 288 crops."""
    url = f"https://github.com/huggingface/pytorch-image-models/releases/download/v0.1-weights/{file}-{digest}.pth"
    return Weights((url,), sha256=digest, licence="Apache-2.0", top1=top1, top5=top5, crop=288)


@register_backbone("seresnet50", _timm("seresnet50_ra_224", "8efdb4bb", 81.284, 95.652))
def seresnet50(norm: Norm) -> ResidualTrunk:
    """SE-ResNet-50. Hu et al. 2018."""
    return ResidualTrunk(SEBottleneck, (3, 4, 6, 3), norm=norm)


@register_backbone("seresnet101", Weights())
def seresnet101(norm: Norm) -> ResidualTrunk:
    """SE-ResNet-101. Hu et al. 2018. No weights are published under these names."""
    return ResidualTrunk(SEBottleneck, (3, 4, 23, 3), norm=norm)


@register_backbone("seresnext50_32x4d", _timm("seresnext50_32x4d_racm", "a304a460", 82.196, 96.148))
def seresnext50_32x4d(norm: Norm) -> ResidualTrunk:
    """SE-ResNeXt-50 of 32 groups. Hu et al. 2018."""
    return ResidualTrunk(SEBottleneck, (3, 4, 6, 3), norm=norm, groups=32, group_width=4)


@register_backbone("skresnet50", Weights())
def skresnet50(norm: Norm) -> ResidualTrunk:
    """ResNet-50 with selective kernels. Li et al. 2019. No weights are published under these names."""
    return ResidualTrunk(SKBottleneck, (3, 4, 6, 3), norm=norm)
