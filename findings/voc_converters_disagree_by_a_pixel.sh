#!/usr/bin/env bash
# supervision 0.31.2, globox 2.9.0, pylabel 0.1.55 (Python 3.11, Linux): three converters of Pascal VOC, two answers. VOC
# counts pixels from 1 and includes the last one, so the box 1, 1, 200, 100 is the whole of a picture of 200 x 100
# pixels. supervision takes 1 off the upper left corner; globox and pylabel write the numbers into COCO's form as they
# stand, so that each box loses its first row and column: of the whole picture 1.5 %, of a box of 10 x 10 pixels 19 %.
# pylabel's YOLO files have four decimals besides, half a unit of which is a fifth of a pixel in a picture of 4000.
#
# Seen (x, y, width, height in COCO's form, of VOC's 1, 1, 200, 100 and 11, 21, 20, 30):
#   supervision [[0.0, 0.0, 200.0, 100.0], [10.0, 20.0, 10.0, 10.0]]
#   globox      [[1.0, 1.0, 199.0, 99.0], [11.0, 21.0, 9.0, 9.0]]
#   pylabel     [[1.0, 1.0, 199.0, 99.0], [11.0, 21.0, 9.0, 9.0]]
#
# An object of 10 x 10 pixels keeps an IoU of 0.81 with what was drawn: AP at 0.85 and above cannot find it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "supervision==0.31.2" "globox==2.9.0" "pylabel==0.1.55" "numpy==2.4.6" "opencv-python-headless==5.0.0.93" "pandas==3.1.1"
cat > "$folder/convert.py" <<'PY'
import json
from pathlib import Path

import cv2
import globox
import numpy as np
import supervision
from pylabel import importer

Path("pictures").mkdir()
Path("voc").mkdir()
cv2.imwrite("pictures/a.jpg", np.zeros((100, 200, 3), np.uint8))
corners = [(1, 1, 200, 100), (11, 21, 20, 30)]
objects = "".join(
    f"<object><name>thing</name><bndbox><xmin>{a}</xmin><ymin>{b}</ymin><xmax>{c}</xmax><ymax>{d}</ymax></bndbox></object>"
    for a, b, c, d in corners
)
size = "<size><width>200</width><height>100</height><depth>3</depth></size>"
Path("voc/a.xml").write_text(f"<annotation><filename>a.jpg</filename>{size}{objects}</annotation>")

supervision.DetectionDataset.from_pascal_voc("pictures", "voc").as_coco("copies", "supervision.json")
globox.AnnotationSet.from_pascal_voc(Path("voc")).save_coco(Path("globox.json"), auto_ids=True)
importer.ImportVOC(path="voc", path_to_images="../pictures").export.ExportToCoco(output_path="pylabel.json")

whole, lost = [[0, 0, 200, 100], [10, 20, 10, 10]], [[1, 1, 199, 99], [11, 21, 9, 9]]
for name, expected in (("supervision", whole), ("globox", lost), ("pylabel", lost)):
    boxes = [one["bbox"] for one in json.loads(Path(f"{name}.json").read_text())["annotations"]]
    print(f"{name:<12}{boxes}")
    assert boxes == expected, f"{name}: it behaves otherwise now"
PY
cd "$folder"
"$folder/venv/bin/python" convert.py 2> "$folder/errors" || { cat "$folder/errors"; exit 1; }
