#!/usr/bin/env bash
# label-studio-sdk 2.1.2, whose converter makes Label Studio's exports (Python 3.11, Linux): one project becomes three data
# sets.
#
# Turned rectangles: YOLO's and VOC's files hold the rectangle as if it were not turned, from the corner that it was turned
# around, so that at 90 degrees it lies beside its object. COCO's file holds the upright box around it, but computed with
# x and y in percent of the picture's sides, which is right in square pictures alone.
# Two labels of one rectangle: YOLO's files hold both, COCO's and VOC's the first.
# Two annotations of one picture, by two people or as a correction: they are sorted with the newest first, as the newest
# is meant, but then each one writes the file: of YOLO and VOC the OLDEST is left. COCO's file has two records of the
# picture, with the boxes of one annotation each, which a training takes for two pictures that contradict each other.
#
# Seen (x, y, width, height in pixels; pictures of 400 x 200, and of 200 x 200 where said):
#   turned by 90 degrees, true            120 40 80 80
#     COCO                                40 40 160 40
#     YOLO                                200 40 80 80
#     VOC                                 200 40 80 80
#   the same in a square picture, true    20 40 80 40
#     COCO                                20 40 80 40
#   cat and dog: COCO cat; YOLO cat, dog; VOC cat
#   drawn in May, mended in June: COCO 2 records, of June and May; YOLO May; VOC May
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "label-studio-sdk==2.1.2"
cat > "$folder/exports.py" <<'PY'
import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from label_studio_sdk.converter import Converter

VIEW = (
    '<View><Image name="image" value="$image"/><RectangleLabels name="label" toName="image">'
    '<Label value="cat"/><Label value="dog"/></RectangleLabels></View>'
)


def rectangle(x, y, width, height, rotation=0, labels=("cat",), sides=(400, 200)):
    value = {"x": x, "y": y, "width": width, "height": height, "rotation": rotation, "rectanglelabels": list(labels)}
    names = {"type": "rectanglelabels", "from_name": "label", "to_name": "image", "image_rotation": 0}
    return {"id": "a", **names, "original_width": sides[0], "original_height": sides[1], "value": value}


def exported(*annotations, sides=(400, 200)):
    """{format: [(class, x, y, width, height in pixels)]}, and the number of COCO's records, of one picture."""
    task = {
        "id": 1,
        "data": {"image": "/data/upload/1/abcd1234-a.png"},
        "annotations": [
            {"id": i, "created_at": day, "result": [rectangle] } for i, (day, rectangle) in enumerate(annotations, 1)
        ],
    }
    Path("tasks.json").write_text(json.dumps([task]))
    converter = Converter(VIEW, ".", download_resources=False)
    for form in ("coco", "yolo", "voc"):
        getattr(converter, f"convert_to_{form}")("tasks.json", form, output_image_dir=f"{form}/images", is_dir=False)
    content = json.loads(Path("coco/result.json").read_text())
    names = {one["id"]: one["name"] for one in content["categories"]}
    found = {"COCO": [(names[one["category_id"]], *one["bbox"]) for one in content["annotations"]], "YOLO": [], "VOC": []}
    classes = Path("yolo/classes.txt").read_text().split()
    for line in Path("yolo/labels/abcd1234-a.txt").read_text().splitlines():
        label, x, y, w, h = map(float, line.split())
        box = sides[0] * (x - w / 2), sides[1] * (y - h / 2), sides[0] * w, sides[1] * h
        found["YOLO"].append((classes[int(label)], *box))
    for one in ElementTree.parse("voc/Annotations/abcd1234-a.xml").iter("object"):
        a, b, c, d = (float(one.findtext(f"bndbox/{edge}")) for edge in ("xmin", "ymin", "xmax", "ymax"))
        found["VOC"].append((one.findtext("name"), a, b, c - a, d - b))
    rounded = {form: [(name, *map(round, box)) for name, *box in rows] for form, rows in found.items()}
    return rounded, len(content["images"])


turned, _ = exported(("2026-05-01", rectangle(50, 20, 20, 40, 90)))
print("turned by 90 degrees, true            120 40 80 80")
for form, [(_, *box)] in turned.items():
    print(f"  {form:<36}" + " ".join(map(str, box)))
square, _ = exported(("2026-05-01", rectangle(50, 20, 20, 40, 90, sides=(200, 200))), sides=(200, 200))
print("the same in a square picture, true    20 40 80 40")
print(f"  {'COCO':<36}" + " ".join(map(str, square["COCO"][0][1:])))
both, _ = exported(("2026-05-01", rectangle(10, 10, 20, 20, labels=("cat", "dog"))))
print("cat and dog: " + "; ".join(f"{form} {', '.join(row[0] for row in rows)}" for form, rows in both.items()))
months = {20: "May", 60: "June"}
mended, records = exported(
    ("2026-05-01", rectangle(5, 10, 20, 20)), ("2026-06-01", rectangle(15, 10, 20, 20, labels=("dog",)))
)
drawn = {form: [months[row[1]] for row in rows] for form, rows in mended.items()}
print(f"drawn in May, mended in June: COCO {records} records, of {' and '.join(drawn['COCO'])}; ", end="")
print(f"YOLO {' and '.join(drawn['YOLO'])}; VOC {' and '.join(drawn['VOC'])}")
assert {form: rows[0][1:] for form, rows in turned.items()} == {
    "COCO": (40, 40, 160, 40),
    "YOLO": (200, 40, 80, 80),
    "VOC": (200, 40, 80, 80),
}, f"{turned}: it behaves otherwise now"
assert square["COCO"][0][1:] == (20, 40, 80, 40), f"{square}: it behaves otherwise now"
assert [len(rows) for rows in both.values()] == [1, 2, 1], f"{both}: it behaves otherwise now"
assert records == 2 and drawn == {"COCO": ["June", "May"], "YOLO": ["May"], "VOC": ["May"]}, "it behaves otherwise now"
PY
cd "$folder"
"$folder/venv/bin/python" exports.py 2> "$folder/errors" || { cat "$folder/errors"; exit 1; }
