#!/usr/bin/env bash
# tidecv 1.0.1 (Python 3.11, Linux): what an error costs depends on ties of scores, and its AP50 is not COCO's where a
# class has no object in the data.
#
# One class, two objects: the first is found by a detection, the second is missed, and another detection lies where
# nothing is. AP50 is 50.5, and without the missed object it would be 100, so that missing it costs 49.5. tidecv says so
# while the wrong detection scores less than the right one. With equal scores it says 0: equal scores stand in the
# file's order before a repair, and all wrong detections first after one; what is lost by that is more than what is
# gained, and a gain below 0 is given as 0. The AP50 is the same in both.
#
# One class whose only object is found, and a detection of a class that has no object: 100 by pycocotools, which leaves
# that class out of the mean, and 50 by tidecv, which counts it as 0.
#
# Seen:
#   scores 0.9 and 0.8: AP50 50.5, missed costs 49.5
#   scores 0.9 and 0.9: AP50 50.5, missed costs 0.0
#   a detection of a class without objects: AP50 50.0 by tidecv, 100.0 by pycocotools
#
# So its costs need distinct scores, which whole-number or rounded ones are not, and its AP50 data with all classes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "tidecv==1.0.1" "pycocotools==2.0.11" "numpy==2.4.6"
cat > "$folder/ties.py" <<'PY'
import contextlib
import io

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from tidecv import TIDE, Data

BOX = [0, 0, 10, 10]


def tide(objects, detections):
    truth, found = Data("truth"), Data("found")
    for image, label in objects:
        truth.add_ground_truth(image, label, BOX)
    for image, label, box, score in detections:
        found.add_detection(image, label, score, box)
    tide = TIDE()
    return tide.evaluate(truth, found, mode=TIDE.BOX).ap, tide.get_main_errors()["found"]["Miss"]


def coco(objects, detections):
    truth = COCO()
    labels, images = {label for _, label, _, _ in detections}, {image for image, _ in objects}
    truth.dataset = {
        "images": [{"id": image} for image in images],
        "categories": [{"id": label} for label in labels],
        "annotations": [
            {"id": i, "image_id": image, "category_id": label, "bbox": BOX, "area": 100, "iscrowd": 0}
            for i, (image, label) in enumerate(objects, 1)
        ],
    }
    rows = [{"image_id": i, "category_id": k, "bbox": box, "score": score} for i, k, box, score in detections]
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(rows), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return 100 * evaluation.stats[1]


for score, expected in ((0.8, 49.5), (0.9, 0.0)):
    ap, missed = tide([(1, 1), (2, 1)], [(1, 1, BOX, 0.9), (1, 1, [50, 50, 10, 10], score)])
    print(f"scores 0.9 and {score}: AP50 {ap:.1f}, missed costs {missed:.1f}")
    assert (round(ap, 1), round(missed, 1)) == (50.5, expected), "it behaves otherwise now"
case = [(1, 1)], [(1, 1, BOX, 0.9), (1, 2, BOX, 0.9)]
ours, theirs = tide(*case)[0], coco(*case)
print(f"a detection of a class without objects: AP50 {ours:.1f} by tidecv, {theirs:.1f} by pycocotools")
assert (round(ours, 6), round(theirs, 6)) == (50, 100), "it behaves otherwise now"
PY
"$folder/venv/bin/python" "$folder/ties.py"
