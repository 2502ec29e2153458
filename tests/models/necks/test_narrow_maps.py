"""Under autocast the weights of strided convolutions learn from a single column of cells as from any other."""

import pytest
import torch

from detector.models.necks.extra import RefineDetSources
from detector.models.necks.fpn import FPN
from detector.structures import Level


def gradients(neck, x, dirty):
    if dirty:  # what a program has used before: torch's bfloat16 gradient would hold it
        used = [torch.full((n,), 3e38) for n in torch.randint(1, 200000, (3,)).tolist()]
        del used
    neck.zero_grad()
    sum(y.float().square().mean() for y in neck({"c5": x}).values()).backward()
    return {name: p.grad.clone() for name, p in neck.named_parameters()}


@pytest.mark.parametrize("columns", [1, 2])
@pytest.mark.parametrize("extra", ["p6p7_p5", "p6p7_c5", "c6"])
def test_gradients_of_narrow_maps_are_those_of_float32(extra, columns):
    source = {"c5": Level(64, 32)}
    neck = RefineDetSources(source, (), "c6") if extra == "c6" else FPN(source, 64, extra)
    x = torch.randn(2, 64, 4, columns)
    want = gradients(neck, x, dirty=False)
    for _ in range(5):
        with torch.autocast("cpu", torch.bfloat16):
            got = gradients(neck, x, dirty=True)
        for name, gradient in got.items():
            assert (gradient - want[name]).norm() <= 0.1 * want[name].norm(), name
