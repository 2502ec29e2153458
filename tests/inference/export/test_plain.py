"""A graph in the form that the most tools read."""

import numpy as np
import pytest
import torch
from torch import nn

from detector.inference.export import write
from detector.inference.export.plain import make_plain
from detector.inference.export.write import INPUTS, graph_of, onnx_of


class Shapes(nn.Module):
    """Constants of every kind that torch writes: an empty list for the shape of one number is among them."""

    def forward(self, images, sizes):
        first = sizes[:1, 0].sum().reshape(()) + 0.5
        return torch.cat([images.float().mean((1, 2)), images.float()[:, 0, 0, :1]], dim=1)[:, 1:] * first


def values_of(onnx, proto):
    """Output of each constant -> its value, read as onnx.reference reads it."""
    found = {}
    for node in proto.graph.node:
        if node.op_type == "Constant":
            (given,) = node.attribute
            value = onnx.helper.get_attribute_value(given)
            if given.name == "value":
                value = onnx.numpy_helper.to_array(value)
            kind = {"value_float": np.float32, "value_floats": np.float32}.get(given.name)
            kind = np.int64 if given.name in ("value_int", "value_ints") else kind
            found[node.output[0]] = np.asarray(value, kind)
    return found


def is_same(onnx, cast, values):
    """Whether a cast leaves a constant as it is."""
    return values[cast.input[0]].dtype == onnx.helper.tensor_dtype_to_np_dtype(cast.attribute[0].i)


@pytest.mark.slow
def test_of_a_file_constants_are_tensors_and_lengths_have_names(tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    program = graph_of(Shapes(), 2)
    write._write("onnx", tmp_path / "a.onnx", program, INPUTS, ["found"], "said")
    proto = onnx_of(program, ["found"], INPUTS).model_proto
    before = values_of(onnx, proto)
    free = proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    assert free not in ("", "N")
    casts = [one for one in proto.graph.node if one.op_type == "Cast"]
    make_plain(proto)
    onnx.checker.check_model(proto, full_check=True)
    after = values_of(onnx, proto)
    assert set(after) > set(before)
    assert not any(one.op_type == "Cast" and one.input[0] in after and is_same(onnx, one, after) for one in casts)
    for name, value in before.items():
        assert after[name].dtype == value.dtype
        assert after[name].shape == value.shape
        np.testing.assert_array_equal(after[name], value)
    assert {one.attribute[0].name for one in proto.graph.node if one.op_type == "Constant"} == {"value"}
    ends = {one.name: one.type.tensor_type.shape.dim for one in (*proto.graph.input, *proto.graph.output)}
    assert [one.dim_param or one.dim_value for one in ends["images"]] == ["N", 3, "H", "W"]
    assert [one.dim_param or one.dim_value for one in ends["sizes"]] == ["N", 2]
    assert [one.dim_param or one.dim_value for one in ends["found"]] == ["N", "W"]
    assert onnx.load(tmp_path / "a.onnx").graph == proto.graph
    for value in proto.graph.value_info:
        assert free not in {one.dim_param for one in value.type.tensor_type.shape.dim}


@pytest.mark.parametrize(
    ("name", "value"), [("value_int", 3), ("value_ints", []), ("value_ints", [4, -5]), ("value_floats", [0.5])]
)
def test_a_constant_of_each_kind_is_a_tensor_of_its_type(name, value):
    onnx = pytest.importorskip("onnx")
    kind = onnx.AttributeProto.INTS if isinstance(value, list) else onnx.AttributeProto.INT
    kind = onnx.AttributeProto.FLOATS if "float" in name else kind
    node = onnx.NodeProto(op_type="Constant", output=["y"])
    node.attribute.append(onnx.helper.make_attribute(name, value, attr_type=kind))
    outputs = [onnx.helper.make_tensor_value_info("y", 1 if "float" in name else 7, np.shape(value))]
    proto = onnx.helper.make_model(onnx.helper.make_graph([node], "g", [], outputs))
    make_plain(proto)
    onnx.checker.check_model(proto, full_check=True)
    (given,) = proto.graph.node[0].attribute
    found = onnx.numpy_helper.to_array(given.t)
    assert found.dtype == (np.float32 if "float" in name else np.int64)
    assert found.tolist() == value


def test_casts_of_constants_go_where_they_change_nothing():
    onnx = pytest.importorskip("onnx")
    make = onnx.helper.make_node
    nodes = [
        make("Constant", [], ["end"], value_int=2**63 - 1),
        make("Cast", ["end"], ["same"], to=7),
        make("Cast", ["end"], ["other"], to=1),
        make("Cast", ["same"], ["again"], to=7),
        make("Cast", ["x"], ["given"], to=7),
    ]
    proto = onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", [], []))
    make_plain(proto)
    found = {one.output[0]: one.op_type for one in proto.graph.node}
    assert found == {"end": "Constant", "same": "Constant", "other": "Cast", "again": "Constant", "given": "Cast"}
    assert values_of(onnx, proto)["again"] == 2**63 - 1
    assert [list(one.input) for one in proto.graph.node] == [[], [], ["end"], [], ["x"]]


def test_texts_stay_as_they_are():
    onnx = pytest.importorskip("onnx")
    node = onnx.helper.make_node("Constant", [], ["y"], value_string=b"words")
    proto = onnx.helper.make_model(onnx.helper.make_graph([node], "g", [], []))
    make_plain(proto)
    assert proto.graph.node[0] == node


def test_lengths_that_others_are_computed_of_are_renamed_in_them_as_words():
    onnx = pytest.importorskip("onnx")
    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [],
        "g",
        [info("images", 2, ["s1", 3, "s14", "s77"]), info("p2", 1, ["s5", 8, "s6", "s7"]), info("boxes", 1, ["s9", 4])],
        [info("scores", 1, ["s14//2 + s1", "s141", "u0"])],
        value_info=[info("a", 1, ["(s77 - 1)*s9", 4])],
    )
    proto = onnx.helper.make_model(graph)
    make_plain(proto)
    shapes = [
        [one.dim_param or one.dim_value for one in value.type.tensor_type.shape.dim]
        for value in (*proto.graph.input, *proto.graph.output, *proto.graph.value_info)
    ]
    assert shapes == [
        ["N", 3, "H", "W"],
        ["s5", 8, "s6", "s7"],
        ["R", 4],
        ["H//2 + N", "s141", "u0"],
        ["(W - 1)*R", 4],
    ]
