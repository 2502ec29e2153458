#!/usr/bin/env bash
# onnxruntime 1.32.0 (Python 3.11, Linux): onnxruntime.transformers.optimizer.optimize_model, of model_type "bert", which
# is the default, and all that share its code, takes two Transpose of the same perm in a row for none. That is so of
# perm [1, 0], but not of [1, 2, 0]: the optimised graph gives other numbers, in another shape, without a word. And where
# what lies between the two is used once more, the first is removed all the same: "Graph is not a DAG".
#
# Seen (Relu, Transpose, Transpose, Relu, of [2, 3, 4]):
#   perm [0, 2, 1]: Relu Relu -> [2, 3, 4], before [2, 3, 4], the same
#   perm [1, 2, 0]: Relu Relu -> [2, 3, 4], before [4, 2, 3], others
#   perm [1, 2, 0], of a cube: Relu Relu -> [3, 3, 3], before [3, 3, 3], others
#   perm [0, 2, 1], used in between: RuntimeError: Graph is not a DAG
#
# fusion_constant_fold.py (fuse_2) compares the two perm with each other, where the one would have to undo the other,
# and appends both nodes to those to remove, whoever reads them. A detector's head turns maps to rows by Transpose and
# back: optimize_model refuses our files with that message. The optimiser of onnxruntime itself is right.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "onnx==1.23.2" "onnxruntime==1.32.0" "numpy==2.4.6" "sympy==1.14.0"
cat > "$folder/small.py" <<'PY'
import logging
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnxruntime.transformers.optimizer import optimize_model

logging.disable()
helper, path = onnx.helper, Path(sys.argv[1]) / "small.onnx"


def run(proto, x):
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(["y"], {"x": x})[0]


def compare(perm, shape, between=False):
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Transpose", ["a"], ["b"], perm=perm),
        helper.make_node("Transpose", ["b"], ["c"], perm=perm),
        helper.make_node("Relu", ["c"], ["y"]),
    ]
    names = ["y"]
    if between:
        nodes.append(helper.make_node("Sigmoid", ["b"], ["z"]))
        names.append("z")
    outputs = [helper.make_tensor_value_info(name, 1, [None] * 3) for name in names]
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", 1, shape)], outputs)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(made, full_check=True)
    onnx.save(made, path)
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    found = optimize_model(str(path), opt_level=0).model
    before, after = run(made, x), run(found, x)
    same = np.array_equal(before, after)
    kinds = [node.op_type for node in found.graph.node]
    return same, f"{' '.join(kinds)} -> {list(after.shape)}, before {list(before.shape)}, {'the same' if same else 'others'}"


same, text = compare([0, 2, 1], [2, 3, 4])
print("perm [0, 2, 1]:", text)
assert same
for name, shape in (("", [2, 3, 4]), (", of a cube", [3, 3, 3])):
    same, text = compare([1, 2, 0], shape)
    print(f"perm [1, 2, 0]{name}:", text)
    assert not same, "mended: equal permutations that are not their own inverse are kept"
try:
    compare([0, 2, 1], [2, 3, 4], between=True)
except RuntimeError as error:
    print("perm [0, 2, 1], used in between: RuntimeError:", str(error).split(":")[0])
    assert "not a DAG" in str(error)
else:
    raise AssertionError("mended: what is used twice is kept")
print("as seen")
PY
"$folder/venv/bin/python" "$folder/small.py" "$folder"
