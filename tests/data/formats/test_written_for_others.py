"""What we write, read by the readers of others: pycocotools, torchvision, and Ultralytics where it is installed."""

import json

import cv2
import numpy as np
import pytest
from helpers.converted import write_dataset
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torchvision.datasets import CocoDetection, VOCDetection, wrap_dataset_for_transforms_v2
from torchvision.transforms import v2

from detector.data.catalog import load_dataset
from detector.data.convert import write_datasets

NAMES = ["b.jpg", "cam 1/a.jpg", "Ünïcode.jpg", "empty.jpg"]
BOXES = [(0, 2, [1.5, 2.25, 30, 17.5]), (0, 1, [0, 0, 80, 40]), (1, 2, [10, 10, 5, 5]), (2, 1, [3, 4, 5, 6])]


def drawn(tmp_path, names):
    for i, name in enumerate(names):
        path = tmp_path / "pictures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), np.full((40, 80, 3), 40 * i, np.uint8))
    content = {
        "images": [{"id": i, "file_name": name, "height": 40, "width": 80} for i, name in enumerate(names)],
        "annotations": [
            {"id": i, "image_id": image, "category_id": category, "bbox": box}
            for i, (image, category, box) in enumerate(BOXES, 1)
        ],
        "categories": [{"id": 1, "name": "no"}, {"id": 2, "name": "a: <b> & 'c'"}],
    }
    (tmp_path / "a.json").write_text(json.dumps(content))
    return load_dataset(f"{tmp_path / 'pictures'}:{tmp_path / 'a.json'}", "")


@pytest.fixture
def source(tmp_path):
    return drawn(tmp_path, NAMES)


def test_pycocotools_and_torchvision_read_coco(source, tmp_path):
    write_dataset(source, "coco", tmp_path / "out")
    path = tmp_path / "out" / "annotations" / "train.json"
    data = CocoDetection(str(tmp_path / "out" / "images" / "train"), str(path))
    assert [(image.size, [row["bbox"] for row in rows]) for image, rows in data] == [
        ((80, 40), [box for image, _, box in BOXES if image == i]) for i in range(len(NAMES))
    ]


def test_torchvision_keeps_the_fractions_of_our_boxes_in_a_resize(tmp_path):
    """It rounds boxes of a picture down whose numbers are all written as whole ones: ours have a point."""
    write_dataset(drawn(tmp_path, NAMES[:3]), "coco", tmp_path / "out")
    path = tmp_path / "out" / "annotations" / "train.json"
    data = CocoDetection(str(tmp_path / "out" / "images" / "train"), str(path), transforms=v2.Resize((30, 20)))
    found = [target["boxes"].tolist() for _, target in wrap_dataset_for_transforms_v2(data)]
    assert found[1:] == [[[2.5, 7.5, 3.75, 11.25]], [[0.75, 3, 2, 7.5]]]


@pytest.mark.parametrize("first", ["voc", "yolo"])
def test_pycocotools_evaluates_what_had_no_ids(tmp_path, first):
    source = drawn(tmp_path, [name.replace("/", "-") for name in NAMES])
    entry = write_dataset(source, first, tmp_path / "first").entry
    write_dataset(load_dataset(entry, ""), "coco", tmp_path / "out")
    truth = COCO(str(tmp_path / "out" / "annotations" / "train.json"))
    guesses = [{**row, "score": 0.5} for row in truth.loadAnns(truth.getAnnIds())]
    evaluation = COCOeval(truth, truth.loadRes(guesses), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1)


def test_torchvision_reads_voc(source, tmp_path):
    write_dataset(source, "voc", tmp_path / "VOCdevkit" / "VOC2012")
    data = VOCDetection(str(tmp_path), "2012", "train")
    assert len(data) == len(NAMES)
    for i, (image, row) in enumerate(data):
        row = row["annotation"]
        assert image.size == (80, 40)
        assert row["size"] == {"width": "80", "height": "40", "depth": "3"}
        found = [
            (one["name"], [float(one["bndbox"][edge]) for edge in ("xmin", "ymin", "xmax", "ymax")])
            for one in row.get("object", [])
        ]
        assert found == [
            (source.index.classes[category - 1], [x + 1, y + 1, x + w, y + h])
            for image_id, category, (x, y, w, h) in BOXES
            if image_id == i
        ]


def test_ultralytics_reads_yolo(source, tmp_path, monkeypatch):
    monkeypatch.setenv("YOLO_CONFIG_DIR", str(tmp_path / "settings"))
    data = pytest.importorskip("ultralytics.data")
    from ultralytics.cfg import get_cfg
    from ultralytics.data.utils import check_det_dataset

    write_datasets({"train": source, "val": source}, "yolo", tmp_path / "out")
    for place in (tmp_path / "out" / "data.yaml", "out/data.yaml"):
        monkeypatch.chdir(tmp_path)
        facts = check_det_dataset(str(place), autodownload=False)
        assert facts["names"] == dict(enumerate(source.index.classes))
        for split in ("train", "val"):
            found = data.build_yolo_dataset(get_cfg(), facts[split], 1, facts, mode="val")
            index = load_dataset(f"yolo:{tmp_path / 'out'}:{split}", "").index
            assert len(found.labels) == len(index) == len(NAMES)
            for i, one in enumerate(found.labels):
                assert one["im_file"].endswith(index.file_names[i])
                rows = index.rows(i)
                cx, cy, w, h = (one["bboxes"] * [80, 40, 80, 40]).T
                np.testing.assert_allclose(
                    np.stack([cx - w / 2, cy - h / 2, w, h], 1), index.boxes_xywh[rows], atol=1e-4
                )
                assert sorted(one["cls"].ravel().tolist()) == sorted(index.labels[rows].tolist())
