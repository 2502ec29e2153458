"""Graphs in int8: ranges from pictures, and what becomes of the nodes that are not chosen."""

import numpy as np
import pytest
from helpers.exporting import CASCADE, pictures, small

from detector.inference.export.choose import difference
from detector.inference.export.facts import second_path
from detector.inference.export.int8 import (
    QUANTISERS,
    FileQuantiser,
    OnnxQuantiser,
    OpenVinoQuantiser,
    ranges_of,
    round_only,
    with_biases,
)
from detector.inference.export.layers import SCOPES
from detector.inference.export.write import PACKAGES, export
from detector.inference.formats import EXPORTS
from detector.inference.runtimes import load_exported
from detector.tasks.export import facts_of
from detector.tasks.int8 import detections


def scoped(onnx, kind, inputs, outputs, *scopes, **attributes):
    node = onnx.helper.make_node(kind, inputs, outputs, name=f"node_{outputs[0]}", **attributes)
    node.metadata_props.add(key=SCOPES, value=repr(["", *scopes, outputs[0]]))
    return node


@pytest.fixture
def graph(tmp_path):
    """An ONNX graph with two layers, a tensor that is empty in some pictures, and a selection; and its file."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    helper, kinds = onnx.helper, onnx.TensorProto
    rng = np.random.default_rng(0)
    weights = {"one": rng.normal(size=(4, 3, 3, 3)), "two": rng.normal(size=(5, 4, 1, 1))}
    nodes = [
        scoped(onnx, "Cast", ["images"], ["x"], to=kinds.FLOAT),
        scoped(onnx, "Conv", ["x", "one"], ["a"], "model.backbone", "model.backbone.conv1", pads=[1] * 4),
        scoped(onnx, "Relu", ["a"], ["b"], "model.backbone"),
        scoped(onnx, "Conv", ["b", "two"], ["c"], "model.head", "model.head.cls_logits"),
        scoped(onnx, "Exp", ["c"], ["d"], "model.head"),
        scoped(onnx, "Add", ["d", "d"], ["e"]),
        scoped(onnx, "Cast", ["sizes"], ["f"], to=kinds.FLOAT),
    ]
    inputs = [
        helper.make_tensor_value_info("images", kinds.UINT8, ["N", 3, "H", "W"]),
        helper.make_tensor_value_info("sizes", kinds.INT64, ["N", 2]),
    ]
    outputs = [helper.make_tensor_value_info(name, kinds.FLOAT, None) for name in ("e", "f")]
    known = [helper.make_tensor_value_info(name, kinds.FLOAT, None) for name in "xabcd"]
    initial = [onnx.numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()]
    made = helper.make_graph(nodes, "g", inputs, outputs, initial, value_info=known)
    proto = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(proto, str(tmp_path / "a.onnx"))
    return proto, tmp_path / "a.onnx"


def inputs(value):
    return np.full((1, 3, 4, 4), value, np.uint8), np.array([[4, 4]])


def test_ranges_are_the_mean_of_each_pictures_extremes_and_hold_zero(graph):
    proto, _ = graph
    found = ranges_of(proto, {"node_a", "node_b"}, [inputs(10), inputs(30)])
    assert set(found) == {"x", "a", "b"}  # no weights, and nothing of other nodes
    assert [float(end) for end in found["x"]] == [0, 20]
    assert found["b"][0] == 0
    assert found["a"][0] < 0 < found["a"][1] == found["b"][1]
    images, _ = inputs(10)
    nothing = ranges_of(proto, {"node_f"}, [(images, np.zeros((0, 2), np.int64)), (images, np.array([[-6, 8]]))])
    assert [float(end) for end in nothing["f"]] == [-3, 4]


@pytest.mark.parametrize(
    ("left_out", "only", "in_int8"),
    [
        *(((), "", {"one", "two"}), (["head.cls_logits"], "", {"one"}), ((), "head.cls_logits", {"two"})),
        ((), "a group of another graph", set()),
    ],
)
def test_only_the_chosen_layers_are_in_int8(left_out, only, in_int8, graph, tmp_path):
    import onnx
    import onnxruntime

    _, source = graph
    quantiser = OnnxQuantiser(source, [inputs(10), inputs(200)])
    assert quantiser.groups == ["backbone.conv1", "head.cls_logits"]
    written = quantiser.save(tmp_path / "b.onnx", "said that", left_out, only)
    assert written == (tmp_path / "b.onnx").stat().st_size
    made = onnx.load(str(tmp_path / "b.onnx"))
    assert {entry.key: entry.value for entry in made.metadata_props}["detector"] == "said that"
    kinds = {one.name: one.data_type for one in made.graph.initializer}
    assert {name for name in ("one", "two") if name not in kinds} == in_int8
    assert all(kinds[f"{name}_quantized"] == onnx.TensorProto.INT8 for name in in_int8)
    rounded = {name for node in made.graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    assert not any(name in rounded for node in made.graph.node if node.op_type == "Add" for name in node.input)
    for name in ("one", "two"):  # a scale for each channel
        if name in in_int8:
            scale = next(one for one in made.graph.initializer if one.name == f"{name}_scale")
            assert list(scale.dims) == [{"one": 4, "two": 5}[name]]
    session = onnxruntime.InferenceSession(str(tmp_path / "b.onnx"), providers=["CPUExecutionProvider"])
    images, sizes = inputs(100)
    assert session.run(["e"], {"images": images, "sizes": sizes})[0].shape == (1, 5, 4, 4)
    again = quantiser.save(tmp_path / "c.onnx", "said that", left_out, only)  # the graph itself is untouched
    assert again == written


@pytest.mark.parametrize(
    ("nodes", "kept"),
    [
        ({"one"}, {"x", "one"}),
        ({"two"}, {"one_out", "two"}),  # through the pooling in between
        ({"sum"}, {"one_out", "two_out"}),
        ({"two", "sum"}, {"one_out", "two", "two_out"}),
        (set(), set()),
    ],
)
def test_only_what_stands_before_the_nodes_is_rounded(nodes, kept):
    openvino = pytest.importorskip("openvino")
    from openvino import opset13 as ops

    def rounded(value, name):
        return ops.fake_quantize(value, *(np.float32(end) for end in (0, 255, 0, 255)), 256, name=f"{name}/fq")

    def layer(value, name):
        weight = ops.constant(np.full((2, 2, 1, 1), 0.7, np.float32), name=f"{name}/weight")
        options = [1, 1], [0, 0], [0, 0], [1, 1]
        made = ops.convolution(value, rounded(weight, name), *options, name=f"{name}/WithoutBiases")
        return ops.add(made, np.float32(0), name=name)

    x = ops.parameter([1, 2, 4, 4], np.float32, name="x")
    one = rounded(layer(rounded(x, "x"), "one"), "one_out")
    pooled = ops.avg_pool(one, [1, 1], [0, 0], [0, 0], [1, 1], exclude_pad=True, name="pool")
    two = rounded(layer(pooled, "two"), "two_out")
    graph = openvino.Model([ops.add(one, two, name="sum")], [x], "g")
    round_only(graph, nodes)
    left = {one.get_friendly_name() for one in graph.get_ordered_ops() if one.get_type_name() == "FakeQuantize"}
    assert left == {f"{name}/fq" for name in kept}
    value = 1.3
    value_of = {True: round, False: float}
    first = value_of["x" in kept](value) * value_of["one" in kept](0.7) * 2
    middle = value_of["one_out" in kept](first)
    second = value_of["two_out" in kept](middle * value_of["two" in kept](0.7) * 2)
    made = openvino.Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    assert made([np.full((1, 2, 4, 4), value, np.float32)])[0] == pytest.approx(middle + second, abs=1e-4)


def test_openvino_calibrates_once_for_the_same_nodes_and_once_for_all_trials(graph, tmp_path, monkeypatch):
    class Made:
        def __init__(self, text):
            self.text = text

        def clone(self):
            return Made(f"{self.text} copied")

    asked = []

    def quantised(self, names, pictures, trial=False):
        asked.append((names, len(pictures), trial))
        return Made(f"graph {len(asked)}")

    def round_only(made, nodes):
        made.text += f" but for {sorted(nodes)}"

    monkeypatch.setattr(OpenVinoQuantiser, "_quantised", quantised)
    monkeypatch.setattr(OpenVinoQuantiser, "_float32", lambda self: Made("in float32"))
    monkeypatch.setattr("detector.inference.export.int8.round_only", round_only)
    monkeypatch.setattr("detector.inference.export.int8.save_openvino", lambda path, made, said: (made.text, said))
    quantiser = OpenVinoQuantiser(graph[1], [inputs(10)] * 20)
    assert quantiser.save(tmp_path / "a.xml", 0, only="a group of another graph") == ("in float32", 0)
    said = [quantiser.save(tmp_path / "a.xml", fact, left) for fact, left in ((1, ()), (2, ["head.cls_logits"]))]
    assert said == [("graph 1", 1), ("graph 2", 2)]
    trials = [quantiser.save(tmp_path / "a.xml", 3, only=group)[0] for group in quantiser.groups]
    assert trials == [f"graph 3 copied but for {nodes}" for nodes in (["node_a"], ["node_c"])]
    again = [quantiser.save(tmp_path / "a.xml", fact, ["head.cls_logits"]) for fact in (4, 5)]
    assert again == [("graph 2", 4), ("graph 2", 5)]
    assert asked == [
        (["node_a", "node_b", "node_c"], 20, False),
        (["node_a", "node_b"], 20, False),
        (["node_a", "node_b", "node_c"], 16, True),
    ]


@pytest.mark.parametrize(
    ("nodes", "bias", "changed"),
    [
        ({"node_a", "node_c"}, None, ["node_a", "node_c"]),
        ({"node_a", "node_c"}, [0.0] * 5, ["node_a", "node_c"]),
        ({"node_a", "node_c"}, [0.0, 0.0, 0.25, 0.0, 0.0], ["node_a"]),
        ({"node_c"}, None, ["node_c"]),
    ],
)
def test_for_openvino_no_layer_is_without_a_bias(nodes, bias, changed, graph):
    import onnx
    import onnxruntime

    proto, _ = graph
    second = next(node for node in proto.graph.node if node.name == "node_c")
    if bias is not None:
        proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array(bias, np.float32), "bias"))
        second.input.append("bias")
    before = proto.SerializeToString()
    made = with_biases(proto, nodes)
    assert proto.SerializeToString() == before
    values = {one.name: onnx.numpy_helper.to_array(one) for one in made.graph.initializer}
    biases = {node.name: values[node.input[2]] for node in made.graph.node if node.op_type == "Conv" and node.input[2:]}
    assert [name for name, value in biases.items() if (value == np.float32(1e-30)).all()] == changed
    assert {name: len(value) for name, value in biases.items()}.items() <= {"node_a": 4, "node_c": 5}.items()
    one, two = (
        onnxruntime.InferenceSession(some.SerializeToString(), providers=["CPUExecutionProvider"])
        for some in (proto, made)
    )
    images, sizes = inputs(100)
    assert np.array_equal(*(each.run(["e"], {"images": images, "sizes": sizes})[0] for each in (one, two)))


@pytest.mark.slow
def test_openvino_sees_in_int8_what_is_used_twice(tmp_path):
    """A graph of any size: a layer without bias whose result is an output, and is read by another layer in int8."""
    onnx = pytest.importorskip("onnx")
    openvino = pytest.importorskip("openvino")
    pytest.importorskip("nncf")
    helper, kinds = onnx.helper, onnx.TensorProto
    rng = np.random.default_rng(0)
    shapes = {"one": (16, 3, 3, 3), "two": (16, 16, 3, 3), "three": (16, 16, 1, 1)}
    initial = [
        onnx.numpy_helper.from_array(rng.normal(size=shape).astype(np.float32) / 3, name)
        for name, shape in shapes.items()
    ]
    nodes = [scoped(onnx, "Cast", ["images"], ["x"], to=kinds.FLOAT)]
    for source, weight, result in (("x", "one", "a"), ("a", "two", "b"), ("b", "three", "c")):
        pads = [shapes[weight][2] // 2] * 4
        nodes.append(scoped(onnx, "Conv", [source, weight], [result], "model.neck", f"model.neck.{weight}", pads=pads))
    free = ["N", 3, "H", "W"]
    outputs = [helper.make_tensor_value_info(name, kinds.FLOAT, None) for name in "de"]
    sizes = helper.make_tensor_value_info("sizes", kinds.INT64, ["N", 2])
    outputs.append(helper.make_tensor_value_info("s", kinds.INT64, ["N", 2]))
    nodes.append(helper.make_node("Identity", ["sizes"], ["s"]))
    regions = {"rois": np.array([[2, 2, 14, 14]], np.float32), "pictures": np.zeros(1, np.int64)}
    initial += [onnx.numpy_helper.from_array(value, name) for name, value in regions.items()]
    size = {"output_height": 2, "output_width": 2}
    nodes.append(helper.make_node("RoiAlign", ["b", *regions], ["d"], name="pooled", **size))  # in float32
    nodes.append(helper.make_node("Neg", ["c"], ["e"], name="last"))  # as OpenVINO calls a layer by its output
    inner = [helper.make_tensor_value_info("images", kinds.UINT8, free), sizes]
    made = helper.make_graph(nodes, "g", inner, outputs, initial)
    proto = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(proto, str(tmp_path / "a.onnx"))
    seen = [(rng.integers(0, 256, (1, 3, 16, 24), np.uint8), np.array([[16, 24]])) for _ in range(4)]
    quantiser = OpenVinoQuantiser(tmp_path / "a.onnx", seen)
    names = [node.name for node in nodes if node.op_type == "Conv"]
    wanted, found = (
        openvino.Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(list(seen[0]))
        for graph in (openvino.Core().read_model(str(tmp_path / "a.onnx")), quantiser._quantised(names, seen))
    )
    for i in range(2):
        assert abs(found[i] - wanted[i]).max() < 0.1 * abs(wanted[i]).max()


def test_the_formats_are_those_of_files():
    assert {*QUANTISERS} <= {*EXPORTS}


@pytest.mark.slow
@pytest.mark.parametrize("opts", [[], CASCADE])
@pytest.mark.parametrize("form", QUANTISERS)
def test_both_graphs_of_two_stages_are_in_int8(form, opts, tmp_path):
    """Groups of either are chosen as those of one graph; the second is calibrated with what the first finds."""
    for name in (*PACKAGES[form], "onnxruntime", *["nncf"] * (form == "openvino")):
        pytest.importorskip(name)
    model, cfg = small("faster_rcnn", *opts)
    facts = facts_of(cfg, ["a", "b", "c"], [3, 7, 9], "", "model.pth", None)
    source, path = tmp_path / "s.onnx", tmp_path / f"a{EXPORTS[form]}"
    size = export(model, facts, "onnx", source, split=True)
    float32 = load_exported(source)
    seen = [(pictures(1, 128, 160, seed=i)[0].numpy(), np.array([[128, 160]])) for i in range(6)]
    wanted = list(detections(float32, seen))
    quantiser = FileQuantiser(form, source, float32.facts, seen, float32.second_inputs)
    first, second = (part.groups for part in quantiser.parts)
    assert [*first, *second] == quantiser.groups
    assert second == [f"head.box_heads.{name}" for name in ("fcs", "cls_logits", "deltas")]
    given = quantiser.parts[1].pictures
    assert [len(given), len(given[:2]), len(given[1])] == [6, 2, len(float32.facts.second.inputs)]
    assert len(given[1][4]) == 100  # proposals
    errors, sizes = [], []
    for left_out, only in (((), ""), (second, ""), ((), "head.box_heads.fcs"), ((), "backbone.layer2")):
        written = quantiser.save(path, float32.facts, left_out, only)
        files = [path, second_path(path)]
        files += [one.with_suffix(".bin") for one in files] if form == "openvino" else []
        assert written == sum(one.stat().st_size for one in files)
        sizes.append(second_path(path).with_suffix(".bin" if form == "openvino" else path.suffix).stat().st_size)
        made = load_exported(path)  # whose second file is its own
        if form == "onnx":
            kept = made.facts.second.digest == float32.facts.second.digest
            assert kept == (sizes[-1] == second_path(source).stat().st_size) == (len(sizes) in (2, 4))
        errors.append(difference(wanted, list(detections(made, seen))))
    assert written > 0.9 * size
    assert all(0 < error < 0.15 for error in errors)
    assert sizes[0] < 0.8 * sizes[1]
    assert (sizes[2] < 0.9 * sizes[1]) == (form == "onnx")  # a trial of OpenVINO's has its weights in float32
    assert sizes[3] == pytest.approx(sizes[1], rel=0.05)
