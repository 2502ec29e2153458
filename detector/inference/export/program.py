"""Files of torch.export: written by torch's own function, read without it.

`torch.export.load` unpickles what it finds, evaluates expressions and follows names of functions wherever they lead. A
file needs none of that to be run: it holds a list of operators with their arguments as JSON, and tensors as bytes.
"""

import io
import operator
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.export import ExportedProgram

from detector.errors import UserError
from detector.inference.export.program_schema import Argument, Maybe, Name, Number, Payloads, SavedModule, SavedProgram

VERSION = 8
"""Major version of torch's schema, which torch 2.10 to 2.14 write."""

CLEARED = ("stack_trace", "nn_module_stack", "source_fn_stack", "from_node", "torch_fn")
"""What torch would note of each operator: paths and lines of this machine."""

DTYPES = {
    1: torch.uint8, 2: torch.int8, 3: torch.int16, 4: torch.int32, 5: torch.int64, 6: torch.float16, 7: torch.float32,
    8: torch.float64, 12: torch.bool, 13: torch.bfloat16,
}  # fmt: skip
"""torch's numbers in these files, which are not those of its other formats."""

TABLES: Mapping[str, Mapping[int, object]] = {
    "as_scalar_type": DTYPES,
    "as_memory_format": {1: torch.contiguous_format, 2: torch.channels_last, 4: torch.preserve_format},
    "as_layout": {7: torch.strided},
}

NUMBERS: dict[str, Callable[..., Any]] = {
    **{f"_operator.{name}": getattr(operator, name) for name in "add sub mul floordiv mod neg".split()},
    **{f"_operator.{name}": getattr(operator, name) for name in "eq ne le ge lt gt and_ or_".split()},
    **{f"torch.sym_{name}": getattr(torch, f"sym_{name}") for name in "int float max min not".split()},
}
"""What is done with sizes."""

ATEN = re.compile(r"torch\.ops\.aten\.([a-z]\w*|__(?:and|or|xor|lshift|rshift)__)\.(\w+)")
VISION = ("torch.ops.torchvision.nms.default", "torch.ops.torchvision.roi_align.default")

TYPES = frozenset(
    {"Tensor", "int", "SymInt", "float", "bool", "number", "Scalar", "str", "Device", "ScalarType", "Layout"}
    | {"MemoryFormat", "NoneType"}
)
"""Of the arguments of an operator, whether optional or in a list."""

WORDS = frozenset(
    {"none", "tanh", "floor", "trunc", "ij", "xy", "constant", "reflect", "replicate", "circular", "same", "valid"}
    | {"sum", "mean", "amax", "amin", "prod", "left", "right", "linear"}
)
"""All that an operator is told in words. Names of files are not among them."""


class Tuple(nn.Module):
    """A function of images and sizes with its outputs as a plain tuple, as these files know no other."""

    def __init__(self, graph: nn.Module) -> None:
        super().__init__()
        self.network = graph  # not called graph, which in torch's own module is another thing

    def forward(self, images: Tensor, sizes: Tensor) -> tuple[Tensor, ...]:
        """As the function."""
        return tuple(self.network(images, sizes))


def program_bytes(program: ExportedProgram, notes: Mapping[str, str]) -> bytes:
    """The file of a graph; notes: texts that travel in it."""
    for module in program.graph_module.modules():
        for node in getattr(module, "graph", torch.fx.Graph()).nodes:
            for key in CLEARED:
                node.meta.pop(key, None)
    file = io.BytesIO()
    torch.export.save(program, file, extra_files=dict(notes))
    return file.getvalue()


class _Value(str):
    """The name of what an operator gave."""

    __slots__ = ()


class _Step(msgspec.Struct, frozen=True):
    """done: names that nobody asks for afterwards."""

    function: Callable[..., Any]
    args: list[Any]
    kwargs: dict[str, Any]
    outputs: list[Any]
    done: list[str]


class Program:
    """A graph of tensors; it may be called from several threads at once."""

    def __init__(
        self, steps: Sequence[_Step], weights: Mapping[str, Tensor], inputs: Sequence[str], outputs: Sequence[str]
    ) -> None:
        self.steps, self.weights, self.inputs, self.outputs = list(steps), dict(weights), list(inputs), list(outputs)

    @torch.no_grad()
    def __call__(self, *inputs: Tensor) -> list[Tensor]:
        """The outputs of the graph."""
        values: dict[str, Any] = {**self.weights, **dict(zip(self.inputs, inputs, strict=True))}
        for step in self.steps:
            given = {name: _value(arg, values) for name, arg in step.kwargs.items()}
            found = step.function(*(_value(arg, values) for arg in step.args), **given)
            _keep(step.outputs[0] if len(step.outputs) == 1 else step.outputs, found, values)
            for name in step.done:
                del values[name]
        return [values[name] for name in self.outputs]


def read_program(path: Path) -> tuple[Program, Mapping[str, str]]:
    """The graph in a file of torch.export and the texts beside it; nothing in the file is unpickled or evaluated.

    Raises ValueError naming the file: for one that is none, and for one whose graph holds other things than tensors,
    numbers and operators of torch that turn them into each other.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            files = _Files(archive)
            program = msgspec.json.decode(files.read("models/model.json"), type=SavedProgram)
            if program.schema_version.major != VERSION:
                raise UserError(f"{path} was written by a torch whose files are others; export it anew")
            tensors = {**files.tensors("weights"), **files.tensors("constants")}
            return _built(program.graph_module, tensors), files.notes()
    except UserError as error:
        raise UserError(f"{path} cannot be read as a file of torch.export: {error}") from None
    except (zipfile.BadZipFile, msgspec.DecodeError, UnicodeDecodeError, NotImplementedError, EOFError) as error:
        raise UserError(f"{path} cannot be read as a file of torch.export: {error}") from None


class _Files:
    """What lies in an archive, below its one folder."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self.archive = archive
        names = archive.namelist()
        self.root = names[0].split("/")[0] if names else ""

    def read(self, name: str) -> bytes:
        """The bytes of a file. Raises ValueError where there is none."""
        try:
            entry = self.archive.getinfo(f"{self.root}/{name}")
        except KeyError:
            raise UserError(f"it has no {name}") from None
        if entry.compress_type != zipfile.ZIP_STORED:  # and so is no larger than the archive
            raise UserError(f"{name} is compressed, which torch never does")
        return self.archive.read(entry)

    def notes(self) -> dict[str, str]:
        """The texts."""
        start = f"{self.root}/extra/"
        names = [name[len(start) :] for name in self.archive.namelist() if name.startswith(start)]
        return {name: self.read(f"extra/{name}").decode() for name in names}

    def tensors(self, kind: str) -> dict[str, Tensor]:
        """The tensors of a kind by name; those that share memory in the model share it."""
        payloads = msgspec.json.decode(self.read(f"data/{kind}/model_{kind}_config.json"), type=Payloads)
        storages: dict[tuple[str, int], Tensor] = {}
        tensors = {}
        for name, payload in payloads.config.items():
            meta, place = payload.tensor_meta, payload.path_name
            if payload.use_pickle or meta is None:
                raise UserError(f"{name} is pickled, and so could run anything")
            if meta.dtype not in DTYPES:
                raise UserError(f"{name} has an unknown type")
            if (place, meta.dtype) not in storages:
                content = bytearray(self.read(f"data/{kind}/{place}"))
                dtype = DTYPES[meta.dtype]
                if len(content) % dtype.itemsize:
                    raise UserError(f"{name} is cut off")
                storages[place, meta.dtype] = (
                    torch.frombuffer(content, dtype=dtype) if content else torch.empty(0, dtype=dtype)
                )
            sizes, strides, (offset,) = (_whole(some) for some in (meta.sizes, meta.strides, [meta.storage_offset]))
            storage = storages[place, meta.dtype]
            last = offset + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=False))
            outside = 0 not in sizes and last >= len(storage)
            if outside or len(sizes) != len(strides) or min(*sizes, *strides, offset, 0) < 0:
                raise UserError(f"{name} lies outside its file")
            tensors[name] = torch.as_strided(storage, sizes, strides, offset)
        return tensors


def _whole(numbers: Sequence[Number]) -> list[int]:
    if any(number.as_int is None for number in numbers):
        raise UserError("a tensor has no fixed size")
    return [number.as_int or 0 for number in numbers]


def _built(module: SavedModule, tensors: Mapping[str, Tensor]) -> Program:
    """The graph with every operator found. Raises ValueError for what it must not, or cannot, hold."""
    weights, inputs = {}, []
    for one in module.signature.input_specs:
        weight = one.parameter or one.buffer or one.tensor_constant
        if weight is not None:
            name = weight.parameter_name or weight.buffer_name or weight.tensor_constant_name
            if name not in tensors:
                raise UserError(f"it has no tensor {name}")
            weights[weight.arg.name] = tensors[name]
        elif one.user_input is not None and one.user_input.arg.as_tensor is not None:
            inputs.append(one.user_input.arg.as_tensor.name)
        else:
            raise UserError("one of its inputs is no tensor")
    ends = [one.user_output.arg.as_tensor for one in module.signature.output_specs]
    outputs = [end.name for end in ends if end is not None]
    if len(outputs) != len(ends):
        raise UserError("one of its outputs is no tensor")

    steps: list[_Step] = []
    known = {*weights, *inputs}
    for node in module.graph.nodes:
        places = [_argument(one) for one in node.outputs]
        made = _names(places)
        if not made:  # a check of the exporter's
            continue
        args = [(one, _argument(one.arg)) for one in node.inputs]
        if missing := set(_names([arg for _, arg in args])) - known:
            raise UserError(f"{min(missing)} is used before it is made")
        if twice := set(made) & known:
            raise UserError(f"{min(twice)} is made twice")
        known |= set(made)
        given = {one.name: arg for one, arg in args if one.kind == 2}
        rest = [arg for one, arg in args if one.kind != 2]
        steps.append(_Step(_function(node.target), rest, given, places, []))
    if missing := set(outputs) - known:
        raise UserError(f"its output {min(missing)} is never made")
    wanted = {*outputs, *weights}
    for step in reversed(steps):
        for name in {*_names(step.args), *_names(list(step.kwargs.values())), *_names(step.outputs)} - wanted:
            step.done.append(name)
            wanted.add(name)
    return Program(steps, weights, inputs, outputs)


def _argument(given: Argument) -> Any:  # noqa: ANN401 - whatever an operator takes
    """What an operator is given: a number, a word, the name of a value, or a list of these."""
    kinds = [key for key in given.__struct_fields__ if getattr(given, key) is not None]
    if len(kinds) != 1:
        raise UserError(f"an argument is {' and '.join(kinds) or 'none'} at once")
    (kind,) = kinds
    value = getattr(given, kind)
    if kind == "as_none":
        return None
    if kind in TABLES:
        if value not in TABLES[kind]:
            raise UserError(f"it has an unknown {kind.removeprefix('as_')}")
        return TABLES[kind][value]
    if kind == "as_device":
        if value.type != "cpu":
            raise UserError(f"it is for the device {value.type}")
        return torch.device("cpu")
    if kind == "as_string" and value not in WORDS:
        raise UserError(f"it tells an operator {value!r}")
    return _plain(value)


def _plain(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, Name):
        return _Value(value.name)
    if isinstance(value, Maybe):
        return None if value.as_tensor is None else _Value(value.as_tensor.name)
    if isinstance(value, Number):
        if value.as_name is not None:
            return _Value(value.as_name)
        number = [one for one in (value.as_int, value.as_float, value.as_bool) if one is not None]
        if len(number) != 1:
            raise UserError("a number is missing")
        return _plain(number[0])
    if isinstance(value, str) and value in ("Infinity", "-Infinity", "NaN"):  # JSON has no such numbers
        return float(value)
    return value


def _function(target: str) -> Callable[..., Any]:
    """The operator of a name: of torch's those that turn tensors and numbers into such, and nothing else."""
    if target in NUMBERS:
        return NUMBERS[target]
    found: object = None
    if target in VISION:
        found = getattr(getattr(torch.ops.torchvision, target.split(".")[3]), "default", None)
    elif match := ATEN.fullmatch(target):
        found = getattr(getattr(torch.ops.aten, match[1], None), match[2], None)
    if isinstance(found, OpOverload):
        schema = found._schema
        types = {re.sub(r"Optional|List|[\[\]]", "", str(one.type)) for one in schema.arguments}
        # What takes a word and no tensor is one that opens files.
        if schema.returns and types <= TYPES and ("str" not in types or "Tensor" in types):
            return found
    raise UserError(f"it calls {target}, which is none of the operators that a detector is made of")


def _names(args: object) -> list[str]:
    """The names of values in arguments."""
    if isinstance(args, _Value):
        return [str(args)]
    return [name for one in args for name in _names(one)] if isinstance(args, list) else []


def _value(arg: Any, values: Mapping[str, Any]) -> Any:  # noqa: ANN401
    if isinstance(arg, _Value):
        return values[arg]
    return [_value(one, values) for one in arg] if isinstance(arg, list) else arg


def _keep(places: Any, found: Any, values: dict[str, Any]) -> None:  # noqa: ANN401
    """Give what an operator made its names."""
    if isinstance(places, list):
        for place, one in zip(places, found, strict=True):
            _keep(place, one, values)
    elif places is not None:
        values[places] = found
