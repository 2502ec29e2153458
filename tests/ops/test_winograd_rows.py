"""Winograd's filtering along the rows against the plain convolution, with gradients."""

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from detector.ops import winograd_rows
from detector.ops.winograd_rows import conv_by_rows

SHAPES = {  # images, in, out, height, width, tiles at a time
    "odd": (2, 5, 7, 13, 9, 2400),
    "one cell": (1, 3, 2, 1, 1, 2400),
    "whole tiles": (1, 4, 4, 16, 24, 2400),
    "several parts of an image": (2, 2, 3, 11, 14, 12),
    "several images a part": (5, 3, 4, 7, 5, 30),
    "a row wider than a part": (1, 2, 2, 3, 30, 4),
}


def example(shape, dtype=torch.float64):
    n, channels, out, height, width = shape
    x, weight = torch.randn(n, channels, height, width, dtype=dtype), torch.randn(out, channels, 3, 3, dtype=dtype)
    return x.requires_grad_(), weight.requires_grad_(), torch.randn(out, dtype=dtype).requires_grad_()


def plain(x, weight, bias):
    return F.conv2d(x, weight, bias, padding=1)


def values(conv, inputs, slope):
    """The result and the gradients of the inputs that want one."""
    y = conv(*inputs)
    return [y.detach(), *torch.autograd.grad(y, [t for t in inputs if t is not None and t.requires_grad], slope)]


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_equals_the_plain_convolution_with_gradients(shape, biased, monkeypatch):
    monkeypatch.setattr(winograd_rows, "TILES", shape[-1])
    x, weight, bias = example(shape[:-1])
    inputs = x, weight, bias if biased else None
    slope = torch.randn_like(plain(*inputs))
    want = values(plain, inputs, slope)
    for layout in (torch.contiguous_format, torch.channels_last):
        laid = [t.detach().contiguous(memory_format=layout).requires_grad_() for t in (x, weight)]
        got = values(conv_by_rows, (*laid, inputs[2]), slope)
        assert len(got) == len(want) == 3 + biased
        for a, b in zip(got, want, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)
        assert got[0].permute(0, 2, 3, 1).stride()[-1] == 1


@pytest.mark.parametrize("which", [0, 1, 2])
def test_only_the_gradients_that_are_wanted(which):
    inputs = example((1, 3, 4, 6, 10))
    for i, tensor in enumerate(inputs):
        tensor.requires_grad_(i == which)
    slope = torch.randn(1, 4, 6, 10, dtype=torch.float64)
    for a, b in zip(values(conv_by_rows, inputs, slope), values(plain, inputs, slope), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)


def test_rounding_in_single_precision():
    x, weight, bias = example((1, 256, 256, 12, 20), torch.float32)
    weight = (weight.detach() / 48).requires_grad_()
    slope = torch.randn(1, 256, 12, 20)
    exact = values(plain, [t.detach().double().requires_grad_() for t in (x, weight, bias)], slope.double())
    rounded, ours = (values(conv, (x, weight, bias), slope) for conv in (plain, conv_by_rows))
    errors = [[((a - b).norm() / b.norm()).item() for a, b in zip(v, exact, strict=True)] for v in (rounded, ours)]
    # A processor may sum plainly in an order that rounds less: what this says of ours holds everywhere.
    assert max(errors[1]) < 2e-6
    assert errors[1][2:] == errors[0][2:]  # weight and bias, by the plain path


def test_half_of_the_multiplications():
    x, weight, _ = (t.detach() for t in example((1, 32, 32, 16, 16), torch.float32))
    counts = []
    for conv in (lambda: plain(x, weight, None), lambda: conv_by_rows(x, weight)):
        with FlopCounterMode(display=False) as counter:
            conv()
        # of convolutions: the transforms are no convolutions, and their share falls with the channels
        counts.append(sum(n for op, n in counter.get_flop_counts()["Global"].items() if "convolution" in str(op)))
    assert counts[1] / counts[0] == 0.5


@pytest.mark.parametrize("width", [40, 41])
def test_the_result_may_be_changed_in_place(width):
    """As a block does that adds its shortcut, and a ReLU; the gradients are those of the plain convolution."""
    torch.manual_seed(0)
    x, skip = torch.randn(2, 1, 8, 30, width).unbind()
    weight = (torch.randn(8, 8, 3, 3) / 8).requires_grad_()
    grads = []
    for convolve in (conv_by_rows, lambda *args: F.conv2d(*args, padding=1)):
        inner = x.clone().requires_grad_()
        convolve(inner, weight).add_(skip).relu_().square().sum().backward()
        grads.append((inner.grad, weight.grad))
        weight.grad = None
    torch.testing.assert_close(*grads, rtol=1e-4, atol=1e-4)
