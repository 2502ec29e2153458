"""The one reader of weight files: torch's, safetensors and pickled arrays; nothing in them is ever run."""

import logging
import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from detector.errors import UserError, cut
from detector.weights.arrays import Array, read_arrays
from detector.weights.find import ZIP, fault, is_safetensors
from detector.weights.scan import check_tuples

log = logging.getLogger("detector")

State = dict[str, Tensor]

PICKLE = b"\x80"
TORCH_BEFORE_1_6 = b"\x80\x02\x8a\nl\xfc\x9cF\xf9"

OWN_AVERAGE = "average"
"""Where our trainings keep averaged weights, in the form of torch's AveragedModel."""

AVERAGED = (OWN_AVERAGE, "state_dict_ema", "model_ema", "ema")
"""Where trainings keep averaged weights, which count before the plain ones beside them."""

PLAIN = ("model", "state_dict", "blobs", "module")
"""Where files keep weights that are not alone in them."""


PLAIN_TYPES = frozenset((
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
))  # fmt: skip
"""The types of numbers that weights are stored in."""

MAX_PLACES = 8
"""How many entries deep the tensors of a network may stand."""

FETCH = "; delete it and fetch it again"


@dataclass(frozen=True)
class WeightFile:
    """What was read of a weight file.

    state: the tensors of the network, by the file's own keys; content: what the file says beside them (config, classes,
    step, ..); taken: the entry that the tensors are from, e.g. "model" or "ema.module"; "" where they are alone.
    """

    path: Path
    state: State
    content: dict[str, Any] = field(default_factory=dict)
    taken: str = ""


def read_file(path: str | Path, *, optimizer: bool = False) -> WeightFile:
    """Read a weight file, once and whole, onto the CPU.

    optimizer: to go on with a training of ours: its state and its average stay in the content, and the weights are the
    plain ones.
    PyTorch's own formats, safetensors, and pickles of numpy arrays (Caffe2's .pkl, PaddlePaddle's .pdparams). The
    weights of a training that also kept their average are the averaged ones, and the log says so. Code in a file is
    refused, never run, and an archive has to match its checksums. Raises ValueError with the file, what is wrong and
    the remedy; FileNotFoundError.
    """
    path = Path(path)
    if reason := fault(path, ""):
        raise UserError(f"{path} {reason}{FETCH}")
    whole = _load(path, _reader(path))
    weights, places = whole, list[str]()
    while isinstance(weights, Mapping) and (place := _place(weights, ours=not optimizer)):
        weights, places = weights[place], [*places, place]
        if len(places) > MAX_PLACES:
            raise UserError(f"{path}: more than {MAX_PLACES} entries in each other; save `model.state_dict()` alone")
    if not isinstance(weights, Mapping) or not (weights or places):
        weights = weights.tensor if isinstance(weights, Array) else weights
        raise UserError(f"{path} holds no tensors by name but a {type(weights).__name__}; save `model.state_dict()`")
    state, taken = {key: _tensor(path, key, value) for key, value in weights.items()}, ".".join(places)
    if state.pop("n_averaged", None) is not None:  # of torch's AveragedModel, which puts a prefix before all others
        state = {key.removeprefix("module."): value for key, value in state.items()}
    if not places or not isinstance(whole, Mapping):
        return WeightFile(path, state)
    others = [key for key in (*PLAIN, *AVERAGED[1:]) if isinstance(whole.get(key), Mapping) and key != places[0]]
    if places[0] in AVERAGED:
        beside = f", not those under {others[0]!r}" if others else ""
        log.info("%s: the averaged weights under %r are taken%s", path, taken, beside)
    left_out = (places[0], *others, *(() if optimizer else ("optimizer",)))
    return WeightFile(path, state, {key: value for key, value in whole.items() if key not in left_out}, taken)


def read_plain(path: Path) -> dict[str, Any]:
    """What a checkpoint says in numbers and texts, such as its step and config, without reading its tensors.

    Empty for a file of another form. Raises ValueError naming the file when it is damaged or holds code.
    """
    if _reader(path) is not _read_archive:
        return {}
    content = _load(path, _read_mapped)
    entries = content.items() if isinstance(content, Mapping) else ()
    return {key: value for key, value in entries if isinstance(key, str) and isinstance(value, str | int | float)}


def _place(content: Mapping[str, Any], *, ours: bool) -> str | None:
    """The entry that the weights stand under; None where they are alone. ours: whether OWN_AVERAGE counts."""
    for key in AVERAGED:  # of which some trainings keep settings only
        inner = content.get(key)
        if not isinstance(inner, Mapping) or (key == OWN_AVERAGE and not (ours and "n_averaged" in inner)):
            continue
        if any(isinstance(x, (Tensor, Array, Mapping)) for x in inner.values()):
            return key
    return next((key for key in PLAIN if isinstance(content.get(key), Mapping)), None)


def _tensor(path: Path, key: object, value: object) -> Tensor:
    """A plain tensor under a text. Raises ValueError naming the key and what stands there."""
    save = "save `model.state_dict()` alone"
    if not isinstance(key, str):
        raise UserError(f"{path}: the key {cut(key)} is a {type(key).__name__}, not a text; {save}")
    tensor = value.tensor if isinstance(value, Array) else value
    if not isinstance(tensor, Tensor):
        raise UserError(f"{path}: {cut(key)} is a {type(tensor).__name__}, not a tensor; {save}")
    if kind := odd_kind(tensor):
        raise UserError(f"{path}: {cut(key)} is {kind}; {save}, of dense tensors of numbers")
    if tensor.numel() * tensor.element_size() > path.stat().st_size:  # one value may be spread over all places
        raise UserError(f"{path}: {cut(key)} of shape {tuple(tensor.shape)} holds more values than the file; {save}")
    return tensor


def odd_kind(tensor: Tensor) -> str:
    """What a tensor is where it is no dense one of plain numbers in memory; "" where it is."""
    if tensor.is_meta:
        return "a meta tensor, which has no values"
    if tensor.is_quantized:
        return "a quantised tensor"
    if tensor.is_nested:
        return "a nested tensor"
    if tensor.layout != torch.strided:
        return f"a sparse tensor ({str(tensor.layout).removeprefix('torch.')})"
    if tensor.dtype not in PLAIN_TYPES:
        return f"a tensor of {str(tensor.dtype).removeprefix('torch.')}"
    return "" if type(tensor) in (Tensor, nn.Parameter) else f"a {type(tensor).__name__}"


class _DamageError(UserError):
    """A file whose content is not what was written; the message names it."""


def _load(path: Path, read: Callable[[Path], object]) -> object:
    """What `read` gives; whatever it raises as a ValueError that names the file and the remedy."""
    try:
        return read(path)
    except _DamageError:
        raise
    except ImportError as error:
        raise UserError(f"{path} needs the package safetensors: pip install safetensors") from error
    except Exception as error:
        # Only the end of torch's text: its beginning advises to switch the protection off.
        text = re.sub(r"(?s)^Weights only load failed.*WeightsUnpickler error:", "", str(error)).strip()
        if found := re.search(r"(?i)(?:unsupported (?:class|global:?(?: global)?)|refused:) (\S+)", text):
            raise UserError(
                f"{path} holds pickled code ({found[1]}), which is never run; open it in the project that made it and "
                "save `model.state_dict()` alone"
            ) from error
        first = text.splitlines()[0].partition(". ")[0][:200] if text else "no reason given"
        reason = f"{type(error).__name__}: {first}"
        raise UserError(f"{path} is truncated or no weight file ({reason}){FETCH}") from error


def _reader(path: Path) -> Callable[[Path], object]:
    """What reads a file: its first bytes decide, as suffixes may be wrong, and the suffix where they say nothing."""
    with path.open("rb") as file:
        head = file.read(16)
    if head.startswith(ZIP):
        return _read_archive
    if head.startswith(TORCH_BEFORE_1_6):
        return _read_torch
    if path.suffix.lower() == ".safetensors" or is_safetensors(head, path.stat().st_size):
        return _read_safetensors
    if path.suffix.lower() in (".pkl", ".pdparams") or head.startswith(PICKLE):
        return read_arrays
    return _read_torch


def _read_archive(path: Path) -> object:
    """Torch's present format: a zip archive. torch does not compare its checksums."""
    with _archive(path) as archive:
        if member := archive.testzip():
            raise _DamageError(f"{path} is damaged: {member} does not match its checksum{FETCH}")
        _check_pickle(archive)
    return _read_torch(path)


def _read_mapped(path: Path) -> object:
    """The same without reading its tensors, as far as nobody asks for them."""
    with _archive(path) as archive:
        _check_pickle(archive)
    return torch.load(path, map_location="cpu", weights_only=True, mmap=True)


def _archive(path: Path) -> zipfile.ZipFile:
    archive = zipfile.ZipFile(path)
    if sum(member.file_size for member in archive.infolist()) > path.stat().st_size:
        archive.close()
        raise _DamageError(f"{path}: its parts are packed and larger than the file; save it by `torch.save`")
    return archive


def _check_pickle(archive: zipfile.ZipFile) -> None:
    for member in archive.namelist():
        if member.rpartition("/")[2] == "data.pkl":
            check_tuples(archive.read(member))


def _read_torch(path: Path) -> object:
    with path.open("rb") as file:  # of a path, torch would go by the suffix
        return torch.load(file, map_location="cpu", weights_only=True)


def _read_safetensors(path: Path) -> object:
    from safetensors.torch import load_file

    return load_file(path)
