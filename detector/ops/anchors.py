"""Where the cells of a feature map lie in the image, and the anchors on them."""

from collections.abc import Sequence

import torch
from torch import Tensor

from detector.structures import Size


def grid_points(
    height: int, width: int, stride: int | Size, device: torch.device | None = None, offset: float = 0.5
) -> Tensor:
    """Locations ((i + offset) * stride) of the cells of a [height, width] map. Tian et al. 2019, sec. 3.1.

    stride: pixels between its rows and between its columns, or both in one; offset: 0.5 is the centre of a cell.
    Returns [height * width, 2] float32 x, y in pixels of the network input, row by row.
    """
    down, right = stride if isinstance(stride, tuple) else (stride, stride)
    x = (torch.arange(width, dtype=torch.float32, device=device) + offset) * right
    y = (torch.arange(height, dtype=torch.float32, device=device) + offset) * down
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).reshape(-1, 2)


def padded_strides(grids: Sequence[Size], finest: int) -> list[Size]:
    """Pixels between the rows and the columns of each map: (side of the padded input) // (side of the map).

    That is what torchvision takes for strides; it differs from the level's where a map was rounded up. grids: (height,
    width) of the maps, fine to coarse; the side is the finest map's times `finest`, its stride.
    """
    height, width = (side * finest for side in grids[0])
    return [(height // h, width // w) for h, w in grids]


def anchor_cells(sizes: Sequence[float], aspect_ratios: Sequence[float], *, rounded: bool = False) -> Tensor:
    """The anchors of one cell, around the origin. Ren et al. 2015, sec. 3.1.1.

    sizes: square roots of the areas, pixels; aspect_ratios: height / width; rounded: corners at whole pixels (half to
    even), as torchvision has them. Returns [A, 4] float32 xyxy, A = ratios * sizes, the sizes of a ratio together.
    """
    size = torch.tensor(sizes, dtype=torch.float64)
    root = torch.tensor(aspect_ratios, dtype=torch.float64).sqrt()[:, None]
    width, height = (size / root).flatten() / 2, (size * root).flatten() / 2
    cells = torch.stack([-width, -height, width, height], dim=1).float()
    return cells.round() if rounded else cells


def legacy_anchor_cells(sizes: Sequence[float], aspect_ratios: Sequence[float], stride: int) -> Tensor:
    """The anchors of one cell as in Detectron and maskrcnn-benchmark, whose boxes include their last pixel.

    The sides of a box of stride x stride pixels are rounded for each ratio (half to even), then scaled; the boxes lie
    around the cell's centre. Arguments and result as in `anchor_cells`.
    """
    ratio = torch.tensor(aspect_ratios, dtype=torch.float64)[:, None]
    scale = torch.tensor(sizes, dtype=torch.float64) / stride
    width = (stride**2 / ratio).sqrt().round()
    half = torch.stack([(width * scale).flatten(), ((width * ratio).round() * scale).flatten()], dim=1) / 2
    return torch.cat([stride / 2 - half, stride / 2 + half], dim=1).float()


def grid_anchors(cells: Tensor, grid: tuple[int, int], strides: tuple[int, int]) -> Tensor:
    """The anchors of a whole map, centred at i * stride. Ren et al. 2015, sec. 3.1.1.

    cells [A, 4] around the origin; grid: (height, width) of the map; strides: pixels between its rows and its columns.
    Returns [height * width * A, 4] xyxy pixels: row by row, the A anchors of a cell together.
    """
    y, x = (torch.arange(n, dtype=cells.dtype, device=cells.device) * s for n, s in zip(grid, strides, strict=True))
    centres = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).reshape(-1, 1, 2)
    return (centres.repeat(1, 1, 2) + cells).reshape(-1, 4)
