"""Pickles of numpy arrays (Caffe2's .pkl, PaddlePaddle's .pdparams), read by stand-ins: no function of numpy runs."""

import mmap
import pickle
import re
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import numpy as np
import torch
from torch import Tensor

_DTYPE = re.compile(r"[<>=|]?(b1|[iu][1248]|f[248])")
_MAX_DIMENSIONS = 32


def read_arrays(path: Path) -> object:
    """The content of a pickle whose arrays are numeric; they come as tensors, several names of one array as one.

    All arrays together are no larger than the file. PaddlePaddle's table of names of variables is left out. Raises
    UnpicklingError, or another error of a damaged pickle, for whatever is no plain container, text, number or array.
    """
    # Reading of a map is bounded by its end, whatever length a pickle declares.
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole:
        content = _ArrayUnpickler(whole, len(whole)).load()
    if isinstance(content, dict):
        content.pop("StructuredToParameterName@@", None)
    return content


class Array:
    """An array of a pickle; `tensor` is None until its content was read."""

    __slots__ = ("_claim", "tensor")

    def __init__(self, claim: Callable[[int], None]) -> None:
        self._claim = claim
        self.tensor: Tensor | None = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, data = state
        if isinstance(data, str):  # bytes of Python 2
            data = data.encode("latin1")
        self.fill(shape, dtype, data, "F" if fortran else "C")

    def fill(self, shape: object, dtype: object, data: object, order: object = "C") -> None:
        """Take the content, if it is what shape and dtype say."""
        if not isinstance(dtype, _Dtype) or not isinstance(data, bytes | bytearray) or order not in ("C", "F"):
            raise pickle.UnpicklingError("an array that is not made of a type and bytes")
        sides = shape if isinstance(shape, tuple) and len(shape) <= _MAX_DIMENSIONS else (None,)
        if not all(type(side) is int and side >= 0 for side in sides):
            raise pickle.UnpicklingError("an array whose shape is none")
        if prod(sides) * dtype.kind.itemsize != len(data):
            raise pickle.UnpicklingError(f"an array of shape {shape} and type {dtype.kind} with {len(data)} bytes")
        self._claim(len(data))
        array = np.frombuffer(data, dtype.kind).reshape(sides, order=order)
        self.tensor = torch.from_numpy(np.array(array, dtype.kind.newbyteorder("="), order="C"))


class _Dtype:
    """A numeric type of a pickle; any other stops it."""

    __slots__ = ("kind",)

    def __init__(self, text: object, *_: object) -> None:
        found = _DTYPE.fullmatch(text) if isinstance(text, str) else None
        if not found:
            raise pickle.UnpicklingError(f"refused: numpy.dtype({str(text)[:20]!r})")
        self.kind = np.dtype(found[1])

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if len(state) < 5 or state[1] not in ("<", ">", "=", "|") or any(state[2:5]):  # parts, names, fields
            raise pickle.UnpicklingError("refused: numpy.dtype with fields")
        self.kind = self.kind.newbyteorder(state[1])


class _Name:
    """What a name in a pickle stands for: nothing but a call can be made of it."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., object]) -> None:
        self._call = call

    def __call__(self, *arguments: object) -> object:
        return self._call(*arguments)

    def __setstate__(self, state: object) -> NoReturn:
        raise pickle.UnpicklingError("a name with a state")


class _ArrayUnpickler(pickle._Unpickler):  # type: ignore[name-defined]
    """Builds arrays and plain containers; any other name in the pickle stops it.

    Python's own unpickler rather than the one in C, which makes room for as many objects as a pickle says it has.
    """

    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)  # type: ignore[attr-defined]

    def __init__(self, file: mmap.mmap, size: int) -> None:
        super().__init__(file, encoding="latin1")
        self.left = size
        marker, module = _Name(_refused("numpy.ndarray")), ("numpy.core.multiarray", "numpy._core.multiarray")
        self.names: dict[tuple[str, str], object] = {("numpy", "ndarray"): marker, ("numpy", "dtype"): _Name(_Dtype)}
        self.names["_codecs", "encode"] = _Name(_encode_latin1)
        self.names["__builtin__", "bytes"] = _Name(lambda: b"")  # how protocol 2 writes no bytes
        for where in module:
            self.names[where, "_reconstruct"] = _Name(lambda *_: Array(self.claim))
            self.names[where, "scalar"] = _Name(self.scalar)
        for where in ("numpy.core.numeric", "numpy._core.numeric"):
            self.names[where, "_frombuffer"] = _Name(self.from_buffer)

    def find_class(self, module: str, name: str) -> object:
        try:
            return self.names[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"refused: {module}.{name}") from None

    def claim(self, number: int) -> None:
        """Take note of the bytes of an array; one text may stand in many of them."""
        self.left -= number
        if self.left < 0:
            raise pickle.UnpicklingError("more bytes in arrays than the file has")

    def scalar(self, dtype: object, data: object) -> Array:
        return self.from_buffer(data.encode("latin1") if isinstance(data, str) else data, dtype, (), "C")

    def from_buffer(self, data: object, dtype: object, shape: object, order: object) -> Array:
        array = Array(self.claim)
        array.fill(shape, dtype, data, order)
        return array


def _refuse_opcode(unpickler: _ArrayUnpickler) -> NoReturn:
    raise pickle.UnpicklingError("what is no array, text, number, list, tuple or dict of texts")


def _with_plain_keys(load: Callable[[_ArrayUnpickler], None], first: int | None) -> Callable[[_ArrayUnpickler], None]:
    """The opcode that fills a dict, for keys whose hash takes no walk through tuples in tuples."""

    def checked(unpickler: _ArrayUnpickler) -> None:
        stack = unpickler.stack  # type: ignore[attr-defined]
        keys = stack[::2] if first is None else stack[first:][:1]
        if not all(isinstance(key, str | int | bytes) for key in keys):
            raise pickle.UnpicklingError("a dict whose keys are no texts")
        load(unpickler)

    return checked


for _code in (
    *(pickle.INST, pickle.OBJ, pickle.NEWOBJ, pickle.NEWOBJ_EX, pickle.EXT1, pickle.EXT2, pickle.EXT4),
    *(pickle.EMPTY_SET, pickle.ADDITEMS, pickle.FROZENSET, pickle.PERSID, pickle.BINPERSID),
    *(pickle.NEXT_BUFFER, pickle.READONLY_BUFFER),
):
    _ArrayUnpickler.dispatch[_code[0]] = _refuse_opcode
for _code, _first in ((pickle.SETITEM, -2), (pickle.SETITEMS, None), (pickle.DICT, None)):
    _ArrayUnpickler.dispatch[_code[0]] = _with_plain_keys(_ArrayUnpickler.dispatch[_code[0]], _first)


def _refused(name: str) -> Callable[..., NoReturn]:
    def refuse(*_: object) -> NoReturn:
        raise pickle.UnpicklingError(f"refused: {name}")

    return refuse


def _encode_latin1(text: object, encoding: object = "", *_: object) -> bytes:
    """What Python 3 pickles bytes with in old protocols; other codecs stay out of reach."""
    if not isinstance(text, str) or encoding != "latin1":
        raise pickle.UnpicklingError(f"refused: {encoding}")
    return text.encode("latin1")
