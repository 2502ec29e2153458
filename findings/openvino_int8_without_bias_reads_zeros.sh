#!/usr/bin/env bash
# openvino 2026.4.1 (Python 3.11, Linux, x86-64, a processor with AVX512 VNNI): a layer in int8 reads zeros in place of
# its input where three things meet: the graph takes pictures of any height and width, the convolution before it is in
# int8 and has no bias (or one of zeros), and that one's result is used in float32 as well, here as an output. With a
# bias, be it 1e-30, or with fixed sizes, the same graph is right. Nothing is said.
#
# Seen (standard deviation of what the second convolution gives):
#   fixed size, no bias: 0.798
#   fixed size, a bias of 1e-30: 0.798
#   any size, no bias: 0.000
#   any size, a bias of zeros: 0.000
#   any size, a bias of 1e-30: 0.798
#   any size, no bias, used once: 0.798
#
# A feature pyramid has that form, as its levels go to the proposals and to the pooling; where its biases are still
# what they were set to, zeros, the first stage sees nothing at all, and the detections are those of other boxes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "openvino==2026.4.1" "numpy==2.4.6"
cat > "$folder/small.py" <<'PY'
import numpy as np
import openvino
from openvino import opset13 as ops

CHANNELS = 32
rng = np.random.default_rng(0)
WEIGHTS = rng.integers(-127, 128, (CHANNELS, CHANNELS, 1, 1)).astype(np.int8)
SCALES = np.full((CHANNELS, 1, 1, 1), 1.7 / 127 / CHANNELS**0.5, np.float32)


def rounded(x, low, high):
    return ops.fake_quantize(x, *(ops.constant(np.full((1, 1, 1, 1), end, np.float32)) for end in (low, high) * 2), 256)


def layer(x):
    weights = ops.multiply(ops.convert(ops.constant(WEIGHTS), np.float32), ops.constant(SCALES))
    return ops.convolution(x, weights, [1, 1], [0, 0], [0, 0], [1, 1])


def graph(shape, bias, twice=True):
    x = ops.parameter(shape, np.float32)
    first = layer(rounded(x, -4.0, 4.0))
    if bias is not None:
        first = ops.add(first, ops.constant(np.full((1, CHANNELS, 1, 1), bias, np.float32)))
    second = layer(rounded(first, -1.3, 1.29))
    return openvino.Model([ops.result(second)] + [ops.result(first)] * twice, [x])


picture = rng.normal(size=(1, CHANNELS, 16, 24)).astype(np.float32)


def spread(name, *args, **options):
    made = openvino.Core().compile_model(graph(*args, **options), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = float(made([picture])[0].std())
    print(f"{name}: {found:.3f}")
    return found


fixed, free = list(picture.shape), [-1, CHANNELS, -1, -1]
right = spread("fixed size, no bias", fixed, None)
assert right > 0.7
assert abs(spread("fixed size, a bias of 1e-30", fixed, 1e-30) - right) < 0.01
assert spread("any size, no bias", free, None) == 0, "mended: a layer without bias is read"
assert spread("any size, a bias of zeros", free, 0.0) == 0, "mended: a layer with a bias of zeros is read"
assert abs(spread("any size, a bias of 1e-30", free, 1e-30) - right) < 0.01
assert abs(spread("any size, no bias, used once", free, None, twice=False) - right) < 0.01
print("as seen")
PY
"$folder/venv/bin/python" "$folder/small.py"
