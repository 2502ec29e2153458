#!/usr/bin/env bash
# onnx 1.23.2 with numpy 2.4.6 (Python 3.11): onnx.reference.ReferenceEvaluator, which is there to say what an operator
# gives, gathers with GatherElements from 63 elements of an axis at most. From 64 on it raises ValueError ("Need at
# least 0 and at most 64 array objects"); of a matrix of one column it gives the column itself, whatever the indices.
# onnxruntime 1.32.0 gathers from any number.
#
# Seen (the first of N, gathered N times, from arange(N)):
#   63 in one column: reference 0 0 0 ..., onnxruntime 0 0 0 ...
#   64 in one column: reference 0 1 2 ..., onnxruntime 0 0 0 ...
#   64 in a row of three dimensions: reference ValueError, onnxruntime 0 0 0 ...
#   NonMaxSuppression with limits that are scalars: reference IndexError, onnxruntime [[0, 0, 1], [0, 0, 0]]
#
# The evaluator gathers by numpy.choose, whose limit that is (before numpy 2: 31), and, where it raises for a matrix,
# takes of row i of the data what the first index of row i says, whichever the axis. The best 1,000 boxes of a picture
# are gathered from thousands, so no detector of the usual kind can be evaluated; and it reads NonMaxSuppression's
# thresholds at [0], where the specification has them as scalars: IndexError.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "onnx==1.23.2" "onnxruntime==1.32.0" "numpy==2.4.6"
cat > "$folder/small.py" <<'PY'
import numpy as np
import onnx
import onnxruntime
from onnx.reference import ReferenceEvaluator

helper = onnx.helper


def model(nodes, inputs, weights=()):
    given = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
        for name, x in inputs.items()
    ]
    kind, rank = (7, 2) if nodes[0].op_type == "NonMaxSuppression" else (1, inputs["i"].ndim)
    graph = helper.make_graph(nodes, "g", given, [helper.make_tensor_value_info("y", kind, [None] * rank)], weights)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(made, full_check=True)
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    try:
        reference = ReferenceEvaluator(made).run(None, inputs)[0]
    except (ValueError, IndexError) as error:
        reference = type(error).__name__
    return reference, session.run(None, inputs)[0]


def text(found):
    return found if isinstance(found, str) else " ".join(f"{one:g}" for one in found.ravel()[:3]) + " ..."


def gather(number, shape, axis):
    inputs = {"x": np.arange(number, dtype=np.float32).reshape(shape), "i": np.zeros(shape, np.int64)}
    return model([helper.make_node("GatherElements", ["x", "i"], ["y"], axis=axis)], inputs)


for number in (63, 64):
    reference, other = gather(number, (number, 1), 0)
    print(f"{number} in one column: reference {text(reference)}, onnxruntime {text(other)}")
    assert not other.any()
    assert np.array_equal(reference, other) == (number < 64), "mended: it gathers from 64 too"
assert np.array_equal(reference.ravel(), np.arange(64))
assert np.array_equal(*gather(63, (1, 1, 63), 2))
reference, other = gather(64, (1, 1, 64), 2)
print(f"64 in a row of three dimensions: reference {text(reference)}, onnxruntime {text(other)}")
assert reference == "ValueError" and not other.any()
limits = [onnx.numpy_helper.from_array(np.array(value), name) for name, value in (("n", 5), ("t", np.float32(0.5)))]
pair = {"b": np.array([[[0, 0, 2, 2], [4, 4, 6, 6]]], np.float32), "s": np.array([[[0.5, 0.9]]], np.float32)}
reference, other = model([helper.make_node("NonMaxSuppression", ["b", "s", "n", "t"], ["y"])], pair, limits)
print(f"NonMaxSuppression with limits that are scalars: reference {text(reference)}, onnxruntime {other.tolist()}")
assert reference == "IndexError" and other.tolist() == [[0, 0, 1], [0, 0, 0]]
print("as seen")
PY
"$folder/venv/bin/python" "$folder/small.py"
