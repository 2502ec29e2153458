"""An ONNX graph in the form that the most tools read; what it computes stays the same."""

import re
from collections.abc import Mapping
from itertools import chain
from typing import TYPE_CHECKING

from detector.extras import needed

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

DIMS = {("images", 0): "N", ("images", 2): "H", ("images", 3): "W", ("sizes", 0): "N", ("boxes", 0): "R"}
"""Input and axis -> the name of its length, which torch calls s34 or the like."""


def make_plain(proto: "ModelProto") -> None:
    """Change a graph that torch wrote, in place: constants become tensors, if not empty, and free lengths get names."""
    known: dict[str, NodeProto] = {}
    for node in proto.graph.node:
        if node.op_type == "Constant":
            as_tensor(node)
        elif node.op_type == "Cast" and node.input[0] in known:
            drop_cast(node, known[node.input[0]])
        if node.op_type == "Constant":
            known[node.output[0]] = node
    rename_lengths(proto.graph)


def as_tensor(node: "NodeProto") -> None:
    """Write the value of a constant as a tensor, where it is a number or a list of numbers.

    OpenCV and onnxruntime's symbolic shape inference want tensors. An empty list stays, as OpenVINO 2026.4.1 does not
    read all graphs with an empty tensor in its place.
    """
    onnx = needed("onnx")
    (given,) = node.attribute
    if given.name not in ("value_int", "value_ints", "value_float", "value_floats"):
        return
    if given.name == "value_ints" and not given.ints:
        return
    kind = onnx.TensorProto.INT64 if "int" in given.name else onnx.TensorProto.FLOAT
    value = onnx.helper.get_attribute_value(given)
    several = given.name.endswith("s")
    tensor = onnx.helper.make_tensor("", kind, [len(value)] if several else [], value if several else [value])
    node.attribute[0].CopyFrom(onnx.helper.make_attribute("value", tensor))


def drop_cast(node: "NodeProto", constant: "NodeProto") -> None:
    """Make a cast that leaves a constant as it is a constant itself.

    torch casts the ends of slices so, and tract takes the largest of them, which stands for all there is, for -1 then
    (findings/tract_cast_to_int64_keeps_32_bits.sh).
    """
    to = next(one.i for one in node.attribute if one.name == "to")
    (given,) = constant.attribute
    if given.name == "value" and given.t.data_type == to:
        node.op_type = "Constant"
        node.ClearField("input")
        node.ClearField("attribute")
        node.attribute.add().CopyFrom(given)


def rename_lengths(graph: "GraphProto", names: Mapping[tuple[str, int], str] = DIMS) -> None:
    """Give the free lengths of inputs names, also where other lengths are computed of them: "s34 + 1" is "N + 1"."""
    found = {}
    for given in graph.input:
        for axis, length in enumerate(given.type.tensor_type.shape.dim):
            if (given.name, axis) in names and length.dim_param.isidentifier():
                found[length.dim_param] = names[given.name, axis]
    for value in chain(graph.input, graph.output, graph.value_info):
        for length in value.type.tensor_type.shape.dim:
            if length.dim_param:
                length.dim_param = re.sub(r"[A-Za-z_]\w*", lambda word: found.get(word[0], word[0]), length.dim_param)
