"""Normalisation layers by name: frozen_bn, bn, sync_bn, gn."""

from collections.abc import Callable, Iterable
from functools import partial

import torch.nn.functional as F
from torch import Tensor, distributed, nn
from torchvision.ops import FrozenBatchNorm2d

Norm = Callable[[int], nn.Module]
"""A norm layer for a number of channels."""

EPS = 1e-5
GROUPS = 32
FEW = 8  # images a step; batch norm loses accuracy below. Wu and He 2018, fig. 1
FOLD_FROM = 2  # cells of the output for a weight of one filter, below which folding costs more than it saves


class FrozenNorm(FrozenBatchNorm2d):
    """Batch norm whose statistics and affine are buffers, in one fused call. x [N, K, H, W]; eps may be 0."""

    def forward(self, x: Tensor) -> Tensor:
        """The normalised x, same shape."""
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)


def conv_norm(conv: nn.Conv2d, norm: nn.Module, x: Tensor) -> Tensor:
    """norm(conv(x)). A frozen norm is folded into the filters where the maps are large against them.

    That saves a pass over the output, and keeping the convolution's own output for the backward pass. Modules with
    hooks, and convolutions with more than zero padding and a weight, run one after the other.
    """
    cells = x.shape[0] * x.shape[2] * x.shape[3] // (conv.stride[0] * conv.stride[1])
    hooked = conv._forward_hooks or conv._forward_pre_hooks or norm._forward_hooks or norm._forward_pre_hooks
    other = conv.bias is not None or conv.padding_mode != "zeros"
    if not isinstance(norm, FrozenNorm) or hooked or other or cells < FOLD_FROM * conv.weight[0].numel():
        return norm(conv(x))
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    shift = norm.bias - norm.running_mean * scale
    weight = conv.weight * scale[:, None, None, None]
    return F.conv2d(x, weight, shift, conv.stride, conv.padding, conv.dilation, conv.groups)


def conv_norms(modules: Iterable[nn.Module], x: Tensor) -> Tensor:
    """Runs modules in a row, of which every convolution is followed by its norm, as `conv_norm` does."""
    conv: nn.Conv2d | None = None
    for module in modules:
        if conv is not None:
            x, conv = conv_norm(conv, module, x), None
        elif isinstance(module, nn.Conv2d):
            conv = module
        else:
            x = module(x)
    return x


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


def pooled_norm(norm: Norm, channels: int) -> nn.Module:
    """The norm of maps pooled to 1x1: batch norm where `norm` is group norm, as a group of one cell has no spread."""
    module = norm(channels)
    module = nn.BatchNorm2d(channels, eps=EPS) if isinstance(module, nn.GroupNorm) else module
    module.pooled = True  # type: ignore[assignment]
    return module


def check_batch(model: nn.Module, images: int) -> str:
    """A warning about batch norms that are trained on few images a step, or "".

    images: of a step, in one process. Raises ValueError when a norm of pooled maps would see a single value a channel.
    """
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training]
    pooled = [m for m in norms if getattr(m, "pooled", False)]
    remedy = "take a larger SOLVER.IMS_PER_BATCH, or MODEL.BACKBONE.NORM frozen_bn"
    if pooled and images == 1:
        raise ValueError(f"the backbone's attention normalises over the batch, which has a single image: {remedy}")
    if not norms or images >= FEW:
        return ""
    what = f"{len(norms)} batch norms measure their statistics on {images} images a step"
    if pooled:
        what += f", {len(pooled)} of them (attention) on {images} values a channel"
    return f"{what}: {remedy} if training is unsteady"


def norm_factory(name: str, frozen_eps: float = EPS, *, key: str = "MODEL.BACKBONE.NORM") -> Norm:
    """The norm layer that a config names: frozen_bn, bn, sync_bn or gn.

    frozen_eps: added to the variance by frozen_bn alone, since published weights differ in it; the others have 1e-5.
    key: where the name stands, for the ValueError that another name raises.
    """
    norms: dict[str, Norm] = {
        "frozen_bn": partial(FrozenNorm, eps=frozen_eps),
        "bn": partial(nn.BatchNorm2d, eps=EPS),
        "sync_bn": partial(SyncNorm, eps=EPS),
        "gn": group_norm,
    }
    if name not in norms:
        raise ValueError(f"{key} is {name!r}; it must be one of {', '.join(norms)}")
    return norms[name]
