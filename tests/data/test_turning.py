"""Boxes in pictures that an EXIF tag turns, against what Pillow makes of the pixels."""

import json

import numpy as np
import pytest
from helpers.converted import write_dataset
from PIL import Image, ImageOps

from detector.data.catalog import load_dataset
from detector.data.dataset import CocoDetection
from detector.data.doctor.seen import look
from detector.data.images import read_rgb
from detector.data.transforms import Compose
from detector.data.turning import as_recorded, turned


@pytest.mark.parametrize("tag", range(1, 9))
def test_boxes_turn_as_pixels_do(tmp_path, tag):
    boxes = np.array([[11, 3, 7, 5], [0, 0, 1, 2], [28, 19, 2, 1]])
    exif = Image.Exif()
    exif[0x0112] = tag
    for box, (x, y, w, h) in zip(turned(boxes.astype(float), tag, 20, 30).astype(int).tolist(), boxes):
        pixels = np.zeros((20, 30), np.uint8)
        pixels[y : y + h, x : x + w] = 255
        Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
        shown = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / "a.png")))
        rows, columns = np.nonzero(shown)
        assert box == [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]


@pytest.mark.parametrize("tag", range(1, 9))
def test_back_is_by_the_tag_that_undoes_it(tag):
    boxes = np.array([[1.25, 2, 3, 4.5], [5, 6, 7, 8]])
    back = {6: 8, 8: 6}.get(tag, tag)
    sides = (20, 30) if tag < 5 else (30, 20)
    np.testing.assert_array_equal(turned(turned(boxes, tag, 20, 30), back, *sides), boxes)


@pytest.mark.parametrize("width", [30, 20])
@pytest.mark.parametrize("tag", range(1, 9))
def test_found_boxes_belong_to_the_pixels_that_their_record_is_read_with(tmp_path, tag, width):
    shown = np.zeros((20, width, 3), np.uint8)
    shown[3:8, 11:18] = 255
    back = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # the transposition of Pillow that the tag undoes
    exif = Image.Exif()
    exif[0x0112] = tag
    image = Image.fromarray(shown)
    (image.transpose(back[tag]) if tag > 1 else image).save(tmp_path / "a.png", exif=exif)
    ((x, y, w, h),) = as_recorded(tmp_path / "a.png", np.array([[11, 3, 7, 5]]), (20, width)).astype(int)
    read = read_rgb(tmp_path / "a.png", (20, width))  # as a data set reads it
    assert read[y : y + h, x : x + w].min() == 255
    assert read.sum() == 255 * 3 * 35


@pytest.mark.parametrize("form", ["coco", "voc"])
@pytest.mark.parametrize("tag", range(1, 9))
@pytest.mark.parametrize("width", [30, 20])
def test_measured_pictures_are_read_as_viewers_show_them(tmp_path, monkeypatch, form, tag, width):
    monkeypatch.setenv("DETECTOR_CACHE", str(tmp_path / "cache"))
    shown = np.zeros((20, width, 3), np.uint8)
    shown[3:8, 11:18] = 255
    back = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # the transposition of Pillow that the tag undoes
    exif = Image.Exif()
    exif[0x0112] = tag
    folder = tmp_path / "set"
    for place in ("JPEGImages", "Annotations"):
        (folder / place).mkdir(parents=True)
    image = Image.fromarray(shown)
    (image.transpose(back[tag]) if tag > 1 else image).save(folder / "JPEGImages" / "a.png", exif=exif)
    content = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [11, 3, 7, 5]}],
        "categories": [{"id": 1, "name": "x"}],
    }
    (folder / "a.json").write_text(json.dumps(content))
    box = "<xmin>12</xmin><ymin>4</ymin><xmax>18</xmax><ymax>8</ymax>"
    text = f"<annotation><object><name>x</name><bndbox>{box}</bndbox></object></annotation>"
    (folder / "Annotations" / "a.xml").write_text(text)
    source = load_dataset(f"voc:{folder}:all" if form == "voc" else f"{folder / 'JPEGImages'}:{folder / 'a.json'}", "")
    sources = [source]  # and what is written of it, by whatever way
    for n, forms in enumerate((("coco",), ("voc",), ("yolo",), ("yolo", "coco"))):
        one = source
        for target in forms:
            one = load_dataset(write_dataset(one, target, tmp_path / f"{n}{target}").entry, "")
        sources.append(one)
    for one in sources:
        pixels = CocoDetection(one, Compose([]))[0][0].numpy()
        x, y, w, h = one.index.boxes_xywh[0].round().astype(int)
        assert pixels[:, y : y + h, x : x + w].min() == 255
        assert pixels.sum() == pixels[:, y : y + h, x : x + w].sum()
    assert not look(source.folder, source.index).faults  # of a tag that is obeyed nothing is said
