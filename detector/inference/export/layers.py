"""Which nodes of an ONNX graph are the network, and which of them belong together: what may be computed in int8."""

import ast
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

SCOPES = "pkg.torch.onnx.name_scopes"
"""Of a node's metadata: the modules that it was called in, outermost first, then its own name, as torch writes them."""

LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""Operators with weights."""

BETWEEN = ("Add", "AveragePool", "Concat", "GlobalAveragePool", "MaxPool", "Relu", "Resize")
"""Operators that stand between layers, and are quantised there so that nothing is turned to float32 and back."""

COMPUTED = ("Add", "Concat")
"""Those of them that join what is computed."""

FEATURES = ("backbone", "neck")
"""The parts of a detector of which all is the network; a head also selects, by operators of the same kinds."""


def groups_of(proto: "ModelProto") -> dict[str, str]:
    """Name of each node that may be quantised -> the group of layers that it belongs to, such as "backbone.layer1".

    Weights lie in the file as initialisers; a product of two things that are computed is no layer. What stands between
    layers and in none of their groups is in that of its part, "backbone" or "neck".
    """
    weights = {one.name for one in proto.graph.initializer}
    fixed = weights | {name for node in proto.graph.node if node.op_type == "Constant" for name in node.output}
    found = {}
    for node in proto.graph.node:
        parts = module_of(node)
        layer = node.op_type in LAYERS and len(node.input) > 1 and node.input[1] in weights
        between = node.op_type in BETWEEN and parts[:1] and parts[0] in FEATURES
        if node.op_type in COMPUTED and any(name in fixed for name in node.input):
            between = False  # arithmetic with a constant, as in the length of a vector
        if parts and (layer or between):
            found[node.name] = group_of(parts)
    return found


def groups_of_layers(proto: "ModelProto", groups: Mapping[str, str]) -> list[str]:
    """The groups that hold weights, in the order of the graph."""
    return list(
        dict.fromkeys(groups[node.name] for node in proto.graph.node if node.op_type in LAYERS and node.name in groups)
    )


def module_of(node: "NodeProto") -> list[str]:
    """The path of the module that a node was called in, below the detector: ["backbone", "layer1", "0", "conv1"]."""
    text = next((entry.value for entry in node.metadata_props if entry.key == SCOPES), "[]")
    scopes: list[Any] = ast.literal_eval(text)
    names = [str(scope).split(".") for scope in scopes[:-1]]
    inner = next((name for name in reversed(names) if name[0] == "model" and len(name) > 1), ["model"])
    return inner[1:]


def group_of(parts: list[str]) -> str:
    """What is quantised together: a stage of the backbone, a kind of layers of the neck or the head, on all levels."""
    words = [part for part in parts if not part.isdigit()]
    return ".".join(words[: 3 if words[0] == "head" else 2])
