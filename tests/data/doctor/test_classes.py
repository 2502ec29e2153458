"""Names of classes, and the numbers of the data sets."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from detector.data.doctor import balance, classes
from detector.data.doctor.balance import Sides
from detector.data.doctor.sets import read_sets
from detector.data.formats.voc import CLASSES


def parts_of(sets):
    return read_sets([(entry, "") for entry in sets.write()], sets.folder)[0]


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        *(("car", "Car", True), ("car", "car ", True), ("car", "cars", True), ("cars", "Car", True)),
        *(("traffic light", "traffic_light", True), ("berry", "berries", True), ("bus", "Buses", True)),
        *(("box", "boxes", True), ("\uff43ar", "car", True), ("stop-sign", "Stop Signs", True)),
        *(("car", "cat", False), ("glass", "glasses", False), ("class 1", "class 11", False), ("C", "C++", False)),
        *(("a", "as", False), ("key", "keys", True), ("1", "1s", False), ("ca", "car", False)),
    ],
)
def test_names_that_differ_in_nothing_that_matters(sets, one, other, alike):
    for content in sets.content.values():
        content["categories"][0]["name"], content["categories"][1]["name"] = one, other
    found = classes.names_alike(parts_of(sets))
    assert [finding.record for finding in found] == [f"class {other!r}"] * alike
    assert all(repr(one) in finding.text for finding in found)


def test_the_classes_of_voc_and_coco_are_not_alike(sets, coco_tiny):
    import json

    names = [
        one["name"] for one in json.loads((coco_tiny / "annotations/instances_val2017.json").read_text())["categories"]
    ]
    for some in (names, CLASSES):
        for content in sets.content.values():
            content["categories"] = [{"id": i + 1, "name": name} for i, name in enumerate(some)]
        assert classes.names_alike(parts_of(sets)) == []


def test_the_forms_of_a_name_are_made_twice_at_most_however_many_there_are(monkeypatch):
    asked, forms = [], classes._forms
    monkeypatch.setattr(classes, "_forms", lambda name: asked.append(name) or forms(name))
    names = [f"class{chr(97 + i // 26)}{chr(97 + i % 26)}x" for i in range(200)]
    index = SimpleNamespace(classes=[*names, names[0].upper() + "es"], category_ids=[*range(201)], path="a.json")
    (found,) = classes.names_alike([SimpleNamespace(index=index)])
    assert names[0] in found.text
    assert len(asked) <= 2 * 201


def test_a_name_that_stands_twice_in_a_list(sets):
    sets.content["train"]["categories"][2]["name"] = "cat"
    (found,) = classes.names_alike(parts_of(sets)[:1])
    assert "2 classes are called 'cat' (ids 1, 3)" in found.text


def test_two_classes_of_one_name_have_a_row_each(sets):
    for content in sets.content.values():
        content["categories"][2]["name"] = "cat"
    parts = parts_of(sets)
    rows = [(row.name, row.objects, row.images) for row in balance.classes_table(parts)]
    assert sorted(rows) == [(name, [10, 6], [10, 6]) for name in ("cat", "cat (id 3)", "dog")]
    assert len(classes.names_alike(parts)) == 2


def test_roboflows_first_category_is_explained(sets):
    for content in sets.content.values():
        content["categories"].append({"id": 0, "name": "pets"})
    (found,) = classes.unused(parts_of(sets))
    assert "super-category that Roboflow writes first" in found.text
    for content in sets.content.values():
        content["categories"][3]["id"] = 9
    (found,) = classes.unused(parts_of(sets))
    assert "Roboflow" not in found.text


def test_files_without_annotations_say_nothing_of_classes(sets):
    sets.content["val"]["annotations"] = []
    parts = parts_of(sets)
    assert classes.unused(parts) == classes.one_sided(parts) == []


def test_the_chance_of_a_split_by_hand():
    """30 of 100 and 60 of 100: pooled share 0.45, deviation 0.0704, continuity 0.01, so z is 4.12."""
    z = (0.3 - 0.01) / math.sqrt(0.45 * 0.55 * 0.02)
    assert balance.chance((30, 60), (100, 100)) == pytest.approx(math.erfc(z / math.sqrt(2)))
    assert balance.chance((30, 60), (100, 100)) == pytest.approx(3.8e-5, rel=0.05)
    assert balance.chance((1, 0), (5, 5)) == 1  # too few to say
    assert balance.chance((0, 30), (1000, 1000)) < 1e-6


def test_random_splits_have_no_skew():
    """The chance that the check states is kept: of 400 random splits of 20 classes hardly one is told."""
    rng = np.random.default_rng(0)
    told = 0
    for _ in range(400):
        share = rng.uniform(0.02, 0.6, 20)
        hits = rng.binomial(200, share), rng.binomial(80, share)
        told += any(balance.chance((int(a), int(b)), (200, 80)) * 20 < balance.CHANCE for a, b in zip(*hits))
    assert told <= 2


def test_of_many_classes_one_may_be_odd(sets):
    """30 and 57 of 100 pictures: a chance of 2e-4, which is less than 0.001, and of 20 classes is not."""
    assert 0.001 / 20 < balance.chance((30, 57), (100, 100)) < 0.001
    for part, number in (("train", 30), ("val", 57)):
        sets.content[part].update(images=[], annotations=[])
        sets.grow(part, number, (1, 2))
        sets.grow(part, 100 - number, (2,))
    assert [finding.record for finding in balance.skew(parts_of(sets))] == ["class 'cat'"]
    for name in range(18):
        number = sets.category(str(name))
        for part in sets.content:
            sets.box(part, [60, 70, 9, 9], number)
    assert balance.skew(parts_of(sets)) == []


def test_pictures_with_a_class_are_counted_and_not_its_objects(sets):
    sets.box("train", [60, 70, 9, 9])
    assert balance.pictures_with(parts_of(sets)[0]) == {"cat": 10, "dog": 10, "bird": 10}


def test_a_skew_that_is_sure_and_small_is_left_alone(sets):
    sets.grow("train", 60, (1, 2))
    sets.grow("train", 130)
    sets.grow("val", 194)
    assert balance.chance((140, 200), (200, 200)) < 1e-6
    assert balance.skew(parts_of(sets)) == []


def test_sizes_are_those_of_the_picture_as_it_is_and_of_the_resized_one(sets):
    """96 x 128: a box of 20 x 22 has 440 pixels, small; scaled by 2 to 192 x 256 it has 1760, medium."""
    sets.content["train"]["annotations"] = []
    sets.box("train", [10, 10, 20, 22])
    sets.box("train", [10, 40, 10, 10], iscrowd=1)
    part = parts_of(sets)[0]
    for sides, sizes in (
        (Sides(192, 1000), (0, 1, 0)),
        (Sides(192, 128), (1, 0, 0)),
        (Sides(96, 128), (1, 0, 0)),
        (Sides(800, 1333), (0, 0, 1)),
        (Sides(square=192), (0, 1, 0)),
    ):
        numbers = balance.numbers(part, sides)
        assert (numbers.small, numbers.medium, numbers.large) == (1, 0, 0)
        assert numbers.resized == sizes
        assert (numbers.images, numbers.empty, numbers.objects, numbers.crowds) == (10, 9, 1, 1)
        assert (numbers.most, numbers.mean) == (1, 0.1)
    assert balance.areas(part, Sides(square=192))[0] == pytest.approx(20 * 22 * 192 / 96 * 192 / 128)
    assert balance.numbers(part).resized is None


def test_sizes_are_those_that_the_measures_count(sets):
    """By the `area` of the file where it has one, as APs, APm and APl go by it."""
    sets.content["train"]["annotations"] = []
    sets.box("train", [0, 0, 33, 32], area=1023)
    sets.box("train", [40, 0, 33, 32])
    sets.box("train", [0, 0, 120, 96])
    numbers = balance.numbers(parts_of(sets)[0])
    assert (numbers.small, numbers.medium, numbers.large) == (1, 1, 1)
