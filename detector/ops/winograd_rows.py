"""3x3 convolutions that can be trained, by Winograd's minimal filtering along the rows: half of the multiplications."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

# F(4, 3): four outputs of three taps by six products. Lavin and Gray 2016, sec. 4; the points at which the polynomials
# are multiplied are 0, +-S, +-1/S and infinity, which round half as much as the customary 0, +-1, +-2.
S = 0.5**0.5
PATCH = [
    [1.0, 0.0, -2.5, 0.0, 1.0, 0.0],
    [0.0, -2 * S, -2.0, S, 1.0, 0.0],
    [0.0, 2 * S, -2.0, -S, 1.0, 0.0],
    [0.0, -S, -0.5, 2 * S, 1.0, 0.0],
    [0.0, S, -0.5, -2 * S, 1.0, 0.0],
    [0.0, 1.0, 0.0, -2.5, 0.0, 1.0],
]
FILTER = [
    [1.0, 0.0, 0.0],
    [-2 / 3, -2 / 3 * S, -1 / 3],
    [-2 / 3, 2 / 3 * S, -1 / 3],
    [1 / 6, 1 / 3 * S, 1 / 3],
    [1 / 6, -1 / 3 * S, 1 / 3],
    [0.0, 0.0, 1.0],
]
TILE = [
    [1.0, 1.0, 1.0, 1.0, 1.0, 0.0],
    [0.0, S, -S, 2 * S, -2 * S, 0.0],
    [0.0, 0.5, 0.5, 2.0, 2.0, 0.0],
    [0.0, S / 2, -S / 2, 4 * S, -4 * S, 1.0],
]
SIDE = len(TILE)  # of an output tile: 1 x 4 cells
POINTS = len(PATCH)
TILES = 2400  # at a time: their transformed patches stay in a processor's cache


def conv_by_rows(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """conv2d of 3x3 filters with stride 1 and padding 1, with gradients: [N, in, H, W] -> [N, out, H, W].

    weight [out, in, 3, 3]; bias [out]. The result and the gradient of x are channels_last and by Winograd's filtering;
    the gradients of weight and bias are those of the plain convolution. With 256 channels in float32, against float64:
    rounding errors of the result and of the gradient of x are one and a half times as large as the plain sum's. There
    are no second derivatives.
    """
    return _ConvByRows.apply(x, weight, bias)


class _ConvByRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(x, weight)
        return _filter_rows(x, _filters(weight), bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        grad_x = _filter_rows(gradient, _filters(weight.flip(2, 3).transpose(0, 1))) if of_x else None
        _, grad_weight, grad_bias = torch.ops.aten.convolution_backward(
            *(gradient, x, weight, [len(weight)], [1, 1], [1, 1], [1, 1], False, [0, 0], 1),
            [False, of_weight, of_bias],
        )
        return grad_x, grad_weight, grad_bias


def _filters(weight: Tensor) -> Tensor:
    """Filters [out, in, 3, 3] as `_filter_rows` takes them: [6 * out, in, 3, 1], channels_last."""
    out, channels = weight.shape[:2]
    taps = weight.permute(3, 0, 2, 1).reshape(len(FILTER[0]), -1)
    return (weight.new_tensor(FILTER) @ taps).view(POINTS * out, 3, 1, channels).permute(0, 3, 1, 2)


def _filter_rows(x: Tensor, filters: Tensor, bias: Tensor | None = None) -> Tensor:
    """The convolution itself, without gradient; a group of a plain 3x1 convolution for each point."""
    n, channels, height, width = x.shape
    out = len(filters) // POINTS
    columns = -(-width // SIDE)
    padded = x.new_empty(n, height + 2, SIDE * columns + 2, channels)
    for border in (padded[:, 0], padded[:, height + 1], padded[:, :, 0], padded[:, :, width + 1 :]):
        border.zero_()
    padded[:, 1 : height + 1, 1 : width + 1] = x.permute(0, 2, 3, 1)
    image, down, across, one = padded.stride()
    patches = padded.as_strided((n, height + 2, columns, POINTS, channels), (image, down, SIDE * across, across, one))
    y = x.new_empty(n, height, columns, SIDE, out)
    images = min(n, max(1, TILES // (height * columns)))
    step = height if images > 1 else min(height, max(1, TILES // columns))
    patch, tile = x.new_tensor(PATCH), x.new_tensor(TILE)
    a, b = x.new_empty(2, images * (step + 2) * columns, POINTS, channels)
    for first in range(0, n, images):
        for row in range(0, height, step):
            part = patches[first : first + images, row : row + step + 2]
            tiles = part[..., 0, 0].numel()
            a[:tiles].view(part.shape).copy_(part)
            torch.bmm(patch.expand(tiles, -1, -1), a[:tiles], out=b[:tiles])
            maps = b[:tiles].view(*part.shape[:3], -1).permute(0, 3, 1, 2)
            products = F.conv2d(maps, filters, groups=POINTS).permute(0, 2, 3, 1).reshape(-1, POINTS, out)
            target = y[first : first + images, row : row + step].view(-1, SIDE, out)
            few = tile.expand(len(products), -1, -1)
            if bias is None:
                torch.bmm(few, products, out=target)
            else:
                torch.baddbmm(bias, few, products, out=target)
    result = y.view(n, height, SIDE * columns, out)[:, :, :width].permute(0, 3, 1, 2)
    # No view, which a custom function's caller could not change in place; nor `set_`, as fake tensors' cache would keep
    # its storage.
    return result.data
