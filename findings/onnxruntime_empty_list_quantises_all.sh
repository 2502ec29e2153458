#!/usr/bin/env bash
# onnxruntime 1.32.0 (Python 3.11, Linux): quantize_static(nodes_to_quantize=[]) quantises every layer. Its docstring says
# that only the nodes of the list are quantised where the list is not None; an empty one is taken for none given.
#
# Seen (weights in int8 of a graph with the layers one and two):
#   nodes_to_quantize None: one, two
#   nodes_to_quantize ['one']: one
#   nodes_to_quantize []: one, two
#
# A search for layers that lose accuracy, which takes one after the other off the list, ends with all of them in int8
# where none should be, and measures the loss of the first attempt once more.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "onnx==1.23.2" "onnxruntime==1.32.0" "numpy==2.4.6"
cat > "$folder/small.py" <<'PY'
import logging
import sys
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

logging.disable()
helper, folder = onnx.helper, Path(sys.argv[1])
rng = np.random.default_rng(0)
weights = [
    onnx.numpy_helper.from_array(rng.normal(size=(4, 4, 3, 3)).astype(np.float32), f"weight_{name}")
    for name in ("one", "two")
]
nodes = [
    helper.make_node("Conv", [source, f"weight_{name}"], [result], name=name)
    for source, name, result in (("x", "one", "a"), ("a", "two", "b"))
]
ends = [[helper.make_tensor_value_info(name, 1, [1, 4, side, side])] for name, side in (("x", 12), ("b", 8))]
made = helper.make_graph(nodes, "g", *ends, weights)
onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), folder / "a.onnx")


class Pictures(CalibrationDataReader):
    def __init__(self):
        self.left = 3

    def get_next(self):
        self.left -= 1
        return {"x": rng.normal(size=(1, 4, 12, 12)).astype(np.float32)} if self.left >= 0 else None


found = {}
for chosen in (None, ["one"], []):
    quantize_static(
        folder / "a.onnx", folder / "b.onnx", Pictures(), quant_format=QuantFormat.QDQ, nodes_to_quantize=chosen
    )
    kinds = {one.name: one.data_type for one in onnx.load(folder / "b.onnx").graph.initializer}
    found[str(chosen)] = [name for name in ("one", "two") if kinds.get(f"weight_{name}_quantized") == 3]
    print(f"nodes_to_quantize {chosen}: {', '.join(found[str(chosen)])}")
assert found["None"] == ["one", "two"]
assert found["['one']"] == ["one"]
assert found["[]"] == ["one", "two"], "mended: an empty list is one of no nodes"
print("as seen")
PY
"$folder/venv/bin/python" "$folder/small.py" "$folder"
