"""Res2Net, Res2Net v1b, Res2NeXt and SE-Res2Net: many scales inside one bottleneck."""

import torch
from torch import Tensor, nn
from torchvision.ops import SqueezeExcitation

from detector.models.backbones.base import register_backbone
from detector.models.backbones.senet import REDUCTION
from detector.models.backbones.trunk import Place, ResidualBlock, ResidualTrunk, avg_shortcut, deep_stem
from detector.models.deform import Deformation, DeformConv2d
from detector.models.norm import Norm, conv_norm_relu
from detector.weights.record import Weights


class Res2Bottleneck(ResidualBlock):
    """A bottleneck whose 3x3 is a chain over splits of the channels. Gao et al. 2021, sec. 3.1, fig. 2b.

    Every split but the last is convolved, and its result is added to the next split. The first block of a stage adds
    nothing, and pools its last split.
    """

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
        split_width: int = 26,
        splits: int = 4,
        groups: int = 1,
        squeeze: bool = False,
        by_stride: bool = False,
        count_padding: bool = True,
    ) -> None:
        """Further channels of a group of a split in stage 1, splits, and groups of the 3x3 (Res2NeXt).

        squeeze: squeeze and excitation before the sum. by_stride: "the first block of a stage" is every block with a
        stride and no other. count_padding: whether the pooling averages the padding's zeros, too.
        """
        super().__init__(channels, width, stride, shortcut, norm, place)
        self.split = width * split_width // 64 * groups
        inner, out = self.split * splits, width * self.expansion
        self.conv1 = nn.Conv2d(channels, inner, 1, bias=False)
        self.bn1 = norm(inner)
        self.convs = nn.ModuleList(
            nn.Conv2d(self.split, self.split, 3, stride, 1, groups=groups, bias=False) for _ in range(splits - 1)
        )
        self.bns = nn.ModuleList(norm(self.split) for _ in range(splits - 1))
        first = stride > 1 if by_stride else place.index == 0
        self.pool = nn.AvgPool2d(3, stride, 1, count_include_pad=count_padding) if first else None
        self.conv3 = nn.Conv2d(inner, out, 1, bias=False)
        self.bn3 = norm(out)
        self.se = SqueezeExcitation(out, out // REDUCTION) if squeeze else None

    def branch(self, x: Tensor) -> Tensor:
        """What the last convolution gets."""
        *parts, rest = conv_norm_relu(self.conv1, self.bn1, x).split(self.split, dim=1)
        results: list[Tensor] = []
        for part, conv, norm in zip(parts, self.convs, self.bns, strict=True):
            carried = part + results[-1] if results and self.pool is None else part
            results.append(conv_norm_relu(conv, norm, carried))  # type: ignore[arg-type]
        return torch.cat([*results, rest if self.pool is None else self.pool(rest)], dim=1)

    def deform(self, rule: Deformation) -> None:
        """The 3x3 of every split, each with offsets of its own, as in Res2Net/mmdetection."""
        for i, conv in enumerate(self.convs):
            self.convs[i] = DeformConv2d(conv, rule, own_offsets=True)  # type: ignore[arg-type]

    def body(self, x: Tensor) -> Tensor:
        """The residual, up to the sum."""
        x = super().body(x)
        return x if self.se is None else self.se(x)


NON_COMMERCIAL = "CC BY-NC-SA 4.0 (non-commercial)"
STEM = (
    (r"^conv1_1\._conv\.", "conv1.0."),
    (r"^conv1_1\._batch_norm\.", "conv1.1."),
    (r"^conv1_2\._conv\.", "conv1.3."),
    (r"^conv1_2\._batch_norm\.", "conv1.4."),
    (r"^conv1_3\._conv\.", "conv1.6."),
    (r"^conv1_3\._batch_norm\.", "bn1."),
)
PADDLE = (
    *STEM,
    *((rf"^bb_{i}_(\d+)\.", rf"layer{i + 1}.\1.") for i in range(4)),
    *((rf"\.res\w+_branch2b_{i + 1}\._conv\.", f".convs.{i}.") for i in range(3)),
    *((rf"\.res\w+_branch2b_{i + 1}\._batch_norm\.", f".bns.{i}.") for i in range(3)),
    (r"\.conv2\._conv\.", ".conv3."),
    (r"\.conv2\._batch_norm\.", ".bn3."),
    (r"\.conv0\._conv\.", ".conv1."),
    (r"\.conv0\._batch_norm\.", ".bn1."),
    (r"\.short\._conv\.", ".downsample.1."),
    (r"\.short\._batch_norm\.", ".downsample.2."),
    (r"\._mean$", ".running_mean"),
    (r"\._variance$", ".running_var"),
    (r"^out\.", "fc."),
)
"""PaddlePaddle's names of the same tensors."""


def published(file: str, digest: str, top1: float, top5: float, optional: tuple[str, ...] = ()) -> Weights:
    """The record of the authors' weights."""
    url = f"https://shanghuagao.oss-cn-beijing.aliyuncs.com/res2net/{file}-{digest}.pth"
    return Weights((url,), sha256=digest, optional=optional, licence=NON_COMMERCIAL, top1=top1, top5=top5)


def _v1b(depths: tuple[int, ...], norm: Norm, **block_args: bool) -> ResidualTrunk:
    """With the stem and the shortcut of ResNet-D."""
    return ResidualTrunk(Res2Bottleneck, depths, norm=norm, stem=deep_stem, shortcut=avg_shortcut, **block_args)


@register_backbone("res2net50_26w_4s", published("res2net50_26w_4s", "06e79181", 77.99, 93.85))
def res2net50_26w_4s(norm: Norm) -> ResidualTrunk:
    """Res2Net-50: 4 splits of width 26. Gao et al. 2021."""
    return ResidualTrunk(Res2Bottleneck, (3, 4, 6, 3), norm=norm, split_width=26, splits=4)


@register_backbone("res2net50_26w_6s", published("res2net50_26w_6s", "19041792", 78.58, 94.13))
def res2net50_26w_6s(norm: Norm) -> ResidualTrunk:
    """Res2Net-50: 6 splits of width 26. Gao et al. 2021."""
    return ResidualTrunk(Res2Bottleneck, (3, 4, 6, 3), norm=norm, split_width=26, splits=6)


@register_backbone("res2net50_26w_8s", published("res2net50_26w_8s", "2c7c9f12", 79.2, 94.37))
def res2net50_26w_8s(norm: Norm) -> ResidualTrunk:
    """Res2Net-50: 8 splits of width 26. Gao et al. 2021."""
    return ResidualTrunk(Res2Bottleneck, (3, 4, 6, 3), norm=norm, split_width=26, splits=8)


@register_backbone("res2net50_48w_2s", published("res2net50_48w_2s", "afed724a", 77.32, 93.53))
def res2net50_48w_2s(norm: Norm) -> ResidualTrunk:
    """Res2Net-50: 2 splits of width 48. Gao et al. 2021."""
    return ResidualTrunk(Res2Bottleneck, (3, 4, 6, 3), norm=norm, split_width=48, splits=2)


@register_backbone("res2net50_14w_8s", published("res2net50_14w_8s", "6527dddc", 78.14, 93.86))
def res2net50_14w_8s(norm: Norm) -> ResidualTrunk:
    """Res2Net-50: 8 splits of width 14. Gao et al. 2021."""
    return ResidualTrunk(Res2Bottleneck, (3, 4, 6, 3), norm=norm, split_width=14, splits=8)


@register_backbone("res2net101_26w_4s", published("res2net101_26w_4s", "02a759a1", 79.19, 94.43))
def res2net101_26w_4s(norm: Norm) -> ResidualTrunk:
    """Res2Net-101: 4 splits of width 26. Gao et al. 2021."""
    return ResidualTrunk(Res2Bottleneck, (3, 4, 23, 3), norm=norm)


@register_backbone("res2net50_v1b_26w_4s", published("res2net50_v1b_26w_4s", "3cf99910", 80.27, 95.04))
def res2net50_v1b_26w_4s(norm: Norm) -> ResidualTrunk:
    """Res2Net-50 v1b."""
    return _v1b((3, 4, 6, 3), norm)


@register_backbone("res2net101_v1b_26w_4s", published("res2net101_v1b_26w_4s", "0812c246", 81.23, 95.36))
def res2net101_v1b_26w_4s(norm: Norm) -> ResidualTrunk:
    """Res2Net-101 v1b."""
    return _v1b((3, 4, 23, 3), norm)


@register_backbone("res2net152_v1b_26w_4s", Weights())
def res2net152_v1b_26w_4s(norm: Norm) -> ResidualTrunk:
    """Res2Net-152 v1b. No weights are published."""
    return _v1b((3, 8, 36, 3), norm)


@register_backbone("res2next50", published("res2next50_4s", "6ef7e7bf", 78.24, 93.91))
def res2next50(norm: Norm) -> ResidualTrunk:
    """Res2NeXt-50: 4 splits of 8 groups of width 4. Gao et al. 2021."""
    return ResidualTrunk(Res2Bottleneck, (3, 4, 6, 3), norm=norm, split_width=4, groups=8)


@register_backbone("se_res2net50_26w_4s", Weights())
def se_res2net50_26w_4s(norm: Norm) -> ResidualTrunk:
    """SE-Res2Net-50. Gao et al. 2021, sec. 3.3. No weights are published."""
    return ResidualTrunk(Res2Bottleneck, (3, 4, 6, 3), norm=norm, squeeze=True)


SSLD = "https://paddle-imagenet-models-name.bj.bcebos.com/dygraph/Res2Net{}_vd_26w_4s_ssld_pretrained.pdparams"


def _ssld(layers: int, top1: float, top5: float) -> Weights:
    """The record of PaddlePaddle's weights that a teacher taught. Cui et al. 2021. No digest is published."""
    url = SSLD.format(layers)
    return Weights((url,), rename=PADDLE, transposed=("out.weight",), licence="Apache-2.0", top1=top1, top5=top5)


def _vd(depths: tuple[int, ...], norm: Norm) -> ResidualTrunk:
    """By PaddlePaddle's rules, which are not v1b's: blocks go by their stride, and pooling excludes padding."""
    return _v1b(depths, norm, by_stride=True, count_padding=False)


@register_backbone("res2net50_vd_26w_4s", _ssld(50, 83.1, 96.6))
def res2net50_vd_26w_4s(norm: Norm) -> ResidualTrunk:
    """Res2Net-50-vd of PaddlePaddle."""
    return _vd((3, 4, 6, 3), norm)


@register_backbone("res2net101_vd_26w_4s", _ssld(101, 83.9, 97.1))
def res2net101_vd_26w_4s(norm: Norm) -> ResidualTrunk:
    """Res2Net-101-vd of PaddlePaddle."""
    return _vd((3, 4, 23, 3), norm)


@register_backbone("res2net200_vd_26w_4s", _ssld(200, 85.13, 97.42))
def res2net200_vd_26w_4s(norm: Norm) -> ResidualTrunk:
    """Res2Net-200-vd of PaddlePaddle."""
    return _vd((3, 12, 48, 3), norm)
