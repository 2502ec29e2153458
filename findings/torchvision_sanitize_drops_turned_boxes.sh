#!/usr/bin/env bash
# torchvision 0.29.1 (Python 3.11, Linux): SanitizeBoundingBoxes drops every turned box that stands at 90 or 270 degrees,
# whatever its size, and keeps those at 0 and 180 whatever their height. Of the four corners it takes y2 - y3 and
# x3 - x4 for the two legs of the second side, where x2 - x3 and y2 - y3 are meant. So the "height" of a box of sides w
# and h at the angle a is |cos a| times its diagonal: at 90 degrees none, at 0 more than h, and never h itself.
#
# Seen (a box of 60 x 30 in the middle of a picture of 200 x 200; o kept, . dropped):
#   angle                          0  30  60  75  80  85  89  90 100 180 270
#   min_size 1                     o   o   o   o   o   o   o   .   o   o   .
#   min_size 16                    o   o   o   o   .   .   .   .   .   o   .
#   60 x 0.02, min_size 1          o   o   o   o   o   o   o   .   o   o   .
#   RandomRotation((90, 90)), SanitizeBoundingBoxes: 0 of 3 boxes are left
#
# Turning by quarters is the usual augmentation of pictures from above and of documents: with it, a training sees half of
# its turned pictures as empty.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "torch==2.14.1" "torchvision==0.29.1" numpy
cat > "$folder/turned.py" <<'PY'
import torch
from torchvision import tv_tensors
from torchvision.transforms import v2

ANGLES = (0, 30, 60, 75, 80, 85, 89, 90, 100, 180, 270)


def kept(height, angle, min_size):
    rows = [[100.0, 100.0, 60.0, height, float(angle)]]
    boxes = tv_tensors.BoundingBoxes(rows, format="CXCYWHR", canvas_size=(200, 200))
    return len(v2.functional.sanitize_bounding_boxes(boxes, min_size=min_size)[0]) == 1


def line(name, height, min_size):
    found = [kept(height, angle, min_size) for angle in ANGLES]
    print(f"{name:<28}" + "".join(f"{'o' if one else '.':>4}" for one in found))
    return found


print(f"{'angle':<28}" + "".join(f"{angle:>4}" for angle in ANGLES))
usual, larger, flat = line("min_size 1", 30.0, 1), line("min_size 16", 30.0, 16), line("60 x 0.02, min_size 1", 0.02, 1)
boxes = tv_tensors.BoundingBoxes(
    [[60.0, 60.0, 60.0, 30.0, 0.0], [120.0, 120.0, 50.0, 50.0, 0.0], [100.0, 60.0, 30.0, 40.0, 180.0]],
    format="CXCYWHR",
    canvas_size=(200, 200),
)
pipeline = v2.Compose([v2.RandomRotation((90, 90)), v2.SanitizeBoundingBoxes(labels_getter=None)])
left = len(pipeline({"image": tv_tensors.Image(torch.zeros(3, 200, 200)), "boxes": boxes})["boxes"])
print(f"RandomRotation((90, 90)), SanitizeBoundingBoxes: {left} of {len(boxes)} boxes are left")
dropped = [angle for angle, one in zip(ANGLES, usual, strict=True) if not one]
assert dropped == [90, 270] and left == 0, "it behaves otherwise now"
assert [angle for angle, one in zip(ANGLES, larger, strict=True) if not one] == [80, 85, 89, 90, 100, 270]
assert flat == usual, "a box of no height is dropped now"
PY
"$folder/venv/bin/python" "$folder/turned.py"
