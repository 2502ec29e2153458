"""ResNeSt: split attention inside the bottleneck."""

from functools import partial

import torch
from torch import Tensor, nn

from detector.models.backbones.base import register_backbone
from detector.models.backbones.trunk import Place, ResidualBlock, ResidualTrunk, avg_shortcut, deep_stem
from detector.models.deform import Deformation, DeformConv2d, offset_conv
from detector.models.narrow import convolve
from detector.models.norm import Norm, conv_norm_relu, pooled_norm
from detector.weights.record import Weights


class SplitAttention(nn.Module):
    """A 3x3 convolution into `radix` splits, summed with attention weights per channel. Zhang et al. 2020, sec. 3.1.

    Channels lie radix-major: all channels of the first split come first.
    """

    def __init__(self, channels: int, norm: Norm, radix: int, cardinality: int) -> None:
        """Channels of the input and of the output, divisible by `cardinality`."""
        super().__init__()
        self.radix, self.cardinality = radix, cardinality
        wide, hidden = channels * radix, max(channels * radix // 4, 32)
        self.conv = nn.Conv2d(channels, wide, 3, 1, 1, groups=cardinality * radix, bias=False)
        self.bn0 = norm(wide)
        self.fc1 = nn.Conv2d(channels, hidden, 1, groups=cardinality)
        self.bn1 = pooled_norm(norm, hidden)
        self.fc2 = nn.Conv2d(hidden, wide, 1, groups=cardinality)

    def forward(self, x: Tensor, *shifts: Tensor) -> Tensor:
        """Maps [N, channels, H, W] to the same shape; shifts: what a deformable convolution is told."""
        x = conv_norm_relu(self.conv, self.bn0, x, *shifts)
        splits = x.chunk(self.radix, dim=1)
        # Pooling each split and summing the means equals pooling the sum, without a pass over the maps for the sum.
        pooled = x.mean((2, 3), keepdim=True).unflatten(1, (self.radix, -1)).sum(1)
        logits = self.fc2(self.bn1(self.fc1(pooled)).relu_())
        weights = self.attention(logits).to(x.dtype)
        if self.radix == 2:
            # softmax over two splits: the weights add up to one
            return torch.lerp(splits[1], splits[0], weights[:, 0])
        total = splits[0] * weights[:, 0]
        for i in range(1, self.radix):
            total = torch.addcmul(total, splits[i], weights[:, i])
        return total

    def attention(self, logits: Tensor) -> Tensor:
        """Logits [N, cardinality * radix * K, 1, 1], cardinality-major -> weights [N, radix, cardinality * K, 1, 1]."""
        if self.radix == 1:
            return logits.sigmoid().unsqueeze(1)
        by_group = logits.unflatten(1, (self.cardinality, self.radix, -1))
        return by_group.transpose(1, 2).softmax(1).flatten(2, 3)


class SplitBottleneck(ResidualBlock):
    """A bottleneck around split attention; average pooling does the stride of the 3x3. Zhang et al. 2020, sec. 3.2."""

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
        radix: int = 2,
        cardinality: int = 1,
        group_width: int = 64,
        pool_first: bool = False,
    ) -> None:
        """Further the number of splits and of cardinal groups, and channels of a group in stage 1.

        pool_first: the pooling stands before split attention, as in the fast variants, not behind it.
        """
        super().__init__(channels, width, stride, shortcut, norm, place)
        inner = width * group_width // 64 * cardinality
        self.pool_first = pool_first
        self.conv1 = nn.Conv2d(channels, inner, 1, bias=False)
        self.bn1 = norm(inner)
        self.conv2 = SplitAttention(inner, norm, radix, cardinality)
        self.conv2_offset: nn.Conv2d | None = None  # of a deformable conv2.conv
        self.pool = nn.AvgPool2d(3, stride, 1) if stride > 1 else nn.Identity()
        self.conv3 = nn.Conv2d(inner, width * self.expansion, 1, bias=False)
        self.bn3 = norm(width * self.expansion)

    def branch(self, x: Tensor) -> Tensor:
        """What the last convolution gets."""
        x = conv_norm_relu(self.conv1, self.bn1, x)
        x = self.pool(x) if self.pool_first else x
        shifts = () if self.conv2_offset is None else (convolve(self.conv2_offset, x),)
        x = self.conv2(x, *shifts)
        return x if self.pool_first else self.pool(x)

    def deform(self, rule: Deformation) -> None:
        """The convolution into splits, as in the authors' detectors, whose offsets are convolved in groups as well."""
        self.conv2_offset = offset_conv(self.conv2.conv, rule, groups=rule.groups)
        self.conv2.conv = DeformConv2d(self.conv2.conv, rule)


def _release(name: str, digest: str, top1: float, crop: int = 224) -> Weights:
    """The record of the authors' weights."""
    url = f"https://github.com/zhanghang1989/ResNeSt/releases/download/weights_step1/{name}-{digest}.pth"
    return Weights((url,), sha256=digest, licence="Apache-2.0", top1=top1, crop=crop)


def _trunk(depths: tuple[int, ...], norm: Norm, stem_width: int = 64) -> ResidualTrunk:
    stem = partial(deep_stem, width=stem_width)
    return ResidualTrunk(SplitBottleneck, depths, norm=norm, stem=stem, shortcut=avg_shortcut)


def _fast(norm: Norm, radix: int, cardinality: int, group_width: int) -> ResidualTrunk:
    return ResidualTrunk(
        SplitBottleneck,
        (3, 4, 6, 3),
        norm=norm,
        stem=deep_stem,
        shortcut=avg_shortcut,
        radix=radix,
        cardinality=cardinality,
        group_width=group_width,
        pool_first=True,
    )


@register_backbone("resnest50", _release("resnest50", "528c19ca", 81.03))
def resnest50(norm: Norm) -> ResidualTrunk:
    """ResNeSt-50. Zhang et al. 2020."""
    return _trunk((3, 4, 6, 3), norm, stem_width=32)


@register_backbone("resnest101", _release("resnest101", "22405ba7", 82.83, crop=256))
def resnest101(norm: Norm) -> ResidualTrunk:
    """ResNeSt-101. Zhang et al. 2020."""
    return _trunk((3, 4, 23, 3), norm)


@register_backbone("resnest200", _release("resnest200", "75117900", 83.84, crop=320))
def resnest200(norm: Norm) -> ResidualTrunk:
    """ResNeSt-200. Zhang et al. 2020."""
    return _trunk((3, 24, 36, 3), norm)


@register_backbone("resnest269", _release("resnest269", "0cc87c48", 84.54, crop=416))
def resnest269(norm: Norm) -> ResidualTrunk:
    """ResNeSt-269. Zhang et al. 2020."""
    return _trunk((3, 30, 48, 8), norm)


@register_backbone("resnest50_fast_1s1x64d", _release("resnest50_fast_1s1x64d", "d8fbf808", 80.33))
def resnest50_fast_1s1x64d(norm: Norm) -> ResidualTrunk:
    """ResNeSt-50-fast: 1 split, 1 group of width 64. Zhang et al. 2020, table 1."""
    return _fast(norm, 1, 1, 64)


@register_backbone("resnest50_fast_2s1x64d", _release("resnest50_fast_2s1x64d", "44938639", 80.53))
def resnest50_fast_2s1x64d(norm: Norm) -> ResidualTrunk:
    """ResNeSt-50-fast: 2 splits, 1 group of width 64. Zhang et al. 2020, table 1."""
    return _fast(norm, 2, 1, 64)


@register_backbone("resnest50_fast_4s1x64d", _release("resnest50_fast_4s1x64d", "f74f3fc3", 80.76))
def resnest50_fast_4s1x64d(norm: Norm) -> ResidualTrunk:
    """ResNeSt-50-fast: 4 splits, 1 group of width 64. Zhang et al. 2020, table 1."""
    return _fast(norm, 4, 1, 64)


@register_backbone("resnest50_fast_1s2x40d", _release("resnest50_fast_1s2x40d", "32830b84", 80.59))
def resnest50_fast_1s2x40d(norm: Norm) -> ResidualTrunk:
    """ResNeSt-50-fast: 1 split, 2 groups of width 40. Zhang et al. 2020, table 1."""
    return _fast(norm, 1, 2, 40)


@register_backbone("resnest50_fast_2s2x40d", _release("resnest50_fast_2s2x40d", "9d126481", 80.97))
def resnest50_fast_2s2x40d(norm: Norm) -> ResidualTrunk:
    """ResNeSt-50-fast: 2 splits, 2 groups of width 40. Zhang et al. 2020, table 1."""
    return _fast(norm, 2, 2, 40)


@register_backbone("resnest50_fast_4s2x40d", _release("resnest50_fast_4s2x40d", "41d14ed0", 80.86))
def resnest50_fast_4s2x40d(norm: Norm) -> ResidualTrunk:
    """ResNeSt-50-fast: 4 splits, 2 groups of width 40. Zhang et al. 2020, table 1."""
    return _fast(norm, 4, 2, 40)


@register_backbone("resnest50_fast_1s4x24d", _release("resnest50_fast_1s4x24d", "d4a4f76f", 80.99))
def resnest50_fast_1s4x24d(norm: Norm) -> ResidualTrunk:
    """ResNeSt-50-fast: 1 split, 4 groups of width 24. Zhang et al. 2020, table 1."""
    return _fast(norm, 1, 4, 24)
