"""Correlation between the filters of a convolution: how far a layer repeats itself."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from detector.errors import UserError


class LayerCorrelation(NamedTuple):
    """One convolution's share of a study.

    layer: its module name; filters, groups: of the convolution; constant: filters whose weights are all equal; mean:
    of the absolute correlations of all pairs, 0..1, NaN where there is no pair.
    """

    layer: str
    filters: int
    groups: int
    constant: int
    mean: float


def filter_correlations(weight: Tensor, groups: int = 1) -> Tensor:
    """Pearson's correlation between the filters of a convolution, each taken as one vector of its weights.

    weight [filters, channels / groups, h, w]. Filters are compared within their group only: those of other groups see
    other channels, so that equal weights mean nothing there. Returns [groups, F, F] float64 within -1..1, F filters a
    group. A filter whose weights are all equal has no correlation; its row and column are 0, the diagonal too.
    Raises ValueError for weights that are not finite.
    """
    if not weight.isfinite().all():
        raise UserError("these weights are not finite; the training has diverged, or the file is damaged")
    # in float64 the mean of many small float32 weights loses nothing that shows in the result
    filters = weight.detach().double().reshape(groups, weight.shape[0] // groups, -1)
    centered = filters - filters.mean(dim=2, keepdim=True)
    # asked of the weights, since rounding may leave a trace of a variance that is 0
    constant = filters.amin(dim=2, keepdim=True) == filters.amax(dim=2, keepdim=True)
    unit = (centered / centered.norm(dim=2, keepdim=True)).masked_fill(constant, 0)
    return (unit @ unit.transpose(1, 2)).clamp(-1, 1)


def mean_correlation(correlations: Tensor) -> float:
    """Mean absolute correlation of all pairs of different filters within their groups; NaN where there is no pair.

    correlations: as `filter_correlations` returns them. A pair with a constant filter counts as 0.
    """
    groups, filters, _ = correlations.shape
    absolute = correlations.abs()
    total = absolute.sum() - absolute.diagonal(dim1=1, dim2=2).sum()
    return total.item() / (groups * filters * (filters - 1)) if filters > 1 else float("nan")


def as_matrix(correlations: Tensor) -> Tensor:
    """The groups of [groups, F, F] along the diagonal of one matrix; NaN between filters of different groups."""
    same_group = torch.block_diag(*torch.ones_like(correlations))
    return torch.block_diag(*correlations).masked_fill(same_group == 0, float("nan"))


def layer_correlation(name: str, conv: nn.Conv2d) -> LayerCorrelation:
    """The numbers of one convolution. Raises ValueError with its name for weights that are not finite."""
    try:
        correlations = filter_correlations(conv.weight, conv.groups)
    except UserError as error:
        raise UserError(f"{name}: {error}") from None
    constant = int((correlations.diagonal(dim1=1, dim2=2) == 0).sum())
    return LayerCorrelation(name, conv.out_channels, conv.groups, constant, mean_correlation(correlations))


class _FirstUse(TorchFunctionMode):
    """Notes the weights that functions are called with. Hooks would miss a weight that a norm was folded into."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.weights = weights  # kept alive: the id of a tensor is its own only as long as it lives
        self.names = {id(weight): name for name, weight in weights.items()}
        self.order: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        used = (*args, *(kwargs or {}).values())
        self.order += [self.names[id(value)] for value in used if id(value) in self.names]
        return func(*args, **(kwargs or {}))


@torch.inference_mode()
def convolutions(model: nn.Module, images: Tensor) -> dict[str, nn.Conv2d]:
    """All convolutions of a network by module name, in the order in which they first run; those that never run last.

    images: an input that the network takes; its values do not matter. A convolution that runs several times, as in a
    SReResNet, is one layer. The network's mode and statistics stay as they are.
    """
    found = {name: module for name, module in model.named_modules() if isinstance(module, nn.Conv2d)}
    mode = model.training
    try:
        with _FirstUse({name: conv.weight for name, conv in found.items()}) as first_use:
            model.eval()(images)
    finally:
        model.train(mode)
    return {name: found[name] for name in dict.fromkeys([*first_use.order, *found])}


def find_layer(convs: dict[str, nn.Conv2d], layer: str, network: str) -> nn.Conv2d:
    """The convolution of that name. Raises ValueError with the nearest names when `network` has none."""
    if layer not in convs:
        near = ", ".join(get_close_matches(layer, convs, n=5)) or f"none; the first: {', '.join([*convs][:5])}"
        raise UserError(f"{network} has no convolution {layer!r}; close: {near}")
    return convs[layer]
