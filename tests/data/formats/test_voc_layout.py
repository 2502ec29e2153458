"""Where the files of a folder in VOC's layout are found, however tools arrange them."""

import os

import pytest
from helpers.voc import picture, write_xml

from detector.data.catalog import load_dataset
from detector.data.formats.voc import read
from detector.data.formats.voc_layout import Scan, alike, files_below, find_place, match, splits
from detector.data.problems import Problems


@pytest.fixture
def make(tmp_path):
    """make("train/a.jpg", "train/a.xml", ..): the folder with such pictures and annotation files of a class x."""

    def build(*files):
        for file in files:
            path = tmp_path / "set" / file
            path.parent.mkdir(parents=True, exist_ok=True)
            if file.endswith(".xml"):
                write_xml(path)
            else:
                picture(path)
        return tmp_path / "set"

    return build


def pair(home, *names, shelf="{}"):
    """Pictures and annotation files side by side, or each on a shelf of its own."""
    return [
        f"{home}{shelf.format(kind)}{name}{end}"
        for name in names
        for kind, end in (("JPEGImages/", ".jpg"), ("Annotations/", ".xml"))
    ]


def ids(folder, split):
    index = read(folder, split)
    assert all((index.folder / name).is_file() for name in index.file_names)
    assert len(index.labels) == len(index)
    return index.image_ids.tolist()


def beside(home, *names):
    return pair(home, *names, shelf="")


def test_folders_that_hold_pictures_and_annotations_side_by_side_are_splits(make):
    folder = make(*beside("train/", "a_jpg.rf.01", "b"), *beside("valid/", "c"), *beside("test/", "a_jpg.rf.01"))
    assert ids(folder, "train") == ["a_jpg.rf.01", "b"]
    assert ids(folder, "valid") == ids(folder, "val") == ids(folder, "validation") == ["c"]
    assert ids(folder, "test") == ["a_jpg.rf.01"]
    assert ids(folder, "trainval") == ["train/a_jpg.rf.01", "train/b", "valid/c"]
    assert ids(folder, "all") == ["test/a_jpg.rf.01", "train/a_jpg.rf.01", "train/b", "valid/c"]
    write_xml(folder / "valid" / "c.xml", "a class of its own")
    assert read(folder, "train").classes == ["a class of its own", "x"]  # so that all parts agree
    (folder / "classes.txt").write_text("x\na class of its own\n")
    assert read(folder, "train").classes == read(folder, "valid").classes == ["x", "a class of its own"]


def test_a_split_that_has_no_folder_is_not_made_of_the_others(make):
    folder = make(*beside("Train/", "a", "b", "c"), *beside("valid/", "d"))
    with pytest.raises(FileNotFoundError, match="there is no split 'test'; its folders are Train, valid, and there is"):
        read(folder, "test")
    assert ids(folder, "train") == ["a", "b", "c"]


def test_parts_may_lie_in_images(make):
    folder = make(*beside("images/train/", "a"), *beside("images/test/", "a", "b"))
    assert (ids(folder, "train"), ids(folder, "test")) == (["a"], ["a", "b"])


def test_shelves_within_parts_do_not_tell_names_apart(make):
    folder = make(*pair("train/", "a"), *pair("val/", "a", "b"))
    assert ids(folder, "train") == ["a"]
    assert ids(folder, "val") == ["a", "b"]
    assert ids(folder, "all") == ["train/Annotations/a", "val/Annotations/a", "val/Annotations/b"]
    assert read(folder, "all").file_names.tolist() == [
        "train/JPEGImages/a.jpg", "val/JPEGImages/a.jpg", "val/JPEGImages/b.jpg",
    ]  # fmt: skip


@pytest.mark.parametrize("deep", [True, False])
def test_annotations_may_be_parted(make, deep):
    pictures = [
        f"JPEGImages/{part * deep}{name}.jpg" for part, name in (("train/", "a"), ("train/", "b"), ("val/", "c"))
    ]
    folder = make(*pictures, "Annotations/train/a.xml", "Annotations/train/b.xml", "Annotations/val/c.xml")
    assert ids(folder, "train") == ["a", "b"]
    assert ids(folder, "valid") == ["c"]
    assert ids(folder, "trainval") == ids(folder, "all") == ["train/a", "train/b", "val/c"]
    problems = Problems()
    read(folder, "train", problems=problems)
    assert not problems.lines  # the pictures of val are no news


def test_folders_in_folders_are_read_to_every_depth(make):
    folder = make(*pair("", "top", "cam1/a", "cam1/b c", "cam2/a", "cam2/night/a"))
    names = ["cam1/a", "cam1/b c", "cam2/a", "cam2/night/a", "top"]
    assert ids(folder, "all") == names
    assert read(folder, "all").file_names.tolist() == [f"{name}.jpg" for name in names]
    assert sorted(ids(folder, "trainval") + ids(folder, "test")) == names
    assert ids(folder, "cam2") == ["a", "night/a"]


def test_pictures_beside_a_folder_of_annotations(make):
    assert ids(make("a.jpg", "b.png", "annotations/a.xml", "annotations/b.xml"), "all") == ["a", "b"]


def test_folders_of_other_names_are_matched_by_what_is_in_them(make):
    folder = make("img/a.jpg", "img/b.jpeg", "img/c.jpg", "ann/a.jpg.xml", "ann/b.xml")
    assert ids(folder, "all") == ["ann/a.jpg", "ann/b"]
    problems = Problems()
    read(folder, "all", problems=problems)
    assert problems.lines == [f"{folder}: 1 picture without an annotation file is passed over (files: img/c.jpg)"]


def test_a_folder_for_other_annotations_does_not_hide_those_beside_the_pictures(make):
    folder = make(*beside("images/", "a", "b"))
    (folder / "annotations").mkdir()
    (folder / "annotations" / "instances.json").write_text("{}")
    assert ids(folder, "all") == ["images/a", "images/b"]


def test_links_are_followed_and_circles_end(make, tmp_path):
    real = make(*pair("", "a"))
    (tmp_path / "linked").mkdir()
    for name in ("JPEGImages", "Annotations"):
        os.symlink(real / name, tmp_path / "linked" / name)
    os.symlink(".", real / "JPEGImages" / "again")
    assert ids(tmp_path / "linked", "all") == ["a"]
    (real / ".git").mkdir()
    (real / "__MACOSX").mkdir()
    write_xml(real / "__MACOSX" / "b.xml")
    assert files_below(real) == ["Annotations/a.xml", "JPEGImages/a.jpg"]


def test_nothing_to_read_says_what_is_expected(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"JPEGImages/ or images/ .* Annotations/ or .*, or both side by side"):
        find_place(tmp_path, "all")


def test_pictures_go_to_the_one_file_that_may_mean_them():
    found = Scan(dict.fromkeys(["x/a", "y/a", "x/b", "z/c", "d.png"], ""), {}, [])
    found.pictures.update(
        {"p/a": ["p/a.jpg"], "p/b": ["p/b.jpg"], "z/c": ["z/c.jpg", "z/c.png"], "d": ["d.jpg", "d.png"]}
    )
    chosen, left = match(found)
    assert chosen == {"z/c": ["z/c.jpg", "z/c.png"], "d.png": ["d.png"], "x/b": ["p/b.jpg"]}
    assert left == {"p/a": ["p/a.jpg"]}  # x/a or y/a


def test_a_bare_folder_tells_its_splits(make, tmp_path):
    folder = make(*beside("train/", "a"), *beside("valid/", "b"), *beside("more/", "c"))
    assert splits(folder) == ["train", "valid", "all"]
    with pytest.raises(KeyError, match=r"write voc:set:SPLIT, with SPLIT one of train, valid, all"):
        load_dataset("set", tmp_path)
    assert splits(folder / "train") == ["train", "val", "trainval", "test", "all"]
    (folder / "ImageSets").mkdir()
    (folder / "ImageSets" / "default.txt").write_text("train/a\n")
    assert splits(folder) == ["default", "all"]
    assert ids(folder, "default") == ["train/a"]
    (tmp_path / "empty").mkdir()
    assert splits(tmp_path / "empty") == []


def test_lists_may_lie_beside_the_folders(make):
    folder = make(*pair("", "a", "b", "c"))
    (folder / "train.txt").write_text("c\na\n")
    (folder / "valid.txt").write_text("b\n")
    (folder / "notes.txt").write_text("nothing\n")
    assert (ids(folder, "train"), ids(folder, "val")) == (["c", "a"], ["b"])
    with pytest.raises(FileNotFoundError, match=r"test\.txt: there is no such split; there are train, valid, all"):
        read(folder, "test")


def test_words_for_a_split():
    assert alike("val", ["Valid", "train"]) == ["Valid"]
    assert alike("valid", ["val", "valid"]) == ["valid", "val"]
    assert alike("validation", ["val"]) == ["val"]
    assert alike("cam1", ["cam1", "cam10"]) == ["cam1"]
    assert alike("train", ["trainval"]) == []
