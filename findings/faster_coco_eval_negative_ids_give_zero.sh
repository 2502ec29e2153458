#!/usr/bin/env bash
# faster-coco-eval 1.8.0 (Python 3.11, Linux): where the annotations of a COCO file have negative ids, as the format
# allows and as databases and merged files have them, every measure is 0, and nothing is said. pycocotools 2.0.11 gives
# the same numbers whatever the ids are, but for the id 0.
#
# Seen (four objects, four detections that are their boxes; AP):
#   ids from 1:   pycocotools 1.000, faster-coco-eval 1.000
#   ids from -10: pycocotools 1.000, faster-coco-eval 0.000
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "pycocotools==2.0.11" "faster-coco-eval==1.8.0" numpy
cat > "$folder/ids.py" <<'PY'
import contextlib
import io
import json

import faster_coco_eval
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

APIS = {"pycocotools": (COCO, COCOeval), "faster-coco-eval": (faster_coco_eval.COCO, faster_coco_eval.COCOeval_faster)}


def ap(name, first):
    objects = [
        {"id": first + k, "image_id": 1, "category_id": 1, "bbox": [20 * k, 10, 15, 15], "area": 225, "iscrowd": 0}
        for k in range(4)
    ]
    truth = {
        "images": [{"id": 1, "width": 100, "height": 100}],
        "annotations": objects,
        "categories": [{"id": 1, "name": "thing"}],
    }
    found = [{"image_id": 1, "category_id": 1, "bbox": one["bbox"], "score": 0.9} for one in objects]
    with open("truth.json", "w") as file:
        json.dump(truth, file)
    with open("found.json", "w") as file:
        json.dump(found, file)
    index, evaluation = APIS[name]
    with contextlib.redirect_stdout(io.StringIO()):
        known = index("truth.json")
        one = evaluation(known, known.loadRes("found.json"), "bbox")
        one.evaluate()
        one.accumulate()
        one.summarize()
    return float(one.stats[0])


values = {(name, first): ap(name, first) for first in (1, -10) for name in APIS}
for first in (1, -10):
    print(f"ids from {first}:", ", ".join(f"{name} {values[name, first]:.3f}" for name in APIS))
assert values["pycocotools", -10] == values["pycocotools", 1] == values["faster-coco-eval", 1] > 0.99
assert values["faster-coco-eval", -10] < 0.01, "it behaves otherwise now"
PY
cd "$folder"
"$folder/venv/bin/python" ids.py
