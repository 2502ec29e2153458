"""`detector convert-data`: what it prints, what it writes, what it refuses in one line."""

import json

import cv2
import numpy as np
import pytest

from detector.__main__ import main
from detector.commands import convert_data
from detector.data.catalog import load_dataset
from detector.data.convert import FORMS


def call(*words):
    main(["convert-data", *map(str, words)])


def fails(capsys, *words):
    with pytest.raises(SystemExit) as stop:
        call(*words)
    return stop.value.code if isinstance(stop.value.code, str) else capsys.readouterr().err


@pytest.fixture
def entry(tmp_path):
    """Three pictures with two boxes, one and none, in COCO's format."""
    (tmp_path / "pictures").mkdir()
    for i in range(3):
        cv2.imwrite(str(tmp_path / "pictures" / f"{i}.png"), np.zeros((40, 80, 3), np.uint8))
    content = {
        "images": [{"id": i + 1, "file_name": f"{i}.png", "height": 40, "width": 80} for i in range(3)],
        "annotations": [
            {"id": i + 1, "image_id": 1 + i // 2, "category_id": 4, "bbox": [i, 2, 10, 8]} for i in range(3)
        ],
        "categories": [{"id": 4, "name": "cat"}],
    }
    (tmp_path / "pictures.json").write_text(json.dumps(content))
    return f"{tmp_path / 'pictures'}:{tmp_path / 'pictures.json'}"


def test_what_is_printed_reads_what_is_written(entry, tmp_path, capsys):
    for form in FORMS:
        call(entry, form, tmp_path / form)
        first, *others = capsys.readouterr().out.splitlines()
        assert first == f"{tmp_path / form}: 3 pictures with 3 boxes, in {form.upper()}'s format"
        new = others[-1].removeprefix("entry for DATASETS: ")
        assert len(load_dataset(new, "").index.labels) == 3
        assert all(line.startswith("not kept: ") for line in others[:-1])
        assert (len(others) > 1) == (form != "coco")


def test_boxes_of_another_kind_are_told_as_before_a_training(entry, tmp_path, capsys):
    path = tmp_path / "pictures.json"
    content = json.loads(path.read_text())
    corners = [[40, 10, 70, 30], [30, 5, 60, 20], [2, 3, 40, 30]]
    for annotation, box in zip(content["annotations"], corners, strict=True):
        annotation["bbox"] = box
    path.write_text(json.dumps(content))
    call(entry, "voc", tmp_path / "a")
    said = capsys.readouterr()
    assert "if they were corners x1, y1, x2, y2" in said.out + said.err
    for annotation, (x, y, right, low) in zip(content["annotations"], corners, strict=True):
        annotation["bbox"] = [x / 80, y / 40, (right - x) / 80, (low - y) / 40]
    path.write_text(json.dumps(content))
    assert "as if they were fractions of the picture" in fails(capsys, entry, "voc", tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_splits_of_several_entries(entry, tmp_path, capsys):
    call(entry, entry, "yolo", tmp_path / "a", "--link")
    assert capsys.readouterr().out.splitlines()[-2:] == [
        f"entry for DATASETS: yolo:{tmp_path / 'a'}:train", f"entry for DATASETS: yolo:{tmp_path / 'a'}:val"
    ]  # fmt: skip
    call("--split", "fit", entry, entry, "voc", tmp_path / "b", "--split", "held_out")
    assert {path.stem for path in (tmp_path / "b" / "ImageSets" / "Main").iterdir()} == {"fit", "held_out"}
    call(entry, "coco", tmp_path / "c", "--split", "test")
    assert (tmp_path / "c" / "annotations" / "test.json").is_file()


def test_the_root_is_that_of_datasets(entry, tmp_path, capsys):
    call("pictures:pictures.json", "voc", tmp_path / "a", "--root", tmp_path)
    assert len(load_dataset("voc:a:train", tmp_path).index) == 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["ENTRY", "voc"], "write ENTRY coco|voc|yolo FOLDER"),
        (["ENTRY", "vok", "OUT"], "write ENTRY coco|voc|yolo FOLDER"),
        (["voc", "OUT"], "write ENTRY coco|voc|yolo FOLDER"),
        (["nowhere", "voc", "OUT"], "error: unknown dataset 'nowhere'"),
        (["ENTRY", "voc", "OUT", "--split", "a", "--split", "b"], "--split: 1 entry wants as many different names"),
        (["ENTRY", "ENTRY", "voc", "OUT", "--split", "a", "--split", "a"], "got a, a"),
        (["ENTRY", "voc", "OUT", "--split", "../a"], "'../a' cannot be the name of a split"),
        (["ENTRY", "voc", "FULL"], "is not empty (it holds pictures, ..); name a new folder"),
    ],
)
def test_mistakes_are_one_line(entry, tmp_path, capsys, words, said):
    known = {"ENTRY": entry, "OUT": tmp_path / "out", "FULL": tmp_path}
    assert said in fails(capsys, *(known.get(word, word) for word in words))
    assert not (tmp_path / "out").exists()


def test_an_error_about_pictures_outside_names_no_key_of_a_config(entry, tmp_path, capsys):
    path = tmp_path / "pictures.json"
    path.write_text(path.read_text().replace("0.png", "../0.png"))
    (tmp_path / "pictures" / "0.png").rename(tmp_path / "0.png")
    said = fails(capsys, entry, "voc", tmp_path / "out")
    assert "lies outside the folder of pictures" in said
    assert "ALLOW_OUTSIDE" not in said


def test_the_formats_are_those_that_can_be_written():
    assert convert_data.FORMS == FORMS
