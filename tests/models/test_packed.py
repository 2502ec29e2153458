"""Layers in bf16 whose weights are laid out once compute what the plain ones do, and what follows them as well."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from detector.models import packed
from detector.models.norm import ConvNorm, conv_norm_relu, conv_norm_sum
from detector.models.packed import PackedConv2d, PackedLinear, conv_plus, use_packed

pytestmark = pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="this processor has no such layers"
)

CONVS = {
    "1x1": nn.Conv2d(40, 48, 1),
    "3x3": nn.Conv2d(32, 64, 3, padding=1, bias=False),
    "stem": nn.Conv2d(3, 64, 7, 2, 3),
    "strided": nn.Conv2d(16, 24, 3, 2, 1),
    "dilated": nn.Conv2d(16, 24, 3, padding=2, dilation=2),
    "groups": nn.Conv2d(32, 32, 3, padding=1, groups=8),
    "depthwise": nn.Conv2d(32, 32, 3, padding=1, groups=32),
}


@pytest.fixture
def calls(monkeypatch):
    """The inputs that the packed layers themselves compute."""
    shapes = []

    def spy(x, *, run=packed.applies):
        if run(x):
            shapes.append(tuple(x.shape))
        return run(x)

    monkeypatch.setattr(packed, "applies", spy)
    return shapes


def half(module):
    return deepcopy(module).to(torch.bfloat16).eval()


@torch.inference_mode()
@pytest.mark.parametrize("kind", CONVS)
def test_convolutions(kind, calls):
    plain = nn.Sequential(half(CONVS[kind]))
    made = deepcopy(plain)
    assert use_packed(made) == 1
    assert isinstance(made[0], PackedConv2d)
    for size in ((2, 20, 31), (1, 120, 160), (3, 5, 3)):
        x = torch.randn(size[0], plain[0].in_channels, *size[1:]).to(torch.bfloat16)
        want = plain(x)
        torch.testing.assert_close(made(x), want, rtol=1e-2, atol=1e-2)
        other = torch.randn_like(want)
        exact = nn.functional.conv2d(
            x.float(), plain[0].weight.float(), None if plain[0].bias is None else plain[0].bias.float(),
            *(getattr(plain[0], name) for name in ("stride", "padding", "dilation", "groups")),
        )  # fmt: skip
        nothing = nn.Identity()
        for got, should in (
            (conv_norm_relu(made[0], nothing, x), exact.relu()),
            (conv_norm_sum(made[0], nothing, x, other, True), (exact + other).relu()),
            (conv_norm_sum(made[0], nothing, x, other, False), exact + other),
            (conv_plus(made[0], x, other), exact + other),
            (conv_plus(made[0], x, None), exact),
        ):
            assert got.dtype == torch.bfloat16
            torch.testing.assert_close(got.float(), should, rtol=1e-2, atol=2e-2)
    assert len(calls) == 3 * 6  # in one each


@torch.inference_mode()
def test_linear_layers(calls):
    plain = nn.Sequential(nn.Linear(784, 64), nn.Linear(64, 5, bias=False)).to(torch.bfloat16)
    made = deepcopy(plain)
    assert use_packed(made) == 2
    assert all(isinstance(layer, PackedLinear) for layer in made)
    for rows in (1, 7, 1000):
        x = torch.randn(rows, 784).to(torch.bfloat16)
        torch.testing.assert_close(made(x), plain(x), rtol=1e-2, atol=1e-2)
        torch.testing.assert_close(made[0](x, "relu"), plain[0](x).relu(), rtol=1e-2, atol=1e-2)
    assert len(calls) == 9
    empty = torch.zeros(0, 784, dtype=torch.bfloat16)
    assert made(empty).shape == (0, 5)


@torch.inference_mode()
def test_a_rectifier_becomes_a_part(calls):
    shared = nn.Conv2d(8, 8, 1)
    plain = nn.Sequential(
        ConvNorm(nn.Conv2d(3, 8, 3), nn.Identity(), nn.ReLU(inplace=True)), shared, nn.ReLU(), shared,
        nn.Sequential(nn.Conv2d(8, 6, 1), nn.ReLU()), nn.Conv2d(6, 4, 1), nn.GroupNorm(1, 4), nn.ReLU(),
    )  # fmt: skip
    for layer in plain.modules():
        if isinstance(layer, nn.Conv2d):
            layer.to(torch.bfloat16)
    made = deepcopy(plain)
    assert use_packed(made) == 4
    assert made[1] is made[3]
    assert [type(layer).__name__ for layer in made[0]] == ["PackedConv2d", "Identity", "Identity"]
    assert [conv.rectifies for conv in (made[0][0], made[1], made[4][0], made[5])] == [True, False, True, False]
    assert [type(made[i]) for i in (2, 7)] == [nn.ReLU] * 2
    x = torch.randn(2, 3, 12, 9)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(made(x), plain(x), rtol=1e-2, atol=1e-2)
    assert len(calls) == 5


def test_plain_where_it_does_not_apply(calls):
    plain = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 25, 3))
    made = half(plain)
    use_packed(made)
    x = torch.randn(2, 8, 5, 5, dtype=torch.bfloat16)
    made(x).float().sum().backward()
    assert made[0].weight.grad is not None
    with torch.inference_mode():
        with torch.autocast("cpu", torch.float16):
            made[0](x)
        assert calls == []
        single = deepcopy(made).float()
        torch.testing.assert_close(single(x.float()), plain.to(torch.bfloat16).float()(x.float()))
        assert calls == []
        made(x)
        assert len(calls) == 2


def test_others_stay():
    hooked = nn.Conv2d(8, 8, 1, dtype=torch.bfloat16)
    hooked.register_forward_hook(lambda *_: None)
    others = nn.Sequential(
        hooked, nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect", dtype=torch.bfloat16),
        nn.Conv2d(8, 8, 3, padding="same", dtype=torch.bfloat16), nn.ConvTranspose2d(8, 8, 1, dtype=torch.bfloat16),
        nn.Linear(8, 8),
    )  # fmt: skip
    assert use_packed(others) == 0


def test_none_where_the_processor_has_none(monkeypatch):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    model = nn.Sequential(nn.Conv2d(8, 8, 1, dtype=torch.bfloat16))
    assert use_packed(model) == 0
    assert type(model[0]) is nn.Conv2d


def test_weights_keep_their_keys():
    model = nn.Sequential(nn.Conv2d(8, 8, 1), nn.Linear(8, 8, bias=False)).to(torch.bfloat16)
    keys = list(model.state_dict())
    use_packed(model)
    assert list(model.state_dict()) == keys
