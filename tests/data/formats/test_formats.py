"""Every format is one file with `read` and `write`, which fit each other."""

from importlib import import_module

import numpy as np
import pytest
from helpers.fresh import fresh

FORMATS = ("coco", "voc", "yolo")
BOXES = [[2, 3, 10.5, 8], [1, 1, 9, 9]]


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_written_beside_its_pictures_is_read(coco, tmp_path, name):
    source = import_module("detector.data.formats.coco").read(
        coco.annotate([{"bbox": [2, 3, 10.5, 8]}, {"bbox": [1, 1, 9, 9]}])
    )
    form = import_module(f"detector.data.formats.{name}")
    home = tmp_path / "written"
    form.write(source, home)
    pictures = home / {"coco": "images/train", "voc": "JPEGImages", "yolo": "images/train"}[name]
    pictures.mkdir(parents=True, exist_ok=True)
    coco.picture("1.png", 60, 80)
    (coco.images / "1.png").rename(pictures / "1.png")
    index = form.read(home / "annotations" / "train.json" if name == "coco" else home)
    assert index.boxes_xywh == pytest.approx(np.array(BOXES), abs=1e-6)
    assert [index.classes[label] for label in index.labels] == ["cat", "cat"]
    assert len(index) == 1


@pytest.mark.parametrize("name", FORMATS)
def test_no_format_imports_torch(name):
    code = f"import sys, detector.data.formats.{name}; print('torch' in sys.modules)"
    done = fresh("-c", code, torch=False)
    assert done.stdout.strip() == "False"
