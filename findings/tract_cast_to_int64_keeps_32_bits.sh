#!/usr/bin/env bash
# tract 0.23.9 (Python 3.11, Linux, x86-64): a Cast to int64 keeps the lower 32 bits of its integers, so that
# 9223372036854775807 becomes -1. As the end of a Slice that number says "all there is", and -1 "all but the last": of
# a graph that casts it the last row is lost, without a word. onnxruntime 1.32.0 keeps it.
#
# Seen:
#   Slice to 9223372036854775807, not cast: tract [0, 1, 2, 3, 4], onnxruntime [0, 1, 2, 3, 4]
#   Slice to 9223372036854775807, cast from int64 to int64: tract [0, 1, 2, 3], onnxruntime [0, 1, 2, 3, 4]
#   Cast of [7, 2147483648, 4294967299, 9223372036854775807]: tract [7, -2147483648, 3, -1]
#
# tract reads int64 of ONNX as its type of lengths, TDim; a cast to that goes by way of int32 (data/src/tensor.rs), and
# its pulse/src/blockify.rs names it as a known limit. The cast is what torch.onnx.export(dynamo=True, optimize=False)
# writes for every x[1:]: of its files, and so of ours, tract needs those that a simplifier such as onnxsim has been over.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "tract==0.23.9" "onnx==1.23.2" "onnxruntime==1.32.0" "numpy==2.4.6"
cat > "$folder/small.py" <<'PY'
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import tract

helper, tensor, path = onnx.helper, onnx.numpy_helper.from_array, Path(sys.argv[1]) / "small.onnx"
FLOAT, INT64, DOUBLE = 1, 7, 11
MOST = 2**63 - 1


def both(nodes, kind, x, weights=()):
    ends = [[helper.make_tensor_value_info(name, kind, [None])] for name in ("x", "y")]
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", x[1], [len(x[0])])], ends[1], weights)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(made, full_check=True)
    onnx.save(made, path)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    ran = tract.onnx().load(str(path)).into_model().into_runnable().run([x[0]])[0].to_numpy()
    return [[int(one) for one in found] for found in (ran, session.run(None, {"x": x[0]})[0])]


rows = np.arange(5, dtype=np.float32), FLOAT
ends = [tensor(np.array([value]), name) for name, value in (("start", 0), ("axis", 0), ("step", 1), ("end", MOST))]
plain = helper.make_node("Slice", ["x", "start", "end", "axis", "step"], ["y"])
cast = helper.make_node("Cast", ["end"], ["same"], to=INT64)
after = helper.make_node("Slice", ["x", "start", "same", "axis", "step"], ["y"])
found = both([plain], FLOAT, rows, ends), both([cast, after], FLOAT, rows, ends)
for name, (one, other) in zip(("not cast", "cast from int64 to int64"), found):
    print(f"Slice to {MOST}, {name}: tract {one}, onnxruntime {other}")
assert found[0] == [[0, 1, 2, 3, 4]] * 2
assert found[1] == [[0, 1, 2, 3], [0, 1, 2, 3, 4]], "mended: the last row is there"
large = np.array([7, 2**31, 2**32 + 3, MOST])
there = helper.make_node("Cast", ["x"], ["same"], to=INT64), helper.make_node("Cast", ["same"], ["y"], to=DOUBLE)
one, other = both(there, DOUBLE, (large, INT64))
print(f"Cast of {large.tolist()}: tract {one}")
assert other == [int(float(value)) for value in large.tolist()]
assert one == [7, -(2**31), 3, -1], "mended: 64 bits are kept"
print("as seen")
PY
"$folder/venv/bin/python" "$folder/small.py" "$folder"
