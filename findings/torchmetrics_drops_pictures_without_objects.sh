#!/usr/bin/env bash
# torchmetrics 1.9.0 with pycocotools 2.0.11 (Python 3.11, Linux): MeanAveragePrecision.coco_to_tm, which reads a COCO file
# and a results file for the metric, makes another test of them. It goes through the annotations, not the images, so
# pictures without objects are left out with all that was detected in them, and the more a detector finds where nothing
# is, the better it looks beside pycocotools. And the boxes stay x, y, width, height, while the metric takes corners
# unless box_format says otherwise: as its own example calls it, MeanAveragePrecision().coco_to_tm(..), a detector whose
# boxes are all exact gets 0.
#
# Seen (5 pictures with an object, each found exactly at 0.5; n pictures without, each with a detection at 0.9; AP):
#   n   pycocotools   torchmetrics, box_format="xywh"   torchmetrics, as in its example
#   0   1.000         1.000                             0.000
#   5   0.500         1.000                             0.000
#   45  0.100         1.000                             0.000
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "torch==2.14.1" "torchvision==0.29.1" "torchmetrics==1.9.0" "pycocotools==2.0.11" "numpy==2.4.6"
cat > "$folder/empty.py" <<'PY'
import contextlib
import io
import json

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torchmetrics.detection import MeanAveragePrecision

OBJECTS = 5
BOX = [60.0, 50.0, 20.0, 30.0]


def written(empty):
    images = list(range(1, OBJECTS + empty + 1))
    truth = {
        "images": [{"id": i, "width": 100, "height": 100} for i in images],
        "categories": [{"id": 1, "name": "thing"}],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 1, "bbox": BOX, "area": 600.0, "iscrowd": 0}
            for i in images[:OBJECTS]
        ],
    }
    found = [
        {"image_id": i, "category_id": 1, "bbox": BOX, "score": 0.5 if i <= OBJECTS else 0.9} for i in images
    ]
    for name, content in (("truth.json", truth), ("found.json", found)):
        with open(name, "w") as file:
            json.dump(content, file)


def coco():
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO("truth.json")
        one = COCOeval(truth, truth.loadRes("found.json"), "bbox")
        one.evaluate()
        one.accumulate()
        one.summarize()
    return float(one.stats[0])


def metric(**options):
    one = MeanAveragePrecision(**options)
    found, truth = one.coco_to_tm("found.json", "truth.json")
    assert len(truth) == OBJECTS, f"{len(truth)} pictures are read: it behaves otherwise now"
    one.update(found, truth)
    return float(one.compute()["map"])


print('n   pycocotools   torchmetrics, box_format="xywh"   torchmetrics, as in its example')
for empty in (0, 5, 45):
    written(empty)
    values = coco(), metric(box_format="xywh"), metric()
    print(f"{empty:<4}{values[0]:<14.3f}{values[1]:<34.3f}{values[2]:.3f}")
    assert abs(values[0] - OBJECTS / (OBJECTS + empty)) < 1e-6
    assert values[1] > 0.999 and values[2] < 0.001, "it behaves otherwise now"
PY
cd "$folder"
"$folder/venv/bin/python" empty.py
