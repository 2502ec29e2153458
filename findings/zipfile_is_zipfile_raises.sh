#!/usr/bin/env bash
# Python 3.11.7 (Linux): zipfile.is_zipfile is documented to return True or False. For a file whose zip64 locator counts
# another number of disks than one, which is one flipped bit of any archive that torch.save writes, it raises BadZipFile.
#
# Seen:
#   sound: True
#   one bit of the number of disks flipped: BadZipFile: zipfiles that span multiple disks are not supported
#
# So whoever asks whether a file is an archive has to catch that error as well.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/ask.py" <<'PY'
import struct
import sys
import zipfile
from pathlib import Path

path = Path(sys.argv[1]) / "a.zip"
with zipfile.ZipFile(path, "w") as archive:
    archive.writestr("a", b"text")
data = path.read_bytes()
end = data.index(b"PK\x05\x06")
table = struct.unpack("<I", data[end + 16 : end + 20])[0]
count, size = 1, end - table
record = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, size, table)
for title, disks in (("sound", 1), ("one bit of the number of disks flipped", 9)):
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, end, disks)
    path.write_bytes(data[:end] + record + locator + data[end:])
    try:
        answer = str(zipfile.is_zipfile(path))
    except zipfile.BadZipFile as error:
        answer = f"BadZipFile: {error}"
    print(f"{title}: {answer}")
    assert answer == "True" if disks == 1 else answer.startswith("BadZipFile"), "it behaves otherwise now"
PY
python3 "$folder/ask.py" "$folder"
