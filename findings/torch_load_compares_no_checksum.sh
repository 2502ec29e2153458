#!/usr/bin/env bash
# torch 2.14.1 (Python 3.11, Linux): torch.load of a checkpoint in the present format, a zip archive, does not compare
# the CRC-32 that the archive holds for each tensor. With one bit of a tensor's bytes flipped, it returns the changed
# value and says nothing, whole or by mmap=True, with weights_only=True. zipfile's testzip names the entry.
#
# Seen:
#   torch.load: 1.125 instead of 1, no error
#   torch.load, mmap=True: 1.125 instead of 1, no error
#   zipfile: the entry data/0 does not match
#
# So a checkpoint from a failing disk goes into a model unnoticed, unless whoever reads it compares the sums first.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "torch==2.14.1" "numpy==2.4.6"
cat > "$folder/flip.py" <<'PY'
import sys
import zipfile
from pathlib import Path

import torch

path = Path(sys.argv[1]) / "model.pth"
torch.save({"model": {"weight": torch.ones(1000)}, "step": 3}, path)
data = bytearray(path.read_bytes())
data[data.index(torch.ones(1000).numpy().tobytes()) + 2] ^= 0x10  # of the first value, 1.0
path.write_bytes(data)
for how, options in (("", {}), (", mmap=True", {"mmap": True})):
    weight = torch.load(path, weights_only=True, **options)["model"]["weight"]
    changed = weight[weight != 1].tolist()
    assert changed == [1.125], f"torch.load{how} gave {changed}: it behaves otherwise now"
    print(f"torch.load{how}: {changed[0]} instead of 1, no error")
entry = zipfile.ZipFile(path).testzip()
assert entry.endswith("data/0"), f"zipfile found {entry}"
print("zipfile: the entry data/0 does not match")
PY
"$folder/venv/bin/python" "$folder/flip.py" "$folder"
