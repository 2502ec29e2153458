"""Mistakes of single images, by hand; and which images come first."""

import json

import numpy as np
import pytest

from detector.data.index import load_index
from detector.errors import UserError
from detector.evaluation.base import Found
from detector.evaluation.worst import MEASURES, mistakes, worst_first

BOX, ELSEWHERE = [10, 10, 40, 40], [60, 60, 20, 20]
CATEGORIES = ((3, "cat"), (7, "dog"))


def truth(tmp_path, images, **more):
    """An index of images {file name: [(box, category) or (box, category, crowd)]}."""
    annotations = []
    for number, objects in enumerate(images.values(), start=1):
        for box, category, *crowd in objects:
            annotations.append(
                {
                    "id": len(annotations) + 1, "image_id": number, "bbox": box, "area": box[2] * box[3],
                    "category_id": category, "iscrowd": int(bool(crowd)),
                }
            )  # fmt: skip
    content = {
        "images": [{"id": i, "file_name": name, "height": 100, "width": 100} for i, name in enumerate(images, start=1)],
        "annotations": annotations,
        "categories": [{"id": i, "name": name} for i, name in CATEGORIES],
    }
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(content))
    return load_index(path)


def found(*rows):
    """Detections (place of the image, box, label, score), which stand in the order of the images."""
    rows = sorted(rows, key=lambda row: row[0])
    image, xywh, labels, scores = zip(*rows, strict=True) if rows else ((), (), (), ())
    return Found(
        np.array(image, np.int64), np.array(xywh, np.float64).reshape(-1, 4), np.array(labels, np.int64),
        np.array(scores, np.float64),
    )  # fmt: skip


def counts(one, place=0):
    return [int(values[place]) for values in (one.objects, one.right, one.missed, one.false)]


def test_right_missed_and_false_are_told_apart(tmp_path):
    index = truth(tmp_path, {"a": [(BOX, 3), (ELSEWHERE, 3)]})
    one = mistakes(index, found((0, BOX, 0, 0.9), (0, [0, 80, 10, 10], 0, 0.8), (0, [80, 0, 10, 10], 1, 0.6)))
    assert counts(one) == [2, 1, 1, 2]
    assert one.blame[0] == pytest.approx(1.4)
    assert one.lost.tolist() == [False, True]
    assert one.untrue.tolist() == [False, True, True]
    assert one.surest[0] == 1


@pytest.mark.parametrize(
    ("detection", "expected"),
    [
        ((0, BOX, 0, 0.3), [1, 1, 0, 0]),  # the threshold itself counts
        ((0, BOX, 0, 0.29), [1, 0, 1, 0]),  # below it the object is missed, and nothing is false
        ((0, BOX, 1, 0.9), [1, 0, 1, 1]),  # another class
        ((0, [10, 10, 20, 40], 0, 0.9), [1, 1, 0, 0]),  # an IoU of 0.5
        ((0, [10, 10, 19, 40], 0, 0.9), [1, 0, 1, 1]),  # less
    ],
)
def test_what_counts_as_found(tmp_path, detection, expected):
    index = truth(tmp_path, {"a": [(BOX, 3)]})
    assert counts(mistakes(index, found(detection), 0.3)) == expected


def test_what_is_false_below_the_threshold_does_not_count(tmp_path):
    index = truth(tmp_path, {"a": [(BOX, 3)]})
    one = mistakes(index, found((0, BOX, 0, 0.9), (0, ELSEWHERE, 0, 0.29), (0, ELSEWHERE, 1, 0.1)), 0.3)
    assert counts(one) == [1, 1, 0, 0]
    assert one.blame[0] == 0
    assert one.surest[0] == -1
    assert one.shown.tolist() == [True, False, False]


def test_an_object_that_is_just_found_is_the_one_that_was_meant(tmp_path):
    index = truth(tmp_path, {"a": [(BOX, 3), (ELSEWHERE, 3)]})
    one = mistakes(index, found((0, [10, 10, 20, 40], 0, 0.9)))
    assert one.lost.tolist() == [False, True]


def test_a_second_detection_of_an_object_is_false(tmp_path):
    index = truth(tmp_path, {"a": [(BOX, 3)]})
    one = mistakes(index, found((0, BOX, 0, 0.5), (0, BOX, 0, 0.7)))
    assert counts(one) == [1, 1, 0, 1]
    assert one.untrue.tolist() == [True, False]


def test_on_a_crowd_nothing_is_right_or_wrong(tmp_path):
    index = truth(tmp_path, {"a": [(BOX, 3, True)]})
    one = mistakes(index, found((0, BOX, 0, 0.9), (0, BOX, 0, 0.8)))
    assert counts(one) == [0, 0, 0, 0]
    assert one.surest[0] == -1
    assert one.shown.tolist() == [True, True]
    assert not one.untrue.any()


def test_images_are_by_their_place_whatever_the_order_of_their_ids(tmp_path):
    path = truth(tmp_path, {"a": [(BOX, 3)], "b": [(BOX, 3), (ELSEWHERE, 3)], "c": []}).path
    content = json.loads(path.read_text())
    ids = {1: 9, 2: 4, 3: 6}
    for one in content["images"]:
        one["id"] = ids[one["id"]]
    for one in content["annotations"]:
        one["image_id"] = ids[one["image_id"]]
    path.write_text(json.dumps(content))
    one = mistakes(load_index(path), found((0, BOX, 0, 0.9), (2, BOX, 1, 0.4)))
    assert one.objects.tolist() == [1, 2, 0]
    assert one.missed.tolist() == [0, 2, 0]
    assert one.false.tolist() == [0, 0, 1]
    assert one.surest.tolist() == [-1, -1, 1]


def several(tmp_path):
    """Four images: ten objects of which one is missed; one of one missed; three of three; one false detection."""
    ten = [([10 * i, 0, 10, 10], 3) for i in range(10)]
    index = truth(tmp_path, {"ten": ten, "one": [(BOX, 3)], "three": [*ten[:3]], "none": []})
    right = [(0, box, 0, 0.9) for box, _ in ten[1:]]
    return index, mistakes(index, found(*right, (3, BOX, 0, 0.75)))


@pytest.mark.parametrize(
    ("by", "values", "order"),
    [
        ("share", [1 / 11, 1 / 2, 3 / 4, 0.75 / 1.75], [2, 1, 3, 0]),
        ("errors", [1, 1, 3, 0.75], [2, 1, 0, 3]),  # equal ones by name: one, ten
        ("missed", [1, 1, 3, 0], [2, 1, 0, 3]),
        ("false", [0, 0, 0, 0.75], [3, 1, 0, 2]),
    ],
)
def test_the_measures_by_hand(tmp_path, by, values, order):
    index, one = several(tmp_path)
    assert one.measure(by) == pytest.approx(values)
    assert worst_first(index, one.measure(by)).tolist() == order


def test_all_measures_are_tried_above_and_another_is_refused(tmp_path):
    assert MEASURES == ("share", "errors", "missed", "false")
    with pytest.raises(UserError, match=r"--by worth: there are share, errors, missed, false"):
        several(tmp_path)[1].measure("worth")


def test_images_of_one_name_stay_in_the_order_of_the_file(tmp_path):
    index = truth(tmp_path, {"b": [(BOX, 3)], "a": [(BOX, 3)], "c": [(BOX, 3)]})
    assert worst_first(index, np.zeros(3)).tolist() == [1, 0, 2]
    index.file_names[:] = "a"
    assert worst_first(index, np.array([0.5, 0.5, 0.7])).tolist() == [2, 0, 1]


def test_no_detections_and_no_objects(tmp_path):
    index = truth(tmp_path, {"a": [], "b": [(BOX, 3)]})
    one = mistakes(index, found())
    assert one.measure().tolist() == [0, 0.5]
    assert one.surest.tolist() == [-1, -1]
