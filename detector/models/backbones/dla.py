"""Res2Net-DLA-60 and Res2NeXt-DLA-60: Res2Net's blocks in the trees of deep layer aggregation."""

from collections import OrderedDict
from collections.abc import Collection, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from detector.models.backbones.base import Backbone, register_backbone
from detector.models.backbones.res2net import Res2Bottleneck, published
from detector.models.backbones.trunk import ConvNorm, Place, damp_frozen_branches, initialise_convs
from detector.models.norm import Norm, conv_norm
from detector.models.recompute import recompute
from detector.structures import Features, Level

CHANNELS = (16, 32, 128, 256, 512, 1024)
DEPTHS = (1, 2, 3, 1)
UNUSED = ("level3.project.", "level4.project.", "level4.tree1.project.")
"""Parameters that the published files hold and their networks compute nothing with."""


class TreeBlock(Res2Bottleneck):
    """A Res2Net block that gets its shortcut from the tree around it. Gao et al. 2021, sec. 4.1."""

    expansion = 1

    def forward(self, x: Tensor, shortcut: Tensor | None = None) -> Tensor:
        """Maps x [N, channels, H, W] to [N, width, H / stride, W / stride]; shortcut of that shape, None for x."""
        return self.body(x).add_(x if shortcut is None else shortcut).relu_()


class Root(nn.Module):
    """A 1x1 convolution over the concatenated children of a tree. Yu et al. 2018, fig. 3."""

    def __init__(self, channels: int, out: int, norm: Norm) -> None:
        """Channels of all children together."""
        super().__init__()
        self.conv = nn.Conv2d(channels, out, 1, bias=False)
        self.bn = norm(out)

    def forward(self, children: Sequence[Tensor]) -> Tensor:
        """Children [N, .., H, W] -> [N, out, H, W]."""
        return conv_norm(self.conv, self.bn, torch.cat(list(children), dim=1)).relu_()


class Tree(nn.Module):
    """Hierarchical deep aggregation: two subtrees and a root. Yu et al. 2018, sec. 3.2, fig. 2f.

    A tree of depth 1 consists of two blocks and a root; a deeper one of two trees, the second of which has the root
    and gets the outputs to aggregate as `passed`. recomputed: whether a tree of depth 1 keeps only its inputs for the
    backward pass.
    """

    def __init__(
        self,
        depth: int,
        channels: int,
        out: int,
        stride: int,
        norm: Norm,
        block_args: dict[str, Any],
        *,
        keep_input: bool = False,
        root_channels: int = 0,
    ) -> None:
        """Channels of the input; keep_input: the root of the tree sees its input, too; root_channels: 0 is 2 * out."""
        super().__init__()
        self.depth, self.keep_input, self.recomputed = depth, keep_input, False
        root_channels = (root_channels or 2 * out) + (channels if keep_input else 0)
        self.downsample = nn.MaxPool2d(stride, stride) if stride > 1 else nn.Identity()
        self.project = None
        if channels != out:
            self.project = ConvNorm(nn.Conv2d(channels, out, 1, bias=False), norm(out))
        self.tree1: nn.Module
        self.tree2: nn.Module
        if depth == 1:
            self.tree1 = self._block(channels, out, stride, norm, block_args)
            self.tree2 = self._block(out, out, 1, norm, block_args)
            self.root = Root(root_channels, out, norm)
        else:
            self.tree1 = Tree(depth - 1, channels, out, stride, norm, block_args)
            self.tree2 = Tree(depth - 1, out, out, 1, norm, block_args, root_channels=root_channels + out)

    @staticmethod
    def _block(channels: int, out: int, stride: int, norm: Norm, block_args: dict[str, Any]) -> TreeBlock:
        return TreeBlock(channels, out, stride, None, norm, Place(0, 1), by_stride=True, **block_args)

    def forward(self, x: Tensor, passed: tuple[Tensor, ...] = ()) -> Tensor:
        """Maps [N, channels, H, W] to [N, out, H / stride, W / stride]; passed: what the root aggregates further."""
        if self.depth == 1:
            return recompute(self._aggregate, [self], x, *passed) if self.recomputed else self._aggregate(x, *passed)
        if self.keep_input:
            passed = (*passed, self.downsample(x))
        first = self.tree1(x)
        return self.tree2(first, (*passed, first))

    def _aggregate(self, x: Tensor, *passed: Tensor) -> Tensor:
        """`forward` of a tree of two blocks and a root."""
        bottom = self.downsample(x)
        if self.keep_input:
            passed = (*passed, bottom)
        first = self.tree1(x, bottom if self.project is None else self.project(bottom))
        return self.root((self.tree2(first), first, *passed))


class DLA60(Backbone):
    """Levels c2..c5 of DLA-60, whose parts are called level2 .. level5. Yu et al. 2018, table 1."""

    pads_to = 32

    def __init__(self, norm: Norm, **block_args: int) -> None:
        """block_args: keywords of every block, as Res2Bottleneck's."""
        super().__init__()
        base, first = CHANNELS[:2]
        self.base_layer = ConvNorm(nn.Conv2d(3, base, 7, 1, 3, bias=False), norm(base), nn.ReLU(inplace=True))
        self.level0 = ConvNorm(nn.Conv2d(base, base, 3, 1, 1, bias=False), norm(base), nn.ReLU(inplace=True))
        self.level1 = ConvNorm(nn.Conv2d(base, first, 3, 2, 1, bias=False), norm(first), nn.ReLU(inplace=True))
        for i, depth in enumerate(DEPTHS, start=2):
            tree = Tree(depth, CHANNELS[i - 1], CHANNELS[i], 2, norm, block_args, keep_input=i > 2)
            self.add_module(f"level{i}", tree)
            self.levels[f"c{i}"] = Level(CHANNELS[i], 2**i)
        initialise_convs(self)
        damp_frozen_branches([module for module in self.modules() if isinstance(module, TreeBlock)])
        for root in [module for module in self.modules() if isinstance(module, Root)]:
            if isinstance(root.bn, FrozenBatchNorm2d):  # fan-out initialisation leaves it a gain of in / out channels
                nn.init.constant_(root.bn.weight, (root.conv.out_channels / root.conv.in_channels) ** 0.5)
        self.freeze(0)

    def freeze(self, at: int) -> None:
        """As Backbone's; the parameters that nothing computes with never have a gradient."""
        super().freeze(at)
        for name, parameter in self.named_parameters():
            if name.startswith(UNUSED):
                parameter.requires_grad_(False)

    def parts(self) -> Sequence[Sequence[nn.Module]]:
        """Stem, level2 .. level5."""
        levels = [[module] for module in self.children() if isinstance(module, Tree)]
        return [[self.base_layer, self.level0, self.level1], *levels]

    def set_recomputed(self, stages: Collection[int]) -> None:
        """As Backbone's; level2 is stage 1."""
        levels = [level for level in self.children() if isinstance(level, Tree)]
        self.require_stages(stages, len(levels))
        for number, level in enumerate(levels, start=1):
            for tree in level.modules():
                if isinstance(tree, Tree):
                    tree.recomputed = number in stages

    def classifier(self, num_classes: int) -> nn.Sequential:
        """c5 -> logits [N, num_classes]; the published classifier is a 1x1 convolution."""
        fc = nn.Conv2d(CHANNELS[-1], num_classes, 1)
        return nn.Sequential(OrderedDict(avgpool=nn.AdaptiveAvgPool2d(1), fc=fc, flatten=nn.Flatten()))

    def add_stem_level(self) -> None:
        """As Backbone's: c1 is level1."""
        self.levels = {"c1": Level(CHANNELS[1], 2), **self.levels}

    def forward(self, images: Tensor) -> Features:
        """Images [N, 3, H, W] float -> c2..c5, and with `add_stem_level` c1.

        The images are padded with zeros, right and bottom, to a multiple of 32, as pooling and convolution round odd
        sides differently; so are the levels: c2 has ceil(H / 32) * 8 rows.
        """
        below, right = (-side % self.pads_to for side in images.shape[-2:])
        x = F.pad(images, (0, right, 0, below)) if below or right else images
        x = self.level1(self.level0(self.base_layer(x)))
        features = {"c1": x} if "c1" in self.levels else {}
        for i in range(2, 2 + len(DEPTHS)):
            x = features[f"c{i}"] = getattr(self, f"level{i}")(x)
        return features


@register_backbone("res2net_dla60", published("res2net_dla60_4s", "d88db7f9", 78.47, 94.20, optional=UNUSED))
def res2net_dla60(norm: Norm) -> DLA60:
    """Res2Net-DLA-60: 4 splits. Gao et al. 2021."""
    return DLA60(norm, split_width=14)


@register_backbone("res2next_dla60", published("res2next_dla60_4s", "d327927b", 78.45, 94.14, optional=UNUSED))
def res2next_dla60(norm: Norm) -> DLA60:
    """Res2NeXt-DLA-60: 4 splits of 8 groups. Gao et al. 2021."""
    return DLA60(norm, split_width=2, groups=8)
