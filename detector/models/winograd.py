"""Convolutions that a CPU computes by Winograd's minimal filtering."""

from typing import TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detector.ops.winograd import tile_count, winograd_conv, winograd_filters
from detector.ops.winograd_rows import conv_by_rows

CHANNELS = 256  # in and out, below which transforming the maps costs what it saves
FEW_TILES = 64  # of 4x4 cells, below which reading the transformed filters does
FEW_CELLS = 1000  # of a map, below which training by rows does


class WideConv2d(nn.Conv2d):
    """A convolution that is trained by Winograd's filtering along the rows where that is quicker, see `convolve_2d`."""

    def forward(self, input: Tensor) -> Tensor:
        """[N, in, H, W] -> [N, out, H', W']."""
        if self.padding_mode != "zeros" or isinstance(self.padding, str):
            return super().forward(input)
        return convolve_2d(input, self.weight, self.bias, self)


def convolve_2d(x: Tensor, weight: Tensor, bias: Tensor | None, like: nn.Conv2d) -> Tensor:
    """conv2d of x [N, in, H, W] with stride, zero padding, dilation and groups of `like`.

    In float32 on a CPU, where something is to be trained, wide 3x3 convolutions of large maps are `conv_by_rows`.
    """
    shape = like.stride, like.padding, like.dilation, like.groups
    if shape == ((1, 1), (1, 1), (1, 1), 1) and _trains_by_rows(x, weight):
        return conv_by_rows(x, weight, bias)
    return F.conv2d(x, weight, bias, *shape)  # type: ignore[arg-type]


def _trains_by_rows(x: Tensor, weight: Tensor) -> bool:
    if weight.shape[2:] != (3, 3) or min(weight.shape[:2]) < CHANNELS or x.shape[2] * x.shape[3] < FEW_CELLS:
        return False
    trained = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
    single = x.dtype == weight.dtype == torch.float32 and x.device.type == "cpu"
    return trained and single and not torch.is_autocast_enabled("cpu") and not torch.compiler.is_compiling()


class WinogradConv2d(nn.Conv2d):
    """A 3x3 convolution with stride 1 and padding 1 for prediction in float32 on a CPU, with the weights of another.

    It gives the plain convolution where that is quicker or Winograd's does not apply: small maps, other dtypes,
    autocast, gradients. The filters are kept twice, the second time in 36 values instead of 9.
    """

    filters: Tensor

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__(conv.in_channels, conv.out_channels, 3, padding=1, bias=conv.bias is not None, device="meta")
        self.weight, self.bias = conv.weight, conv.bias
        self.register_buffer("filters", winograd_filters(conv.weight), persistent=False)
        self.train(conv.training)

    def forward(self, input: Tensor) -> Tensor:
        """[N, in, H, W] -> [N, out, H, W]."""
        single = input.dtype == self.filters.dtype == torch.float32 and input.device.type == "cpu"
        plain = torch.is_grad_enabled() or torch.is_autocast_enabled("cpu")
        if plain or not single or tile_count(input) < FEW_TILES:
            return super().forward(input)
        return winograd_conv(input, self.filters, self.bias)


def use_winograd(model: nn.Module) -> int:
    """Put a `WinogradConv2d` in the place of every convolution where it pays, in place; returns their number.

    For float32 on a CPU. Convolutions with hooks stay as they are; one that is used in several places stays one.
    """
    made: dict[nn.Module, nn.Module] = {}
    for path, module in list(model.named_modules(remove_duplicate=False)):
        if path and _fits(module):
            if module not in made:
                made[module] = WinogradConv2d(module)
            parent, _, name = path.rpartition(".")
            setattr(model.get_submodule(parent), name, made[module])
    return len(made)


def _fits(module: nn.Module) -> TypeGuard[nn.Conv2d]:
    if not isinstance(module, nn.Conv2d) or type(module) not in (nn.Conv2d, WideConv2d):
        return False
    if module._forward_hooks or module._forward_pre_hooks:
        return False
    shape = module.kernel_size, module.stride, module.padding, module.dilation, module.groups, module.padding_mode
    wide = min(module.in_channels, module.out_channels) >= CHANNELS
    single = module.weight.dtype == torch.float32 and module.weight.device.type == "cpu"
    return shape == ((3, 3), (1, 1), (1, 1), (1, 1), 1, "zeros") and wide and single
