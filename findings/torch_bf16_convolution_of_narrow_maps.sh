#!/usr/bin/env bash
# torch 2.14.1 (Python 3.11, Linux, x86-64 CPU with bf16 instructions): a convolution of 3x3 or more with stride 2 in
# bfloat16 is wrong where the map is one or two columns wide. On tall maps (from 3 rows with 256 channels, from 10 with
# 64) the output itself holds whatever was in memory; on one column so does the gradient of the weights, in the outer
# columns of each filter, which meet nothing but padding. The numbers are others in each call, up to infinite. float32
# is right, so are three columns and more, stride 1, and 1x1.
#
# Seen (the number of wrong calls varies):
#   output, 12 x 1: wrong in 10 of 10 calls
#   output, 12 x 2: wrong in 10 of 10 calls
#   output, 12 x 3: wrong in 0 of 10 calls
#   gradient, 2 x 1: wrong in 10 of 10 calls
#   gradient, 2 x 3: wrong in 0 of 10 calls
#
# A feature pyramid has such maps where an image is at most 128 pixels wide (p6 to p7): under bfloat16 autocast a
# training then diverges by chance, and a tall, narrow picture gets scores of nothing.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "torch==2.14.1" "numpy==2.4.6"
cat > "$folder/narrow.py" <<'PY'
import torch

torch.set_num_threads(1)
torch.manual_seed(0)
CALLS = 10


def use_memory():
    """Leave behind what a program leaves that has used its memory before."""
    used = [torch.full((n,), 3e38) for n in torch.randint(1, 200000, (3,)).tolist()]
    del used


def wrong(rows, columns, gradient):
    conv = torch.nn.Conv2d(256, 256, 3, stride=2, padding=1)
    x = torch.randn(2, 256, rows, columns)
    y = conv(x)
    want = torch.autograd.grad(y.sum(), conv.weight)[0] if gradient else y
    count = 0
    for _ in range(CALLS):
        use_memory()
        with torch.autocast("cpu", torch.bfloat16):
            got = conv(x).float()
        if gradient:
            use_memory()
            got = torch.autograd.grad(got.sum(), conv.weight)[0]
        count += not (got - want).norm() <= 0.1 * want.norm()
    what = "gradient" if gradient else "output"
    print(f"{what}, {rows} x {columns}: wrong in {count} of {CALLS} calls")
    return count


assert wrong(12, 1, False) > 0 and wrong(12, 2, False) > 0, "the output of narrow maps is right now"
assert wrong(12, 3, False) == 0, "the output of three columns is wrong too"
assert wrong(2, 1, True) > 0, "the gradient of one column is right now"
assert wrong(2, 3, True) == 0, "the gradient of three columns is wrong too"
PY
"$folder/venv/bin/python" "$folder/narrow.py"
