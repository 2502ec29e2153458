"""Which convolutions are computed by Winograd's filtering, and when."""

import pytest
import torch
from torch import nn

from detector.models import winograd
from detector.models.norm import FrozenNorm, conv_norm
from detector.models.winograd import WideConv2d, WinogradConv2d, use_winograd

WIDE = {"kernel_size": 3, "padding": 1}


@pytest.fixture
def calls(monkeypatch):
    """The shapes that Winograd's convolution is called with."""
    shapes = []

    def spy(x, filters, bias=None, *, run=winograd.winograd_conv):
        shapes.append(tuple(x.shape))
        return run(x, filters, bias)

    monkeypatch.setattr(winograd, "winograd_conv", spy)
    return shapes


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(256, 255, **WIDE), nn.Conv2d(255, 256, **WIDE), nn.Conv2d(256, 256, 1), nn.Conv2d(256, 256, 3),
        nn.Conv2d(256, 256, 3, stride=2, padding=1), nn.Conv2d(256, 256, 3, padding=2, dilation=2),
        nn.Conv2d(512, 512, groups=2, **WIDE), nn.Conv2d(256, 256, padding_mode="reflect", **WIDE),
        nn.Conv2d(256, 256, **WIDE).double(), nn.ConvTranspose2d(256, 256, **WIDE),
    ],
    ids=["few out", "few in", "1x1", "no padding", "stride", "dilation", "groups", "reflect", "double", "transposed"],
)  # fmt: skip
def test_other_convolutions_stay(conv):
    model = nn.Sequential(conv)
    assert use_winograd(model) == 0
    assert model[0] is conv


@torch.inference_mode()
def test_wide_ones_are_replaced_and_give_the_same(calls):
    shared = nn.Conv2d(256, 256, **WIDE)
    model = nn.Sequential(shared, nn.ReLU(), nn.Sequential(shared, nn.Conv2d(256, 288, bias=False, **WIDE))).eval()
    x = torch.randn(3, 256, 18, 21)
    want = model(x)
    assert use_winograd(model) == 2
    assert model[0] is model[2][0]
    assert isinstance(model[0], WinogradConv2d)
    assert not model[0].training
    torch.testing.assert_close(model(x), want, rtol=1e-4, atol=1e-4)
    assert calls == [(3, 256, 18, 21)] * 3


def test_plain_where_it_does_not_apply(calls):
    model = nn.Sequential(nn.Conv2d(256, 256, **WIDE))
    use_winograd(model)
    x = torch.randn(1, 256, 32, 32)
    model(x).sum().backward()  # with gradients
    assert model[0].weight.grad is not None
    with torch.inference_mode():
        model(torch.randn(1, 256, 28, 35)[..., :33])  # 63 tiles
        with torch.autocast("cpu", torch.bfloat16):
            assert model(x).dtype == torch.bfloat16
        assert calls == []
        model(x)
        assert calls == [(1, 256, 32, 32)]
        assert model.double()(x.double()).dtype == torch.float64
        assert len(calls) == 1


def test_hooked_ones_stay_and_weights_keep_their_keys():
    model = nn.Sequential(nn.Conv2d(256, 256, **WIDE), nn.Conv2d(256, 256, **WIDE))
    keys = list(model.state_dict())
    seen = []
    model[0].register_forward_hook(lambda *_: seen.append(1))
    assert use_winograd(model) == 1
    assert type(model[0]) is nn.Conv2d
    assert list(model.state_dict()) == keys
    model(torch.randn(1, 256, 4, 4))
    assert seen == [1]


@pytest.fixture
def by_rows(monkeypatch):
    """The shapes that are trained along the rows."""
    shapes = []

    def spy(x, weight, bias=None, *, run=winograd.conv_by_rows):
        shapes.append((tuple(x.shape), tuple(weight.shape)))
        return run(x, weight, bias)

    monkeypatch.setattr(winograd, "conv_by_rows", spy)
    return shapes


def test_wide_ones_are_trained_along_the_rows(by_rows):
    conv, x = WideConv2d(256, 257, **WIDE), torch.randn(1, 256, 32, 32)
    got = conv(x)
    assert by_rows == [((1, 256, 32, 32), (257, 256, 3, 3))]
    torch.testing.assert_close(got, nn.functional.conv2d(x, conv.weight, conv.bias, padding=1), rtol=1e-4, atol=1e-5)
    got.sum().backward()
    assert conv.weight.grad is not None
    assert conv.bias.grad is not None
    conv.requires_grad_(False)(x.requires_grad_())  # frozen, and something before it is trained
    assert len(by_rows) == 2


def test_a_folded_norm_is_trained_along_the_rows(by_rows):
    conv, norm, x = nn.Conv2d(256, 256, bias=False, **WIDE), FrozenNorm(256), torch.randn(1, 256, 72, 72)
    norm.running_var.fill_(0.5)
    norm.bias.fill_(2.0)
    got = conv_norm(conv, norm, x)
    assert len(by_rows) == 1
    torch.testing.assert_close(got, norm(conv(x)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "conv",
    [
        WideConv2d(256, 255, **WIDE), WideConv2d(255, 256, **WIDE), WideConv2d(256, 256, 1), WideConv2d(256, 256, 3),
        WideConv2d(256, 256, 3, stride=2, padding=1), WideConv2d(256, 256, 3, padding=2, dilation=2),
        WideConv2d(512, 512, groups=2, **WIDE), WideConv2d(256, 256, padding_mode="reflect", **WIDE),
        WideConv2d(256, 256, 3, padding="same"), WideConv2d(256, 256, **WIDE).double(),
    ],
    ids=["few out", "few in", "1x1", "no padding", "stride", "dilation", "groups", "reflect", "same", "double"],
)  # fmt: skip
def test_other_convolutions_are_trained_plainly(conv, by_rows):
    x = torch.randn(1, conv.in_channels, 32, 32, dtype=conv.weight.dtype)
    plain = nn.Conv2d(
        *(conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding, conv.dilation, conv.groups),
        padding_mode=conv.padding_mode, dtype=x.dtype,
    )  # fmt: skip
    plain.load_state_dict(conv.state_dict())
    assert torch.equal(conv(x), plain(x))
    assert by_rows == []


def test_nothing_is_done_along_the_rows_where_it_does_not_pay(by_rows):
    conv, x = WideConv2d(256, 256, **WIDE), torch.randn(1, 256, 32, 32)
    conv(x[..., :31])  # 992 cells
    with torch.autocast("cpu", torch.bfloat16):
        assert conv(x).dtype == torch.bfloat16
    with torch.no_grad():
        conv(x)
    conv.requires_grad_(False)(x)
    assert by_rows == []
    assert use_winograd(nn.Sequential(conv)) == 1  # for prediction
