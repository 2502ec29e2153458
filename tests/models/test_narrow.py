"""In half precision on a CPU, convolutions of maps of a few cells compute and learn what they do in float32."""

import pytest
import torch
from torch import nn

from detector.models.narrow import convolve
from detector.models.necks.extra import RefineDetSources
from detector.models.necks.fpn import FPN
from detector.models.norm import conv_norm
from detector.models.saliency import DSS
from detector.structures import Level


def use_memory():
    """Leave behind what a program leaves that has used its memory before: torch's own results would hold it."""
    used = [torch.full((n,), 3e38) for n in torch.randint(1, 200000, (3,)).tolist()]
    del used


def near(got, want):
    return (got.float() - want.float()).norm() <= 0.1 * want.float().norm()


@pytest.mark.parametrize("columns", [1, 2, 3])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (7, 2), (3, 1), (1, 2)])
def test_the_convolution_is_that_of_float32(kernel, stride, columns):
    conv = nn.Conv2d(64, 64, kernel, stride, kernel // 2)
    x = torch.randn(2, 64, 14, columns)
    want = conv(x)
    for _ in range(3):
        use_memory()
        with torch.autocast("cpu", torch.bfloat16):
            got = convolve(conv, x)
        assert got.shape == want.shape
        assert near(got, want)
    assert torch.equal(convolve(conv, x), want)  # of float32 nothing is changed
    use_memory()
    with torch.no_grad():
        assert near(convolve(conv.bfloat16(), x.bfloat16()), want)


LOW = [(7, 1), (7, 2), (7, 3), (5, 1), (5, 2), ((5, 7), 1), ((7, 3), 2), ((7, 1), 1), (3, 1)]


@pytest.mark.parametrize("columns", [1, 3])
@pytest.mark.parametrize(("kernel", "rows"), LOW)
def test_low_maps_learn_as_in_float32(kernel, rows, columns):
    sides = kernel if isinstance(kernel, tuple) else (kernel, kernel)
    conv = nn.Conv2d(128, 64, sides, padding=tuple(side // 2 for side in sides))
    x = torch.randn(2, 128, rows, columns, requires_grad=True)
    sources = [conv.weight, conv.bias, x]
    want = conv(x)
    back = torch.randn_like(want)
    gradients = torch.autograd.grad(want, sources, back)
    for _ in range(3):
        use_memory()
        with torch.autocast("cpu", torch.bfloat16):
            got = convolve(conv, x)
        assert got.shape == want.shape
        assert near(got, want)
        use_memory()
        assert all(map(near, torch.autograd.grad(got, sources, back.bfloat16()), gradients))
    assert torch.equal(convolve(conv, x), want)


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 3, "stride": 2, "dilation": 2, "padding": 2},
        {"kernel_size": 7, "padding": "same"},
        {"kernel_size": 3, "dilation": 3, "padding": "same"},
        {"kernel_size": 1, "padding": "valid"},
        {"kernel_size": 5, "padding": 2, "padding_mode": "circular"},
        {"kernel_size": 5, "padding": 4},
        {"kernel_size": 3, "stride": (1, 2), "padding": (3, 1)},
        {"kernel_size": (3, 5), "stride": (2, 2), "padding": (1, 2), "dilation": (1, 2)},
    ],
    ids=str,
)
def test_every_form_of_convolution_keeps_its_output(options):
    conv, x = nn.Conv2d(16, 16, **options), torch.randn(2, 16, 2, 2)
    if options.get("dilation") == (1, 2):
        x = torch.randn(2, 16, 2, 5)
    want = conv(x)
    with torch.autocast("cpu", torch.bfloat16):
        got = convolve(conv, x)
    assert got.shape == want.shape
    assert near(got, want)


def run(neck, x, columns):
    use_memory()
    neck.zero_grad()
    maps = neck({"c5": x})
    sum(y.float().mean() for y in maps.values()).backward()
    return [*maps.values(), *(p.grad.clone() for p in neck.parameters())]


@pytest.mark.parametrize(("rows", "columns"), [(14, 1), (14, 2), (14, 3), (2, 1)])
@pytest.mark.parametrize("extra", ["p6p7_p5", "p6p7_c5", "c6"])
def test_necks_compute_and_learn_as_in_float32(extra, rows, columns):
    source = {"c5": Level(64, 32)}
    neck = RefineDetSources(source, (), "c6") if extra == "c6" else FPN(source, 64, extra)
    x = torch.randn(2, 64, rows, columns)
    want = run(neck, x, columns)
    for _ in range(3):
        with torch.autocast("cpu", torch.bfloat16):
            got = run(neck, x, columns)
        assert all(map(near, got, want))


@pytest.mark.parametrize("rows", [1, 2])
def test_branches_of_salient_objects_learn_as_in_float32(rows):
    branch = DSS({"c5": Level(128, 32)}, width=0.25).branches["c5"]
    for conv in branch[::2]:
        nn.init.normal_(conv.weight, std=0.1)
    filters, x = [conv.weight for conv in branch[:3:2]], torch.randn(2, 128, rows, 2)

    def gradients():
        use_memory()
        return torch.autograd.grad(branch(x).float().square().mean(), filters)

    want = gradients()
    for _ in range(3):
        with torch.autocast("cpu", torch.bfloat16):
            assert all(map(near, gradients(), want))


@pytest.mark.parametrize("norm", [nn.BatchNorm2d(64).eval(), nn.BatchNorm2d(64), nn.Identity()])
def test_blocks_compute_as_in_float32(norm):
    conv, x = nn.Conv2d(64, 64, 3, 2, 1, bias=False), torch.randn(2, 64, 14, 2)
    want = conv_norm(conv, norm, x)
    use_memory()
    with torch.autocast("cpu", torch.bfloat16):
        assert near(conv_norm(conv, norm, x), want)
