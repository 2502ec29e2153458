#!/usr/bin/env bash
# ultralytics 8.4.190 (Python 3.11, Linux): a label file with a sixth number a line, as its own prediction writes it with
# save_txt=True save_conf=True, is no label file to its own training. The picture is not read without the number; it is
# called corrupt and left out, with a line of the log, and so a folder that was labelled in part by hand and in part by
# a model trains on the first part alone.
#
# Seen (four pictures, two of them with such lines):
#   4 pictures on the disk, 2 in the data set
#   ignoring corrupt image/label: labels require 5 columns, 6 columns detected
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "torch==2.14.1" "torchvision==0.29.1" "numpy==2.4.6" "opencv-python-headless==5.0.0.93" \
    pillow pyyaml requests scipy psutil polars matplotlib
"$folder/venv/bin/pip" install -q --no-deps "ultralytics==8.4.190" "ultralytics-thop==2.2.3"
cat > "$folder/labels.py" <<'PY'
from pathlib import Path

import cv2
import numpy as np
from ultralytics.data.dataset import YOLODataset

for name in ("images", "labels"):
    Path("set", name).mkdir(parents=True)
rng = np.random.default_rng(0)
for i in range(4):
    cv2.imwrite(f"set/images/{i}.jpg", rng.integers(0, 255, (64, 64, 3), dtype=np.uint8))
    score = " 0.93" if i % 2 else ""
    Path(f"set/labels/{i}.txt").write_text(f"0 0.5 0.5 0.4 0.4{score}\n")
found = YOLODataset(img_path="set/images", data={"names": {0: "thing"}, "channels": 3}, task="detect", imgsz=64, augment=False)
names = sorted(Path(label["im_file"]).name for label in found.labels)
print(f"4 pictures on the disk, {len(names)} in the data set")
assert names == ["0.jpg", "2.jpg"], f"{names}: it behaves otherwise now"
PY
cd "$folder"
YOLO_CONFIG_DIR="$folder" "$folder/venv/bin/python" labels.py
