"""Where label files are looked for."""

import os

import pytest

from detector.data.label_files import expected_label_file, find_label_files, label_file, label_folder


@pytest.mark.parametrize(
    ("folder", "labels"),
    [
        ("images", "labels"),
        ("images/train", "labels/train"),
        ("train/images", "train/labels"),
        ("images/images/x", "images/labels/x"),
        ("a/JPEGImages", "a/labels"),
        ("a/Images", "a/Labels"),
        ("a/my_images", "a/my_images"),
        ("a", "a"),
    ],
)
def test_the_last_images_becomes_labels(tmp_path, folder, labels):
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / labels).mkdir(parents=True, exist_ok=True)
    assert label_folder(str(tmp_path / folder)) == str(tmp_path / labels)
    assert label_file(tmp_path / folder / "x.y.jpg") == tmp_path / labels / "x.y.txt"


def test_without_such_a_folder_they_are_beside(tmp_path):
    folder = str(tmp_path / "images" / "train")
    assert label_folder(folder) == folder
    (tmp_path / "labels").mkdir()  # of other splits
    assert label_folder(folder) == folder


def test_a_path_from_below_images(tmp_path, monkeypatch):
    (tmp_path / "images" / "train").mkdir(parents=True)
    (tmp_path / "labels" / "train").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "images")
    assert os.path.samefile(label_folder("train"), tmp_path / "labels" / "train")


def test_each_folder_is_listed_once(tmp_path, monkeypatch):
    for name in ("images", "labels/sub", "labels/gone"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("a", "sub/b", "gone/c", "classes", "README.roboflow"):
        (tmp_path / "labels" / f"{name}.txt").touch()
    (tmp_path / "labels" / "._a.txt").touch()
    names = ["a.jpg", "a.png", "x.jpg", "sub/b.jpg", "sub/y.jpg"]
    found = find_label_files(str(tmp_path / "images"), names, [str(tmp_path / "images")])
    labels = tmp_path / "labels"
    assert found.labels[:3] == [str(labels / "a.txt"), str(labels / "a.txt"), ""]
    assert found.labels[3:] == [str(labels / "sub" / "b.txt"), ""]
    assert found.expected == str(labels / "x.txt")
    assert found.stray == [str(labels / "gone" / "c.txt")]


def test_label_files_that_are_nowhere_belong_beside_the_folder_of_images(tmp_path):
    (tmp_path / "images" / "val").mkdir(parents=True)
    picture = tmp_path / "images" / "val" / "a.b.jpg"
    assert expected_label_file(str(picture)) == str(tmp_path / "labels" / "val" / "a.b.txt")
    found = find_label_files(str(tmp_path / "images" / "val"), ["a.b.jpg"], [])
    assert found.expected == str(tmp_path / "labels" / "val" / "a.b.txt")
    assert expected_label_file(str(tmp_path / "a.jpg")) == str(tmp_path / "a.txt")
