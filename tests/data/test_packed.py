"""Annotations under another list of classes, and lists that differ."""

from pathlib import Path

import numpy as np
import pytest

from detector.data.index import load_index
from detector.data.packed import check_same_classes, clip_to_images, in_classes, lacking
from detector.data.problems import Problems
from detector.errors import UserError

LISTED = [{"id": 0, "name": "cat"}, {"id": 5, "name": "dog"}, {"id": 7, "name": "ant"}]


@pytest.fixture
def index(coco):
    """Objects of ant, cat, dog, ant in this order, ids 7, 0, 5, 7."""
    return load_index(
        coco.annotate([{"bbox": [1, 1, 9, 9], "category_id": k} for k in (7, 0, 5, 7)], categories=LISTED)
    )


def named(index):
    return [index.classes[label] for label in index.labels]


def test_labels_follow_the_names(index):
    assert (index.classes, index.labels.tolist()) == (["cat", "dog", "ant"], [2, 0, 1, 2])
    other = in_classes(index, ["ant", "bee", "cat", "cow", "dog"])
    assert (other.labels.tolist(), named(other)) == ([0, 2, 4, 0], ["ant", "cat", "dog", "ant"])
    assert other.labels.dtype == np.int64
    # exported under the file's own ids; classes that it lacks get ids that it has not
    assert other.category_ids == [7, 8, 0, 9, 5]
    assert in_classes(index, ["ant", "bee", "cat", "cow", "dog"], [1, 2, 3, 4, 5]).category_ids == [1, 2, 3, 4, 5]
    assert (index.classes, index.labels.tolist()) == (["cat", "dog", "ant"], [2, 0, 1, 2])  # as it was
    assert other.boxes_xywh is index.boxes_xywh


def test_the_same_list_costs_nothing(index):
    assert in_classes(index, index.classes).labels is index.labels
    longer = in_classes(index, [*index.classes, "bee"])
    assert longer.labels is index.labels
    assert longer.category_ids == [0, 5, 7, 8]


def test_classes_that_lack_are_named_and_refused(index):
    assert lacking(index, ["dog", "ant", "cat", "cow"]) == []
    assert lacking(index, ["dog", "Cat"]) == ["cat", "ant"]
    with pytest.raises(KeyError):
        in_classes(index, ["dog", "cat"])


def test_classes_of_one_name_are_told_apart_by_their_order(coco):
    twice = [{"id": 1, "name": "x"}, {"id": 2, "name": "y"}, {"id": 4, "name": "x"}]
    index = load_index(coco.annotate([{"bbox": [1, 1, 9, 9], "category_id": k} for k in (1, 2, 4)], categories=twice))
    other = in_classes(index, ["y", "x", "x"])
    assert (other.labels.tolist(), other.category_ids) == ([1, 0, 2], [2, 1, 4])
    assert lacking(index, ["x", "y"]) == ["x"]


def test_an_index_without_classes_takes_any(index):
    empty = in_classes(index, index.classes)
    empty = type(empty)(**{**vars(empty), "classes": [], "category_ids": [], "labels": empty.labels[:0]})
    assert in_classes(empty, ["a", "b"]).category_ids == [1, 2]


def test_lists_that_differ_are_both_named_with_what_each_lacks(index, coco):
    other = [{"id": 0, "name": "cat"}, {"id": 5, "name": "cow"}, {"id": 7, "name": "ant"}, {"id": 9, "name": "bee"}]
    other = load_index(coco.annotate([], categories=other, name="other.json"))
    with pytest.raises(UserError) as caught:
        check_same_classes(index, other)
    first, second = index.path, other.path
    assert str(caught.value) == (
        f"{first} and {second} list different categories (3 and 4): only {first} has 'dog' (id 5); only {second} has "
        "'cow' (id 5), 'bee' (id 9); the first difference is label 1: id 5 'dog' against id 5 'cow'; give both files "
        "the same `categories`, in the same order: a class may be listed that has no object"
    )
    turned = [{"id": 0, "name": "dog"}, {"id": 5, "name": "cat"}, {"id": 7, "name": "ant"}]
    with pytest.raises(UserError, match=r"\(3 and 3\): the first difference is label 0: id 0 'cat' against id 0 'dog'"):
        check_same_classes(index, load_index(coco.annotate([], categories=turned, name="turned.json")))


def test_numbers_of_boxes_are_told_rounded():
    problems = Problems(everything=True)
    box = np.array([[-100.123456789, 2, 10.000000001, 1e-7]])
    clip_to_images(Path("a.json"), box, np.array([[80, 60]]), np.array([1]), lambda row: ("", "a record"), problems)
    assert problems.findings[0].text.startswith("a record: its box [-100.1235, 2.0, 10.0, 1e-07] lies outside")
