"""Cleaned copies as the command writes them: they have no error, and the data set is as it was."""

import json
import shutil

import numpy as np
import pytest
from helpers.converted import write_dataset
from helpers.planted import Sets

from detector.commands import check
from detector.data.catalog import load_dataset
from detector.data.convert import write_datasets
from detector.tasks.doctor import examine
from detector.tasks.doctor_text import text


def status(*words):
    """The status with which the command ends: 1 where errors are left in the copies."""
    try:
        check.main([*map(str, words)])
    except SystemExit as stop:
        return stop.code
    return 0


def bytes_of(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def broken(tmp_path):
    """A data set with every error that can be mended."""
    folder = tmp_path / "data"
    folder.mkdir()
    sets = Sets(folder)
    sets.picture("train", 0).unlink()
    sets.picture("train", 1).write_bytes(b"no picture")
    path = sets.picture("train", 2)
    path.write_bytes(path.read_bytes()[:-400])
    sets.content["train"]["images"][3]["width"] += 9
    sets.content["train"]["images"][5]["file_name"] = "train4.jpg"
    shutil.move(sets.picture("train", 6), folder / "outside.jpg")
    sets.content["train"]["images"][6]["file_name"] = "../outside.jpg"
    for box in (
        [60, 70, 0, 5],
        [130, 10, 20, 20],
        [110, 10, 25, 20],
        [10, 10, 1e12, 20],
        [60, 70, 9, 9],
        [60, 70, 9, 9],
    ):
        sets.box("train", box, image=7)
    return sets


ERRORS = {
    *("picture-missing", "picture-unreadable", "picture-cut-short", "picture-wrong-size", "picture-outside-folder"),
    *("file-twice", "box-far"),
}


def test_a_copy_has_no_error_and_the_data_set_is_as_it_was(broken, tmp_path, capsys):
    entry = broken.write()[0]
    before = bytes_of(broken.folder)
    assert status(entry, "--json") == 1
    capsys.readouterr()
    assert status(entry, "--json", "--fix", tmp_path / "new") == 0
    found = json.loads(capsys.readouterr().out)
    assert {kind["id"] for kind in found["kinds"] if kind["severity"] == "error"} == ERRORS
    assert bytes_of(broken.folder) == before
    (copy,) = found["fix"]["copies"]
    assert copy["entry"] == entry
    assert len(copy["done"]) == 6
    assert copy["emptied"] == []
    diagnosis = examine([copy["written"]], ".")
    assert diagnosis.counts == {}
    index = diagnosis.parts[0].index
    assert len(index) == 4
    assert index.annotation_ids.tolist() == [*range(13, 19), 22, 23, 24, 33, 35, *range(25, 31)]


def test_fractions_are_pixels_in_the_copy(tmp_path, capsys):
    sets = Sets(tmp_path)
    pixels = [row["bbox"] for row in sets.content["train"]["annotations"]]
    for row in sets.content["train"]["annotations"]:
        x, y, width, height = row["bbox"]
        row["bbox"] = [x / 128, y / 96, width / 128, height / 96]
    assert status(sets.write()[0], "--json", "--fix", tmp_path / "new") == 0
    written = json.loads(capsys.readouterr().out)["fix"]["copies"][0]["written"]
    diagnosis = examine([written], ".")
    assert diagnosis.counts == {}
    assert diagnosis.parts[0].index.boxes_xywh == pytest.approx(np.array(pixels, float))


def test_a_copy_of_voc_lacks_the_two_broken_boxes_and_nothing_else(bccd, tmp_path, capsys):
    assert status(f"voc:{bccd}:trainval", "--json", "--pictures", "headers", "--fix", tmp_path / "new") == 0
    found = json.loads(capsys.readouterr().out)
    (copy,) = found["fix"]["copies"]
    assert copy["written"] == f"voc:{tmp_path / 'new'}:trainval"
    diagnosis = examine([copy["written"]], ".", "headers")
    assert diagnosis.number("error") == 0
    before = examine([f"voc:{bccd}:trainval"], ".", "none")
    assert before.counts == {"flat-box": 2}
    assert diagnosis.numbers == before.numbers


def yolo(tmp_path, change):
    """train and val in YOLO's format, with another text in the label files of train."""
    sets = Sets(tmp_path)
    entries = sets.write()
    write_datasets({s: load_dataset(e, ".") for s, e in zip(("train", "val"), entries)}, "yolo", tmp_path / "yolo")
    for path in (tmp_path / "yolo/labels/train").iterdir():
        path.write_text("".join(f"{change(*line.split())}\n" for line in path.read_text().splitlines()))
    return [f"yolo:{tmp_path / 'yolo'}:{split}" for split in ("train", "val")]


def corners(label, *box):
    x, y, width, height = map(float, box)
    return f"{label} {x - width / 2} {y - height / 2} {x + width / 2} {y + height / 2}"


def test_corners_are_found_in_the_copy_as_well(tmp_path, capsys):
    entries = yolo(tmp_path, corners)
    assert "boxes-as-corners" in examine(entries, ".").counts
    assert "YOLO's lines are class, centre x" in text(examine(entries, "."))
    check.main([*entries, "--fix", str(tmp_path / "new")])
    assert "boxes-as-corners (1)" in capsys.readouterr().out.rpartition("Not mended: ")[2]
    copies = [f"yolo:{tmp_path / 'new'}:{split}" for split in ("train", "val")]
    again = examine(copies, ".")
    assert again.counts == examine(entries, ".").counts
    assert [part.entry for part in again.parts] == copies


def test_pictures_that_lose_their_lines_are_named(tmp_path, capsys):
    entries = yolo(tmp_path, lambda label, *box: f"{label} 10 20 30 40")
    assert status(*entries, "--json", "--fix", tmp_path / "new") == 1
    train, val = json.loads(capsys.readouterr().out)["fix"]["copies"]
    assert train["emptied"] == [f"train{i}.jpg" for i in range(10)]
    assert train["done"][0] == "yolo-pixels (30): left out"
    assert (val["done"], val["emptied"]) == ([], [])
    assert examine([train["written"], val["written"]], ".").counts["set-without-objects"] == 1


@pytest.mark.parametrize("place", ["labels/new", "new"])
def test_no_copy_is_written_into_the_folder_of_the_data_set(tmp_path, place):
    entries = yolo(tmp_path, lambda *line: " ".join(line))
    assert "which stays as it is" in status(*entries, "--fix", tmp_path / "yolo" / place)


def test_no_copy_is_written_of_classes_that_start_at_1(tmp_path):
    entries = yolo(tmp_path, lambda label, *box: f"{int(label) + 1} {' '.join(box)}")
    assert "do the classes start at 1?" in status(*entries, "--fix", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_copy_of_yolo(tmp_path, capsys):
    """Written from COCO's format, then broken."""
    sets = Sets(tmp_path)
    write_dataset(load_dataset(sets.write()[0], "."), "yolo", tmp_path / "yolo")
    (tmp_path / "yolo/images/train/train3.jpg").write_bytes(b"no picture")
    labels = tmp_path / "yolo/labels/train/train5.txt"
    labels.write_text(labels.read_text() + "0 0.5 0.5 0 0.1\n1 0.9 0.5 0.5 0.1\n9 0.5 0.5 0.1 0.1\n")
    assert status(tmp_path / "yolo", "--fix", tmp_path / "new") == 0
    out = capsys.readouterr().out
    assert "is written as" in out
    assert out.endswith(f"\nTrain with yolo:{tmp_path}/new:train.\n")
    assert out.count("that is not listed") == 1  # what a kind is, is told once
    diagnosis = examine([str(tmp_path / "new")], ".")
    assert diagnosis.counts == {}
    assert diagnosis.numbers[0].objects == 28
