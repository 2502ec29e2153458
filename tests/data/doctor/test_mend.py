"""Cleaned copies: what is mended, and that nothing else changes."""

from dataclasses import fields

import numpy as np
import pytest

from detector.data.doctor.mend import MENDED, STAYS, are_fractions, mend
from detector.data.doctor.sets import read_sets, with_pictures
from detector.data.problems import KINDS
from detector.errors import UserError


def part_of(sets, pictures="all"):
    parts, _ = read_sets([(sets.write()[0], "")], sets.folder)
    return with_pictures(parts, pictures)[0]


def test_what_is_whole_stays_as_it_is(sets):
    sets.box("train", [1.1, 2.2, 126.9, 93.8], area=17.5)
    sets.box("train", [50, 40, 30, 30], iscrowd=1)
    for crowd in (0, 1):  # as an object and as a region
        sets.box("train", [60, 70, 9, 9], image=9, iscrowd=crowd)
    part = part_of(sets)
    source, done, _ = mend(part)
    assert done == []
    for field in fields(part.index):
        before, after = (getattr(index, field.name) for index in (part.index, source.index))
        if isinstance(before, np.ndarray):
            np.testing.assert_array_equal(after, before)
            assert after.dtype == before.dtype
        else:
            assert after == before


def test_boxes_are_left_out_clipped_and_kept_once(sets):
    sets.box("train", [60, 70, 0, 5])  # the reader tells of these two
    sets.box("train", [130, 10, 20, 20])
    sets.box("train", [110, 10, 25, 20], area=400.0)
    sets.box("train", [100, -10, 35, 30], image=1, iscrowd=1)
    sets.box("train", sets.content["train"]["annotations"][4]["bbox"], 2, image=1)
    part = part_of(sets)
    index = mend(part)[0].index
    assert mend(part)[1] == [
        "2 boxes without an area inside their pictures are left out",
        "2 boxes reached out of their pictures and are clipped",
        "1 box that repeats another one is left out",
    ]
    assert index.annotation_ids.tolist() == [1, 2, 3, 33, 4, 5, 6, 34, *range(7, 31)]
    assert index.boxes_xywh[[3, 7]].tolist() == [[110, 10, 18, 20], [100, 0, 28, 20]]
    assert index.areas[[3, 7]].tolist() == [360, 560]
    assert index.crowd.nonzero()[0].tolist() == [7]
    assert index.boxes[3].tolist() == [110, 10, 128, 30]
    assert index.usable.all()
    assert np.diff(index.offsets).tolist() == [4, 4, *[3] * 8]


def test_pictures_that_cannot_be_used_go_with_their_boxes(sets):
    sets.picture("train", 2).unlink()
    sets.picture("train", 4).write_bytes(b"")
    sets.content["train"]["images"][6]["file_name"] = "../outside.jpg"
    path = sets.picture("train", 8)
    path.write_bytes(path.read_bytes()[:-2])  # lacks only its end, and stays
    source, done, _ = mend(part_of(sets))
    assert done == ["3 pictures cannot be used and are left out, with 9 boxes"]
    assert source.index.image_ids.tolist() == [1, 2, 4, 6, 8, 9, 10]
    assert source.index.annotation_ids.tolist() == [i for i in range(1, 31) if (i - 1) // 3 not in (2, 4, 6)]
    assert source.index.offsets[-1] == 21
    for place in (0, 1, 3, 5, 7, 9):
        sets.picture("train", place).unlink()
    path.unlink()
    with pytest.raises(UserError, match="none of its 10 pictures can be used"):
        mend(part_of(sets))


def test_records_of_one_file_become_one(sets):
    sets.content["train"]["images"][7]["file_name"] = "./train0.jpg"
    sets.content["train"]["annotations"][21]["bbox"] = sets.content["train"]["annotations"][0]["bbox"]
    source, done, _ = mend(part_of(sets))
    assert done == [
        "1 further record of a picture is merged into the first",
        "1 box that repeats another one is left out",
    ]
    index = source.index
    assert index.image_ids.tolist() == [1, 2, 3, 4, 5, 6, 7, 9, 10]
    assert index.annotation_ids[index.rows(0)].tolist() == [1, 2, 3, 23, 24]
    assert np.diff(index.offsets).tolist() == [5, *[3] * 8]


def test_fractions_become_pixels_where_all_boxes_are(sets):
    rows = sets.content["train"]["annotations"]
    pixels = [row["bbox"] for row in rows]
    for row in rows:
        x, y, width, height = row["bbox"]
        row["bbox"], row["area"] = [x / 128, y / 96, width / 128, height / 96], 0.1
    part = part_of(sets)
    assert are_fractions(part.index)
    source, done, _ = mend(part)
    assert done == ["30 boxes were fractions of their pictures and are now pixels"]
    np.testing.assert_allclose(source.index.boxes_xywh, pixels, atol=1e-9)
    np.testing.assert_allclose(source.index.areas, [box[2] * box[3] for box in pixels])
    rows[3]["bbox"] = pixels[3]
    assert not are_fractions(part_of(sets).index)
    for row in rows:
        row["bbox"] = [0, 0, 1, 1]  # pixels
    assert not are_fractions(part_of(sets).index)


def test_boxes_that_look_like_corners_stay_as_they_are(sets):
    for row in sets.content["train"]["annotations"]:
        x, y, width, height = row["bbox"]
        row["bbox"] = [x, y, x + width, y + height]
    part = part_of(sets)
    source, done, emptied = mend(part)
    assert (done, emptied) == ([], [])
    np.testing.assert_array_equal(source.index.boxes_xywh, part.index.boxes_xywh)


def test_what_a_reader_leaves_out_is_listed_with_the_pictures_that_lose_all(sets):
    rows = sets.content["train"]["annotations"]
    for row in rows[:3]:
        row["bbox"] = [1, 2, 3]  # the reader cannot take these
    rows[3]["bbox"][2] = -5  # it drops this one, and keeps the next
    rows[4]["bbox"] = rows[5]["bbox"] = [130, 10, 20, 20]
    rows[6]["bbox"] = [10, 10, 1e12, 20]
    rows[7]["id"] = 30
    source, done, emptied = mend(part_of(sets))
    assert done == [
        "3 boxes without an area inside their pictures are left out",
        "field-type (3): left out",
        "id-twice (1): numbered anew",
        "box-far (1): left out",
        "2 pictures lost all their boxes, and count as without objects now: train0.jpg, train1.jpg",
    ]
    assert emptied == ["train0.jpg", "train1.jpg"]
    assert len(source.index.labels) == 23


def test_boxes_are_left_out_by_the_rule_of_the_readers(sets):
    sets.box("train", [127.9999999, 10, 30, 30])
    sets.box("train", [10, 10, 20, 1e-7])
    source, done, _ = mend(part_of(sets))
    assert done == ["2 boxes without an area inside their pictures are left out"]
    assert source.index.annotation_ids.max() == 30


def test_the_kinds_that_are_mended_are_kinds():
    assert set(KINDS) >= MENDED | STAYS
    assert not MENDED & STAYS


@pytest.mark.parametrize("field", ["image_id", "category_id"])
@pytest.mark.parametrize("change", [lambda id_: id_ - 1, lambda id_: f"train{id_ - 1}.jpg"], ids=["shifted", "named"])
def test_no_copy_hides_ids_that_mean_others(sets, field, change):
    for row in sets.content["train"]["annotations"]:
        row[field] = change(row[field]) if field == "image_id" or change(1) == 0 else "cat"
    part = part_of(sets)
    with pytest.raises(UserError, match="No copy is written, which would hide it: mend the ids first"):
        mend(part)
