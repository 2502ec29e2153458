"""Big-Little nets: a deep branch that sees a quarter of the pixels beside a slim one that sees them all."""

from collections.abc import Collection, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import SqueezeExcitation

from detector.models.backbones.base import Backbone, register_backbone
from detector.models.backbones.res2net import Res2Bottleneck
from detector.models.backbones.resnet import Bottleneck
from detector.models.backbones.senet import REDUCTION
from detector.models.backbones.trunk import (
    ConvNorm,
    Place,
    ResidualBlock,
    Stage,
    damp_frozen_branches,
    initialise_convs,
    run_blocks,
)
from detector.models.norm import Norm, conv_norm
from detector.structures import Features, Level
from detector.weights.record import Weights

ALPHA = 2
"""How many times wider the big branch is than the little one."""
BETA = 4
"""How many times more blocks a stage has than its little branch, about."""

STEM = 64


def avg_pool_shortcut(channels: int, out: int, stride: int, norm: Norm) -> nn.Module:
    """Overlapping average pooling where there is a stride, then a 1x1 projection unless the channels stay the same."""
    pool = [nn.AvgPool2d(3, stride, 1)] if stride > 1 else []
    project = [nn.Conv2d(channels, out, 1, bias=False), norm(out)] if channels != out else []
    return ConvNorm(*pool, *project)


def residual_blocks(
    block: type[ResidualBlock],
    channels: int,
    width: int,
    depth: int,
    stride: int,
    norm: Norm,
    block_args: dict[str, Any],
) -> Stage:
    """Blocks in a row, the first one with the stride; channels of the input."""
    out, blocks = width * block.expansion, []
    for index in range(depth):
        step = stride if index == 0 else 1
        skip = avg_pool_shortcut(channels, out, step, norm) if step > 1 or channels != out else None
        blocks.append(block(channels, width, step, skip, norm, Place(index, depth), **block_args))
        channels = out
    return Stage(blocks)


class BigLittleStage(nn.Module):
    """A deep branch at half the resolution and a slim, shallow one, summed, then a block. Chen et al. 2019, fig. 2."""

    def __init__(
        self,
        block: type[ResidualBlock],
        channels: int,
        width: int,
        depth: int,
        stride: int,
        norm: Norm,
        block_args: dict[str, Any],
        little_args: dict[str, Any],
    ) -> None:
        """Channels of the input; width, depth and stride of the whole; keywords of wide blocks and of slim ones."""
        super().__init__()
        out = width * block.expansion
        self.big = residual_blocks(block, channels, width, depth - 1, 2, norm, block_args)
        if len(self.big) > 1:
            self.big[-1].rectified = False  # type: ignore[assignment]
        blocks = max(1, depth // BETA - 1)
        self.little = residual_blocks(block, channels, width // ALPHA, blocks, 1, norm, little_args)
        self.little_e = ConvNorm(nn.Conv2d(out // ALPHA, out, 1, bias=False), norm(out))
        self.fusion = residual_blocks(block, out, width, 1, stride, norm, block_args)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Maps x [N, channels, H, W] to the sum [N, out, H, W] and to the output [N, out, H / stride, W / stride]."""
        little = run_blocks([*self.little, self.little_e], x, self.little.recomputed)
        # To the little map's size, not by a factor of 2: the strided branch has rounded an odd side up.
        total = F.interpolate(self.big(x), size=little.shape[-2:], mode="nearest").add_(little).relu_()
        return total, self.fusion(total)


class BigLittleNet(Backbone):
    """Three big-little stages and a plain one; levels c2..c5 at strides 4..32. Chen et al. 2019, table 1.

    c2 and c3 are the sums in layer1 and layer2, as the fusions behind them halve the resolution; c4 and c5 are the
    outputs of layer3 and layer4. The authors publish no detector: this choice is ours.
    A stage is no row of blocks, so that there is nothing that MODEL.BACKBONE.PASSES could repeat.
    """

    layer1: BigLittleStage
    layer2: BigLittleStage
    layer3: BigLittleStage

    def __init__(
        self,
        block: type[ResidualBlock],
        depths: Sequence[int],
        *,
        norm: Norm,
        little_args: dict[str, Any] | None = None,
        **block_args: Any,  # noqa: ANN401 - each family has its own
    ) -> None:
        """Depths: blocks of each stage; block_args: keywords of every block; little_args: of those of little branches.

        little_args: None is block_args.
        """
        super().__init__()
        slim = STEM // ALPHA
        self.conv1, self.bn1 = nn.Conv2d(3, STEM, 7, 2, 3, bias=False), norm(STEM)
        self.b_conv0, self.bn_b0 = nn.Conv2d(STEM, STEM, 3, 2, 1, bias=False), norm(STEM)
        self.l_conv0, self.bn_l0 = nn.Conv2d(STEM, slim, 3, 1, 1, bias=False), norm(slim)
        self.l_conv1, self.bn_l1 = nn.Conv2d(slim, slim, 3, 2, 1, bias=False), norm(slim)
        self.l_conv2, self.bn_l2 = nn.Conv2d(slim, STEM, 1, bias=False), norm(STEM)
        self.bl_init, self.bn_bl_init = nn.Conv2d(STEM, STEM, 1, bias=False), norm(STEM)
        little_args, channels = block_args if little_args is None else little_args, STEM
        for i, (depth, stride) in enumerate(zip(depths[:3], (2, 2, 1), strict=True)):
            stage = BigLittleStage(block, channels, 64 * 2**i, depth, stride, norm, block_args, little_args)
            self.add_module(f"layer{i + 1}", stage)
            channels = 64 * 2**i * block.expansion
            self.levels[f"c{i + 2}"] = Level(channels, 4 * 2**i)
        self.layer4 = residual_blocks(block, channels, 512, depths[3], 2, norm, block_args)
        self.levels["c5"] = Level(512 * block.expansion, 32)
        initialise_convs(self)
        damp_frozen_branches([module for module in self.modules() if isinstance(module, ResidualBlock)])

    def parts(self) -> Sequence[Sequence[nn.Module]]:
        """Stem, layer1 .. layer4."""
        *stem, layer1, layer2, layer3, layer4 = self.children()
        return [stem, [layer1], [layer2], [layer3], [layer4]]

    def set_recomputed(self, stages: Collection[int]) -> None:
        """As Backbone's. Of layer1 to layer3 both branches and the fusion are computed again, the sum is kept."""
        layers = self.parts()[1:]
        self.require_stages(stages, len(layers))
        for number, layer in enumerate(layers, start=1):
            for row in layer[0].modules():
                if isinstance(row, Stage):
                    row.recomputed = number in stages

    def forward(self, images: Tensor) -> Features:
        """Images [N, 3, H, W] float -> c2..c5."""
        c2, x = self.layer1(self.stem(images))
        c3, x = self.layer2(x)
        _, c4 = self.layer3(x)
        return dict(zip(self.levels, (c2, c3, c4, self.layer4(c4)), strict=True))

    def stem(self, images: Tensor) -> Tensor:
        """Images [N, 3, H, W] -> [N, 64, H / 4, W / 4]: one strided convolution beside three slim ones."""
        x = conv_norm(self.conv1, self.bn1, images).relu_()
        little = conv_norm(self.l_conv0, self.bn_l0, x).relu_()
        little = conv_norm(self.l_conv1, self.bn_l1, little).relu_()
        little = conv_norm(self.l_conv2, self.bn_l2, little)
        total = conv_norm(self.b_conv0, self.bn_b0, x).add_(little).relu_()
        return conv_norm(self.bl_init, self.bn_bl_init, total).relu_()


class BigLittleSEBottleneck(Bottleneck):
    """A bottleneck with squeeze and excitation before the sum, under the authors' name."""

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
        out = width * self.expansion
        self.se_layer = SqueezeExcitation(out, out // REDUCTION)

    def body(self, x: Tensor) -> Tensor:
        """The residual, up to the sum."""
        return self.se_layer(super().body(x))


DEPTHS = {50: (3, 4, 6, 3), 101: (4, 8, 18, 3), 152: (5, 12, 30, 3)}


def _grouped(block: type[Bottleneck], depth: int, norm: Norm, groups: int, group_width: int) -> BigLittleNet:
    """Of blocks in groups, of which a little branch has fewer, as wide ones as the big branch in spite of its width."""
    little = {"groups": groups // ALPHA, "group_width": group_width * ALPHA}
    return BigLittleNet(block, DEPTHS[depth], norm=norm, little_args=little, groups=groups, group_width=group_width)


def _ibm(page: str, top1_error: float) -> Weights:
    """The record of the authors' weights, which lie behind a page of their store: a browser fetches the file."""
    return Weights((f"https://ibm.box.com/v/{page}-a2-b4",), licence="Apache-2.0", top1=round(100 - top1_error, 2))


@register_backbone("blresnet50", _ibm("blresnet-50", 22.41))
def blresnet50(norm: Norm) -> BigLittleNet:
    """bLResNet-50, alpha 2, beta 4. Chen et al. 2019."""
    return BigLittleNet(Bottleneck, DEPTHS[50], norm=norm)


@register_backbone("blresnet101", _ibm("blresnet-101", 21.34))
def blresnet101(norm: Norm) -> BigLittleNet:
    """bLResNet-101, alpha 2, beta 4. Chen et al. 2019."""
    return BigLittleNet(Bottleneck, DEPTHS[101], norm=norm)


@register_backbone("blresnet152", Weights())
def blresnet152(norm: Norm) -> BigLittleNet:
    """bLResNet-152, alpha 2, beta 4. Chen et al. 2019. No weights are published."""
    return BigLittleNet(Bottleneck, DEPTHS[152], norm=norm)


@register_backbone("blresnext50_32x4d", _ibm("blresnext-50-32x4d", 21.62))
def blresnext50_32x4d(norm: Norm) -> BigLittleNet:
    """bLResNeXt-50 of 32 groups, alpha 2, beta 4. Chen et al. 2019."""
    return _grouped(Bottleneck, 50, norm, 32, 4)


@register_backbone("blresnext101_32x4d", _ibm("blresnext-101-32x4d", 20.87))
def blresnext101_32x4d(norm: Norm) -> BigLittleNet:
    """bLResNeXt-101 of 32 groups, alpha 2, beta 4. Chen et al. 2019."""
    return _grouped(Bottleneck, 101, norm, 32, 4)


@register_backbone("blresnext101_64x4d", _ibm("blresnext-101-64x4d", 20.34))
def blresnext101_64x4d(norm: Norm) -> BigLittleNet:
    """bLResNeXt-101 of 64 groups, alpha 2, beta 4. Chen et al. 2019."""
    return _grouped(Bottleneck, 101, norm, 64, 4)


@register_backbone("blseresnext50_32x4d", _ibm("blseresnext-50-32x4d", 21.44))
def blseresnext50_32x4d(norm: Norm) -> BigLittleNet:
    """bLSEResNeXt-50 of 32 groups, alpha 2, beta 4. Chen et al. 2019."""
    return _grouped(BigLittleSEBottleneck, 50, norm, 32, 4)


@register_backbone("blseresnext101_32x4d", _ibm("blseresnext-101-32x4d", 21.04))
def blseresnext101_32x4d(norm: Norm) -> BigLittleNet:
    """bLSEResNeXt-101 of 32 groups, alpha 2, beta 4. Chen et al. 2019."""
    return _grouped(BigLittleSEBottleneck, 101, norm, 32, 4)


# Gao et al. 2021, table 1, list a bLRes2Net-50 of scale 4 and publish neither its width, alpha and beta nor weights.
@register_backbone("blres2net50_26w_4s", Weights())
def blres2net50_26w_4s(norm: Norm) -> BigLittleNet:
    """bLRes2Net-50: 4 splits, and what we take for its width, alpha and beta: 26, 2 and 4."""
    return BigLittleNet(Res2Bottleneck, DEPTHS[50], norm=norm, split_width=26, splits=4)
