#!/usr/bin/env bash
# onnx 1.23.2 and onnxruntime 1.32.0, CPU (Python 3.11, Linux): onnxruntime runs files of opset 20 to 26, and
# onnx.version_converter lifts them; yet a file with RoiAlign that runs in opset 21 is refused from 22 on, "Could not
# find an implementation for RoiAlign(22)", though of the operator nothing but the permitted types has changed. On the
# CPU eight operators are so left behind.
#
# Seen:
#   opset 20: runs
#   opset 21: runs
#   opset 22: NotImplemented
#   opset 23: NotImplemented
#   without a kernel on the CPU in 22, with one in 21: GlobalLpPool MaxRoiPool Multinomial RandomNormal RandomNormalLike RandomUniform RandomUniformLike RoiAlign
#
# A kernel that is registered for "16 and on" serves version 16 alone: a later version of the schema, even with one more
# type, needs a registration of its own, and opset 22 has new versions of 48 operators, mostly for bfloat16. So the opset
# of a two-stage detector is to be left at 21 or below (ours write 20).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "onnx==1.23.2" "onnxruntime==1.32.0" "numpy==2.4.6"
cat > "$folder/small.py" <<'PY'
import onnx
import onnxruntime
from onnx import version_converter
from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as Refused
from onnxruntime.capi.onnxruntime_pybind11_state import get_all_opkernel_def

helper = onnx.helper
OPEN = 2**31 - 1
regions = [("x", 1, [1, 2, 8, 8]), ("boxes", 1, [3, 4]), ("image", 7, [3])]
node = helper.make_node("RoiAlign", ["x", "boxes", "image"], ["y"], output_height=2, output_width=2, sampling_ratio=2)
inputs = [helper.make_tensor_value_info(*one) for one in regions]
graph = helper.make_graph([node], "g", inputs, [helper.make_tensor_value_info("y", 1, [3, 2, 2, 2])])
made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
found = {}
for opset in (20, 21, 22, 23):
    lifted = version_converter.convert_version(made, opset)
    onnx.checker.check_model(lifted, full_check=True)
    assert lifted.graph.node[0] == made.graph.node[0]
    try:
        onnxruntime.InferenceSession(lifted.SerializeToString(), providers=["CPUExecutionProvider"])
        found[opset] = "runs"
    except Refused as error:
        assert "RoiAlign(22)" in str(error)
        found[opset] = "NotImplemented"
    print(f"opset {opset}: {found[opset]}")
assert list(found.values()) == ["runs", "runs", "NotImplemented", "NotImplemented"], "mended: it has a kernel for 22"
kernels = {}
for one in get_all_opkernel_def():
    if (one.provider, one.domain) == ("CPUExecutionProvider", ""):
        kernels.setdefault(one.op_name, []).append(one.version_range)


def served(name, opset):
    version = onnx.defs.get_schema(name, opset, "").since_version
    return any(version == low if high == OPEN else low <= version <= high for low, high in kernels[name])


known = {schema.name for schema in onnx.defs.get_all_schemas() if schema.domain == "" and schema.name in kernels}
old = {name for name in known if onnx.defs.has(name, 21, "")}
left = sorted(name for name in old if served(name, 21) and not served(name, 22))
print("without a kernel on the CPU in 22, with one in 21:", *left)
assert "RoiAlign" in left and len(left) == 8
print("as seen")
PY
"$folder/venv/bin/python" "$folder/small.py"
