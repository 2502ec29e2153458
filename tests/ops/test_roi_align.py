"""Pooling of regions against torchvision's operator, level by level."""

import pytest
import torch
from torchvision.ops import roi_align

from detector.ops.roi_align import pool_regions

STRIDES = (4, 8)
SIDES = ((9, 14), (5, 7))


def inputs(dtype=torch.float64):
    maps = [torch.randn(2, 6, *side, dtype=dtype).contiguous(memory_format=torch.channels_last) for side in SIDES]
    corner = torch.rand(40, 2, dtype=dtype) * 60 - 8
    boxes = torch.cat([corner, corner + torch.rand(40, 2, dtype=dtype) ** 2 * 50], dim=1)
    boxes[:6] = torch.tensor(
        [[0, 0, 56, 36], [-30, -30, 90, 90], [20, 20, 20, 20], [55.9, 35.9, 56, 36], [70, 50, 90, 60], [3, 3, 3.5, 40]]
    )
    return maps, boxes, torch.randint(2, (40,)), torch.randint(2, (40,))


def reference(maps, boxes, image, level, *how):
    rois = torch.cat([image[:, None].to(boxes.dtype), boxes], dim=1)
    each = [roi_align(x, rois, how[0], 1 / s, how[1], how[2]) for x, s in zip(maps, STRIDES, strict=True)]
    return torch.where(level[:, None, None, None] == 0, *each)


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize(("resolution", "ratio"), [(7, 2), (3, 1), (2, 3), (7, 0)])
def test_equals_torchvisions_with_gradients(resolution, ratio, aligned):
    maps, *boxes = inputs()
    how = resolution, ratio, aligned
    results = []
    for pool in (lambda m, *b: pool_regions(m, STRIDES, *b), reference):
        leaves = [m.clone().requires_grad_() for m in maps]
        regions = pool(leaves, *boxes, *how)
        (regions * torch.linspace(-1, 1, regions.numel(), dtype=regions.dtype).view(regions.shape)).sum().backward()
        results.append([regions, *(m.grad for m in leaves)])
    assert results[0][0].shape == (40, 6, resolution, resolution)
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
    assert (results[1][0][4] == 0).all()  # beyond the map


@pytest.mark.parametrize("ratio", [0, 2])
def test_no_boxes_give_no_regions_and_still_carry_a_gradient(ratio):
    maps, boxes, image, level = inputs(torch.float32)
    maps = [m.requires_grad_() for m in maps]
    regions = pool_regions(maps, STRIDES, boxes[:0], image[:0], level[:0], 7, ratio, True)
    assert regions.shape == (0, 6, 7, 7)
    regions.sum().backward()
    assert all((m.grad == 0).all() for m in maps)


def test_maps_of_less_precision():
    maps, boxes, image, level = inputs(torch.float32)
    half = [m.bfloat16() for m in maps]
    want = reference([m.float() for m in half], boxes, image, level, 7, 2, True)
    got = pool_regions(half, STRIDES, boxes, image, level, 7, 2, True)
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(got.float(), want, rtol=0.02, atol=0.01)
    trained = pool_regions([m.requires_grad_() for m in half], STRIDES, boxes, image, level, 7, 2, True)
    assert trained.dtype == torch.bfloat16
    torch.testing.assert_close(trained.float(), want, rtol=2**-8, atol=1e-6)  # summed in float32, rounded once
