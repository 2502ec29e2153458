"""Deformable convolution: each tap of the kernel is read off where offsets say. Dai et al. 2017; Zhu et al. 2019."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import deform_conv2d

Pair = tuple[int, int]


def deform_conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    offsets: Tensor,
    masks: Tensor | None,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
) -> Tensor:
    """A convolution whose taps are moved, and weighed, one by one. Zhu et al. 2019, sec. 3.2.

    x [N, K, H, W]; weight [O, K / groups, h, w]; bias [O]; offsets [N, G * h * w * 2, H', W'] in cells, of every group
    of channels and tap first down, then right; masks [N, G * h * w, H', W'], None: all are one. Between cells the map
    is bilinear, outside it is zero. Returns [N, O, H', W'] in the dtype of x; computed in float32 at least, as the
    operator knows no bfloat16, and whole positions of large maps no float16.
    """
    wide = torch.promote_types(x.dtype, torch.float32)
    values = [None if t is None else t.to(wide) for t in (x, offsets, weight, bias, masks)]
    return deform_conv2d(*values[:4], stride, padding, dilation, values[4]).to(x.dtype)  # type: ignore[arg-type]


def deform_conv_by_sampling(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    offsets: Tensor,
    masks: Tensor | None,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
) -> Tensor:
    """As `deform_conv`, in operators that every runtime has: a sampled map of all taps and a convolution of 1x1.

    The map has h * w times the cells, so this is for graphs of runtimes that lack the operator itself.
    """
    number, channels, height, width = x.shape
    out, part, rows, columns = weight.shape
    taps = rows * columns
    groups = offsets.shape[1] // (2 * taps)
    down, right = offsets.shape[2:]
    moved = offsets.reshape(number * groups, taps, 2, down, right)
    tap = torch.arange(taps, device=x.device)[:, None, None]
    y = torch.arange(down, device=x.device)[:, None] * stride[0] - padding[0] + tap // columns * dilation[0]
    x_ = torch.arange(right, device=x.device) * stride[1] - padding[1] + tap % columns * dilation[1]
    # grid_sample counts from -1 to 1 between the outer edges of the first and the last cell
    vertical = (2 * (moved[:, :, 0] + y) + 1) / height - 1
    horizontal = (2 * (moved[:, :, 1] + x_) + 1) / width - 1
    grid = torch.stack([horizontal, vertical], dim=-1).reshape(number * groups, taps * down, right, 2)
    split = x.reshape(number * groups, channels // groups, height, width)
    sampled = F.grid_sample(split, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    sampled = sampled.reshape(number * groups, channels // groups, taps, down, right)
    if masks is not None:
        sampled = sampled * masks.reshape(number * groups, 1, taps, down, right)
    sampled = sampled.reshape(number, channels * taps, down, right)
    return F.conv2d(sampled, weight.reshape(out, part * taps, 1, 1), bias, groups=channels // part)
