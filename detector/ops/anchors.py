"""Where the cells of a feature map lie in the image."""

import torch
from torch import Tensor


def grid_points(height: int, width: int, stride: int, device: torch.device | None = None) -> Tensor:
    """Centres ((i + 0.5) * stride) of the cells of a [height, width] map. Tian et al. 2019, sec. 3.1.

    Returns [height * width, 2] float32 x, y in pixels of the network input, row by row.
    """
    x = (torch.arange(width, dtype=torch.float32, device=device) + 0.5) * stride
    y = (torch.arange(height, dtype=torch.float32, device=device) + 0.5) * stride
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).reshape(-1, 2)
