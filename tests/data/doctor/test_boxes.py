"""Boxes that lie on others, and boxes of odd sizes."""

import cv2
import numpy as np
import pytest

from detector.data import plausible
from detector.data.doctor import boxes, pictures
from detector.data.doctor.checks import CHECKS
from detector.data.doctor.part import apart
from detector.data.doctor.sets import read_sets, with_pictures, without_objects


def parts_of(sets, roles=("", "")):
    return read_sets([*zip(sets.write(), roles)], sets.folder)[0]


def test_iou_by_hand():
    one = np.array([[0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 4, 4]], float)
    other = np.array([[5, 0, 10, 10], [0, 0, 10, 10], [8, 8, 2, 2]], float)
    assert boxes.iou(one, other) == pytest.approx([1 / 3, 1, 0])


def test_pairs_are_all_of_each_image_and_none_across(sets):
    sets.box("train", [40, 60, 9, 9])
    sets.box("train", [60, 60, 9, 9], iscrowd=1)
    part = parts_of(sets)[0]
    found = sorted((int(a), int(b)) for one in boxes.pairs(part) for a, b in zip(*one))
    rows = [row for row in range(len(part.index.labels)) if part.objects[row]]
    wanted = [(a, b) for a in rows for b in rows if a < b and part.image_of[a] == part.image_of[b]]
    assert found == wanted
    assert len(wanted) == 6 + 9 * 3


def test_of_a_box_that_stands_there_three_times_two_are_told(sets):
    first = sets.content["train"]["annotations"][0]
    for _ in range(2):
        sets.box("train", first["bbox"], first["category_id"])
    found = boxes.same_objects(parts_of(sets))
    assert [finding.kind for finding in found] == [boxes.REPEATED] * 2
    assert all("is the same as that of 1 ('cat')" in finding.text for finding in found)


@pytest.mark.parametrize(("shift", "found"), [(0.4, [boxes.OVERLAID]), (0.6, [])])
def test_an_iou_of_095_is_the_limit(sets, shift, found):
    x, y, width, height = sets.content["train"]["annotations"][0]["bbox"]
    sets.box("train", [x + shift, y, width, height])
    overlap = (width - shift) / (width + shift)
    assert (overlap > 0.95) == bool(found)
    assert [finding.kind for finding in boxes.same_objects(parts_of(sets))] == found


def test_crowds_lie_on_what_they_like(sets):
    sets.box("train", sets.content["train"]["annotations"][0]["bbox"], 1, iscrowd=1)
    assert boxes.same_objects(parts_of(sets)) == []


def test_boxes_of_a_pixel_are_told_however_many_unless_they_are_fractions(sets):
    rows = sets.content["train"]["annotations"]
    for row in rows[:20]:
        row["bbox"][2:] = [0.7, 0.9]
    assert len(boxes.one_pixel(parts_of(sets))) == 20
    for row in rows[:18]:
        row["bbox"][:2] = [0.1, 0.05]
    assert len(boxes.one_pixel(parts_of(sets))) == 2
    assert [one.kind for one in boxes.other_units(parts_of(sets))] == [plausible.SOME_FRACTIONS]
    for row in rows:
        row["bbox"] = [0.1, 0.05, 0.7, 0.9]
    assert boxes.one_pixel(parts_of(sets)) == []


@pytest.mark.parametrize(
    ("roles", "pairs"), [(("", ""), [(0, 1)]), (("train", "test"), [(0, 1)]), (("train", "train"), [])]
)
def test_sets_of_one_use_may_share_pictures(sets, roles, pairs):
    parts = parts_of(sets, roles)
    assert [*apart(parts)] == pairs
    sets.content["val"]["images"][0]["file_name"] = "train0.jpg"
    assert len(pictures.copies(parts_of(sets, roles))) == len(pairs)


def test_without_a_look_at_the_pictures_copies_are_told_by_their_names(sets):
    sets.content["val"]["images"][0]["file_name"] = "../images/train0.jpg"
    (found,) = pictures.copies(parts_of(sets))
    assert found.kind == pictures.LEAK
    assert str(sets.images / "train0.jpg") in found.text


def test_several_records_of_one_file_are_no_copies(sets):
    sets.content["train"]["images"][1]["file_name"] = "train0.jpg"
    assert pictures.copies(parts_of(sets)[:1]) == []


def test_every_check_takes_sets_without_a_box_or_a_class(sets):
    for part in sets.content.values():
        part["annotations"] = []
    for check in CHECKS:
        assert check(parts_of(sets)) == [] or check is without_objects


def test_of_three_pictures_that_look_alike_two_are_told(sets):
    image = cv2.imread(str(sets.picture("train", 2)))
    for place, quality in ((5, 70), (7, 50)):
        cv2.imwrite(str(sets.picture("train", place)), image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    found = pictures.look_alikes(with_pictures(parts_of(sets), "all"))
    assert [finding.picture for finding in found] == ["train5.jpg", "train7.jpg"]
    assert all(str(sets.picture("train", 2)) in finding.text for finding in found)


def test_a_box_that_is_equal_to_one_and_near_another_is_told_once(sets):
    x, y, width, height = sets.content["train"]["annotations"][0]["bbox"]
    sets.box("train", [x + 0.2, y, width, height])
    sets.box("train", [x, y, width, height])
    found = boxes.same_objects(parts_of(sets))
    assert [finding.kind for finding in found] == [boxes.REPEATED, boxes.OVERLAID]


def test_pairs_in_two_sets_say_which_and_equal_sets_are_told_once(sets):
    images = sets.content["val"]["images"]
    images[0]["file_name"] = "train0.jpg"
    (found,) = pictures.copies(parts_of(sets))
    one, other = sets.entries
    assert f"train0.jpg of {other} is the same picture as {sets.picture('train')} of {one}" in found.text
    sets.content["val"] = sets.content["train"]
    (found,) = pictures.copies(parts_of(sets))
    assert (found.kind, found.record) == (pictures.SAME_SET, other)
    assert f"{other} has the same 10 pictures as {one}" in found.text
