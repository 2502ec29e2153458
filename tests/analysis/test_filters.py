"""Correlation between filters: numpy's corrcoef, constructed layers, order of execution."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from detector.analysis.filters import (
    as_matrix,
    convolutions,
    filter_correlations,
    find_layer,
    layer_correlation,
    mean_correlation,
)
from detector.models.backbones import build_backbone

PROBE = torch.zeros(1, 3, 64, 64)


def off_diagonal(matrix):
    return matrix[~np.eye(len(matrix), dtype=bool)]


@pytest.mark.parametrize(
    ("shape", "groups"), [((16, 8, 3, 3), 1), ((12, 32, 1, 1), 1), ((8, 3, 7, 5), 1), ((24, 4, 3, 3), 6)]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_numpy_group_by_group(shape, groups, dtype):
    weight = torch.randn(shape, dtype=dtype) * 0.01 + 0.3
    got = filter_correlations(weight, groups)
    per_group = weight.double().numpy().reshape(groups, shape[0] // groups, -1)
    want = np.stack([np.corrcoef(filters) for filters in per_group])
    assert got.shape == want.shape
    assert np.abs(got.numpy() - want).max() < 1e-12
    mean = np.mean([np.abs(off_diagonal(matrix)).mean() for matrix in want])
    assert mean_correlation(got) == pytest.approx(mean, abs=1e-12)


def test_a_copy_correlates_fully_and_its_negative_too():
    a = torch.randn(1, 6, 3, 3)
    got = filter_correlations(torch.cat([a, a, -a]))
    assert torch.allclose(got[0], torch.tensor([[1.0, 1, -1], [1, 1, -1], [-1, -1, 1]]).double(), atol=1e-12, rtol=0)
    assert mean_correlation(got) == pytest.approx(1, abs=1e-12)
    assert got.abs().max() <= 1


def test_scale_and_shift_of_a_filter_change_nothing():
    weight = torch.randn(5, 4, 3, 3, dtype=torch.float64)
    scale = torch.tensor([1e-6, 2.0, 1e3, 1.0, 0.5], dtype=torch.float64).view(-1, 1, 1, 1)
    shift = torch.tensor([0.0, 1.0, -7.0, 3.0, 0.1], dtype=torch.float64).view(-1, 1, 1, 1)
    assert torch.allclose(filter_correlations(weight * scale + shift), filter_correlations(weight), atol=1e-9, rtol=0)


def test_orthogonal_filters_without_mean_do_not_correlate():
    rows = [[1.0, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]
    got = filter_correlations(torch.tensor(rows).view(3, 1, 2, 2))
    assert torch.equal(got[0], torch.eye(3).double())
    assert mean_correlation(got) == 0


def test_mean_worked_by_hand():
    # pairs: the two equal ones 1, each of them with the orthogonal one 0
    rows = [[1.0, -1, 1, -1], [2, -2, 2, -2], [1, 1, -1, -1]]
    assert mean_correlation(filter_correlations(torch.tensor(rows).view(3, 4, 1, 1))) == pytest.approx(1 / 3, abs=1e-12)


def test_constant_filters_count_as_uncorrelated_and_are_counted():
    conv = nn.Conv2d(8, 4, 3, bias=False, dtype=torch.float64)
    with torch.no_grad():
        conv.weight[1] = 0.1  # its mean, in float64, is not quite 0.1
        conv.weight[3] = 0
    got = filter_correlations(conv.weight)[0]
    zero = torch.zeros(4, dtype=torch.float64)
    for i in (1, 3):
        assert torch.equal(got[i], zero)
        assert torch.equal(got[:, i], zero)
    r = np.corrcoef(conv.weight[[0, 2]].detach().flatten(1).numpy())[0, 1]
    assert got[0, 2].item() == pytest.approx(r, abs=1e-12)
    row = layer_correlation("x", conv)
    assert (row.layer, row.filters, row.groups, row.constant) == ("x", 4, 1, 2)
    assert row.mean == pytest.approx(abs(r) / 6, abs=1e-12)


@pytest.mark.parametrize("conv", [nn.Conv2d(6, 1, 3), nn.Conv2d(6, 6, 3, groups=6)], ids=["one filter", "depthwise"])
def test_without_a_pair_there_is_no_value(conv):
    row = layer_correlation("x", conv)
    assert math.isnan(row.mean)
    assert row.constant == 0


def test_weights_that_are_not_finite_are_named():
    conv = nn.Conv2d(2, 2, 1)
    with torch.no_grad():
        conv.weight[0, 1] = math.nan
    with pytest.raises(ValueError, match=r"layer9\.conv: .*not finite"):
        layer_correlation("layer9.conv", conv)


def test_groups_stand_on_the_diagonal_of_the_matrix():
    got = as_matrix(torch.tensor([[[1.0, 0.5], [0.5, 1]], [[1, 0], [0, 1]]]))
    nan = math.nan
    want = torch.tensor([[1, 0.5, nan, nan], [0.5, 1, nan, nan], [nan, nan, 1, 0], [nan, nan, 0, 1]])
    assert torch.equal(got.nan_to_num(9), want.nan_to_num(9))


class Shuffled(nn.Module):
    """Runs its convolutions in another order than it registers them; one never runs, one runs twice."""

    def __init__(self):
        super().__init__()
        self.unused = nn.Conv2d(3, 3, 1)
        self.last = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))
        self.first = nn.Conv2d(3, 3, 1)
        self.linear = nn.Linear(3, 3)

    def forward(self, x):
        return self.last(self.first(self.first(x)))


def test_layers_are_listed_as_they_run():
    model = Shuffled()
    convs = convolutions(model, torch.ones(1, 3, 4, 4))
    assert [*convs] == ["first", "last.0", "unused"]
    assert all(conv is model.get_submodule(name) for name, conv in convs.items())


def test_listing_leaves_the_network_as_it_was():
    model = Shuffled().train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    convolutions(model, torch.ones(1, 3, 4, 4))
    assert model.training
    assert model.last[1].training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize("norm", ["frozen_bn", "bn"])
def test_recursion_adds_no_layer(norm):
    plain, recursive = (build_backbone("resnet18", norm, passes=passes) for passes in (1, 2))
    names = [[*convolutions(model, PROBE)] for model in (plain, recursive)]
    assert names[0] == names[1]
    assert len(names[0]) == 20
    # the shortcut runs before the branch
    assert names[0][:3] == ["conv1", "layer1.0.conv1", "layer1.0.conv2"]
    assert names[0][5:8] == ["layer2.0.downsample.0", "layer2.0.conv1", "layer2.0.conv2"]


def test_an_unknown_layer_is_answered_with_near_names():
    convs = convolutions(build_backbone("resnet10"), PROBE)
    assert find_layer(convs, "layer3.0.conv2", "mine") is convs["layer3.0.conv2"]
    with pytest.raises(ValueError, match=r"mine has no convolution 'layer3\.0\.conv3'; close: layer3\.0\.conv"):
        find_layer(convs, "layer3.0.conv3", "mine")
    with pytest.raises(ValueError, match=r"none; the first: conv1, layer1\.0\.conv1"):
        find_layer(convs, "?", "mine")
