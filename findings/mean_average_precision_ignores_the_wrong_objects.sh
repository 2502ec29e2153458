#!/usr/bin/env bash
# mean-average-precision 2024.1.5.0 (Python 3.11, Linux), an evaluator by VOC's and COCO's rules: with difficult objects AP is
# wrong in two ways, and depends on the order in which the detections of a picture stand. The row of marks of a picture's
# objects should be repeated for each detection; np.repeat repeats each mark instead and the result is cut into rows, so
# that the marks lie on other objects wherever a picture has several. And difficult objects, which "do not
# contribute" to its authors, count among those to be found. Crowds take the same way.
#
# VOC's development kit counts objects that are not difficult, and passes over what is detected on the others: a detector
# that finds just the former has AP 1.
#
# Seen (a picture of 6 objects, each that is not difficult found exactly; AP at IoU 0.5):
#   difficult             VOC's rules   found in order   in reverse
#   none                        1.000            1.000        1.000
#   the first                   1.000            0.667        0.833
#   the fourth                  1.000            0.833        0.667
#   the first three             1.000            0.333        0.333
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "mean-average-precision==2024.1.5.0" "numpy==2.4.6" "pandas==2.3.3"
cat > "$folder/difficult.py" <<'PY'
import warnings

import numpy as np
from mean_average_precision import MetricBuilder

warnings.simplefilter("ignore")
BOXES = [[40 * i, 10, 40 * i + 20, 30] for i in range(6)]
CASES = {"none": (), "the first": (0,), "the fourth": (3,), "the first three": (0, 1, 2)}


def ap(difficult, reverse):
    objects = [[*box, 0, int(i in difficult), 0] for i, box in enumerate(BOXES)]  # class, difficult, crowd
    found = [[*box, 0, 0.9 - 0.1 * i] for i, box in enumerate(BOXES) if i not in difficult]  # class, score
    metric = MetricBuilder.build_evaluation_metric("map_2d", async_mode=False, num_classes=1)
    metric.add(np.array(found[::-1] if reverse else found, float), np.array(objects, float))
    return float(metric.value(iou_thresholds=0.5)["mAP"])


print(f"{'difficult':<22}VOC's rules   found in order   in reverse")
found = {name: (ap(difficult, False), ap(difficult, True)) for name, difficult in CASES.items()}
for name, (first, second) in found.items():
    print(f"{name:<22}{1:>11.3f}{first:>17.3f}{second:>13.3f}")
seen = [tuple(round(value, 3) for value in pair) for pair in found.values()]
assert seen == [(1, 1), (0.667, 0.833), (0.833, 0.667), (0.333, 0.333)], f"{seen}: it behaves otherwise now"
PY
"$folder/venv/bin/python" "$folder/difficult.py"
