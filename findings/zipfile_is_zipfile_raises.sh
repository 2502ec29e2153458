#!/usr/bin/env bash
# torch 2.14.1 and zipfile of Python 3.11.7 (Linux): zipfile.is_zipfile is documented to return True or False. For an
# archive that torch.save wrote, in which one bit of the number of disks in the zip64 locator is flipped, it raises
# BadZipFile.
#
# Seen:
#   as torch.save wrote it: True
#   one bit of the number of disks flipped: BadZipFile: zipfiles that span multiple disks are not supported
#
# So whoever asks whether a checkpoint is an archive has to catch that error as well.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "torch==2.14.1" "numpy==2.4.6"
cat > "$folder/ask.py" <<'PY'
import sys
import zipfile
from pathlib import Path

import torch

path = Path(sys.argv[1]) / "model.pth"
torch.save({"weight": torch.ones(10)}, path)
data = bytearray(path.read_bytes())
assert zipfile.is_zipfile(path), "what torch.save writes is an archive no more"
print("as torch.save wrote it: True")
data[data.rindex(b"PK\x06\x07") + 16] ^= 8  # of the number of disks
path.write_bytes(data)
try:
    answer = str(zipfile.is_zipfile(path))
except zipfile.BadZipFile as error:
    answer = f"BadZipFile: {error}"
print(f"one bit of the number of disks flipped: {answer}")
assert answer.startswith("BadZipFile"), "it behaves otherwise now"
PY
"$folder/venv/bin/python" "$folder/ask.py" "$folder"
