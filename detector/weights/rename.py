"""From the names of a file's tensors to those of a module."""

import re
from collections.abc import Iterable, Mapping, Sequence
from math import prod

import torch
from torch import Tensor

from detector.errors import UserError
from detector.weights.read import State
from detector.weights.record import Decimation, Weights

WRAPPERS = ("module.", "_orig_mod.")
"""What DataParallel, DistributedDataParallel, AveragedModel and torch.compile put before every key."""

HOLDERS = ("model.", "encoder.")
"""Names under which trainings hold a network beside other things."""

_PREFIXES = ("backbone.body.", "backbone.", "stem.")

_CAFFE2 = (
    (r"^(?:res_)?conv1_bn_s$", "bn1.weight"),
    (r"^(?:res_)?conv1_bn_b$", "bn1.bias"),
    (r"^conv1_w$", "conv1.weight"),
    (r"^(?:fc1000|pred)_w$", "fc.weight"),
    (r"^(?:fc1000|pred)_b$", "fc.bias"),
    (r"^(res\d_\d+)_branch1_w$", r"\1_downsample.0.weight"),
    (r"^(res\d_\d+)_branch1_bn_s$", r"\1_downsample.1.weight"),
    (r"^(res\d_\d+)_branch1_bn_b$", r"\1_downsample.1.bias"),
    (r"^(res\d_\d+)_branch2([abc])_w$", r"\1_conv\2.weight"),
    (r"^(res\d_\d+)_branch2([abc])_bn_s$", r"\1_bn\2.weight"),
    (r"^(res\d_\d+)_branch2([abc])_bn_b$", r"\1_bn\2.bias"),
    *((rf"^(res\d_\d+_(?:conv|bn)){letter}\.", rf"\g<1>{digit}.") for digit, letter in enumerate("abc", 1)),
    *((rf"^res{stage + 1}_(\d+)_", rf"layer{stage}.\1.") for stage in range(1, 5)),
)


def unwrapped(state: Mapping[str, Tensor], own: Iterable[str]) -> tuple[State, list[str], list[str]]:
    """Keys without the prefixes of `WRAPPERS` and `HOLDERS`, several in any order, that no key in `own` begins with.

    own: the keys of the module, or what they begin with. Returns also the keys beside a holder that are not among
    `own`, which are left out, and the prefixes that were taken off. Raises ValueError when two keys become one.
    """
    own, aside, off = set(own), list[str](), list[str]()
    inner = renamed(state, [(r"(?<=\.)_orig_mod\.", "")])  # of a part that was compiled, or within another wrapper
    if inner.keys() != state.keys():
        off.append("_orig_mod.")
    while prefix := next((p for p in (*WRAPPERS, *HOLDERS) if _stands_before(p, inner, own)), ""):
        if prefix in HOLDERS:
            beside = [key for key in inner if not key.startswith(prefix) and key not in own]
            inner, aside = {key: inner[key] for key in inner if key not in beside}, [*aside, *beside]
        inner, off = renamed(inner, [("^" + re.escape(prefix), "")]), [*off, prefix]
    return inner, aside, off


def _stands_before(prefix: str, state: Iterable[str], own: Iterable[str]) -> bool:
    return any(key.startswith(prefix) for key in state) and not any(key.startswith(prefix) for key in own)


def translate(state: State, weights: Weights, own: Iterable[str]) -> tuple[State, list[str]]:
    """Keys of a published or trained file -> keys of a module that has the keys `own`.

    Takes the backbone out of a detector checkpoint, understands Caffe2's names, then applies `weights.rename`.
    Returns the renamed tensors, and the keys that were put aside. Raises ValueError for Caffe2 weights in an RGB
    network, for a tensor to decimate that has another size, and when two keys become one.
    """
    own, aside = list(own), []
    for prefix in _PREFIXES:
        if _stands_before(prefix, state, own):
            if prefix.startswith("backbone."):
                aside += [key for key in state if not key.startswith(prefix)]
                state = {key: value for key, value in state.items() if key.startswith(prefix)}
            state = renamed(state, [("^" + re.escape(prefix), "")])
    if "conv1_w" in state:
        if weights.pixels.order != "bgr":
            raise UserError("these are Caffe2 weights, for BGR images: set MODEL.BACKBONE.NAME to a _caffe backbone")
        # Momenta are the solver's; the networks behind these files ignore a stored bias when an affine follows it.
        useless = [key for key in state if re.search(r"_momentum$|^conv1_b$|branch(1|2[abc])_b$", key)]
        aside += useless
        state = renamed({key: value for key, value in state.items() if key not in useless}, _CAFFE2)
        for key in [key for key in state if re.search(r"(bn\d|downsample\.1)\.weight$", key)]:
            stem = key.removesuffix("weight")
            # The statistics are folded into the affine.
            state[stem + "running_mean"] = torch.zeros_like(state[key])
            state[stem + "running_var"] = torch.ones_like(state[key])
    state = {key: value.T if key in weights.transposed else value for key, value in state.items()}
    for whole in [whole for whole in weights.decimated if whole.key in state]:
        state[whole.key] = _decimate(state[whole.key], whole)
    return renamed(state, weights.rename), aside


def _decimate(tensor: Tensor, whole: Decimation) -> Tensor:
    if tensor.numel() != prod(whole.shape):
        raise UserError(
            f"{whole.key!r} is {tuple(tensor.shape)}, not {whole.shape}; is it the file of another network?"
        )
    return tensor.reshape(whole.shape)[tuple(slice(None, None, step) for step in whole.steps)].clone()


def renamed(state: Mapping[str, Tensor], rules: Sequence[tuple[str, str]]) -> State:
    """The tensors by new keys: every (pattern, replacement) is applied to every key, in order.

    Raises ValueError when two keys become one.
    """
    tensors: State = {}
    origin: dict[str, str] = {}
    for old, value in state.items():
        new = old
        for pattern, replacement in rules:
            new = re.sub(pattern, replacement, new)
        if new in tensors:
            raise UserError(f"{origin[new]!r} and {old!r} both become {new!r}; is it the file of another source?")
        tensors[new], origin[new] = value, old
    return tensors
