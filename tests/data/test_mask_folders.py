"""Folders of the field's data sets, and which mask belongs to which picture."""

import logging
import re

import pytest
from helpers.salient import mask_folder

from detector.data.catalog import load_dataset
from detector.data.mask_folders import LAYOUTS, find_masks
from detector.errors import MissingFileError, UnknownNameError, UserError

SETS = [*LAYOUTS, ("Imgs", "Imgs"), (".", "."), ("IMAGES", "Masks")]


@pytest.mark.parametrize("layout", SETS, ids=lambda pair: "+".join(pair))
@pytest.mark.parametrize("place", ["whole path", "below the root"])
def test_every_layout_is_understood(tmp_path, layout, place):
    folder = mask_folder(tmp_path / "ECSSD", 3, *layout, suffix=".png" if layout[0] == "imgs" else ".jpg")
    entry = f"saliency:{folder}" if place == "whole path" else "saliency:ECSSD"
    found = find_masks(entry, tmp_path)
    assert (found.name, found.path, [*found.pairs]) == ("ECSSD", folder, ["a0", "a1", "a2"])
    for name, pair in found.pairs.items():
        assert pair.picture.resolve().parent == (folder / layout[0]).resolve()
        assert pair.mask.resolve() == (folder / layout[1] / f"{name}.png").resolve()


def test_masks_that_are_missing_are_known_and_masks_alone_are_told(tmp_path, caplog):
    folder = mask_folder(tmp_path / "d", 3)
    (folder / "ground_truth_mask" / "a1.png").rename(folder / "ground_truth_mask" / "b1.png")
    with caplog.at_level(logging.WARNING, "detector"):
        found = find_masks(f"saliency:{folder}", tmp_path)
    assert [name for name, pair in found.pairs.items() if pair.mask is None] == ["a1"]
    assert found.pairs["a1"].expected == folder / "ground_truth_mask" / "a1.png"
    assert "1 mask is of no picture and left out" in caplog.text


@pytest.mark.parametrize("lines", ["a2\na0\n", "a2.jpg\r\na0.jpg\n", "/o/Imgs/a2.jpg /o/Imgs/a2.png\n\na0.jpg a0.png"])
@pytest.mark.parametrize("suffix", [".txt", ".lst"])
def test_lists_choose_and_order_the_pictures(tmp_path, lines, suffix):
    folder = mask_folder(tmp_path / "MSRA-B", 3, "Imgs", "Imgs")
    (folder / f"train{suffix}").write_bytes(lines.encode())
    found = find_masks(f"saliency:{folder}:train", tmp_path)
    assert (found.name, [*found.pairs]) == ("MSRA-B_train", ["a2", "a0"])
    assert find_masks("saliency:MSRA-B:train", tmp_path).pairs == found.pairs


def test_names_with_blanks_and_dots_are_found_in_lists(tmp_path):
    folder = mask_folder(tmp_path / "d", 2)
    for i, name in enumerate(("my dog.v2", "b c")):
        (folder / "images" / f"a{i}.jpg").rename(folder / "images" / f"{name}.jpg")
        (folder / "ground_truth_mask" / f"a{i}.png").rename(folder / "ground_truth_mask" / f"{name}.png")
    (folder / "val.txt").write_text("my dog.v2\nb c.jpg\n")
    assert [*find_masks(f"saliency:{folder}:val", tmp_path).pairs] == ["my dog.v2", "b c"]


def test_what_is_not_there_is_told_with_the_remedy(tmp_path):
    folder = mask_folder(tmp_path / "d", 2)
    (folder / "train.txt").write_text("a0\nzebra\n")
    (folder / "none.txt").write_text("\n")
    for entry, kind, said in (
        (f"saliency:{tmp_path}/e", MissingFileError, "its folder is expected at .*/e; write saliency:FOLDER or"),
        (f"saliency:{folder}/images", MissingFileError, "no pictures with masks are in .*: there may be images/ with"),
        (
            f"saliency:{folder}:val",
            MissingFileError,
            r"expected at .*/val\.txt; there are none, train; without a split",
        ),
        (f"saliency:{folder}:train", UserError, r"1 of 2 lines of .*train\.txt name no picture .* first is 'zebra'"),
        (f"saliency:{folder}:none", UserError, r"none\.txt is empty: write the name of a picture a line"),
        (
            "shapes_train",
            UnknownNameError,
            "'shapes_train': MODEL.TASK saliency learns from pictures with masks: write",
        ),
    ):
        with pytest.raises(kind, match=said) as told:
            find_masks(entry, tmp_path)
        assert "\n" not in str(told.value)


def test_two_pictures_of_one_name_are_no_guess(tmp_path):
    folder = mask_folder(tmp_path / "d", 2)
    (folder / "images" / "a1.png").write_bytes((folder / "images" / "a1.jpg").read_bytes())
    with pytest.raises(UserError, match=re.escape("a1.jpg and a1.png are two pictures of one name")):
        find_masks(f"saliency:{folder}", tmp_path)


def test_detectors_say_what_such_an_entry_is_for(tmp_path):
    folder = mask_folder(tmp_path / "d", 2)
    with pytest.raises(UserError, match=r"pictures with masks have no boxes.*MODEL\.TASK saliency"):
        load_dataset(f"saliency:{folder}", tmp_path)
