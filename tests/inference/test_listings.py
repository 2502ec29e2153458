"""What is listed can be read again: by our own readers, and with the boxes where they were."""

import csv
import json

import cv2
import numpy as np
import pytest
from PIL import Image

from detector.commands.predict import predict
from detector.config import load_config
from detector.data.catalog import load_dataset
from detector.data.images import read_rgb
from detector.inference.listings import is_listing

BOX = np.array([4.5, 3.25, 20, 30], np.float32)


@pytest.fixture
def found(monkeypatch):
    """A detector that finds BOX as a "dog" in each picture that has any black; it has an output without a class."""
    import torch

    from detector.structures import Detection

    def detect(model, batch, precision):
        return [
            Detection(
                boxes=torch.from_numpy(BOX)[None].repeat(dark, 1),
                labels=torch.full((dark,), 2),
                scores=torch.full((dark,), 0.75),
            )
            for image in batch.images
            for dark in [int(image[0, 0, 0] == 0)]
        ]

    names = ["cat", "N/A", "dog, \x1b[31mred"]
    monkeypatch.setattr("detector.tasks.trained.load_for_inference", lambda *given: (None, names, [5, 6, 7]))
    monkeypatch.setattr("detector.inference.detect.detect", detect)


@pytest.fixture
def photos(tmp_path):
    """Pictures of 40 x 60, of which b is white and c stored on its side; the square d is stored on its side too."""
    (tmp_path / "photos" / "inner").mkdir(parents=True)
    black = np.zeros((40, 60, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "photos" / "a.png"), black)
    cv2.imwrite(str(tmp_path / "photos" / "inner" / "b.png"), black + 255)
    tag = Image.Exif()
    tag[0x0112] = 6
    Image.fromarray(black.transpose(1, 0, 2)).save(tmp_path / "photos" / "c.jpg", exif=tag)
    Image.fromarray(black[:, :40]).save(tmp_path / "photos" / "d.jpg", exif=tag)
    return tmp_path / "photos"


def listed(photos, tmp_path, *formats, opts=()):
    cfg = load_config(None, ["MODEL.DEVICE", "cpu", "INPUT.MIN_SIZE_TEST", "40", *opts])
    predict(cfg, str(photos), tmp_path / "out", 0.5, formats=formats)
    return tmp_path / "out"


@pytest.mark.parametrize("form", ["coco", "yolo", "voc"])
def test_a_data_set_holds_what_was_found(found, photos, tmp_path, form):
    """In pictures that an EXIF tag turns too, in whatever frame the format has its boxes."""
    out = listed(photos, tmp_path, form)
    entry = f"{photos}:{out / 'coco.json'}" if form == "coco" else f"{form}:{out / form}:train"
    source = load_dataset(entry, tmp_path)
    index = source.index
    places = {str(name): i for i, name in enumerate(index.file_names)}
    assert list(places) == ["a.png", "c.jpg", "d.jpg", "inner/b.png"] == sorted(places)
    assert index.classes == ["cat", "dog, \x1b[31mred" if form != "voc" else "dog,  [31mred"]
    assert [index.classes[label][:3] for label in index.labels] == ["dog"] * 3
    assert [len(index.boxes[index.rows(i)]) for i in places.values()] == [1, 1, 1, 0]
    np.testing.assert_allclose(index.boxes[:2], [BOX, BOX], atol=1e-4)
    size = index.size(1)
    assert read_rgb(source.folder / "c.jpg", size, index.upright(1)).shape[:2] == size == (40, 60)
    # The size of a square does not tell whether it is turned, so COCO's and VOC's boxes belong to it as it is stored.
    stored = [BOX[1], 40 - BOX[2], BOX[3], 40 - BOX[0]]
    assert index.upright(2) == (form == "yolo")
    np.testing.assert_allclose(index.boxes[2], BOX if form == "yolo" else stored, atol=1e-4)


def test_coco_has_scores_ids_and_real_classes_only(found, photos, tmp_path):
    out = listed(photos, tmp_path, "coco")
    assert [path.name for path in out.iterdir()] == ["coco.json"]  # results.json is for data sets
    content = json.loads((out / "coco.json").read_text())
    assert [(one["id"], one["name"]) for one in content["categories"]] == [(5, "cat"), (7, "dog, \x1b[31mred")]
    assert [(one["id"], one["width"], one["height"]) for one in content["images"]] == [
        (1, 60, 40),
        (2, 60, 40),
        (3, 40, 40),
        (4, 60, 40),
    ]
    first, second, _ = content["annotations"]
    assert first == {
        "id": 1, "image_id": 1, "category_id": 7, "bbox": [4.5, 3.25, 15.5, 26.75], "score": 0.75,
        "area": 15.5 * 26.75, "iscrowd": 0,
    }  # fmt: skip
    assert (second["id"], second["image_id"]) == (2, 2)


def test_a_table_has_a_line_for_each_detection(found, photos, tmp_path):
    out = listed(photos, tmp_path, "csv")
    with (out / "detections.csv").open(newline="", encoding="utf-8") as file:
        first, second, _ = csv.DictReader(file)
    assert first == {
        "file": str(photos / "a.png"), "frame": "", "seconds": "", "width": "60", "height": "40",
        "class": "dog, \x1b[31mred", "category_id": "7", "score": "0.75", "x1": "4.5", "y1": "3.25", "x2": "20.0",
        "y2": "30.0", "threshold": "0.5",
    }  # fmt: skip
    assert second["file"] == str(photos / "c.jpg")


def test_a_data_set_gets_results_under_its_own_ids(found, write_cells, tmp_path):
    """As `detector compare` and pycocotools take them; a class that it has in its own words, under its own id."""
    entry = write_cells(1, 0)
    cv2.imwrite(str(tmp_path / "cells" / "1.png"), np.zeros((64, 96, 3), np.uint8))
    path = tmp_path / "cells.json"
    path.write_text(path.read_text().replace('"dark"', json.dumps("dog, \x1b[31mred")))
    out = listed(entry, tmp_path, "coco", "pictures")
    rows = json.loads((out / "results.json").read_text())
    assert rows == [{"image_id": 41, "category_id": 9, "bbox": [4.5, 3.25, 15.5, 26.75], "score": 0.75}]
    assert [one["id"] for one in json.loads((out / "coco.json").read_text())["images"]] == [40, 41]
    assert cv2.imread(str(out / "0.jpg")).std() > 5  # its truth is drawn
    listed(entry, tmp_path, "coco", "pictures")


def test_a_list_of_nothing_but_empty_pictures_is_one(found, photos, tmp_path):
    for name in ("a.png", "c.jpg", "d.jpg"):
        (photos / name).unlink()
    out = listed(photos, tmp_path, "coco", "csv", "yolo", "json")
    assert json.loads((out / "coco.json").read_text())["annotations"] == []
    assert len((out / "detections.csv").read_text().splitlines()) == 1
    index = load_dataset(f"yolo:{out / 'yolo'}:train", tmp_path).index
    assert (len(index), len(index.labels), len(index.classes)) == (1, 0, 2)


def test_only_a_list_with_pictures_is_ours(tmp_path):
    path = tmp_path / "detections.json"
    for text, ours in (("[]", False), ("{}", False), ("[1]", False), ('[{"file": "a", "detections": []}]', True)):
        path.write_text(text)
        assert is_listing(path) is ours
