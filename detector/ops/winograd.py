"""3x3 convolutions by Winograd's minimal filtering: a quarter of the multiplications. Lavin and Gray 2016."""

import torch
from torch import Tensor

# F(4x4, 3x3): the transforms of a 6x6 patch, of a filter and of a 4x4 output tile. Lavin and Gray 2016, sec. 4.3
PATCH = [
    [4.0, 0.0, -5.0, 0.0, 1.0, 0.0],
    [0.0, -4.0, -4.0, 1.0, 1.0, 0.0],
    [0.0, 4.0, -4.0, -1.0, 1.0, 0.0],
    [0.0, -2.0, -1.0, 2.0, 1.0, 0.0],
    [0.0, 2.0, -1.0, -2.0, 1.0, 0.0],
    [0.0, 4.0, 0.0, -5.0, 0.0, 1.0],
]
FILTER = [
    [1 / 4, 0.0, 0.0],
    [-1 / 6, -1 / 6, -1 / 6],
    [-1 / 6, 1 / 6, -1 / 6],
    [1 / 24, 1 / 12, 1 / 6],
    [1 / 24, -1 / 12, 1 / 6],
    [0.0, 0.0, 1.0],
]
TILE = [
    [1.0, 1.0, 1.0, 1.0, 1.0, 0.0],
    [0.0, 1.0, -1.0, 2.0, -2.0, 0.0],
    [0.0, 1.0, 1.0, 4.0, 4.0, 0.0],
    [0.0, 1.0, -1.0, 8.0, -8.0, 1.0],
]
SIDE = len(TILE)  # of an output tile, in cells
POINTS = len(PATCH)  # a side of the transformed patch
TILES = 256  # at a time: their transformed patches stay in a processor's cache


def tile_count(x: Tensor) -> int:
    """How many output tiles the maps x [N, K, H, W] have."""
    return x.shape[0] * -(-x.shape[2] // SIDE) * -(-x.shape[3] // SIDE)


def winograd_filters(weight: Tensor) -> Tensor:
    """Filters [out, in, 3, 3] as `winograd_conv` takes them: [36, in, out], transformed in float64."""
    transform = torch.tensor(FILTER, dtype=torch.float64, device=weight.device)
    filters = torch.einsum("ia,jb,kcab->ijck", transform, transform, weight.double())
    return filters.flatten(0, 1).to(weight.dtype).contiguous()


def winograd_conv(x: Tensor, filters: Tensor, bias: Tensor | None = None) -> Tensor:
    """conv2d of 3x3 filters with stride 1 and padding 1, without gradient: [N, in, H, W] -> [N, out, H, W].

    filters: of `winograd_filters`; bias [out]. The result is channels_last; its rounding errors are about five times
    those of the plain sum.
    """
    n, channels, height, width = x.shape
    out = filters.shape[2]
    rows, columns = -(-height // SIDE), -(-width // SIDE)
    padded = x.new_empty(n, SIDE * rows + 2, SIDE * columns + 2, channels)
    for border in (padded[:, 0], padded[:, height + 1 :], padded[:, :, 0], padded[:, :, width + 1 :]):
        border.zero_()
    padded[:, 1 : height + 1, 1 : width + 1] = x.permute(0, 2, 3, 1)
    image, down, across, one = padded.stride()
    patches = padded.as_strided(
        (POINTS, POINTS, n, rows, columns, channels), (down, across, image, SIDE * down, SIDE * across, one)
    )
    y = x.new_empty(n, rows, SIDE, columns, SIDE, out)
    images = max(1, TILES // (rows * columns))
    step = min(rows, max(1, TILES // columns))
    patch, tile = x.new_tensor(PATCH).expand(POINTS, -1, -1), x.new_tensor(TILE).expand(POINTS, -1, -1)
    most = POINTS**2 * images * step * columns
    ins, outs = x.new_empty(2, most * channels), x.new_empty(2, most * out)
    for first in range(0, n, images):
        for row in range(0, rows, step):
            part = patches[:, :, first : first + images, row : row + step]
            tiles = part[0, 0, ..., 0].numel()
            a, b = (buffer[: POINTS**2 * tiles * channels].view(POINTS, POINTS, -1) for buffer in ins)
            c, d = (buffer[: POINTS**2 * tiles * out] for buffer in outs)
            a.view(part.shape).copy_(part)
            torch.bmm(patch, a.transpose(0, 1), out=b)
            torch.bmm(patch, b.transpose(0, 1), out=a)
            torch.bmm(a.view(-1, tiles, channels), filters, out=c.view(-1, tiles, out))
            d = d[: POINTS * SIDE * tiles * out].view(POINTS, SIDE, -1)
            torch.bmm(tile, c.view(POINTS, POINTS, -1), out=d)
            c = c[: SIDE**2 * tiles * out].view(SIDE, SIDE, -1)
            torch.bmm(tile[:SIDE], d.transpose(0, 1), out=c)
            cells = c.view(SIDE, SIDE, *part.shape[2:5], out).permute(2, 3, 1, 4, 0, 5)
            target = y[first : first + images, row : row + step]
            target.copy_(cells) if bias is None else torch.add(cells, bias, out=target)
    y = y.view(n, SIDE * rows, SIDE * columns, out)[:, :height, :width]
    return y.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
