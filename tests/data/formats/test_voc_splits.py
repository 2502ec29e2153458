"""Lists of pictures, however they write the names, and the division of a folder without them."""

import hashlib

import pytest

from detector.data.formats.voc_splits import Names, divide


def test_a_folder_without_lists_is_divided():
    names = [f"picture {i}" for i in range(100)]
    parts = divide(names)
    assert {split: len(found) for split, found in parts.items()} == {"train": 70, "val": 15, "trainval": 85, "test": 15}
    assert sorted(parts["train"] + parts["val"] + parts["test"]) == sorted(names)
    assert sorted(parts["train"] + parts["val"]) == parts["trainval"]
    assert divide(reversed(names)) == parts
    lowest = sorted(names, key=lambda name: hashlib.sha256(f"0:{name}".encode()).hexdigest())[:15]
    assert parts["test"] == sorted(lowest)
    assert parts["test"][0] == "picture 21"  # the same on every machine, for ever
    more = divide([*names, "one more"])
    assert sum(len(set(parts[split]) ^ set(more[split])) for split in ("train", "val", "test")) <= 5
    assert {split: len(found) for split, found in divide("abc").items()} == {
        "train": 1,
        "val": 1,
        "trainval": 2,
        "test": 1,
    }
    assert divide("ab") == {"train": ["a", "b"], "val": [], "trainval": ["a", "b"], "test": []}


NAMES = ["cam1/a", "cam1/b 1", "cam2/a", "top", "top 1", "last"]


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("cam1/a", "cam1/a"),
        ('"cam1/a"', "cam1/a"),
        ("'cam1/b 1'", "cam1/b 1"),
        ("cam1/a.jpg", "cam1/a"),
        ("cam1/a.JFIF", "cam1/a"),
        ("cam1/a.xml", "cam1/a"),
        (r"cam1\a.png", "cam1/a"),
        (r".\cam1\a", "cam1/a"),
        ("JPEGImages/cam1/a.jpg", "cam1/a"),
        ("VOC2007/JPEGImages/top", "top"),
        ("cells/cam2/a", "cam2/a"),
        ("/home/me/data/cam2/a.jpg", "cam2/a"),
        (r"D:\data\cam2\a.jpg", "cam2/a"),
        ("b 1", "cam1/b 1"),
        ("b 1.jpg", "cam1/b 1"),
        ("images/top.jpg Annotations/top.xml", "top"),
        ("top 4 1 2", "top"),
        ("top 1", "top 1"),
        # What might mean something else is lost
        ("a", None),
        ("cam3/a", None),
        ("cam3/top", None),
        ("top 2", None),
        ("last 1", None),
        ("cam1", None),
        ("a.b/top.jpg", None),
    ],
)
def test_names_in_lists_however_they_are_written(line, name):
    assert Names(NAMES, "cells").meant(["top", line]) == ["top", name]


def test_lists_of_one_class_end_in_flags():
    assert Names(NAMES).meant(["cam1/a  1", "top -1", "cam1/b 1  0", "top 1 -1", '"cam2/a" 0', "last 1"]) == [
        "cam1/a", "top", "cam1/b 1", "top 1", "cam2/a", "last",
    ]  # fmt: skip
