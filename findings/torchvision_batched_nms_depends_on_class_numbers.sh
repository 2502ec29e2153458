#!/usr/bin/env bash
# torchvision 0.29.1 (Python 3.11, Linux): which boxes batched_nms leaves depends on the numbers of their classes, on boxes of
# other classes, and on how many boxes there are. Up to 1,000 boxes on a CPU (25,000 on a GPU) it moves those of class k
# by k times the largest coordinate, so that one nms does for all. In float32 that takes digits from the coordinates: for
# class 1,200 in a picture of 4,000 pixels they are rounded to halves, and overlaps of small boxes are others. With more
# boxes it runs nms class by class, which is exact; the pull request that brought this (3426) calls both equivalent.
#
# Seen (900 boxes of about 16 pixels around 60 objects, 6 classes, IoU 0.6; boxes that are kept or dropped wrongly, mean of
# 20 draws; and what one more box of another class far right changes, where all others lie in the first 1,000 pixels):
#   the classes are                   0..5     74..79   360..365 1197..1202
#   picture of 1,333 pixels            0.0        0.4        1.2        5.2
#   picture of 4,000 pixels            0.1        1.6        5.2       19.4
#   one more box at 4,000              0.1        1.2        5.5       22.4
#   the same in float64                0.0        0.0        0.0        0.0
#   and 200 boxes more, of a class of their own: 0.0 (all 1,100 boxes are looked at class by class)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "torch==2.14.1" "torchvision==0.29.1" numpy
cat > "$folder/classes.py" <<'PY'
import torch
from torchvision.ops import batched_nms, nms

DRAWS, BOXES, CLASSES, IOU = 20, 900, 6, 0.6
FIRST = (0, 74, 360, 1197)


def draw(size, seed):
    generator = torch.Generator().manual_seed(seed)
    centre = torch.rand(60, 2, generator=generator) * (size - 40)
    pick = torch.randint(60, (BOXES,), generator=generator)
    boxes = torch.cat([centre[pick], centre[pick] + 16], 1) + torch.randn(BOXES, 4, generator=generator) * 1.5
    scores = torch.rand(BOXES, generator=generator)
    return boxes.clamp(min=0), scores, torch.randint(CLASSES, (BOXES,), generator=generator)


def by_class(boxes, scores, labels):
    kept = set()
    for label in labels.unique().tolist():
        rows = (labels == label).nonzero()[:, 0]
        kept |= set(rows[nms(boxes[rows], scores[rows], IOU)].tolist())
    return kept


def wrong(size, first, dtype=torch.float32, more=None):
    """Of the boxes drawn: how many batched_nms keeps or drops otherwise than nms class by class; a mean."""
    number = 0
    for seed in range(DRAWS):
        boxes, scores, labels = (part.to(dtype) if part.is_floating_point() else part for part in draw(size, seed))
        exact = by_class(boxes, scores, labels)
        labels = labels + first
        if more is not None:  # boxes of a class of their own, which are worse than all
            boxes = torch.cat([boxes, more.to(dtype)])
            scores = torch.cat([scores, scores.new_zeros(len(more))])
            labels = torch.cat([labels, labels.new_full((len(more),), first + CLASSES)])
        found = {i for i in batched_nms(boxes, scores, labels, IOU).tolist() if i < BOXES}
        number += len(found ^ exact)
    return number / DRAWS


far = torch.tensor([[3980.0, 3980.0, 4000.0, 4000.0]])
places = torch.arange(200)[:, None] * 18.0
many = torch.cat([places, places, places + 16, places + 16], 1)
rows = {
    "picture of 1,333 pixels": [wrong(1333, first) for first in FIRST],
    "picture of 4,000 pixels": [wrong(4000, first) for first in FIRST],
    "one more box at 4,000": [wrong(1000, first, more=far) for first in FIRST],
    "the same in float64": [wrong(1000, first, torch.float64, far) for first in FIRST],
}
print(f"{'the classes are':<27}" + "".join(f"{f'{first}..{first + CLASSES - 1}':>11}" for first in FIRST))
for name, numbers in rows.items():
    print(f"{name:<27}" + "".join(f"{number:>11.1f}" for number in numbers))
large = wrong(4000, FIRST[-1], more=many)
print(f"and 200 boxes more, of a class of their own: {large:.1f} (all 1,100 boxes are looked at class by class)")
small, wide, one, double = rows.values()
assert wide[-1] > 8 and one[-1] > 8 and 1 < small[-1] < wide[-1], "it behaves otherwise now"
assert max(double) == 0 and large == 0 and wide[0] < 0.5, "it is not the digits of float32"
PY
"$folder/venv/bin/python" "$folder/classes.py"
