#!/usr/bin/env bash
# onnx 1.23.2 (Python 3.11): of a Constant with an empty list, as torch.onnx.export(dynamo=True, optimize=False) writes
# it for the shape of a single number, what reads a graph into lists of its own cannot write it back: onnx.helper tells
# the type of an attribute from the first entry of its list. onnxslim 0.1.98 and onnx-graphsurgeon 0.6.1 are made so.
# The symbolic shape inference of onnxruntime 1.32.0 knows no list at all, be it empty or not.
#
# Seen (x reshaped to a number, the shape as "value", a tensor, and as "value_ints"):
#   tensor of none: onnxruntime 5.0; onnx-graphsurgeon written; onnxslim with a fixed size written; symbolic shapes found
#   list of none: onnxruntime 5.0; onnx-graphsurgeon ValueError; onnxslim with a fixed size ValueError; symbolic shapes AttributeError
#   list of one: onnxruntime 5.0; onnx-graphsurgeon written; onnxslim with a fixed size written; symbolic shapes AttributeError
#
# The type does stand in the file (AttributeProto.type); graphsurgeon's importer keeps the values alone. Without a fixed
# size onnxslim folds such a constant before it writes. Of our files all constants are tensors.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "onnx==1.23.2" "onnxruntime==1.32.0" "numpy==2.4.6" "onnxslim==0.1.98" \
    "onnx-graphsurgeon==0.6.1" "sympy==1.14.0"
cat > "$folder/small.py" <<'PY'
import contextlib
import io

import numpy as np
import onnx
import onnx_graphsurgeon
import onnxruntime
import onnxslim
from onnxruntime.tools.symbolic_shape_infer import SymbolicShapeInference

helper = onnx.helper


def graph(shape):
    constant = onnx.NodeProto(op_type="Constant", output=["shape"], name="constant")
    constant.attribute.append(shape)
    nodes = [constant, helper.make_node("Reshape", ["x", "shape"], ["y"], name="reshape")]
    ends = [helper.make_tensor_value_info(name, 1, [None] * rank) for name, rank in (("x", 1), ("y", 0))]
    if shape.name == "value_ints" and len(shape.ints):
        ends[1] = helper.make_tensor_value_info("y", 1, [None])
    made = helper.make_graph(nodes, "g", ends[:1], ends[1:])
    proto = helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def what(act, word):
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            act()
    except (ValueError, AttributeError) as error:
        return type(error).__name__
    return word


def ints(values):
    return helper.make_attribute("value_ints", values, attr_type=onnx.AttributeProto.INTS)


empty = onnx.numpy_helper.from_array(np.zeros(0, np.int64))
cases = {
    "tensor of none": (helper.make_attribute("value", empty), ["written", "written", "found"]),
    "list of none": (ints([]), ["ValueError", "ValueError", "AttributeError"]),
    "list of one": (ints([1]), ["written", "written", "AttributeError"]),
}
for name, (shape, seen) in cases.items():
    proto = graph(shape)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    value = float(session.run(None, {"x": np.array([5], np.float32)})[0].ravel()[0])
    found = [
        what(lambda: onnx_graphsurgeon.export_onnx(onnx_graphsurgeon.import_onnx(proto)), "written"),
        what(lambda: onnxslim.slim(onnx.ModelProto.FromString(proto.SerializeToString()), input_shapes=["x:1"]), "written"),
        what(lambda: SymbolicShapeInference.infer_shapes(proto, auto_merge=True), "found"),
    ]
    words = ("onnx-graphsurgeon", "onnxslim with a fixed size", "symbolic shapes")
    print(f"{name}: onnxruntime {value};", "; ".join(f"{word} {one}" for word, one in zip(words, found)))
    assert value == 5
    assert found == seen, "mended: a list is read and written"
print("as seen")
PY
"$folder/venv/bin/python" "$folder/small.py"
