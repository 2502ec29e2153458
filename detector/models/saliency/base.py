"""What every head of salient objects provides, and the table of these heads."""

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from yacs.config import CfgNode

from detector.distributed import world_size
from detector.models.heads.base import shared
from detector.registry import Registry
from detector.structures import ClassRows, Features, Level, MaskTarget, Size


class SaliencyHead(nn.Module):
    """Turns the levels of a backbone into losses or maps, whatever the mode.

    rate_factors: factors of the learning rate of its modules, by name, where that is not 1; classifier: no layer
    depends on the number of classes, as there are none.
    """

    rate_factors: Mapping[str, float] = {}
    classifier: Mapping[str, ClassRows] = {}

    def loss(
        self, features: Features, targets: list[MaskTarget], sizes: list[Size], normalisers: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Scalar losses of a batch, each a mean over its pictures; normalisers: of the step, as `normalisers` gives."""
        raise NotImplementedError

    def normalisers(self, features: Features, targets: list[MaskTarget], parts: int) -> Tensor:
        """[1]: the pictures of a micro-batch, a mean over all of them in all processes.

        targets: of all pictures of the step in this process; parts: its micro-batches.
        """
        reference = next(iter(features.values()))
        return shared(torch.tensor([float(len(targets))], device=reference.device), parts=parts)

    def predict(self, features: Features, sizes: list[Size]) -> list[Tensor]:
        """A map for each picture: float32 [h, w] in 0..1, 1 where something is salient; sizes: those before padding."""
        raise NotImplementedError


def mask_loss(logits: Tensor, targets: Sequence[MaskTarget], number: Tensor) -> Tensor:
    """Binary cross-entropy of a map, a mean over the pixels of each picture, summed over pictures and over `number`.

    logits [N, 1, H, W], of which the padding does not count; number: a scalar, the pictures of a mean micro-batch.
    """
    logits = wide(logits)
    losses = []
    for picture, target in zip(logits[:, 0], targets, strict=True):
        mask = target["mask"]
        height, width = mask.shape
        losses.append(F.binary_cross_entropy_with_logits(picture[:height, :width], mask.to(logits.dtype)))
    return torch.stack(losses).sum() / number


def wide(x: Tensor) -> Tensor:
    """In float32 where autocast made it less."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def pictures_of(targets: Sequence[MaskTarget], normalisers: Tensor | None, like: Tensor) -> Tensor:
    """What losses are divided by: the step's own number, or that of this batch, which is one."""
    if normalisers is not None:
        return normalisers[0]
    number = torch.tensor([float(len(targets))], device=like.device)
    return number[0] if world_size() == 1 else shared(number)[0]


SALIENCY: Registry[Callable[[CfgNode, dict[str, Level]], SaliencyHead]] = Registry("saliency head")


def register_saliency(
    name: str,
) -> Callable[
    [Callable[[CfgNode, dict[str, Level]], SaliencyHead]], Callable[[CfgNode, dict[str, Level]], SaliencyHead]
]:
    """Decorator that files a builder (cfg, backbone levels) -> SaliencyHead under `name` for MODEL.SALIENCY.NAME."""
    return SALIENCY.register(name)
