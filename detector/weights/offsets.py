"""Offsets of deformable stages in weight files: under the names of other projects, or not there at all."""

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

from detector.weights.read import State

_OFFSET = re.compile(r"(^|\.)conv(2_|_)offset\.(weight|bias)$")

_OTHERS = (
    # ours, and what mmdetection, its split attention, and its first versions call it
    (r"\bconv2_offset\.", "conv2.conv_offset."),
    (r"\bconv2_offset\.", "conv2.conv.conv_offset."),
    (r"\.conv_offset\.", "_offset."),
)


def is_offset(key: str) -> bool:
    """Whether a key is of a convolution that says how the taps of another one move."""
    return _OFFSET.search(key) is not None


def with_own_offsets(state: Mapping[str, Tensor], own: Iterable[str]) -> State:
    """The tensors of a file, with offsets that it has under another project's names under those of a module.

    own: the keys of the module.
    """
    named, own = dict(state), set(own)
    for key in filter(is_offset, own):
        others = (re.sub(pattern, other, key) for pattern, other in _OTHERS)
        for other in (other for other in others if other in named and other not in own and key not in named):
            named[key] = named.pop(other)
    return named


def new_offsets(state: Mapping[str, Tensor], own: Iterable[str]) -> tuple[str, ...]:
    """The offsets of a module that a file of a network without any leaves as they are: all or none."""
    offsets = tuple(filter(is_offset, own))
    return () if any(is_offset(key) for key in state) else offsets
