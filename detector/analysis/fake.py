"""Running a network on tensors that have shapes and no values, also where values decide what comes next."""

from collections.abc import Callable
from typing import Any

import torch
import torchvision.ops  # noqa: F401 - registers its operators
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

POSITIVE = 1 / 16
"""Assumed share of the locations, anchors or regions that a box is found for."""
MINED = 3 * POSITIVE
"""Assumed share of the anchors that are hard negatives."""

_ATEN = torch.ops.aten
_COMPARED = {_ATEN.gt: 1.0, _ATEN.ge: 1.0, _ATEN.lt: 1.0, _ATEN.le: 1.0, _ATEN.eq: 0.5, _ATEN.ne: 0.5}


def fake(x: Tensor) -> Tensor:
    """A tensor like x on the CPU, inside of a FakeTensorMode."""
    return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device="cpu")


def fake_tensors(module: nn.Module) -> None:
    """Replace the tensors of a module on the meta device by fake ones, inside of a FakeTensorMode."""
    for part in module.modules():
        for name, parameter in part.named_parameters(recurse=False):
            setattr(part, name, nn.Parameter(fake(parameter), parameter.requires_grad))
        for name, buffer in part.named_buffers(recurse=False):
            setattr(part, name, fake(buffer))


class Assumed(TorchDispatchMode):
    """Decides, inside of a FakeTensorMode, what values would decide: how many entries a mask has, what NMS keeps.

    images: of the batch. Of a mask each row is taken to have the same share of true entries, which follows from what
    the mask was made of: comparisons of floating-point numbers hold everywhere, an index of a box is one (>= 0) for
    POSITIVE of all candidates, .. NMS keeps all. So what a head samples in a fixed number has that number.
    """

    def __init__(self, images: int) -> None:
        super().__init__()
        self.images = images

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        kwargs = kwargs or {}
        if (assumed := _ASSUMED.get(func.overloadpacket)) is not None:
            return assumed(self, func, *args, **kwargs)
        result = func(*args, **kwargs)
        if isinstance(result, Tensor) and result.dtype == torch.bool:
            result.share = self.share(func.overloadpacket, args)  # type: ignore[attr-defined]
        return result

    def share(self, packet: Any, args: Any) -> float:  # noqa: ANN401
        """The share of true entries of a mask."""
        shares = [_share(x) for x in args if isinstance(x, Tensor) and x.dtype == torch.bool]
        if packet in _COMPARED:
            first, second = args[:2]
            if first.dtype.is_floating_point or isinstance(second, Tensor):
                return _COMPARED[packet]
            if packet == _ATEN.eq:
                return 1 / self.images if second >= 0 else 1 - POSITIVE if second == -1 else 0.0
            return POSITIVE
        if packet in (_ATEN.logical_not, _ATEN.bitwise_not):
            return 1 - shares[0]
        if packet in (_ATEN.logical_and, _ATEN.bitwise_and):
            return min(shares)
        if packet in (_ATEN.scatter, _ATEN.scatter_):
            return MINED
        return max(shares, default=1.0)


def _share(mask: Tensor) -> float:
    return getattr(mask, "share", 1.0)


def _number(mask: Tensor) -> int:
    """True entries of a mask: rows times a share of a row."""
    rows = mask.numel() // max(mask.shape[-1], 1) if mask.ndim else 1
    return rows * round(mask.shape[-1] * _share(mask)) if mask.ndim else 1


def _integers(like: Tensor, *shape: int) -> Tensor:
    return torch.empty(shape, dtype=torch.int64, device=like.device)


def _nonzero(mode: Assumed, func: Any, x: Tensor) -> Tensor:  # noqa: ANN401
    return _integers(x, _number(x), x.ndim)


def _as_numbers(indices: Any) -> list[Tensor | None]:  # noqa: ANN401
    """Indices in which every mask has become an index for each of its dimensions."""
    found: list[Tensor | None] = []
    for index in indices:
        if index is not None and index.dtype in (torch.bool, torch.uint8):
            found += [_integers(index, _number(index)) for _ in range(index.ndim)]
        else:
            found.append(index)
    return found


def _index(mode: Assumed, func: Any, x: Tensor, indices: Any) -> Tensor:  # noqa: ANN401
    return func(x, _as_numbers(indices))


def _index_put(mode: Assumed, func: Any, x: Tensor, indices: Any, values: Tensor, *more: Any) -> Tensor:  # noqa: ANN401
    if any(index is not None and index.dtype == torch.bool for index in indices):
        return x if func.overloadpacket == _ATEN.index_put_ else x.clone()
    return func(x, indices, values, *more)


def _nms(mode: Assumed, func: Any, boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:  # noqa: ANN401
    return _integers(boxes, len(boxes))


def _unique(mode: Assumed, func: Any, x: Tensor, *more: Any, **named: Any) -> tuple[Tensor, Tensor, Tensor]:  # noqa: ANN401
    values = x.new_empty(min(x.numel(), 5))
    return values, _integers(x, 0), _integers(x, 0)


def _scalar(mode: Assumed, func: Any, x: Tensor) -> float | int | bool:  # noqa: ANN401
    return 1.0 if x.dtype.is_floating_point else x.dtype == torch.bool or 1


_ASSUMED: dict[Any, Callable[..., Any]] = {
    _ATEN.nonzero: _nonzero,
    _ATEN.index: _index,
    _ATEN.index_put: _index_put,
    _ATEN.index_put_: _index_put,
    _ATEN._index_put_impl_: _index_put,
    _ATEN._unique2: _unique,
    _ATEN._local_scalar_dense: _scalar,
    torch.ops.torchvision.nms: _nms,
}
