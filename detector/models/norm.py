"""Normalisation layers by name: frozen_bn, bn, sync_bn, gn."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torchvision.ops import FrozenBatchNorm2d

from detector.distributed import sum_with_gradient, world_size
from detector.errors import UserError
from detector.models.deform import DeformConv2d
from detector.models.narrow import convolve, is_narrow
from detector.models.packed import packed_for
from detector.models.winograd import convolve_2d
from detector.weights.record import EPS

Norm = Callable[[int], nn.Module]
"""A norm layer for a number of channels."""

NO_EPS = 1e-30  # what stands for an eps of 0, which torch 2.10 refuses, and for which a channel without variance, as
#                 that of a filter of zeros, would be no number: too little to change a variance
GROUPS = 32
FEW = 8  # images a step; batch norm loses accuracy below. Wu and He 2018, fig. 1
FEW_FROM_SCRATCH = 4  # likewise, of a training without weights: there is nothing better, as group norm learns slower
FOLD_FROM = 2  # cells of the output for a weight of one filter, below which folding costs more than it saves


class FrozenNorm(FrozenBatchNorm2d):
    """Batch norm whose statistics and affine are buffers, in one fused call. x [N, K, H, W]; eps may be 0."""

    def forward(self, x: Tensor) -> Tensor:
        """The normalised x, same shape."""
        eps = self.eps or NO_EPS
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, eps)


Convolution = nn.Conv2d | nn.ConvTranspose2d

_recorded: list[tuple[Convolution, nn.Module]] | None = None
"""Where `conv_norm` notes what it is called with, while `fold_norms` looks on."""


def conv_norm(conv: Convolution, norm: nn.Module, x: Tensor, *shifts: Tensor) -> Tensor:
    """norm(conv(x)). A norm that measures nothing is folded into the filters where the maps are large against them.

    That is a frozen norm, and a batch norm in evaluation mode. It saves a pass over the output, and keeping the
    convolution's own output for the backward pass. Modules with hooks, transposed convolutions, and convolutions with
    more than zero padding and a weight, run one after the other. shifts: what a deformable convolution is told.
    """
    if _recorded is not None:
        _recorded.append((conv, norm))
    if isinstance(conv, nn.ConvTranspose2d):
        return norm(conv(x))
    cells = x.shape[0] * x.shape[2] * x.shape[3] // (conv.stride[0] * conv.stride[1])
    hooked = conv._forward_hooks or conv._forward_pre_hooks or norm._forward_hooks or norm._forward_pre_hooks
    other = conv.bias is not None or conv.padding_mode != "zeros"
    few = cells < FOLD_FROM * conv.weight[0].numel()
    apart = not measures_nothing(norm) or hooked or other or few
    if isinstance(conv, DeformConv2d):
        return norm(conv(x, *shifts)) if apart else conv.convolve(x, *folded(conv, norm), *shifts)  # type: ignore[arg-type]
    if apart or is_narrow(conv, x):
        return norm(convolve(conv, x))
    weight, shift = folded(conv, norm)  # type: ignore[arg-type]
    return convolve_2d(x, weight, shift, conv)


def conv_norm_relu(conv: Convolution, norm: nn.Module, x: Tensor, *shifts: Tensor) -> Tensor:
    """relu(norm(conv(x))), as `conv_norm` does it; in one where the convolution is packed."""
    packed = packed_for(conv, x) if type(norm) is nn.Identity else None
    return conv_norm(conv, norm, x, *shifts).relu_() if packed is None else packed.computed(x, "relu")


def conv_norm_sum(conv: Convolution, norm: nn.Module, x: Tensor, other: Tensor, rectified: bool) -> Tensor:
    """norm(conv(x)) + other, rectified or not, as `conv_norm` does it; in one where the convolution is packed."""
    packed = packed_for(conv, x) if type(norm) is nn.Identity else None
    if packed is not None:
        return packed.summed(x, other, "relu" if rectified else None)
    total = conv_norm(conv, norm, x).add_(other)
    return total.relu_() if rectified else total


def measures_nothing(norm: nn.Module) -> bool:
    """Whether a module is a frozen norm, or a batch norm in evaluation mode: an affine map of each channel."""
    batch = isinstance(norm, nn.BatchNorm2d)
    return isinstance(norm, FrozenNorm) or (batch and not norm.training)


def folded(conv: Convolution, norm: FrozenNorm | nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weight and bias of the one convolution that computes norm(conv(x)), the norm being frozen or in eval mode.

    A transposed convolution, whose weight is [in, out, ..], has to have a single group.
    """
    mean, variance, gain, bias = (getattr(norm, name) for name in ("running_mean", "running_var", "weight", "bias"))
    scale = gain * (variance + (norm.eps or NO_EPS)).rsqrt()
    filters = scale[:, None, None] if isinstance(conv, nn.ConvTranspose2d) else scale[:, None, None, None]
    return conv.weight * filters, bias - mean * scale


@torch.no_grad()
def fold_norms(model: nn.Module, run: Callable[[], object]) -> int:
    """Merge every norm that measures nothing into the convolution before it, in place.

    run: calls the model once, which shows what follows what; shapes do not matter. The numbers are the same but for
    rounding; the model can no longer be trained or saved under its keys. Modules that are used in several pairs,
    convolutions with a bias, transposed ones with groups and modules with hooks stay as they are. Returns the number of
    norms that are gone.
    """
    global _recorded
    _recorded = []
    try:
        run()
        pairs = list(dict.fromkeys(_recorded))
    finally:
        _recorded = None
    uses = Counter(module for pair in pairs for module in pair)
    homes = {child: (parent, name) for parent in model.modules() for name, child in parent.named_children()}
    count = 0
    for conv, norm in pairs:
        hooked = any((m._forward_hooks, m._forward_pre_hooks) != ({}, {}) for m in (conv, norm))
        alone = uses[conv] == uses[norm] == 1 and conv.bias is None and not hooked and norm in homes
        grouped = isinstance(conv, nn.ConvTranspose2d) and conv.groups > 1
        if not alone or grouped or not measures_nothing(norm):
            continue
        weight, shift = folded(conv, norm)  # type: ignore[arg-type]
        conv.weight, conv.bias = nn.Parameter(weight, False), nn.Parameter(shift, False)
        parent, name = homes[norm]
        setattr(parent, name, nn.Identity())
        count += 1
    return count


def conv_norms(modules: Iterable[nn.Module], x: Tensor) -> Tensor:
    """Runs modules in a row, of which every convolution is followed by its norm, as `conv_norm` does."""
    conv: Convolution | None = None
    for module in modules:
        if conv is not None:
            x, conv = conv_norm(conv, module, x), None
        elif isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            conv = module
        else:
            x = module(x)
    return x


class ConvNorm(nn.Sequential):
    """Modules in a row, of which every convolution is followed by its norm."""

    def forward(self, x: Tensor) -> Tensor:
        """The last module's output."""
        return conv_norms(self, x)


class SyncNorm(nn.BatchNorm2d):
    """Batch norm over the images of all processes; plain batch norm in a single one, on any device.

    No nn.SyncBatchNorm, since DistributedDataParallel refuses those on a CPU; on a CUDA device it computes as they do.
    """

    synchronised = True
    process_group = None  # all processes
    _check_non_zero_input_channels = nn.SyncBatchNorm._check_non_zero_input_channels

    def forward(self, input: Tensor) -> Tensor:
        """The normalised input, same shape."""
        if not self.training or world_size() == 1:
            return super().forward(input)
        if input.device.type == "cpu":
            return self._measured(input)
        return nn.SyncBatchNorm.forward(self, input)  # type: ignore[arg-type]

    def _measured(self, x: Tensor) -> Tensor:
        """Batch norm in training, whose mean and variance are sums over the processes, with their gradients."""
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        dims = (0, 2, 3)
        cells = wide.new_tensor([x.numel() / x.shape[1]])
        total = sum_with_gradient(torch.cat([wide.sum(dims), cells]))
        number = total[-1].detach()
        mean = (total[:-1] / number)[:, None, None]
        # Of what is left after the mean, as squares of large numbers would lose the digits of a small variance.
        variance = sum_with_gradient((wide - mean).square().sum(dims)) / number
        self._remember(mean.detach().flatten(), variance.detach(), number)
        scale = (variance + self.eps).rsqrt() * self.weight
        return ((wide - mean) * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor, number: Tensor) -> None:
        """Move the running statistics; the variance they keep is that of a sample, as everywhere in torch."""
        if self.num_batches_tracked is None or self.running_mean is None or self.running_var is None:
            return
        self.num_batches_tracked += 1
        share = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        self.running_var.lerp_((variance * number / (number - 1)).to(self.running_var.dtype), share)


class GroupNorm(nn.GroupNorm):
    """Group norm whose backward pass on a CPU is in float32 for maps of half precision, which is thrice as fast."""

    def forward(self, input: Tensor) -> Tensor:
        """The normalised input, same shape and dtype."""
        half = input.dtype.itemsize == 2 and input.device.type == "cpu" and self.weight.dtype == torch.float32
        if not half or not torch.is_grad_enabled() or torch.compiler.is_compiling():
            return super().forward(input)
        return _HalfGroupNorm.apply(input, self.weight, self.bias, self.num_groups, self.eps)


class _HalfGroupNorm(torch.autograd.Function):
    """torch's kernel for gradients of half precision takes five times as long as the one for float32."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float) -> Tensor:  # noqa: ANN401
        sizes = x.shape[0], x.shape[1], x.shape[2:].numel(), groups
        out, mean, scale = torch.native_group_norm(x, weight, bias, *sizes, eps)
        ctx.save_for_backward(x, weight, mean, scale)
        ctx.sizes = sizes
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        x, weight, mean, scale = ctx.saved_tensors
        # torch 2.10's kernel, called by itself, reads the gradient as if it lay in memory as x does.
        layout = torch.channels_last if x.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
        gradient = gradient.contiguous(memory_format=layout)
        tensors = (t.float() for t in (gradient, x, mean, scale))
        grads = torch.ops.aten.native_group_norm_backward(*tensors, weight, *ctx.sizes, ctx.needs_input_grad[:3])
        return None if grads[0] is None else grads[0].to(x.dtype), *grads[1:], None, None


def group_norm(channels: int) -> nn.GroupNorm:
    """Group norm with the largest group count up to 32 that divides the channels. Wu and He 2018, sec. 4.1."""
    groups = next(count for count in range(min(GROUPS, channels), 0, -1) if channels % count == 0)
    return GroupNorm(groups, channels, eps=EPS)


def pooled_norm(norm: Norm, channels: int) -> nn.Module:
    """The norm of maps pooled to 1x1: batch norm where `norm` is group norm, as a group of one cell has no spread."""
    module = norm(channels)
    module = nn.BatchNorm2d(channels, eps=EPS) if isinstance(module, nn.GroupNorm) else module
    module.pooled = True  # type: ignore[assignment]
    return module


def check_batch(model: nn.Module, images: int, from_scratch: bool = False, ways: Sequence[str] = ()) -> str:
    """A warning about batch norms that are trained on few images a step, or "".

    images: that they measure together; from_scratch: whether there are no weights whose statistics could be frozen;
    ways: what else would let them measure more.
    Raises ValueError when a norm of pooled maps would see a single value a channel.
    """
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training]
    pooled = [m for m in norms if getattr(m, "pooled", False)]
    other = "gn" if from_scratch else "frozen_bn"  # a frozen norm of random weights would do nothing
    remedy = ", ".join(["take a larger SOLVER.IMS_PER_BATCH", *ways])
    if not from_scratch or len(pooled) < len(norms):  # group norm leaves those of attention as they are
        remedy += f", or MODEL.BACKBONE.NORM {other}"
    if pooled and images == 1:
        raise UserError(f"the backbone's attention normalises over the batch, which has a single image: {remedy}")
    if not norms or images >= (FEW_FROM_SCRATCH if from_scratch else FEW):
        return ""
    what = f"{len(norms)} batch norms measure their statistics on {images} image{'s' * (images != 1)} at a time"
    if pooled:
        what += f", {len(pooled)} of them (attention) on {images} values a channel"
    return f"{what}: {remedy} if training is unsteady"


def has_norms(module: nn.Module) -> bool:
    """Whether a module holds any layer that `norm_factory` makes."""
    return any(isinstance(m, (FrozenNorm, nn.modules.batchnorm._BatchNorm, nn.GroupNorm)) for m in module.modules())


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
        raise UserError(f"{key} is {name!r}; it must be one of {', '.join(norms)}")
    return norms[name]
