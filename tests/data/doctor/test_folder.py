"""The data sets in a folder."""

import json
import shutil

import pytest

from detector.data.doctor.folder import PASSED_OVER, entries_in
from detector.errors import UserError


def entries(entry, root):
    return entries_in(entry, root)[0]


def write(path, *names):
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [{"id": i, "file_name": name} for i, name in enumerate(names)]
    path.write_text(json.dumps({"images": images, "annotations": [{"bbox": [1, 2, 3, 4]}], "categories": []}))


def test_files_of_coco_find_their_pictures(sets):
    sets.write()
    (sets.folder / "other.json").write_text('{"a": 1}')
    wanted = [f"{sets.images}:{sets.folder / name}.json" for name in ("train", "val")]
    assert entries(str(sets.folder), ".") == wanted
    for name in ("captions", "a_keypoints", "instances"):
        write(sets.folder / f"{name}.json", "train0.jpg")
    (sets.folder / "captions.json").write_text('{"images": [{"file_name": "train0.jpg"}], "annotations": []}')
    found, passed_over = entries_in(str(sets.folder), ".")
    assert found == [f"{sets.images}:{sets.folder / name}.json" for name in ("instances", "train", "val")]
    assert {finding.kind for finding in passed_over} == {PASSED_OVER}
    assert sorted(finding.record for finding in passed_over) == [
        str(sets.folder / f"{name}.json") for name in ("a_keypoints", "captions", "other")
    ]
    for name in ("captions", "a_keypoints", "instances"):
        (sets.folder / f"{name}.json").unlink()
    (sets.folder / "broken.json").write_text('{"images": [')  # which is said
    assert entries(str(sets.folder), ".") == [*wanted, f"{sets.folder}:{sets.folder / 'broken.json'}"]


def test_annotations_beside_their_pictures_or_in_a_folder_of_their_own(tmp_path):
    for place in ("train", "valid", "pictures/a"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "1.jpg").write_bytes(b"")
    (tmp_path / "pictures/a/2.jpg").write_bytes(b"")
    write(tmp_path / "train" / "_annotations.coco.json", "1.jpg")
    write(tmp_path / "valid" / "_annotations.coco.json", "1.jpg")
    write(tmp_path / "annotations" / "all.json", "a\\1.jpg", "..\\else\\2.jpg")
    assert entries(str(tmp_path), ".") == [
        f"{tmp_path / 'pictures' / 'a'}:{tmp_path / 'annotations' / 'all.json'}",
        f"{tmp_path / 'train'}:{tmp_path / 'train' / '_annotations.coco.json'}",
        f"{tmp_path / 'valid'}:{tmp_path / 'valid' / '_annotations.coco.json'}",
    ]


@pytest.mark.parametrize(
    ("lists", "splits"),
    [
        ((), ["all"]),
        (("train", "val", "trainval", "test"), ["train", "val", "test"]),
        (("trainval", "test"), ["trainval", "test"]),
        (("trainval",), ["trainval"]),
        (("mine",), ["all"]),
    ],
)
def test_the_splits_of_voc_that_share_no_picture(tmp_path, lists, splits):
    for name in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (tmp_path / "cells" / name).mkdir(parents=True)
    (tmp_path / "cells/Annotations/1.xml").write_text("<annotation/>")
    for name in lists:
        (tmp_path / "cells/ImageSets/Main" / f"{name}.txt").write_text("a\n")
    assert entries("cells", tmp_path) == [f"voc:{tmp_path / 'cells'}:{split}" for split in splits]


def test_annotations_of_coco_beside_a_folder_of_images_are_not_vocs(tmp_path):
    (tmp_path / "images/train").mkdir(parents=True)
    (tmp_path / "images/train/1.jpg").write_bytes(b"")
    write(tmp_path / "annotations/train.json", "1.jpg")
    assert entries(str(tmp_path), ".") == [f"{tmp_path / 'images/train'}:{tmp_path / 'annotations/train.json'}"]


def test_folders_of_voc_in_a_folder(tmp_path):
    for part in ("train", "val"):
        for name in ("JPEGImages", "Annotations"):
            (tmp_path / part / name).mkdir(parents=True)
        (tmp_path / part / "Annotations" / "1.xml").write_text("<annotation/>")
    assert entries(str(tmp_path), ".") == [f"voc:{tmp_path / part}:all" for part in ("train", "val")]


def test_xml_files_beside_pictures(tmp_path):
    for place in ("train", "valid"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "1.xml").write_text("<annotation/>")
        (tmp_path / place / "1.jpg").touch()
    assert entries(str(tmp_path), ".") == [f"voc:{tmp_path}:{place}" for place in ("train", "valid")]
    (tmp_path / "1.xml").write_text("<annotation/>")
    (tmp_path / "1.jpg").touch()
    assert entries(str(tmp_path), ".") == [f"voc:{tmp_path}:all"]


def test_an_export_of_yolo(tmp_path):
    (tmp_path / "data.yaml").write_text("train: train/images\nval: valid/images\ntest:\nnames: [a]\n")
    assert entries(str(tmp_path), ".") == [f"yolo:{tmp_path}:{split}" for split in ("train", "val")]
    (tmp_path / "data.yaml").write_text("train: [\n")  # which is said
    assert entries(str(tmp_path), ".") == [f"yolo:{tmp_path}:all"]


def test_a_folder_of_labels_and_no_yaml(tmp_path):
    for name in ("images/train", "images/val", "labels/train"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "classes.txt").write_text("a\n")
    assert entries(str(tmp_path), ".") == [f"yolo:{tmp_path}:{split}" for split in ("train", "val")]


def test_a_list_of_classes_makes_no_yolo_of_voc(tmp_path):
    for name in ("JPEGImages", "Annotations"):
        (tmp_path / name).mkdir()
    (tmp_path / "Annotations/1.xml").write_text("<annotation/>")
    (tmp_path / "classes.txt").write_text("a\n")
    assert entries(str(tmp_path), ".") == [f"voc:{tmp_path}:all"]


def test_entries_stay_what_they_are(sets, tmp_path):
    for entry in ("shapes_train", "voc:nowhere:train", "a:b.json", "nowhere"):
        assert entries(entry, tmp_path) == [entry]
    shutil.rmtree(sets.images)
    with pytest.raises(UserError, match="is a folder without annotations: expected is"):
        entries(str(tmp_path), ".")
