#!/usr/bin/env bash
# sahi 0.12.8 (Python 3.11, Linux): what it writes of a COCO file has no crowd regions any more. It reads each annotation
# without its iscrowd, whose default is 0, so that a region that marks a group, which is neither object nor background in a
# training and a test, comes out of slice_coco, Coco(..).json, merge and split as one object of its class. In slices it is
# cut into one such object a slice. Masks as run lengths, which crowds have, are left out with a warning that speaks of
# the mask alone.
#
# Seen (a picture of 400 x 200 with one object and a crowd over both halves, cut into two slices of 200 x 200):
#   before:            1 object, 1 crowd
#   Coco(..).json:     2 objects, 0 crowds
#   slice_coco(..):    3 objects, 0 crowds
#   a detector that finds just the object, and one person of the crowd: AP 1.000 before, 0.505 after
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "sahi==0.12.8" "pycocotools==2.0.11" "numpy==2.4.6" "shapely==2.1.2"
cat > "$folder/crowds.py" <<'PY'
import contextlib
import io
import json

import numpy as np
from PIL import Image
from pycocotools import mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from sahi.slicing import slice_coco
from sahi.utils.coco import Coco

Image.new("RGB", (400, 200)).save("a.jpg")
crowd = np.zeros((200, 400), np.uint8, order="F")
crowd[100:160, 150:250] = 1
runs = np.flatnonzero(np.diff(np.concatenate([[0], crowd.ravel(order="F"), [1]])))
counts = np.diff(np.concatenate([[0], runs, [crowd.size]])).tolist()
assert mask.area(mask.frPyObjects({"size": [200, 400], "counts": counts}, 200, 400)) == crowd.sum()
rows = [
    {"id": 1, "bbox": [20, 20, 30, 60], "area": 1800, "iscrowd": 0, "segmentation": []},
    {
        "id": 2,
        "bbox": [150, 100, 100, 60],
        "area": int(crowd.sum()),
        "iscrowd": 1,
        "segmentation": {"size": [200, 400], "counts": counts},
    },
]
truth = {
    "images": [{"id": 1, "file_name": "a.jpg", "width": 400, "height": 200}],
    "categories": [{"id": 1, "name": "person"}],
    "annotations": [{**row, "image_id": 1, "category_id": 1} for row in rows],
}
with open("truth.json", "w") as file:
    json.dump(truth, file)


def numbers(content):
    crowds = sum(row.get("iscrowd", 0) for row in content["annotations"])
    return len(content["annotations"]) - crowds, crowds


def ap(content):
    guesses = [[20, 20, 30, 60], [170, 110, 20, 40]]
    known = COCO()
    known.dataset = content
    with contextlib.redirect_stdout(io.StringIO()):
        known.createIndex()
        found = [{"image_id": 1, "category_id": 1, "bbox": box, "score": 0.9} for box in guesses]
        one = COCOeval(known, known.loadRes(found), "bbox")
        one.evaluate()
        one.accumulate()
        one.summarize()
    return float(one.stats[0])


copied = Coco.from_coco_dict_or_path("truth.json").json
sliced, _ = slice_coco(
    "truth.json", ".", "sliced", output_dir="slices", slice_height=200, slice_width=200,
    overlap_height_ratio=0, overlap_width_ratio=0,
)
cases = {"before:": truth, "Coco(..).json:": copied, "slice_coco(..):": sliced}
found = {name: numbers(content) for name, content in cases.items()}
for name, (objects, crowds) in found.items():
    print(f"{name:<19}{objects} object{'s' * (objects != 1)}, {crowds} crowd{'s' * (crowds != 1)}")
values = ap(truth), ap(copied)
print("a detector that finds just the object, and one person of the crowd: ", end="")
print(f"AP {values[0]:.3f} before, {values[1]:.3f} after")
assert list(found.values()) == [(1, 1), (2, 0), (3, 0)], "it behaves otherwise now"
assert values[0] > 0.999 and values[1] < 0.6
PY
cd "$folder"
"$folder/venv/bin/python" crowds.py 2> "$folder/errors" || { cat "$folder/errors"; exit 1; }
