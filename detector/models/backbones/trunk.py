"""The four-stage residual trunk and its parts: stems, shortcuts, stages, the residual block."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from detector.errors import UserError
from detector.models.backbones.base import Backbone
from detector.models.deform import Deformation
from detector.models.norm import ConvNorm, Norm, conv_norm, conv_norm_relu, conv_norm_sum, conv_norms
from detector.models.recompute import recompute
from detector.structures import Features, Level

Stem = Callable[[Norm], tuple[nn.Module, int]]
"""norm -> the trunk's `conv1`, which has stride 2, and its output channels."""

Shortcut = Callable[[int, int, int, Norm], nn.Module]
"""(input channels, output channels, stride, norm) -> the `downsample` of a block."""


@dataclass(frozen=True)
class Place:
    """Where a block stands: its index in a stage of `depth` blocks."""

    index: int
    depth: int


def plain_stem(norm: Norm) -> tuple[nn.Module, int]:
    """One 7x7 convolution. He et al. 2016, table 1."""
    return nn.Conv2d(3, 64, 7, 2, 3, bias=False), 64


def deep_stem(norm: Norm, width: int = 32) -> tuple[nn.Module, int]:
    """Three 3x3 convolutions of width, width and 2 width channels. He et al. 2019, sec. 4.1 (ResNet-C)."""
    convs = nn.Sequential(
        nn.Conv2d(3, width, 3, 2, 1, bias=False),
        norm(width),
        nn.ReLU(inplace=True),
        nn.Conv2d(width, width, 3, 1, 1, bias=False),
        norm(width),
        nn.ReLU(inplace=True),
        nn.Conv2d(width, 2 * width, 3, 1, 1, bias=False),
    )
    return convs, 2 * width


def conv_shortcut(channels: int, out: int, stride: int, norm: Norm) -> nn.Module:
    """A strided 1x1 projection. He et al. 2016, sec. 3.3 (B)."""
    return ConvNorm(nn.Conv2d(channels, out, 1, stride, bias=False), norm(out))


def avg_shortcut(channels: int, out: int, stride: int, norm: Norm) -> nn.Module:
    """Average pooling, then a 1x1 projection, so that no input is skipped. He et al. 2019, sec. 4.1 (ResNet-D)."""
    # Border cells of an odd side average the pixels that exist. Keys count from the pool, also where there is none.
    pool = nn.AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False) if stride > 1 else nn.Identity()
    return ConvNorm(pool, nn.Conv2d(channels, out, 1, bias=False), norm(out))


class ResidualBlock(nn.Module):
    """relu(body(x) + shortcut(x)). A family defines `branch`, and the numbers `expansion` and `last`."""

    expansion: ClassVar[int]
    """Output channels per width."""
    last: ClassVar[int]
    """Number of the last convolution and of its norm: 3 for conv3 and bn3."""
    deformable: ClassVar[bool] = False
    """Whether `deform` is defined."""
    norm_of_sum = ""
    """Name of a norm that stands behind the sum, not in the branch; most blocks have none."""
    rectified = True
    """Whether the sum is rectified: not where another sum comes first."""

    def __init__(
        self, channels: int, width: int, stride: int, shortcut: nn.Module | None, norm: Norm, place: Place
    ) -> None:
        """Channels of the input; width 64 * 2**i in stage i; stride 1 or 2.

        shortcut: None is the identity; norm, place: for the subclasses, whose blocks may differ inside a stage.
        """
        super().__init__()
        self.downsample = shortcut

    def branch(self, x: Tensor) -> Tensor:
        """What the last convolution gets."""
        raise NotImplementedError

    def deform(self, rule: Deformation) -> None:
        """Puts deformable convolutions in the place of the 3x3 ones, under the names of published detectors."""
        raise NotImplementedError

    def body(self, x: Tensor) -> Tensor:
        """The residual, up to the sum: a new tensor [N, width * expansion, H / stride, W / stride]."""
        return conv_norm(getattr(self, f"conv{self.last}"), getattr(self, f"bn{self.last}"), self.branch(x))

    def forward(self, x: Tensor) -> Tensor:
        """Maps x [N, channels, H, W] to [N, width * expansion, H / stride, W / stride]."""
        skip = x if self.downsample is None else self.downsample(x)
        if type(self).body is ResidualBlock.body:
            last = getattr(self, f"conv{self.last}"), getattr(self, f"bn{self.last}")
            return conv_norm_sum(*last, self.branch(x), skip, self.rectified)
        total = self.body(x).add_(skip)
        return total.relu_() if self.rectified else total


class Stage(nn.Sequential):
    """Residual blocks in a row, run `passes` times, the first block in the first pass only: it changes the shape.

    recomputed: as of `run_blocks`.
    """

    def __init__(self, blocks: Iterable[nn.Module], passes: int = 1) -> None:
        """Blocks are the children, by number."""
        super().__init__(*blocks)
        self.passes, self.recomputed = passes, False

    def forward(self, x: Tensor) -> Tensor:
        """The last block's output in the last pass."""
        blocks = list(self)
        return run_blocks(blocks + blocks[1:] * (self.passes - 1), x, self.recomputed)


def run_blocks(runs: Sequence[nn.Module], x: Tensor, recomputed: bool) -> Tensor:
    """The last output of modules that run one after the other.

    recomputed: whether of n runs only the inputs of about sqrt(n) pieces are kept for the backward pass: more pieces
    have more inputs, and fewer ones more to compute again at a time. Chen et al. 2016, sec. 4.1.
    """
    if not recomputed:
        return _through(runs, x)
    length = round(len(runs) ** 0.5)
    for start in range(0, len(runs), length):
        piece = runs[start : start + length]
        x = recompute(partial(_through, piece), piece, x)
    return x


def _through(blocks: Iterable[nn.Module], x: Tensor) -> Tensor:
    for block in blocks:
        x = block(x)
    return x


class ResidualTrunk(Backbone):
    """Stem and four stages of residual blocks; levels c2..c5 at strides 4..32. He et al. 2016, table 1."""

    def __init__(
        self,
        block: type[ResidualBlock],
        depths: Sequence[int],
        *,
        norm: Norm,
        stem: Stem = plain_stem,
        stem_pool: bool = True,
        shortcut: Shortcut = conv_shortcut,
        passes: int = 1,
        **block_args: Any,  # noqa: ANN401 - each family has its own
    ) -> None:
        """Depths: blocks of each stage; stem: makes `conv1`.

        stem_pool: max pooling behind the stem, without which the first stage has stride 2; shortcut: where a block
        changes channels or resolution; passes: how often each stage runs; block_args: keywords of every block.
        """
        super().__init__()
        self.conv1, channels = stem(norm)
        self.bn1 = norm(channels)
        self.maxpool = nn.MaxPool2d(3, 2, 1) if stem_pool else nn.Identity()
        for i, depth in enumerate(depths):
            width, stride = 64 * 2**i, 2 if i or not stem_pool else 1
            out, blocks = width * block.expansion, []
            for j in range(depth):
                step = stride if j == 0 else 1
                skip = shortcut(channels, out, step, norm) if step != 1 or channels != out else None
                blocks.append(block(channels, width, step, skip, norm, Place(j, depth), **block_args))
                channels = out
            self.add_module(f"layer{i + 1}", Stage(blocks, passes))
            self.levels[f"c{i + 2}"] = Level(out, 4 * 2**i)
        initialise_convs(self)
        damp_frozen_branches([m for m in self.modules() if isinstance(m, ResidualBlock)])

    def stages(self) -> list[Stage]:
        """layer1 .. layer4."""
        return [module for module in self.children() if isinstance(module, Stage)]

    def parts(self) -> Sequence[Sequence[nn.Module]]:
        """Stem, layer1 .. layer4."""
        stem = self.conv1 if isinstance(self.conv1, nn.Sequential) else [self.conv1]
        return [[*stem, self.bn1], *[[stage] for stage in self.stages()]]

    def set_passes(self, passes: int) -> None:
        """Runs every stage `passes` times. Raises ValueError below 1."""
        if passes < 1:
            raise UserError(f"MODEL.BACKBONE.PASSES is {passes}; it must be 1 or more, or 0 for the backbone's own")
        for stage in self.stages():
            stage.passes = passes

    def set_deformable(self, rule: Deformation) -> None:
        """As Backbone's. A stage that runs several times moves its taps in each pass by what it sees then."""
        stages = self.stages()
        if not all(getattr(block, "deformable", False) for stage in stages for block in stage):
            super().set_deformable(rule)
        if len(rule.stages) != len(stages):
            raise UserError(f"MODEL.BACKBONE.DEFORM_STAGES has {len(rule.stages)} values, for {len(stages)} stages")
        for stage in (stage for stage, chosen in zip(stages, rule.stages, strict=True) if chosen):
            for block in stage:
                block.deform(rule)  # type: ignore[operator]

    def set_recomputed(self, stages: Collection[int]) -> None:
        """As Backbone's."""
        self.require_stages(stages, len(self.stages()))
        for number, stage in enumerate(self.stages(), start=1):
            stage.recomputed = number in stages

    def add_stem_level(self) -> None:
        """As Backbone's."""
        convs = [module for module in self.conv1.modules() if isinstance(module, nn.Conv2d)]
        self.levels = {"c1": Level(convs[-1].out_channels, 2), **self.levels}

    def forward(self, images: Tensor) -> Features:
        """Images [N, 3, H, W] float -> c2..c5, and with `add_stem_level` c1."""
        *first, conv, norm = self.parts()[0]
        x = conv_norm_relu(conv, norm, conv_norms(first, images))  # type: ignore[arg-type]
        features = {"c1": x} if "c1" in self.levels else {}
        x = self.maxpool(x)
        for number, stage in enumerate(self.stages(), start=2):
            x = features[f"c{number}"] = stage(x)
        return features


def initialise_convs(module: nn.Module) -> None:
    """He initialisation by fan-out of all convolutions. He et al. 2015, sec. 2.2."""
    for conv in module.modules():
        if isinstance(conv, nn.Conv2d):
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")


def damp_frozen_branches(blocks: Sequence[ResidualBlock]) -> None:
    """Scales the last frozen norm of every branch to 1 / sqrt(number of blocks).

    A norm that measures nothing lets each sum add the branch's variance, which doubles at every block. With this scale
    it grows by (1 + 1 / n)**n < e over the whole trunk, at any depth, while every branch still passes gradient.
    De and Smith 2020, sec. 3. Trained weights overwrite it.
    """
    for block in blocks:
        norms = [
            module
            for name, module in block.named_modules()
            if isinstance(module, FrozenBatchNorm2d) and name.partition(".")[0] not in ("downsample", block.norm_of_sum)
        ]
        if norms:
            nn.init.constant_(norms[-1].weight, len(blocks) ** -0.5)
