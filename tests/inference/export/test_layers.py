"""What of a graph is the network, told from the modules that its nodes were called in."""

from types import SimpleNamespace

import pytest

from detector.inference.export.layers import SCOPES, group_of, groups_of, groups_of_layers, module_of


def node(name, kind, *scopes, inputs=None):
    inputs = inputs if inputs is not None else ("x", "y") if kind == "Add" else ("x", "weight")
    scopes = ["", *scopes, name]
    entries = [SimpleNamespace(key="other", value="{"), SimpleNamespace(key=SCOPES, value=repr(scopes))]
    return SimpleNamespace(name=name, op_type=kind, input=list(inputs), output=[name], metadata_props=entries)


def graph(*nodes):
    return SimpleNamespace(graph=SimpleNamespace(node=nodes, initializer=[SimpleNamespace(name="weight")]))


def test_layers_and_what_stands_between_them_are_the_network():
    proto = graph(
        node("mean", "Sub"),
        node("conv1", "Conv", "model.backbone", "model.backbone.conv1"),
        node("pool", "MaxPool", "model.backbone"),
        node("conv", "Conv", "model.backbone", "model.backbone.layer2", "model.backbone.layer2.0.conv1"),
        node("sum", "Add", "model.backbone", "model.backbone.layer2", "model.backbone.layer2.0"),
        node("gate", "Sigmoid", "model.backbone", "model.backbone.layer2", "model.backbone.layer2.0"),
        node("product", "MatMul", "model.backbone", "model.backbone.layer2", inputs=("x", "y")),
        node("lateral", "Conv", "model.neck", "model.neck.inner.c3"),
        node("up", "Resize", "model.neck"),
        node("eps", "Constant", "model.neck", "model.neck.l2norm.c3", inputs=()),
        node("length", "Add", "model.neck", "model.neck.l2norm.c3", inputs=("x", "eps")),
        node("logits", "Conv", "model.head", "model.head.cls_logits"),
        node("offsets", "Add", "model.head", "model.head.cls_logits"),
        node("linear", "Gemm", "model.head.box_heads.0", "model.head.box_heads.0.fcs.1"),
        node("exp", "Exp", "model.head"),
        node("decoded", "Add", "model.head"),
        SimpleNamespace(name="bare", op_type="Conv", input=["x", "weight"], output=[], metadata_props=[]),
    )
    groups = groups_of(proto)
    assert groups == {
        "conv1": "backbone.conv1",
        "pool": "backbone",
        "conv": "backbone.layer2",
        "sum": "backbone.layer2",
        "lateral": "neck.inner",
        "up": "neck",
        "logits": "head.cls_logits",
        "linear": "head.box_heads.fcs",
    }
    layers = ["backbone.conv1", "backbone.layer2", "neck.inner", "head.cls_logits", "head.box_heads.fcs"]
    assert groups_of_layers(proto, groups) == layers


@pytest.mark.parametrize(
    ("path", "group"),
    [
        ("backbone.layer1.0.conv2", "backbone.layer1"),
        ("neck.layer.c5", "neck.layer"),
        ("neck.p6", "neck.p6"),
        ("head.cls_tower.3", "head.cls_tower"),
        ("head.rpn.convs.0", "head.rpn.convs"),
        ("head.tcbs.2.up.0", "head.tcbs.up"),
        ("head.box_heads.2.cls_logits", "head.box_heads.cls_logits"),
    ],
)
def test_all_levels_and_stages_of_one_kind_are_one_group(path, group):
    assert group_of(path.split(".")) == group


def test_the_innermost_module_counts():
    assert module_of(node("a", "Conv", "model.neck", "model.neck.inner.c3")) == ["neck", "inner", "c3"]
    assert module_of(node("a", "Add", "model.neck")) == ["neck"]
    assert module_of(node("a", "Add")) == module_of(node("a", "Add", "model")) == []
