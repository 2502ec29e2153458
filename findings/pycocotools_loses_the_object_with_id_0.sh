#!/usr/bin/env bash
# pycocotools 2.0.11 (Python 3.11, Linux): the object whose annotation id is 0 is never found. The id of the object that
# a detection took is kept in an array in which 0 stands for none, so the detection that finds it counts as false.
# faster-coco-eval 1.8.0 does the same, with a warning. ultrafast-pycocotools 0.1.14, hotcoco 1.3.0 and vernier 0.5.4, which
# call themselves equal to pycocotools to the bit, count it, so their numbers differ there. Files that number their
# annotations from 0 are common.
#
# Seen (four objects with ids 0 to 3, four detections that are their boxes; AP, and AR of 100 detections):
#   pycocotools           0.564 0.750
#   faster-coco-eval      0.564 0.750
#   ultrafast-pycocotools 1.000 1.000
#   hotcoco               1.000 1.000
#   vernier               1.000 1.000
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "pycocotools==2.0.11" "faster-coco-eval==1.8.0" "ultrafast-pycocotools==0.1.14" \
    "hotcoco==1.3.0" "vernier==0.5.4" numpy
cat > "$folder/zero.py" <<'PY'
import contextlib
import io
import json

import faster_coco_eval
import hotcoco
import pycocotools.coco
import pycocotools.cocoeval
import ultrafast_pycocotools
import vernier

objects = [
    {"id": k, "image_id": 1 + k % 2, "category_id": 1, "bbox": [10 * k, 10, 9, 9], "area": 81, "iscrowd": 0}
    for k in range(4)
]
truth = {
    "images": [{"id": i, "width": 100, "height": 100} for i in (1, 2)],
    "annotations": objects,
    "categories": [{"id": 1, "name": "thing"}],
}
found = [
    {"image_id": one["image_id"], "category_id": 1, "bbox": one["bbox"], "score": 0.9 - one["id"] / 10}
    for one in objects
]
with open("truth.json", "w") as file:
    json.dump(truth, file)
with open("found.json", "w") as file:
    json.dump(found, file)
COCO = pycocotools.coco.COCO
apis = {
    "pycocotools": (COCO, pycocotools.cocoeval.COCOeval),
    "faster-coco-eval": (faster_coco_eval.COCO, faster_coco_eval.COCOeval_faster),
    "ultrafast-pycocotools": (ultrafast_pycocotools.COCO, ultrafast_pycocotools.COCOeval),
    "hotcoco": (hotcoco.COCO, hotcoco.COCOeval),
    "vernier": (COCO, vernier.COCOeval),
}
values = {}
for name, (index, evaluation) in apis.items():
    with contextlib.redirect_stdout(io.StringIO()):
        known = index("truth.json")
        one = evaluation(known, known.loadRes("found.json"), "bbox")
        one.evaluate()
        one.accumulate()
        one.summarize()
    values[name] = [float(one.stats[0]), float(one.stats[8])]
    print(f"{name:<21} {values[name][0]:.3f} {values[name][1]:.3f}")
for name in ("pycocotools", "faster-coco-eval"):
    assert values[name][0] < 0.6 and values[name][1] == 0.75, f"{name} behaves otherwise now"
for name in ("ultrafast-pycocotools", "hotcoco", "vernier"):
    assert min(values[name]) > 0.99, f"{name} behaves otherwise now"
PY
cd "$folder"
"$folder/venv/bin/python" zero.py
