"""DSS: side outputs of all levels with short connections from deeper ones, and their fusion. Hou et al. 2019.

The authors' network on ResNet-101 (Andrew-Qibin/DSS, resnet/train_resnet.prototxt) has five side outputs: of the
rectified stem (c1, stride 2) and of c2..c5; that on VGG has six, the deepest behind a further pooling. The forms of the
branches and the short connections count from the deepest one, and are the same in both files.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from yacs.config import CfgNode

from detector.models.narrow import convolve
from detector.models.saliency.base import SaliencyHead, mask_loss, pictures_of, register_saliency, wide
from detector.structures import Features, Level, MaskTarget, Size

FORMS = ((512, 7), (512, 5), (256, 5), (256, 5), (128, 3), (128, 3))
"""Channels, and side of the filters, of a branch's two convolutions: of the deepest level first."""

SCORE_RATE = 0.1
"""Factor of the learning rate of all layers that put out a score."""

AVERAGED = (4, 8, 16)
"""Strides of the side outputs whose maps are averaged with that of the fusion: the authors' dsn3, dsn4 and dsn5."""


def deeper(depth: int) -> range:
    """The depths, 0 the deepest, that a side output has short connections from."""
    return range(0 if depth < 2 else 2 if depth < 4 else 4)


class Branch(nn.Sequential):
    """Convolutions and ReLUs one after the other."""

    def forward(self, x: Tensor) -> Tensor:
        """The same, of maps of a few cells too, which a picture of up to 64 pixels has at stride 32."""
        for layer in self:
            x = convolve(layer, x) if isinstance(layer, nn.Conv2d) else layer(x)
        return x


class DSS(SaliencyHead):
    """Branches of two convolutions and a score, mixed with the scores of deeper branches; a fusion of all.

    Scores are brought to finer levels, and to the picture, by bilinear interpolation; the authors' fixed deconvolutions
    are the same but for the outermost half cell. width: factor of the published channels of the branches.
    """

    def __init__(self, levels: dict[str, Level], width: float = 1.0) -> None:
        super().__init__()
        self.levels = dict(levels)
        names = [*levels][::-1]
        self.branches, self.mixes = nn.ModuleDict(), nn.ModuleDict()
        self.shorts = {name: [names[i] for i in deeper(depth)] for depth, name in enumerate(names)}
        for depth, name in enumerate(names):
            channels, side = FORMS[min(depth, len(FORMS) - 1)]
            out = max(1, round(channels * width))
            self.branches[name] = Branch(
                nn.Conv2d(levels[name].channels, out, side, padding=side // 2),
                nn.ReLU(inplace=True),
                nn.Conv2d(out, out, side, padding=side // 2),
                nn.ReLU(inplace=True),
                nn.Conv2d(out, 1, 1),
            )
            if self.shorts[name]:
                self.mixes[name] = nn.Conv2d(1 + len(self.shorts[name]), 1, 1)
        self.fusion = nn.Conv2d(len(names), 1, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        nn.init.constant_(self.fusion.weight, 1 / len(names))
        scores = [f"branches.{name}.4" for name in names] + [f"mixes.{name}" for name in self.mixes]
        self.rate_factors = dict.fromkeys([*scores, "fusion"], SCORE_RATE)

    def forward(self, features: Features) -> dict[str, Tensor]:
        """Logits [N, 1, H, W] of each level, fine to coarse, and "fused"; of the size of the padded picture."""
        scores: dict[str, Tensor] = {}
        for name, branch in reversed(self.branches_by_level().items()):
            score = branch(features[name])
            if shorts := self.shorts[name]:
                others = [
                    self._enlarged(scores[other], other, name)[..., : score.shape[2], : score.shape[3]]
                    for other in shorts
                ]
                score = self.mixes[name](torch.cat([score, *others], dim=1))
            scores[name] = score
        finest = next(iter(self.levels))
        size = [side * self.levels[finest].stride for side in scores[finest].shape[2:]]
        full = {name: self._enlarged(scores[name], name)[..., : size[0], : size[1]] for name in self.levels}
        return {**full, "fused": self.fusion(torch.cat(list(full.values()), dim=1))}

    def branches_by_level(self) -> dict[str, nn.Module]:
        """The branches, fine to coarse."""
        return {name: self.branches[name] for name in self.levels}

    def loss(
        self, features: Features, targets: list[MaskTarget], sizes: list[Size], normalisers: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The cross-entropies of all side outputs and of the fusion, each of weight 1."""
        logits = self(features)
        number = pictures_of(targets, normalisers, logits["fused"])
        return {f"loss_{name}": mask_loss(one, targets, number) for name, one in logits.items()}

    def predict(self, features: Features, sizes: list[Size]) -> list[Tensor]:
        """The mean of the fused map and those of the side outputs at strides 4, 8 and 16."""
        logits = self(features)
        names = [name for name, level in self.levels.items() if level.stride in AVERAGED]
        maps = torch.stack([wide(logits[name]).sigmoid() for name in (*names, "fused")]).mean(0)[:, 0]
        return [one[:height, :width] for one, (height, width) in zip(maps, sizes, strict=True)]

    def _enlarged(self, score: Tensor, name: str, to: str | None = None) -> Tensor:
        """A score at another level, or at the picture."""
        factor = self.levels[name].stride // (self.levels[to].stride if to else 1)
        if factor == 1:
            return score
        return F.interpolate(wide(score), scale_factor=factor, mode="bilinear", align_corners=False)


@register_saliency("dss")
def build_dss(cfg: CfgNode, levels: dict[str, Level]) -> DSS:
    """Maps from all levels of a backbone, the coarse ones joined to the finer by short connections. MODEL.SALIENCY."""
    return DSS(levels, cfg.MODEL.SALIENCY.WIDTH)
