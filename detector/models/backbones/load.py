"""Weight files: read without running anything in them, rename, load strictly."""

import pickle
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from detector.models.backbones.base import Decimation, Weights
from detector.models.backbones.find import ZIP, fault

State = dict[str, Tensor]

COUNTER = ".num_batches_tracked"
PICKLE = b"\x80"
TORCH_BEFORE_1_6 = b"\x80\x02\x8a\nl\xfc\x9cF\xf9"

# ---------------------------------------------------------------------------- read


def read_weights(path: str | Path) -> State:
    """The tensors of a weight file, by key; dicts under "model", "state_dict" or "blobs" are unwrapped.

    PyTorch's own format, safetensors, and pickles of numpy arrays (Caffe2's .pkl, PaddlePaddle's .pdparams). Code in a
    file is refused, never run. Raises ValueError with the file, what is wrong and the remedy.
    """
    path = Path(path)
    if reason := fault(path, ""):
        raise ValueError(f"{path} {reason}; delete it and fetch it again")
    try:
        content = _reader(path)(path)
    except ImportError as error:
        raise ValueError(f"{path} needs the package safetensors: pip install safetensors") from error
    except Exception as error:
        # Only the end of torch's text: its beginning advises to switch the protection off.
        text = re.sub(r"(?s)^Weights only load failed.*WeightsUnpickler error:", "", str(error)).strip()
        if found := re.search(r"(?i)(?:unsupported (?:class|global:?(?: global)?)|refused:) (\S+)", text):
            raise ValueError(
                f"{path} holds pickled code ({found[1]}), which is never run; open it in the project that made it and "
                "save `model.state_dict()` alone"
            ) from error
        first = text.splitlines()[0].partition(". ")[0][:200] if text else "no reason given"
        reason = f"{type(error).__name__}: {first}"
        raise ValueError(f"{path} is truncated or no weight file ({reason}); delete it and fetch it again") from error
    while isinstance(content, Mapping):
        inner = next((content[key] for key in ("model", "state_dict", "blobs") if key in content), None)
        if not isinstance(inner, Mapping):
            break
        content = inner
    if not isinstance(content, Mapping) or not content:
        raise ValueError(f"{path} holds no tensors by name but a {type(content).__name__}; save `model.state_dict()`")
    return {str(key): _tensor(path, key, value) for key, value in content.items()}


def _tensor(path: Path, key: str, value: object) -> Tensor:
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind in "fiub":
        return torch.from_numpy(np.array(value, dtype=value.dtype.newbyteorder("=")))
    if isinstance(value, Tensor):
        return value
    raise ValueError(f"{path}: {key!r} is a {type(value).__name__}, not a tensor; save `model.state_dict()` alone")


def _read_torch(path: Path) -> object:
    with path.open("rb") as file:  # of a path, torch would go by the suffix
        return torch.load(file, map_location="cpu", weights_only=True)


def _read_safetensors(path: Path) -> object:
    from safetensors.torch import load_file

    return load_file(path)


def _read_pickle(path: Path) -> object:
    with path.open("rb") as file:
        return _ArrayUnpickler(file, encoding="latin1").load()


def _encode_latin1(text: str, encoding: str) -> bytes:
    """What Python 3 pickles bytes with in old protocols; other codecs stay out of reach."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"refused: {encoding}")
    return text.encode("latin1")


# Asked of numpy rather than imported: they live in numpy.core before numpy 2 and in numpy._core since.
_RECONSTRUCT, _SCALAR = np.empty(0).__reduce__()[0], np.float32(0).__reduce__()[0]
_ADMITTED: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy.core.multiarray", "scalar"): _SCALAR,
    ("numpy._core.multiarray", "scalar"): _SCALAR,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _encode_latin1,
}


class _ArrayUnpickler(pickle.Unpickler):
    """Builds numpy arrays and plain containers; any other name in the pickle stops it."""

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401 - as in the base class
        try:
            return _ADMITTED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"refused: {module}.{name}") from None


def _read_arrays(path: Path) -> object:
    """A pickle of arrays; of PaddlePaddle's without its table of names of variables."""
    content = _read_pickle(path)
    if isinstance(content, dict):
        content.pop("StructuredToParameterName@@", None)
    return content


def _reader(path: Path) -> Callable[[Path], object]:
    """What reads a file: its first bytes decide, as suffixes may be wrong, and the suffix where they say nothing."""
    with path.open("rb") as file:
        head = file.read(16)
    if head.startswith((ZIP, TORCH_BEFORE_1_6)):
        return _read_torch
    if path.suffix.lower() == ".safetensors" or head[8:9] == b"{":
        return _read_safetensors
    if path.suffix.lower() in (".pkl", ".pdparams") or head.startswith(PICKLE):
        return _read_arrays
    return _read_torch


# ---------------------------------------------------------------------------- rename

_PREFIXES = ("module.", "backbone.body.", "backbone.", "stem.")

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


def translate(state: State, weights: Weights, own: Iterable[str]) -> tuple[State, list[str]]:
    """Keys of a published or trained file -> keys of a module that has the keys `own`.

    Takes the backbone out of a detector checkpoint, understands Caffe2's names, then applies `weights.rename`.
    Returns the renamed tensors, and the keys that were put aside. Raises ValueError for Caffe2 weights in an RGB
    network, for a tensor to decimate that has another size, and when two keys become one.
    """
    own, aside = list(own), []
    for prefix in _PREFIXES:
        inside = [key for key in state if key.startswith(prefix)]
        if inside and not any(key.startswith(prefix) for key in own):
            if prefix.startswith("backbone."):
                aside += [key for key in state if not key.startswith(prefix)]
                state = {key: state[key] for key in inside}
            state = renamed(state, [("^" + re.escape(prefix), "")])
    if "conv1_w" in state:
        if weights.pixels.order != "bgr":
            raise ValueError("these are Caffe2 weights, for BGR images: set MODEL.BACKBONE.NAME to a _caffe backbone")
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
        raise ValueError(
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
            raise ValueError(f"{origin[new]!r} and {old!r} both become {new!r}; is it the file of another source?")
        tensors[new], origin[new] = value, old
    return tensors


# ---------------------------------------------------------------------------- load


@dataclass
class Report:
    """Key names by what became of them. Prints as a table; the counters of batch norms are left out of it."""

    loaded: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    wrong_shape: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """A row for each fate: count and first names."""
        rows = []
        for what, keys in vars(self).items():
            names = ", ".join(keys[:8]) + (f" and {len(keys) - 8} more" if len(keys) > 8 else "")
            rows.append(f"{what.replace('_', ' '):<12}{len(keys):>6}  {'' if what == 'loaded' else names}".rstrip())
        return "\n".join(rows)


def load_state(
    module: nn.Module,
    state: Mapping[str, Tensor],
    *,
    drop: tuple[str, ...] = (),
    optional: tuple[str, ...] = (),
    source: str = "",
) -> Report:
    """Loads tensors by name; every one must fit.

    drop: prefixes of keys to leave out, in the file (they are not read) and in the module (they keep their values).
    optional: prefixes of keys that the file may lack; so may it `num_batches_tracked`. source: the file, for messages.
    Raises ValueError that lists all keys that are missing, left over or of another shape, or that hold a value which is
    infinite or no number; then nothing is loaded.
    """
    own, report = module.state_dict(), Report()
    dropped = {key for key in {*own, *state} if drop and key.startswith(drop)}
    report.dropped = sorted(dropped)
    for key in [key for key in own if key not in dropped]:
        if key in state and state[key].shape != own[key].shape:
            report.wrong_shape.append(f"{key} {tuple(state[key].shape)} for {tuple(own[key].shape)}")
        elif key in state and not key.endswith(COUNTER):
            report.loaded.append(key)
        elif key not in state and not key.startswith(optional) and not key.endswith(COUNTER):
            report.missing.append(key)
    left = [key for key in state if key not in own and key not in dropped]
    report.unexpected = [key for key in left if not key.endswith(COUNTER)]
    if report.missing or report.unexpected or report.wrong_shape:
        raise ValueError(f"{source or 'these weights'} do not fit the model:\n{report}\n{_remedy(module, report)}")
    broken = [key for key in report.loaded if not torch.isfinite(state[key]).all()]
    if broken:
        raise ValueError(
            f"{source or 'these weights'}: {len(broken)} tensors hold values that are infinite or no number, "
            f"{broken[0]} first: the training that wrote them diverged; take an earlier checkpoint"
        )
    module.load_state_dict({key: state[key] for key in own if key in state and key not in dropped}, strict=False)
    return report


def _remedy(module: nn.Module, report: Report) -> str:
    groups = {name for name, child in module.named_modules() if isinstance(child, nn.GroupNorm)}
    if any(key.endswith(".running_var") and key.rpartition(".")[0] in groups for key in report.unexpected):
        return (
            "The file holds batch norm statistics and the model group norms, which cannot use them: "
            "set MODEL.BACKBONE.NORM to frozen_bn, bn or sync_bn, or MODEL.WEIGHT to ''."
        )
    return "Set MODEL.BACKBONE.NAME to the network that the file was made for, or MODEL.WEIGHT to a file of this one."


def load_backbone(backbone: nn.Module, weights: Weights, path: str | Path) -> Report:
    """Loads a weight file into a backbone (or its Classifier) by the rules of its weight record.

    Accepts the published file, a file of our own, and detector checkpoints, ours or maskrcnn-benchmark's, whose other
    keys are reported as dropped. Raises ValueError as `read_weights`, `translate` and `load_state` do.
    """
    own = backbone.state_dict()
    try:
        state, aside = translate(read_weights(path), weights, own)
    except ValueError as error:
        raise ValueError(str(error) if str(path) in str(error) else f"{path}: {error}") from error
    drop = tuple(prefix for prefix in weights.drop if not any(key.startswith(prefix) for key in own))
    report = load_state(backbone, state, drop=drop, optional=weights.optional, source=str(path))
    report.dropped = sorted([*aside, *report.dropped])
    return report
