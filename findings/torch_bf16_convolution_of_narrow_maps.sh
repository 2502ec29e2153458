#!/usr/bin/env bash
# torch 2.14.1 (Python 3.11, Linux, x86-64 CPU with bf16 instructions): convolutions in bfloat16 of maps of a few cells
# compute or learn what was in memory. The numbers are others in each call, up to infinite. float32 is right.
#
# - With stride 2, filters of 3x3 or more, and maps of one column, the gradient of the weights is wrong in the outer
#   columns of each filter, which meet nothing but padding. On one CPU the output itself was wrong too, of one or two
#   columns and tall maps (from 3 rows with 256 channels, from 10 with 64); on an AMD EPYC with avx512_bf16 and no AMX
#   it is right. So are three columns and more, and 1x1, on both.
# - With stride 1 the gradient of the weights is wrong where a map has fewer rows than the padding, however wide it is:
#   7x7 with padding 3 on one or two rows, 5x5 with padding 2 on one, 9x9 on up to three; also 7x3, and groups of 128
#   channels. It is the rows of the filter that meet nothing but padding. Output and gradient of the map are right; so
#   are 3x3, 7x1 and 1x7, other padding than half the filter, dilation, up to 96 input channels (128 and more were
#   wrong), and as many rows as the padding has. This was measured on the AMD EPYC only.
#
# Seen there (the number of wrong calls varies; of the output it was 10, 10 and 0 on the other CPU):
#   output, 12 x 1: wrong in 0 of 10 calls
#   output, 12 x 2: wrong in 0 of 10 calls
#   output, 12 x 3: wrong in 0 of 10 calls
#   gradient, 2 x 1: wrong in 10 of 10 calls
#   gradient, 2 x 3: wrong in 0 of 10 calls
#   gradient of 7x7 with stride 1, 1 x 6: wrong in 10 of 10 calls
#   gradient of 7x7 with stride 1, 2 x 6: wrong in 10 of 10 calls
#   gradient of 5x5 with stride 1, 1 x 6: wrong in 10 of 10 calls
#   gradient of 7x7 with stride 1, 3 x 6: wrong in 0 of 10 calls
#   gradient of 5x5 with stride 1, 2 x 6: wrong in 0 of 10 calls
#   gradient of 3x3 with stride 1, 1 x 6: wrong in 0 of 10 calls
#
# A feature pyramid has such maps where an image is at most 128 pixels wide (p6 to p7): under bfloat16 autocast a
# training then diverges by chance, and a tall, narrow picture gets scores of nothing. A branch of 7x7 filters at stride
# 32, as networks of salient objects have, meets maps of one or two rows in pictures of up to 64 pixels.
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
    used = [torch.full((n,), 3e38) for most in (2 * 10**5, 4 * 10**6) for n in torch.randint(1, most, (4,)).tolist()]
    del used


def wrong(rows, columns, gradient, side=3, stride=2):
    conv = torch.nn.Conv2d(256, 256, side, stride=stride, padding=side // 2)
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
    what = ("gradient" if gradient else "output") + f" of {side}x{side} with stride 1" * (stride == 1)
    print(f"{what}, {rows} x {columns}: wrong in {count} of {CALLS} calls")
    return count


wrong(12, 1, False), wrong(12, 2, False)  # which depends on the CPU
assert wrong(12, 3, False) == 0, "the output of three columns is wrong too"
assert wrong(2, 1, True) > 0, "the gradient of one column is right now"
assert wrong(2, 3, True) == 0, "the gradient of three columns is wrong too"
for side, rows in ((7, 1), (7, 2), (5, 1)):
    assert wrong(rows, 6, True, side, stride=1) > 0, f"the gradient of {side}x{side} on {rows} rows is right now"
for side, rows in ((7, 3), (5, 2), (3, 1)):
    assert wrong(rows, 6, True, side, stride=1) == 0, f"the gradient of {side}x{side} on {rows} rows is wrong too"
PY
"$folder/venv/bin/python" "$folder/narrow.py"
