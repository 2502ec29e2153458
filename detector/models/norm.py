"""Normalisation layers by name: frozen_bn, bn, sync_bn, gn."""

from collections.abc import Callable
from functools import partial

from torch import Tensor, distributed, nn
from torch.nn.functional import batch_norm
from torchvision.ops import FrozenBatchNorm2d

Norm = Callable[[int], nn.Module]
"""A norm layer for a number of channels."""

EPS = 1e-5
GROUPS = 32


class FrozenNorm(FrozenBatchNorm2d):
    """Batch norm whose statistics and affine are buffers, in one fused call. x [N, K, H, W]; eps may be 0."""

    def forward(self, x: Tensor) -> Tensor:
        """The normalised x, same shape."""
        return batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)


class SyncNorm(nn.SyncBatchNorm):
    """Batch norm over the images of all processes; plain batch norm in a single one, on any device."""

    def forward(self, input: Tensor) -> Tensor:
        """The normalised input, same shape."""
        # torch's own wants an accelerator as soon as a process group exists, even a group of one.
        if distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1:
            return super().forward(input)
        return nn.BatchNorm2d.forward(self, input)  # type: ignore[arg-type]


def group_norm(channels: int) -> nn.GroupNorm:
    """Group norm with the largest group count up to 32 that divides the channels. Wu and He 2018, sec. 4.1."""
    groups = next(count for count in range(min(GROUPS, channels), 0, -1) if channels % count == 0)
    return nn.GroupNorm(groups, channels, eps=EPS)


def norm_factory(name: str, frozen_eps: float = EPS) -> Norm:
    """The norm layer that a config names: frozen_bn, bn, sync_bn or gn.

    frozen_eps: added to the variance by frozen_bn alone, since published weights differ in it; the others have 1e-5.
    Raises ValueError for another name.
    """
    norms: dict[str, Norm] = {
        "frozen_bn": partial(FrozenNorm, eps=frozen_eps),
        "bn": partial(nn.BatchNorm2d, eps=EPS),
        "sync_bn": partial(SyncNorm, eps=EPS),
        "gn": group_norm,
    }
    if name not in norms:
        raise ValueError(f"MODEL.BACKBONE.NORM is {name!r}; it must be one of {', '.join(norms)}")
    return norms[name]
