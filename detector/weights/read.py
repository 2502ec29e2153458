"""Weight files: read without running anything in them."""

import pickle
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from detector.weights.find import ZIP, fault

State = dict[str, Tensor]

PICKLE = b"\x80"
TORCH_BEFORE_1_6 = b"\x80\x02\x8a\nl\xfc\x9cF\xf9"


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
