"""RoIAlign over the levels of a pyramid."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import roi_align


def pool_regions(
    maps: Sequence[Tensor],
    strides: Sequence[int],
    boxes: Tensor,
    image: Tensor,
    level: Tensor,
    resolution: int,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    """Bilinear samples of each box from its level, averaged over the cells of a grid. He et al. 2017, sec. 3.

    maps: features [N, K, H, W] of each level, strides: their pixels per cell; boxes [R, 4] xyxy pixels; image, level
    [R]: index of the box's image and map. resolution: cells a side; sampling_ratio: samples a side of each cell, 0: as
    many as the region has cells of the map below it; aligned: shift by half a cell, which is exact.
    Returns [R, K, resolution, resolution] in the dtype of `boxes`, or on a CPU in that of the maps; the numbers are
    those of torchvision.ops.roi_align.
    """
    if boxes.device.type == "cpu" and sampling_ratio > 0 and len(boxes):
        return _sum_of_rows(maps, strides, boxes, image, level, resolution, sampling_ratio, aligned)
    rois = torch.cat([image[:, None].to(boxes.dtype), boxes], dim=1)
    order = level.argsort(stable=True)
    parts = rois[order].split(level.bincount(minlength=len(maps)).tolist())
    regions = [
        roi_align(x.to(boxes.dtype), part, resolution, 1 / stride, sampling_ratio, aligned)
        for x, stride, part in zip(maps, strides, parts, strict=True)
    ]
    return torch.cat(regions)[order.argsort()]


def _sum_of_rows(
    maps: Sequence[Tensor],
    strides: Sequence[int],
    boxes: Tensor,
    image: Tensor,
    level: Tensor,
    resolution: int,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    """`pool_regions` as weighted sums of rows of one table, whose rows are the cells of all levels.

    On a CPU that is ten times as fast as torchvision's loop over channels, and its backward pass even more so.
    """
    table = torch.cat([x.permute(0, 2, 3, 1).flatten(0, 2) for x in maps])
    if table.requires_grad:
        table = table.to(boxes.dtype)  # a cell sums the gradients of hundreds of samples
    sides = torch.tensor([x.shape[-2:] for x in maps])
    first = torch.tensor([0, *(len(x) * x.shape[-2] * x.shape[-1] for x in maps)]).cumsum(0)[level]
    height, width = sides[level].unbind(1)
    scale = (1 / boxes.new_tensor(strides))[level]
    left, top, right, bottom = (boxes * scale[:, None] - (0.5 if aligned else 0)).unbind(1)
    y, y_weight = _axis(top, bottom - top, height, resolution, sampling_ratio, aligned)
    x, x_weight = _axis(left, right - left, width, resolution, sampling_ratio, aligned)
    # [R, cells down, cells across, samples and neighbours down, across]
    down, across = (slice(None), slice(None), None, slice(None), None), (slice(None), None, slice(None), None)
    row = y[down] * width.view(-1, 1, 1, 1, 1) + x[across]
    row += (first + image * height * width).view(-1, 1, 1, 1, 1)
    weight = y_weight[down] * x_weight[across]
    size = len(boxes) * resolution**2, -1
    summed = F.embedding_bag(
        row.reshape(size), table, mode="sum", per_sample_weights=weight.reshape(size).to(table.dtype)
    )
    summed = summed.to(maps[0].dtype)  # before anybody changes the layout, there and back: half the bytes
    return summed.view(len(boxes), resolution, resolution, -1).permute(0, 3, 1, 2)


def _axis(
    start: Tensor, extent: Tensor, length: Tensor, resolution: int, sampling_ratio: int, aligned: bool
) -> tuple[Tensor, Tensor]:
    """The neighbours of the samples along one axis and their weights: [R, resolution, 2 * sampling_ratio] each.

    start, extent [R] of the boxes and length [R] of the maps, in cells. A sample counts up to one cell beyond the map.
    """
    count = resolution * sampling_ratio
    extent = extent if aligned else extent.clamp(min=1)
    steps = torch.arange(count, dtype=start.dtype) + 0.5
    place = start[:, None] + steps * (extent / count)[:, None]
    last = length[:, None].to(place.dtype)
    inside = (place >= -1) & (place <= last)
    place = torch.minimum(place.clamp(min=0), last - 1)
    low = place.floor()
    high = torch.minimum(low + 1, last - 1)
    fraction = place - low
    weight = torch.stack([1 - fraction, fraction], dim=-1) * (inside[..., None].to(place.dtype) / sampling_ratio)
    neighbours = torch.stack([low, high], dim=-1).long()
    shape = len(start), resolution, 2 * sampling_ratio
    return neighbours.view(shape), weight.view(shape)
