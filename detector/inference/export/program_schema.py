"""What a file of torch.export holds, of what matters to run it: torch's schema 8."""

import msgspec


class Name(msgspec.Struct, frozen=True):
    """Of a value in the graph."""

    name: str


class Device(msgspec.Struct, frozen=True):
    """cpu, cuda, .."""

    type: str


class Number(msgspec.Struct, frozen=True):
    """A number, or the name of a value that is one."""

    as_name: str | None = None
    as_int: int | None = None
    as_float: float | str | None = None
    as_bool: bool | None = None


class Maybe(msgspec.Struct, frozen=True):
    """A tensor or nothing."""

    as_tensor: Name | None = None


class Argument(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One of them is given."""

    as_none: bool | None = None
    as_tensor: Name | None = None
    as_tensors: list[Name] | None = None
    as_optional_tensor: Maybe | None = None
    as_optional_tensors: list[Maybe] | None = None
    as_int: int | None = None
    as_ints: list[int] | None = None
    as_float: float | str | None = None
    as_floats: list[float | str] | None = None
    as_string: str | None = None
    as_bool: bool | None = None
    as_bools: list[bool] | None = None
    as_sym_int: Number | None = None
    as_sym_ints: list[Number] | None = None
    as_sym_float: Number | None = None
    as_sym_bool: Number | None = None
    as_scalar_type: int | None = None
    as_memory_format: int | None = None
    as_layout: int | None = None
    as_device: Device | None = None


class Named(msgspec.Struct, frozen=True):
    """An argument of an operator; kind: 2 where it is given by its name."""

    name: str
    arg: Argument
    kind: int | None = None


class Node(msgspec.Struct, frozen=True):
    """A call of an operator."""

    target: str
    inputs: list[Named]
    outputs: list[Argument]


class SavedGraph(msgspec.Struct, frozen=True):
    """The calls, in their order."""

    nodes: list[Node]


class Weight(msgspec.Struct, frozen=True):
    """A tensor of the model; one of its names is given."""

    arg: Name
    parameter_name: str = ""
    buffer_name: str = ""
    tensor_constant_name: str = ""


class User(msgspec.Struct, frozen=True):
    """What the caller gives or gets."""

    arg: Argument


class InputSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One of them is given."""

    parameter: Weight | None = None
    buffer: Weight | None = None
    tensor_constant: Weight | None = None
    user_input: User | None = None


class OutputSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the caller gets; nothing else is an output of a detector."""

    user_output: User


class Signature(msgspec.Struct, frozen=True):
    """Inputs and outputs in their order."""

    input_specs: list[InputSpec]
    output_specs: list[OutputSpec]


class SavedModule(msgspec.Struct, frozen=True):
    """The graph of a model."""

    graph: SavedGraph
    signature: Signature


class Version(msgspec.Struct, frozen=True):
    """Of the schema."""

    major: int


class SavedProgram(msgspec.Struct, frozen=True):
    """models/model.json."""

    graph_module: SavedModule
    schema_version: Version


class Meta(msgspec.Struct, frozen=True):
    """How a tensor lies in its storage, in elements."""

    dtype: int
    sizes: list[Number]
    strides: list[Number]
    storage_offset: Number


class Payload(msgspec.Struct, frozen=True):
    """Where a tensor lies."""

    path_name: str
    use_pickle: bool
    tensor_meta: Meta | None


class Payloads(msgspec.Struct, frozen=True):
    """data/KIND/model_KIND_config.json."""

    config: dict[str, Payload]
