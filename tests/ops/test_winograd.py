"""Winograd's 3x3 convolution against the plain one."""

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from detector.ops.winograd import TILES, tile_count, winograd_conv, winograd_filters

SHAPES = {
    "odd": (2, 5, 7, 13, 9),
    "one cell": (1, 3, 2, 1, 1),
    "whole tiles": (1, 4, 4, 16, 24),
    "several parts of an image": (2, 2, 3, 70, 130),
    "several images a part": (TILES // 2, 3, 4, 7, 5),
    "a row wider than a part": (1, 2, 2, 9, 4 * TILES + 3),
}


def example(shape, dtype):
    n, channels, out, height, width = shape
    x = torch.randn(n, channels, height, width, dtype=dtype)
    return x, torch.randn(out, channels, 3, 3, dtype=dtype), torch.randn(out, dtype=dtype)


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_equals_the_plain_convolution(shape, biased):
    x, weight, bias = example(shape, torch.float64)
    if not biased:
        bias = None
    for maps in (x, x.contiguous(memory_format=torch.channels_last)):
        got = winograd_conv(maps, winograd_filters(weight), bias)
        torch.testing.assert_close(got, F.conv2d(x, weight, bias, padding=1), rtol=1e-11, atol=1e-11)
        assert got.is_contiguous(memory_format=torch.channels_last)


def test_rounding_in_single_precision():
    x, weight, _ = example((1, 128, 128, 20, 20), torch.float32)
    weight /= 128**0.5 * 3  # outputs of variance 1
    exact = F.conv2d(x.double(), weight.double(), padding=1)
    error = (winograd_conv(x, winograd_filters(weight)) - exact).abs().max()
    assert 0 < error < 1e-4


def test_leaves_its_input_alone():
    x, weight, bias = example((1, 3, 4, 8, 8), torch.float64)
    before = x.clone()
    winograd_conv(x, winograd_filters(weight), bias)
    assert torch.equal(x, before)


def test_a_quarter_of_the_multiplications_and_little_for_the_transforms():
    x, weight, _ = example((1, 256, 256, 32, 32), torch.float32)
    filters = winograd_filters(weight)
    spent = []
    for run in (lambda: winograd_conv(x, filters), lambda: F.conv2d(x, weight, padding=1)):
        with FlopCounterMode(display=False) as counter:
            run()
        spent.append(counter.get_total_flops())
    assert 0.25 <= spent[0] / spent[1] < 0.3


def test_counts_tiles():
    assert tile_count(torch.empty(3, 8, 5, 16)) == 3 * 2 * 4
