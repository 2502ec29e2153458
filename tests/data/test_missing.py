"""A data set of which no picture is there has one line, which says where they are."""

import logging
import shutil
from dataclasses import replace

import numpy as np
import pytest

from detector.data import missing
from detector.data.catalog import load_dataset
from detector.data.check import check_tests, check_training
from detector.data.dataset import CocoDetection, JoinedDataset
from detector.data.transforms import Compose
from detector.errors import UserError


@pytest.fixture(autouse=True)
def _empty_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("DETECTOR_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def named(coco, tmp_path):
    """named("images/{}"): three pictures 1.png, .. in the folder images whose records name them so.

    Such a name is given after the file is read, as reading it may find the picture under the rest of the name.
    """

    def build(form, name="val"):
        dataset = CocoDetection(load_dataset(coco.dataset([(20, 30)] * 3, name=f"{name}.json"), tmp_path), Compose([]))
        names = np.array([form.format(f"{i}.png") for i in (1, 2, 3)])
        dataset.index = replace(dataset.index, file_names=names)
        return dataset

    return build


def line(dataset):
    """The one line that a test of a set without pictures stops with."""
    with pytest.raises(UserError) as error:
        check_tests({"a": dataset}, "stop")
    (text,) = str(error.value).splitlines()
    assert text.startswith(f"{dataset.name}: none of its 3 pictures is in {dataset.folder} (the first would be ")
    return text


def test_the_folder_above_is_named_where_file_names_hold_the_folders_name(named, tmp_path):
    text = line(named("images/{}"))
    assert text.endswith(f": name {tmp_path} as the folder of pictures, where they are")
    assert f"(the first would be {tmp_path}/images/images/1.png)" in text
    assert line(named(f"{tmp_path.name}/images/{{}}")).endswith(
        f"name {tmp_path.parent} as the folder of pictures, where they are"
    )


def test_a_leading_folder_is_taken_away(named):
    text = line(named("data/obj/{}"))
    assert text.endswith("they are there without the leading data/obj/ of their file names: take it away")
    dataset = named("a/{}")
    dataset.index.file_names[2] = "b/3.png"
    assert line(dataset).endswith("without the leading a/, .. of their file names: take it away")


def test_a_folder_beside_or_below_is_named(named, tmp_path):
    dataset = named("{}")
    for place in (tmp_path / "photos", tmp_path / "images" / "val"):
        shutil.rmtree(tmp_path / "photos", ignore_errors=True)
        place.mkdir()
        for picture in [*dataset.folder.glob("*.png"), *(tmp_path / "photos").glob("*.png")]:
            shutil.move(picture, place / picture.name)
        assert line(dataset).endswith(f"name {place} as the folder of pictures, where they are")
        for picture in place.glob("*.png"):
            shutil.move(picture, dataset.folder / picture.name)


def test_a_leading_folder_is_taken_away_for_a_folder_beside(named, tmp_path):
    dataset = named("train/{}")
    dataset.folder.rename(tmp_path / "photos")
    dataset.folder.mkdir()
    text = line(dataset)
    assert text.endswith(f"they are in {tmp_path}/photos without the leading train/ of their file names: take it away")


def test_where_only_some_are_found_their_number_is_said(named, tmp_path):
    dataset = named("images/{}")
    (dataset.folder / "2.png").unlink()
    assert line(dataset).endswith("where they are; so it is with 2 of 3 that were tried")


def test_nothing_near_is_said_too(named):
    dataset = named("{}")
    for picture in dataset.folder.iterdir():
        picture.unlink()
    assert line(dataset).endswith(", nor in a folder above, beside or below it: name the folder that they are in")


def test_of_a_large_set_a_few_are_looked_for(named, monkeypatch):
    dataset, looked = named("images/{}"), []
    dataset.positions = dataset.positions.repeat(1000)
    monkeypatch.setattr(missing.os.path, "isfile", lambda path: bool(looked.append(path)))
    assert "none of its 3000 pictures" in missing.lost_text(dataset)
    assert len({path.name for path in looked}) <= 3
    assert len(looked) < 20 * 20


def test_file_names_of_any_depth_and_kind_end(named, monkeypatch):
    looked = []
    sets = [named(form) for form in ("a/" * 300 + "{}", "../../{}", "//{}", "{}\0", "\x1b[2J/{}")]
    monkeypatch.setattr(missing.os.path, "isfile", lambda path: bool(looked.append(path)))
    for dataset in sets:
        text = missing.lost_text(dataset)
        assert text.isprintable()
    assert len(looked) < 2000


def test_one_missing_picture_is_named_before_the_first_step(named):
    train, val = named("{}", "train"), named("{}")
    val.index.file_names[1] = "9.png"
    with pytest.raises(
        UserError, match=r"1 of 4 pictures cannot be used:\n  .*9\.png: there is no such picture\nFetch"
    ):
        check_training(train, {"val": val}, "stop")


def test_a_set_without_pictures_takes_one_line_beside_what_else_is_broken(named):
    train, val = named("{}", "train"), named("images/{}")
    (train.folder / "2.png").write_bytes(b"")
    with pytest.raises(UserError) as error:
        check_training(train, {"val": val}, "stop")
    lines = str(error.value).splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("val: none of its 3 pictures is in ")
    assert lines[1] == "1 of 6 pictures cannot be used:"


def test_to_skip_is_not_to_test_on_nothing(named, caplog):
    train, val = named("{}", "train"), named("images/{}")
    with pytest.raises(UserError, match=r"^val: none of its 3 pictures is in "):
        check_training(train, {"val": val}, "skip")
    with caplog.at_level(logging.WARNING, "detector"):
        kept, _ = check_training(JoinedDataset([val, train]), {"train": train}, "skip")
    assert kept is train
    (said,) = caplog.messages
    assert said.startswith("val: none of its 3 pictures is in ")


def test_vocs_pictures_cannot_be_named_but_moved(tmp_path):
    folder = tmp_path / "cells"
    for place in ("JPEGImages", "Annotations", "photos"):
        (folder / place).mkdir(parents=True)
    size = "<size><width>60</width><height>40</height></size>"
    (folder / "Annotations" / "a.xml").write_text(f"<annotation><filename>a.png</filename>{size}</annotation>")
    (folder / "classes.txt").write_text("red\n")
    (folder / "photos" / "a.jpg").write_bytes(b"")
    (folder / "JPEGImages" / "a.jpg").write_bytes(b"")
    source = load_dataset(f"voc:{folder}:all", tmp_path)
    (folder / "JPEGImages" / "a.jpg").unlink()
    text = missing.lost_text(CocoDetection(source, Compose([])))
    assert text.endswith(f"they are in {folder}/photos: move them, or the folder")


@pytest.mark.parametrize(
    ("said", "there", "words"),
    [
        (
            "8a7b6c5d-{}",
            "{}",
            "Label Studio puts before names, 1.png for 8a7b6c5d-1.png: take it away from each file_name",
        ),
        (
            "images/8a7b6c5d-{}",
            "{}",
            "puts before names, 1.png for images/8a7b6c5d-1.png: take it away from each file_name",
        ),
        ("{}", "8a7b6c5d-{}", "Label Studio puts before names, 8a7b6c5d-1.png for 1.png: take it away from each file"),
        ("{}", "{}_png.rf.0a1B.jpg", "Roboflow gives to what it exports, 1.png_png.rf.0a1B.jpg for 1.png.png"),
    ],
)
def test_names_that_tools_made_are_told(named, coco, said, there, words):
    dataset = named(said if "rf" not in there else "{}.png")  # 1.png is so 1.png.png
    for i in (1, 2, 3):
        (coco.images / f"{i}.png").rename(coco.images / there.format(f"{i}.png"))
    assert words in line(dataset)
