#!/usr/bin/env bash
# torch 2.14.1 with onnxscript 0.7.2 and onnx 1.23.2 (Python 3.11, Linux, x86-64): torch.onnx.export(dynamo=True) takes
# x + 1e-10 for x when it optimises, which it does unless told otherwise. The small term of a norm is there against
# dividing by zero, so the file gives NaN where the vector is zero; with optimize=False it gives 0, as torch does.
#
# Seen:
#   optimize=True: Pow ReduceSum Sqrt Div -> nan
#   optimize=False: Constant Pow Constant ReduceSum Constant Add Sqrt Div -> 0.0
#
# RefineDet's L2 normalisation meets such cells in the padding of every photograph: their NaN passes into the scores of
# the neighbours, and some detections go without a word.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "torch==2.14.1" "numpy==2.4.6" "onnx==1.23.2" "onnxscript==0.7.2" "onnxruntime==1.32.0"
cat > "$folder/small.py" <<'PY'
import math

import onnxruntime
import torch


class Norm(torch.nn.Module):
    def forward(self, x):
        return x / (x.square().sum(1, keepdim=True) + 1e-10).sqrt()


found = {}
for optimize in (True, False):
    made = torch.onnx.export(Norm(), (torch.ones(2, 3),), dynamo=True, optimize=optimize, verbose=False).model_proto
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    (out,) = session.run(None, {session.get_inputs()[0].name: torch.zeros(2, 3).numpy()})
    found[optimize] = float(out.max())
    print(f"optimize={optimize}:", *(node.op_type for node in made.graph.node), "->", found[optimize])
assert math.isnan(found[True]), "mended: the optimiser keeps the term"
assert found[False] == 0
print("as seen")
PY
"$folder/venv/bin/python" "$folder/small.py"
