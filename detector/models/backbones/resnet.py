"""ResNet, ResNeXt, the Caffe line, and SReResNet, which runs its stages twice."""

from dataclasses import replace

from torch import Tensor, nn

from detector.models.backbones.base import register_backbone
from detector.models.backbones.trunk import Place, ResidualBlock, ResidualTrunk
from detector.models.deform import Deformation, DeformConv2d, offset_conv
from detector.models.narrow import convolve
from detector.models.norm import Norm, conv_norm_relu
from detector.weights.record import BGR_255, Weights


class BasicBlock(ResidualBlock):
    """Two 3x3 convolutions. He et al. 2016, fig. 5 left."""

    expansion = 1
    last = 2
    deformable = True

    def __init__(
        self, channels: int, width: int, stride: int, shortcut: nn.Module | None, norm: Norm, place: Place
    ) -> None:
        """As ResidualBlock."""
        super().__init__(channels, width, stride, shortcut, norm, place)
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.bn1 = norm(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = norm(width)

    def branch(self, x: Tensor) -> Tensor:
        """What the last convolution gets."""
        return conv_norm_relu(self.conv1, self.bn1, x)

    def deform(self, rule: Deformation) -> None:
        """The second 3x3. No detector with such blocks is published: detectron2 and mmdetection refuse them."""
        self.conv2 = DeformConv2d(self.conv2, rule, own_offsets=True)


class Bottleneck(ResidualBlock):
    """1x1, 3x3, 1x1 convolutions. He et al. 2016, fig. 5 right."""

    expansion = 4
    last = 3
    deformable = True

    def __init__(
        self,
        channels: int,
        width: int,
        stride: int,
        shortcut: nn.Module | None,
        norm: Norm,
        place: Place,
        *,
        groups: int = 1,
        group_width: int = 64,
        stride_in_1x1: bool = False,
    ) -> None:
        """Further groups of the 3x3, and channels of a group in stage 1. Xie et al. 2017, sec. 3.

        stride_in_1x1: the first convolution has the stride, as in the paper's own Caffe weights, not the 3x3.
        """
        super().__init__(channels, width, stride, shortcut, norm, place)
        inner = width * group_width // 64 * groups
        first, second = (stride, 1) if stride_in_1x1 else (1, stride)
        self.conv1 = nn.Conv2d(channels, inner, 1, first, bias=False)
        self.bn1 = norm(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, second, 1, groups=groups, bias=False)
        self.conv2_offset: nn.Conv2d | None = None  # of a deformable conv2
        self.bn2 = norm(inner)
        self.conv3 = nn.Conv2d(inner, width * self.expansion, 1, bias=False)
        self.bn3 = norm(width * self.expansion)

    def branch(self, x: Tensor) -> Tensor:
        """What the last convolution gets."""
        x = conv_norm_relu(self.conv1, self.bn1, x)
        shifts = () if self.conv2_offset is None else (convolve(self.conv2_offset, x),)
        return conv_norm_relu(self.conv2, self.bn2, x, *shifts)

    def deform(self, rule: Deformation) -> None:
        """The 3x3, as in detectron2."""
        self.conv2_offset = offset_conv(self.conv2, rule)
        self.conv2 = DeformConv2d(self.conv2, rule)


def _torchvision(name: str, digest: str, top1: float, top5: float) -> Weights:
    """The record of torchvision's IMAGENET1K_V1 weights, the ones that published detection baselines start from."""
    url = f"https://download.pytorch.org/models/{name}-{digest}.pth"
    return Weights((url,), sha256=digest, licence="BSD-3-Clause", top1=top1, top5=top5)


def _msra(name: str) -> Weights:
    """The record of the paper's own weights. Their batch norms are folded into an affine, so there is no eps."""
    url = f"https://dl.fbaipublicfiles.com/detectron/ImageNetPretrained/MSRA/{name}.pkl"
    return Weights((url,), pixels=BGR_255, norm_eps=0.0, licence="MIT")


RESNET50 = _torchvision("resnet50", "0676ba61", 76.130, 92.862)
RESNET101 = _torchvision("resnet101", "63fe2227", 77.374, 93.546)
RESNET152 = _torchvision("resnet152", "394f9c45", 78.312, 94.046)


def _start(weights: Weights) -> Weights:
    """Weights that a SReResNet starts from: the published accuracy is the plain network's."""
    return replace(weights, top1=None, top5=None)


@register_backbone("resnet10", Weights())
def resnet10(norm: Norm) -> ResidualTrunk:
    """Half of a ResNet-18, one block a stage, without published weights: for CPUs and first steps."""
    return ResidualTrunk(BasicBlock, (1, 1, 1, 1), norm=norm)


@register_backbone("resnet18", _torchvision("resnet18", "f37072fd", 69.758, 89.078))
def resnet18(norm: Norm) -> ResidualTrunk:
    """ResNet-18. He et al. 2016."""
    return ResidualTrunk(BasicBlock, (2, 2, 2, 2), norm=norm)


@register_backbone("resnet34", _torchvision("resnet34", "b627a593", 73.314, 91.420))
def resnet34(norm: Norm) -> ResidualTrunk:
    """ResNet-34. He et al. 2016."""
    return ResidualTrunk(BasicBlock, (3, 4, 6, 3), norm=norm)


@register_backbone("resnet50", RESNET50)
def resnet50(norm: Norm) -> ResidualTrunk:
    """ResNet-50. He et al. 2016."""
    return ResidualTrunk(Bottleneck, (3, 4, 6, 3), norm=norm)


@register_backbone("resnet101", RESNET101)
def resnet101(norm: Norm) -> ResidualTrunk:
    """ResNet-101. He et al. 2016."""
    return ResidualTrunk(Bottleneck, (3, 4, 23, 3), norm=norm)


@register_backbone("resnet152", RESNET152)
def resnet152(norm: Norm) -> ResidualTrunk:
    """ResNet-152. He et al. 2016."""
    return ResidualTrunk(Bottleneck, (3, 8, 36, 3), norm=norm)


@register_backbone("resnext50_32x4d", _torchvision("resnext50_32x4d", "7cdf4587", 77.618, 93.698))
def resnext50_32x4d(norm: Norm) -> ResidualTrunk:
    """ResNeXt-50 of 32 groups. Xie et al. 2017."""
    return ResidualTrunk(Bottleneck, (3, 4, 6, 3), norm=norm, groups=32, group_width=4)


@register_backbone("resnext101_32x8d", _torchvision("resnext101_32x8d", "8ba56ff5", 79.312, 94.526))
def resnext101_32x8d(norm: Norm) -> ResidualTrunk:
    """ResNeXt-101 of 32 wide groups. Xie et al. 2017."""
    return ResidualTrunk(Bottleneck, (3, 4, 23, 3), norm=norm, groups=32, group_width=8)


@register_backbone("resnext101_64x4d", _torchvision("resnext101_64x4d", "173b62eb", 83.246, 96.454))
def resnext101_64x4d(norm: Norm) -> ResidualTrunk:
    """ResNeXt-101 of 64 groups. Xie et al. 2017."""
    return ResidualTrunk(Bottleneck, (3, 4, 23, 3), norm=norm, groups=64, group_width=4)


@register_backbone("resnet50_caffe", _msra("R-50"))
def resnet50_caffe(norm: Norm) -> ResidualTrunk:
    """ResNet-50 with the stride in the 1x1, as first published."""
    return ResidualTrunk(Bottleneck, (3, 4, 6, 3), norm=norm, stride_in_1x1=True)


@register_backbone("resnet101_caffe", _msra("R-101"))
def resnet101_caffe(norm: Norm) -> ResidualTrunk:
    """ResNet-101 with the stride in the 1x1, as first published."""
    return ResidualTrunk(Bottleneck, (3, 4, 23, 3), norm=norm, stride_in_1x1=True)


# Bottleneck depths only: the published rule leaves out the block with the projection, and stage 1 of a BasicBlock
# network has none. With trainable batch norm both passes update the same running statistics, as published.
@register_backbone("sreresnet50", _start(RESNET50))
def sreresnet50(norm: Norm) -> ResidualTrunk:
    """ResNet-50 whose stages run twice."""
    return ResidualTrunk(Bottleneck, (3, 4, 6, 3), norm=norm, passes=2)


@register_backbone("sreresnet101", _start(RESNET101))
def sreresnet101(norm: Norm) -> ResidualTrunk:
    """ResNet-101 whose stages run twice."""
    return ResidualTrunk(Bottleneck, (3, 4, 23, 3), norm=norm, passes=2)


@register_backbone("sreresnet152", _start(RESNET152))
def sreresnet152(norm: Norm) -> ResidualTrunk:
    """ResNet-152 whose stages run twice."""
    return ResidualTrunk(Bottleneck, (3, 8, 36, 3), norm=norm, passes=2)


@register_backbone("sreresnet50_caffe", _msra("R-50"))
def sreresnet50_caffe(norm: Norm) -> ResidualTrunk:
    """ResNet-50 with the stride in the 1x1, whose stages run twice."""
    return ResidualTrunk(Bottleneck, (3, 4, 6, 3), norm=norm, stride_in_1x1=True, passes=2)


@register_backbone("sreresnet101_caffe", _msra("R-101"))
def sreresnet101_caffe(norm: Norm) -> ResidualTrunk:
    """ResNet-101 with the stride in the 1x1, whose stages run twice."""
    return ResidualTrunk(Bottleneck, (3, 4, 23, 3), norm=norm, stride_in_1x1=True, passes=2)
