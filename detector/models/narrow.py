"""Strided convolutions of maps of one or two columns, which torch computes wrongly in half precision on CPUs."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WRONG = 2  # columns; up to so many are affected, in torch 2.14.1: findings/torch_bf16_convolution_of_narrow_maps.sh


def convolve(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """conv(x). A narrow map gets columns of zeros, of which its padding is made anyway, and loses what they give."""
    if not is_narrow(conv, x):
        return conv(x)
    width, stride, kernel, padding = x.shape[-1], conv.stride[1], conv.kernel_size[1], int(conv.padding[1])
    columns = (width + 2 * padding - kernel) // stride + 1
    return conv(F.pad(x, (0, 2 * WRONG - width)))[..., :columns]


def is_narrow(conv: nn.Conv2d, x: Tensor) -> bool:
    """Whether a convolution of x is one of those that come out wrong."""
    if x.shape[-1] > WRONG or x.device.type != "cpu" or conv.stride[1] == 1 or conv.kernel_size[1] == 1:
        return False
    return conv.weight.dtype.itemsize == 2 or torch.is_autocast_enabled("cpu")
