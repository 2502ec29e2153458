"""Convolutions of maps of a few cells, which torch computes wrongly in half precision on CPUs.

findings/torch_bf16_convolution_of_narrow_maps.sh shows both kinds, of torch 2.14.1: strided ones of one or two columns,
and those of stride 1 whose maps have fewer rows than their padding has, as 7x7 of two rows.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WRONG = 2  # columns; up to so many are affected where the stride is not 1


def convolve(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """conv(x). A small map gets cells of zeros, of which its padding is made anyway, and loses what they give."""
    if not is_narrow(conv, x):
        return conv(x)
    rows = max(_padding(conv, 0) - x.shape[-2], 0) if conv.stride[1] == 1 else 0
    columns = 0 if conv.stride[1] == 1 else 2 * WRONG - x.shape[-1]
    height, width = (_cells(conv, x, side) for side in (0, 1))
    return conv(F.pad(x, (0, columns, 0, rows)))[..., :height, :width]


def is_narrow(conv: nn.Conv2d, x: Tensor) -> bool:
    """Whether a convolution of x is one of those that come out wrong."""
    if x.device.type != "cpu" or conv.kernel_size[1] == 1 or conv.padding_mode != "zeros":
        return False
    if conv.stride[1] == 1:
        padding = _padding(conv, 0)
        small = conv.stride[0] == 1 and padding > 1 and x.shape[-2] < padding
    else:
        small = x.shape[-1] <= WRONG
    return small and (conv.weight.dtype.itemsize == 2 or torch.is_autocast_enabled("cpu"))


def _reach(conv: nn.Conv2d, side: int) -> int:
    """How far the last row (side 0) or column (1) of a filter is from its first one."""
    return conv.dilation[side] * (conv.kernel_size[side] - 1)


def _padding(conv: nn.Conv2d, side: int) -> int:
    """Rows (side 0) or columns (1) of zeros before a map."""
    if isinstance(conv.padding, str):
        return _reach(conv, side) // 2 if conv.padding == "same" else 0
    return conv.padding[side]


def _cells(conv: nn.Conv2d, x: Tensor, side: int) -> int:
    """Rows (side 0) or columns (1) of conv(x)."""
    length = x.shape[2 + side]
    if conv.padding == "same":
        return length
    return (length + 2 * _padding(conv, side) - _reach(conv, side) - 1) // conv.stride[side] + 1
