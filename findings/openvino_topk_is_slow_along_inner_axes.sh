#!/usr/bin/env bash
# openvino 2026.4.1 (Python 3.11, Linux, x86-64, AVX512): TopK of the 1,000 highest of 7,375 values takes tens of times
# as long along an axis that is not the last one; onnxruntime 1.32.0 does not mind. Both give the same values.
#
# Seen (milliseconds on one thread; [1, anchors, classes], axis 1, against [1, classes, anchors], axis 2):
#   3 classes: openvino 87.37 and 0.77, onnxruntime 0.37 and 0.33
#   80 classes: openvino 164.22 and 18.17, onnxruntime 9.09 and 8.68
#
# A detector that takes the best anchors of each class, from scores as its head has them, spends more on that than on
# its network. Transposed before and after, it does not.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "openvino==2026.4.1" "onnx==1.23.2" "onnxruntime==1.32.0" "numpy==2.4.6"
cat > "$folder/small.py" <<'PY'
import time

import numpy as np
import onnx
import onnxruntime
import openvino
from openvino import opset13 as ops

ANCHORS, LIMIT = 7375, 1000


def seconds(run, picture):
    run(picture)
    spent = []
    for _ in range(5):
        start = time.perf_counter()
        found = run(picture)
        spent.append(time.perf_counter() - start)
    return min(spent), found


def in_openvino(axis):
    scores = ops.parameter([-1, -1, -1], np.float32)
    best = ops.topk(scores, ops.constant(np.int64(LIMIT)), axis, "max", "value", "i64")
    made = openvino.Core().compile_model(
        openvino.Model([ops.result(best.output(0))], [scores]), "CPU", {"INFERENCE_NUM_THREADS": 1}
    )
    return lambda picture: made([picture])[0]


def in_onnxruntime(axis):
    helper = onnx.helper
    node = helper.make_node("TopK", ["x", "k"], ["best", "places"], axis=axis, sorted=1)
    inputs = [helper.make_tensor_value_info("x", 1, [None] * 3)]
    outputs = [helper.make_tensor_value_info("best", 1, None)]
    limit = onnx.numpy_helper.from_array(np.array([LIMIT]), "k")
    proto = helper.make_model(
        helper.make_graph([node], "g", inputs, outputs, [limit]),
        opset_imports=[helper.make_opsetid("", 18)], ir_version=10,
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda picture: session.run(None, {"x": picture})[0]


for classes, least in ((3, 20), (80, 3)):
    scores = np.random.default_rng(0).random((1, ANCHORS, classes)).astype(np.float32)
    turned = np.ascontiguousarray(scores.transpose(0, 2, 1))
    times = {}
    for name, make in (("openvino", in_openvino), ("onnxruntime", in_onnxruntime)):
        (inner, one), (last, other) = seconds(make(1), scores), seconds(make(2), turned)
        assert np.array_equal(one, other.transpose(0, 2, 1))
        times[name] = inner / last
        print(f"{classes} classes, {name}: {1e3 * inner:.2f} and {1e3 * last:.2f} ms")
    assert times["openvino"] > least, "mended: the axis does not matter"
    assert times["onnxruntime"] < 2
print("as seen")
PY
"$folder/venv/bin/python" "$folder/small.py"
