"""Data sets read beside others: their lists of classes, their records, and whether they have objects."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from detector.data.catalog import load_dataset
from detector.data.convert import write_datasets
from detector.data.doctor.mend import mend
from detector.data.doctor.part import Part, short_names
from detector.data.doctor.sets import EMPTY, LISTS_DIFFER, TEST_EMPTY, UNREADABLE, read_sets, without_objects
from detector.errors import UserError


@pytest.fixture
def yolo(sets):
    """The same data in YOLO's format."""
    source = load_dataset(sets.write()[0], "")
    write_datasets({"train": source}, "yolo", sets.folder / "yolo")
    return f"yolo:{sets.folder / 'yolo'}:train"


def test_lists_of_classes_are_compared_as_in_a_training(sets, yolo):
    other = sets.folder / "other"
    source = load_dataset(yolo, "")
    write_datasets({"train": source}, "yolo", other)
    path = other / "data.yaml"
    path.write_text(path.read_text().replace("0: cat", "0: dog").replace("1: dog", "1: cat"))
    assert read_sets([(yolo, ""), (yolo.replace("train", "all"), "")], "")[1] == []
    for one, two in ((yolo, f"yolo:{other}:train"), (yolo, sets.entries[0])):
        (found,) = read_sets([(one, ""), (two, "")], "")[1]
        assert (found.kind, found.record) == (LISTS_DIFFER, two)


def test_names_that_nobody_listed_have_to_be_in_the_list(sets, yolo):
    write_datasets({"train": load_dataset(yolo, "")}, "voc", sets.folder / "voc")
    (sets.folder / "voc" / "classes.txt").unlink()
    entry = f"voc:{sets.folder / 'voc'}:train"
    assert read_sets([(yolo, ""), (entry, "")], "")[1] == []
    path = next((sets.folder / "voc" / "Annotations").iterdir())
    path.write_text(path.read_text().replace("<name>cat<", "<name>fox<", 1))
    assert [one.kind for one in read_sets([(entry, ""), (yolo, "")], "")[1]] == [LISTS_DIFFER]


def test_the_record_of_a_line_is_its_file(sets, yolo):
    part = read_sets([(yolo, "")], "")[0][0]
    path, _, line = part.record(3).rpartition(":")
    assert Path(path) == sets.folder / "yolo/labels/train/train1.txt"
    assert line == "1"


@pytest.mark.parametrize(
    ("entry", "role", "kind"),
    [
        ("x:train.json", "", EMPTY),
        ("x:latest.json", "", EMPTY),
        ("x:instances_test2017.json", "", TEST_EMPTY),
        ("voc:test:train", "", EMPTY),
        ("voc:train:test", "", TEST_EMPTY),
        ("voc:train:test", "train", EMPTY),
        ("voc:train:val", "test", TEST_EMPTY),
    ],
)
def test_sets_without_objects(sets, entry, role, kind):
    sets.content["train"]["annotations"] = []
    part = read_sets([(sets.write()[0], "")], "")[0][0]
    (found,) = without_objects([replace(part, entry=entry, role=role)])
    assert (found.kind, found.record) == (kind, entry)
    assert "it has no annotations" in found.text


def test_why_a_set_has_no_objects(sets, yolo):
    for row in sets.content["train"]["annotations"]:
        row["iscrowd"] = 1
    crowds = read_sets([(sets.write()[0], "")], "")[0]
    assert "of its 30 annotations 30 are marked as crowds" in without_objects(crowds)[0].text
    for row in sets.content["train"]["annotations"]:
        row["category_id"] = 99
    assert "none of its annotations can be used" in without_objects(read_sets([(sets.write()[0], "")], "")[0])[0].text
    (sets.folder / "yolo" / "labels").rename(sets.folder / "yolo" / "label")
    expected = sets.folder / "yolo" / "labels" / "train" / "train0.txt"
    assert f"looked for at {expected}" in without_objects(read_sets([(yolo, "")], "")[0])[0].text


def test_label_files_that_a_tool_named_otherwise_have_likely_pictures(sets, yolo):
    labels = sets.folder / "yolo" / "labels" / "train"
    (labels / "train0.txt").rename(labels / "8a7b6c5d-train0.txt")
    told = {finding.text for part in read_sets([(yolo, "")], "")[0] for finding in part.told}
    said = "it has no picture; train0.jpg may be its, by the names of Label Studio: give both one name"
    assert f"{labels}/8a7b6c5d-train0.txt: {said}" in told


def test_a_set_of_which_no_picture_can_be_measured_has_none_left(sets, yolo):
    for path in (sets.folder / "yolo" / "images" / "train").iterdir():
        path.write_bytes(b"cut short")
    parts = read_sets([(yolo, "")], "")[0]
    said = "none of its pictures has an object: no picture is left, as was said"
    assert without_objects(parts)[0].text == f"{yolo}: {said}"
    with pytest.raises(UserError, match=r"none of its pictures can be used, so there is nothing to write$"):
        mend(parts[0])
    for path in (sets.folder / "yolo" / "images" / "train").iterdir():
        path.unlink()
    parts, findings = read_sets([(yolo, "")], "")
    assert (parts, [one.kind for one in findings]) == ([], [UNREADABLE])


def test_roboflows_files_are_called_as_their_folders(sets):
    part = read_sets([(sets.write()[0], "")], "")[0][0]
    index = replace(part.index, path=Path("birds/valid/_annotations.coco.json"))
    assert short_names([Part("x", replace(part.source, index=index))]) == ["valid"]


def test_what_is_said_of_a_file_with_several_splits_is_said_once(tmp_path):
    for split in ("train", "val"):
        for place in ("images", "labels"):
            (tmp_path / place / split).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "images" / split / "a.png"), np.full((40, 80, 3), 90, np.uint8))
        (tmp_path / "labels" / split / "a.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (tmp_path / "data.yaml").write_text("nc: 2\npath: gone\ntrain: images/train\nval: images/val\n")
    _, found = read_sets([(f"yolo:{tmp_path}:{split}", "") for split in ("train", "val")], ".")
    assert [one.kind for one in found] == ["yolo-moved", "yolo-no-names"]
