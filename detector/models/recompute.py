"""Activation checkpointing: a block keeps only its input and is run again in the backward pass. Chen et al. 2016."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def recompute(function: Callable[..., Tensor], modules: Iterable[nn.Module], *inputs: Tensor) -> Tensor:
    """function(*inputs), of which the inputs alone are kept for the backward pass, which runs the function again.

    modules: hold every parameter and norm that the function uses. Values and gradients have the same bits as without,
    and so do running statistics, which the second run leaves alone. The function may draw from the global random
    state, and must not change its inputs in place. Where nothing asks for a gradient it just runs.
    """
    every = [m for module in modules for m in module.modules()]
    parameters = (p for m in every for p in m.parameters(recurse=False))
    if not (torch.is_grad_enabled() and any(x.requires_grad for x in (*inputs, *parameters))):
        return function(*inputs)
    norms = [m for m in every if isinstance(m, _BatchNorm) and m.training]
    return checkpoint(
        function, *inputs, use_reentrant=False, context_fn=lambda: (nullcontext(), _measuring_nothing(norms))
    )


@contextmanager
def _measuring_nothing(norms: Sequence[nn.Module]) -> Iterator[None]:
    """Lets batch norms update copies of their statistics, which are thrown away."""
    # Taken in the backward pass, when all processes and later passes through a stage have updated the originals.
    kept = [dict(norm.named_buffers(recurse=False)) for norm in norms]
    try:
        for norm, buffers in zip(norms, kept, strict=True):
            for name, buffer in buffers.items():
                setattr(norm, name, buffer.clone())
        yield
    finally:
        for norm, buffers in zip(norms, kept, strict=True):
            for name, buffer in buffers.items():
                setattr(norm, name, buffer)
