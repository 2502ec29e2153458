#!/usr/bin/env bash
# openvino 2026.4.1 (Python 3.11, Linux, x86-64, AVX512): ROIAlign of a map that is an input of the graph takes ten times
# as long as of the same map behind a depthwise 1x1 convolution with weights of 1, that convolution included; as
# an input the map lies in memory as NCHW, behind the convolution with its channels last. onnxruntime 1.32.0 does not
# mind. Both orders give the same values.
#
# Seen (milliseconds on one thread; 1,000 boxes on a map of 256 channels, 120 x 160, 7 x 7 cells of 2 x 2 samples):
#   any sizes: as an input 296.4, behind the convolution 31.9
#   fixed sizes: as an input 325.1, behind the convolution 31.9
#   any sizes: as an input 365.4, behind a transpose 320.4
#   onnxruntime, any sizes: as an input 148.5, behind the convolution 145.0
#
# A detector of two stages in one graph is fast; its second stage in a graph of its own, as for another device or for
# a selection in between, takes longer than its backbone. The convolution in front mends it. A Transpose in front of
# it, from maps that are handed over as NHWC, does not.
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

CHANNELS, HEIGHT, WIDTH, BOXES = 256, 120, 160, 1000
rng = np.random.default_rng(0)
corners = rng.random((BOXES, 2)) * (WIDTH * 2, HEIGHT * 2)
boxes = np.concatenate([corners, corners + 8 + rng.random((BOXES, 2)) * 200], axis=1).astype(np.float32)
given = {
    "map": rng.random((1, CHANNELS, HEIGHT, WIDTH)).astype(np.float32),
    "boxes": boxes,
    "image": np.zeros(BOXES, np.int64),
}


def graph(first, free):
    """first: what stands in front of the ROIAlign; free: whether height, width and boxes are of any number."""
    shape = [1, CHANNELS, -1, -1] if free else [1, CHANNELS, HEIGHT, WIDTH]
    if first == "transpose":
        shape = [shape[0], *shape[2:], CHANNELS]
    number = -1 if free else BOXES
    inputs = [ops.parameter(shape, np.float32, name="map")]
    inputs += [ops.parameter([number, 4], np.float32, name="boxes"), ops.parameter([number], np.int64, name="image")]
    x = inputs[0]
    if first == "convolution":
        ones = ops.constant(np.ones((CHANNELS, 1, 1, 1, 1), np.float32))
        x = ops.group_convolution(x, ones, [1, 1], [0, 0], [0, 0], [1, 1])
    if first == "transpose":
        x = ops.transpose(x, ops.constant(np.array([0, 3, 1, 2])))
    found = ops.roi_align(x, *inputs[1:], 7, 7, 2, 0.25, "avg", "half_pixel")
    return openvino.Model([ops.result(found)], inputs)


def in_openvino(first, free):
    settings = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    made = openvino.Core().compile_model(graph(first, free), "CPU", settings)
    handed = dict(given)
    if first == "transpose":
        handed["map"] = np.ascontiguousarray(given["map"].transpose(0, 2, 3, 1))
    return lambda: made(list(handed.values()))[0]


def in_onnxruntime(first, free):
    helper, numpy = onnx.helper, onnx.numpy_helper
    nodes = []
    if first == "convolution":
        nodes.append(helper.make_node("Conv", ["map", "ones"], ["x"], group=CHANNELS))
    name = "x" if first == "convolution" else "map"
    size = {"output_height": 7, "output_width": 7, "sampling_ratio": 2, "spatial_scale": 0.25}
    nodes.append(helper.make_node("RoiAlign", [name, "boxes", "image"], ["found"], **size))
    kinds = {"map": (1, [1, CHANNELS, None, None]), "boxes": (1, [None, 4]), "image": (7, [None])}
    inputs = [helper.make_tensor_value_info(key, *kind) for key, kind in kinds.items()]
    outputs = [helper.make_tensor_value_info("found", 1, None)]
    ones = [numpy.from_array(np.ones((CHANNELS, 1, 1, 1), np.float32), "ones")] if first == "convolution" else []
    made = helper.make_graph(nodes, "g", inputs, outputs, ones)
    proto = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, given)[0]


def seconds(run):
    run()
    spent = []
    for _ in range(4):
        start = time.perf_counter()
        found = run()
        spent.append(time.perf_counter() - start)
    return min(spent), np.array(found)


def ratio(name, make, free, other="convolution"):
    (plain, one), (mended, two) = seconds(make("", free)), seconds(make(other, free))
    assert np.abs(one - two).max() < 1e-5
    print(f"{name}: as an input {1e3 * plain:.1f}, behind the {other} {1e3 * mended:.1f} ms")
    return plain / mended


assert ratio("any sizes", in_openvino, True) > 5, "mended: a map may be an input"
assert ratio("fixed sizes", in_openvino, False) > 5, "mended for fixed sizes: a map may be an input"
assert ratio("any sizes", in_openvino, True, "transpose") < 2, "a transpose mends it too"
assert 0.5 < ratio("onnxruntime, any sizes", in_onnxruntime, True) < 2
print("as seen")
PY
"$folder/venv/bin/python" "$folder/small.py"
