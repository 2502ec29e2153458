"""Deformable convolution against one in loops, and against what it is at rest."""

import math

import pytest
import torch
import torch.nn.functional as F

from detector.ops.deform import deform_conv, deform_conv_by_sampling

BOTH = pytest.mark.parametrize("compute", [deform_conv, deform_conv_by_sampling])
COUNT = {"stride": (2, 1), "padding": (1, 2), "dilation": (1, 2)}


def between_cells(plane, y, x):
    """The value at a point of a map, as the weighted sum of the four cells around it; outside they are zero."""
    total = 0.0
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            if 0 <= row < plane.shape[0] and 0 <= column < plane.shape[1]:
                total += (1 - abs(y - row)) * (1 - abs(x - column)) * plane[row, column].item()
    return total


def in_loops(x, weight, bias, offsets, masks, stride, padding, dilation):
    """The sum of Zhu et al. 2019, eq. 1, term by term; of a tap the offset down comes first, then that to the right."""
    number, channels = x.shape[:2]
    filters, part, rows, columns = weight.shape
    groups, weight_groups = offsets.shape[1] // (2 * rows * columns), channels // part
    found = torch.zeros(number, filters, *offsets.shape[2:], dtype=x.dtype)
    for n in range(number):
        for o in range(filters):
            for i in range(found.shape[2]):
                for j in range(found.shape[3]):
                    total = 0.0 if bias is None else bias[o].item()
                    for k in range(part):
                        channel = o // (filters // weight_groups) * part + k
                        group = channel // (channels // groups)
                        for tap in range(rows * columns):
                            place = group * rows * columns + tap
                            down, right = offsets[n, 2 * place : 2 * place + 2, i, j].tolist()
                            y = i * stride[0] - padding[0] + tap // columns * dilation[0] + down
                            z = j * stride[1] - padding[1] + tap % columns * dilation[1] + right
                            mask = 1.0 if masks is None else masks[n, place, i, j].item()
                            value = weight[o, k, tap // columns, tap % columns].item()
                            total += value * mask * between_cells(x[n, channel], y, z)
                    found[n, o, i, j] = total
    return found


def inputs(groups, weight_groups, masked, spread=2.0, dtype=torch.float64):
    torch.manual_seed(3)
    x, weight = torch.randn(2, 4, 4, 5, dtype=dtype), torch.randn(4, 4 // weight_groups, 3, 2, dtype=dtype)
    height, width = F.conv2d(x, weight, None, **COUNT, groups=weight_groups).shape[2:]
    offsets = spread * torch.randn(2, groups * 12, height, width, dtype=dtype)
    masks = torch.rand(2, groups * 6, height, width, dtype=dtype) if masked else None
    return x, weight, torch.randn(4, dtype=dtype), offsets, masks


@BOTH
@pytest.mark.parametrize(("groups", "weight_groups", "masked"), [(1, 1, True), (2, 1, False), (4, 2, True)])
def test_it_is_the_sum_of_the_paper(compute, groups, weight_groups, masked):
    given = inputs(groups, weight_groups, masked)
    torch.testing.assert_close(compute(*given, **COUNT), in_loops(*given, **COUNT))


@BOTH
def test_without_offsets_it_is_the_convolution(compute):
    x, weight, bias, offsets, masks = inputs(2, 2, True)
    plain = F.conv2d(x, weight, None, **COUNT, groups=2)
    torch.testing.assert_close(compute(x, weight, None, offsets * 0, None, **COUNT), plain)
    torch.testing.assert_close(compute(x, weight, None, offsets * 0, masks * 0 + 0.5, **COUNT), plain / 2)
    wanted = plain + bias[:, None, None]
    torch.testing.assert_close(compute(x, weight, bias, offsets * 0, masks * 0 + 1, **COUNT), wanted)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_in_half_precision_it_is_computed_in_float32(dtype):
    given = [t.to(dtype) for t in inputs(2, 1, True)]
    found = deform_conv(*given, **COUNT)
    assert found.dtype == dtype
    assert torch.equal(found, deform_conv(*(t.float() for t in given), **COUNT).to(dtype))


def test_both_have_the_same_gradients():
    results = []
    for compute in (deform_conv, deform_conv_by_sampling):
        given = [t.requires_grad_() for t in inputs(2, 1, True)]
        compute(*given, **COUNT).square().sum().backward()
        results.append([t.grad for t in given])
    torch.testing.assert_close(*results)
    assert all(gradient.abs().max() > 0 for gradient in results[0])
