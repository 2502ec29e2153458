"""Where the cells of a feature map lie in the image, and the anchors on them."""

from collections.abc import Sequence

import torch
from torch import Tensor


def grid_points(height: int, width: int, stride: int, device: torch.device | None = None) -> Tensor:
    """Centres ((i + 0.5) * stride) of the cells of a [height, width] map. Tian et al. 2019, sec. 3.1.

    Returns [height * width, 2] float32 x, y in pixels of the network input, row by row.
    """
    x = (torch.arange(width, dtype=torch.float32, device=device) + 0.5) * stride
    y = (torch.arange(height, dtype=torch.float32, device=device) + 0.5) * stride
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).reshape(-1, 2)


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


def grid_anchors(cells: Tensor, grid: tuple[int, int], strides: tuple[int, int]) -> Tensor:
    """The anchors of a whole map, centred at i * stride. Ren et al. 2015, sec. 3.1.1.

    cells [A, 4] around the origin; grid: (height, width) of the map; strides: pixels between its rows and its columns.
    Returns [height * width * A, 4] xyxy pixels: row by row, the A anchors of a cell together.
    """
    y, x = (torch.arange(n, dtype=cells.dtype, device=cells.device) * s for n, s in zip(grid, strides, strict=True))
    centres = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).reshape(-1, 1, 2)
    return (centres.repeat(1, 1, 2) + cells).reshape(-1, 4)
