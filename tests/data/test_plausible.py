import json
import logging
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from detector.data.formats import voc
from detector.data.index import load_index
from detector.data.loader import build_test_datasets, build_train_dataset
from detector.data.plausible import (
    check_plausible,
    corners,
    fractions,
    named_twice,
    not_to_scale,
    shared,
    some_fractions,
)
from detector.data.shares import many_crowds, many_difficult, many_repeated, many_without, only_in_test
from detector.errors import UserError


@pytest.fixture
def index(coco):
    """index(boxes, names=.., crowd=..): of pictures of 60 x 80 with an annotation for each box, in turns."""

    def build(boxes, names=("1.png",), crowd=(), name="a.json"):
        images = [{"id": i, "file_name": one, "height": 60, "width": 80} for i, one in enumerate(names)]
        annotations = [
            {"image_id": i % len(names), "bbox": box, "iscrowd": int(i in crowd)} for i, box in enumerate(boxes)
        ]
        return load_index(coco.annotate(annotations, images, name=name))

    return build


def source(index, folder):
    return SimpleNamespace(index=index, folder=folder)


def boxes(number, seed=0):
    rng = np.random.default_rng(seed)
    low = rng.integers(0, (60, 40), (number, 2))
    return np.concatenate([low, rng.integers(5, (80, 60) - low + 1)], 1).tolist()


def scaled(boxes):
    return [[x / 80, y / 60, w / 80, h / 60] for x, y, w, h in boxes]


def test_good_boxes_are_plausible(index):
    for seed in range(20):
        good = index(boxes(12, seed))
        assert fractions(good) == corners(good) == many_crowds(good) == []
    empty = index([])
    assert fractions(empty) == corners(empty) == many_crowds(empty) == []


def test_boxes_as_fractions(index):
    found = index([*scaled(boxes(39)), [5, 6, 30, 20]], names=("1.png", "2.png"))
    (finding,) = fractions(found)
    assert finding.kind == "boxes-as-fractions"
    assert finding.picture in ("1.png", "2.png")
    assert finding.box == tuple(found.boxes_xywh[0])
    assert f"{found.path}: 39 of 40 boxes have sides below two pixels" in finding.text
    assert "multiply x and width by the picture's width" in finding.text
    assert fractions(index([*scaled(boxes(17)), [5, 6, 30, 20]])) == []  # 0.944 of them
    assert len(fractions(index([*scaled(boxes(19)), [5, 6, 30, 20]]))) == 1  # 0.95
    # tiny objects are no fractions: elsewhere in the picture, or of whole pixels
    assert fractions(index([[x + 7, y, w, h] for x, y, w, h in scaled(boxes(20))])) == []
    assert fractions(index([[0, 1, 1, 1], [1, 0, 1, 1], [0, 0, 1, 1]])) == []


@pytest.mark.parametrize(
    ("edges", "found"),
    [
        ([(0.3, 0.5), (0.1, 0.9), (0.5, 0.75)], True),
        ([(30, 50), (10, 90), (50, 75)], False),
        ([(1, 1), (1, 2), (1, 1)], False),  # one pixel in the corner
        ([(0.3, 0.5), (0.1, 0.9), (50, 75)], False),
    ],
)
def test_fractions_in_voc(tmp_path, edges, found):
    for name in ("JPEGImages", "Annotations"):
        (tmp_path / name).mkdir()
    (tmp_path / "JPEGImages" / "1.jpg").touch()
    things = [
        f"<object><name>cat</name><bndbox><xmin>{a}</xmin><ymin>{a}</ymin><xmax>{b}</xmax><ymax>{b}</ymax></bndbox></object>"
        for a, b in edges
    ]
    size = "<size><width>100</width><height>100</height></size>"
    (tmp_path / "Annotations" / "1.xml").write_text(f"<annotation>{size}{''.join(things)}</annotation>")
    assert bool(fractions(voc.read(tmp_path))) is found


def test_boxes_as_corners(index):
    right = boxes(30)
    wrong = [[x, y, x + w, y + h] for x, y, w, h in right]
    (finding,) = corners(index(wrong, names=("1.png", "2.png")))
    assert finding.kind == "boxes-as-corners"
    x, y, w, h = finding.box
    assert x + w > 81 or y + h > 61
    assert "all would lie inside if they were corners x1, y1, x2, y2" in finding.text
    flat, below = [50, 20, 30, 40], [5, 5, 30, 70]  # as corners, without a width, or below the picture
    for contrary in (flat, below):
        (finding,) = corners(index([*wrong, contrary]))
        assert "all but 1 would lie inside" in finding.text
    assert corners(index([*wrong, flat, below])) == []  # 0.9375 of them
    assert corners(index([[0, 0, 80, 60]] * 20 + wrong[:1])) == []  # too few reach beyond the edge
    assert corners(index([[0, 0, 80, 60], [0, 0, 10, 10]])) == []  # the same either way


def test_corners_in_yolos_lines(index):
    right = boxes(30)
    centres = [[x - (x + w) / 2, y - (y + h) / 2, x + w, y + h] for x, y, w, h in right]  # as its reader makes them
    found = replace(index(centres, names=("1.png", "2.png")), kind="yolo")
    (finding,) = corners(found)
    assert "since YOLO's lines are class, centre x, centre y, width, height" in finding.text
    assert corners(replace(index(right), kind="yolo")) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda x, y, w, h: [100 * x / 808, 100 * y / 606, 100 * w / 808, 100 * h / 606], "as if they were percent"),
        (lambda x, y, w, h: [x / 2, y / 2, w / 2, h / 2], "as if they were drawn on smaller pictures"),
        (lambda x, y, w, h: [x, y, w, h], None),
        (lambda x, y, w, h: [10, 10, 30, 20], None),  # at one place
    ],
)
def test_boxes_of_another_scale(index, change, said):
    names = [f"{i}.png" for i in range(6)]
    large = [[10.1 * side for side in box] for box in boxes(40)]
    found = replace(index([change(*box) for box in large], names), heights=np.full(6, 606), widths=np.full(6, 808))
    scaled = not_to_scale(found)
    assert [one.kind for one in scaled] == ["boxes-not-to-scale"] * (said is not None)
    assert all(said in one.text for one in scaled)


@pytest.mark.parametrize(("factor", "said"), [(1 / 8, "percent"), (1 / 2, "drawn on smaller pictures")])
def test_few_boxes_do_not_hide_another_scale(index, factor, said):
    names = [f"{i}.png" for i in range(20)]
    low = np.array([[10 * factor * side for side in box] for box in boxes(40)])
    low += np.linspace(0, 0.3, 40)[:, None] * (1, 1, 0, 0)
    found = replace(index(low.tolist(), names), heights=np.full(20, 600), widths=np.full(20, 800))
    if said == "percent":  # one picture so small that they are not in its corner
        found = replace(found, heights=np.array([80, *[600] * 19]), widths=np.array([90, *[800] * 19]))
    assert said in not_to_scale(found)[0].text
    some = found.boxes_xywh.copy()
    some[7:9] = 500, 400, 200, 150
    (finding,) = not_to_scale(replace(found, boxes_xywh=some))
    assert "all but 2 end within" in finding.text
    assert said in finding.text
    some[9:11] = 500, 400, 200, 150
    assert not_to_scale(replace(found, boxes_xywh=some)) == []


@pytest.mark.parametrize("share", [0.05, 0.5, 0.94])
def test_a_part_of_the_boxes_as_fractions(index, share):
    number = round(100 * share)
    mixed = index([*scaled(boxes(number)), *boxes(100 - number)])
    assert fractions(mixed) == []
    (finding,) = some_fractions(mixed)
    assert f"{number} of 100 boxes have sides below two pixels" in finding.text
    assert some_fractions(index([*scaled(boxes(1)), *boxes(20)])) == []  # one
    assert some_fractions(index(scaled(boxes(20)))) == []  # all, which is another kind
    assert some_fractions(index([[0, 0, 1, 1]] * 5 + boxes(20))) == []  # whole pixels


def test_parts_that_are_fractions_are_warned_of(index, tmp_path, caplog):
    check_plausible("TRAIN", [source(index([*scaled(boxes(10)), *boxes(10)]), tmp_path)])
    assert "10 of 20 boxes have sides below two pixels" in caplog.text


def test_many_crowds(index):
    assert many_crowds(index(boxes(10), crowd=[3])) == []
    (finding,) = many_crowds(index(boxes(10), crowd=[3, 5]))
    assert finding.kind == "many-crowds"
    assert "2 of 10 objects (20 %) have iscrowd 1" in finding.text
    assert "DATASETS.CROWDS objects" in finding.text


def test_many_difficult(index, tmp_path, caplog):
    some = index(boxes(10), names=[f"{i}.png" for i in range(5)])
    assert many_difficult(some) == []
    some = replace(some, difficult=np.arange(10) < 4)
    assert many_difficult(some) == []
    some = replace(some, difficult=np.arange(10) < 5)
    (finding,) = many_difficult(some)
    assert finding.kind == "many-difficult"
    assert "5 of 10 objects (50 %) are difficult" in finding.text
    assert "DATASETS.TRAIN_DIFFICULT yes" in finding.text
    check_plausible("TRAIN", [source(some, tmp_path)], difficult=[True])
    assert not caplog.records
    check_plausible("TRAIN", [source(some, tmp_path)], difficult=[False])
    assert finding.text in caplog.text


def test_objects_that_stand_twice(index, tmp_path, caplog):
    some = [[float(i), 2.0, 10.0, 10.0 + j] for i in range(50) for j in range(2)]
    good = index([*some, *some[:6]], names=("1.png", "2.png"))
    assert many_repeated(good) != ""
    assert many_repeated(replace(good, labels=np.arange(106))) == ""  # of other classes
    assert many_repeated(index([*some, *some[1:7]], names=("1.png", "2.png"))) == ""  # in the other picture
    assert many_repeated(index([*some, *some[:5]])) == many_repeated(index([])) == ""
    assert many_repeated(index([*some, *[[*box[:3], box[3] + 50] for box in some]])) == ""
    check_plausible("TRAIN", [source(index(some * 2), tmp_path)])
    assert "100 of 200 objects repeat another one of the same picture, class and box exactly" in caplog.text


def test_most_pictures_without_objects(index, tmp_path, caplog):
    names = [f"{i}.png" for i in range(40)]
    (finding,) = many_without(index(boxes(4), names))
    assert finding.kind == "many-without-objects"
    assert "36 of 40 pictures (90 %) have no object" in finding.text
    assert many_without(index(boxes(20), names)) == many_without(index([], names)) == []
    assert many_without(index(boxes(2), names[:9])) == []  # too few to say so
    check_plausible("TRAIN", [source(index(boxes(4), names), tmp_path)])
    assert "36 of 40 pictures" in caplog.text


def test_a_class_of_crowds_alone(index, tmp_path, caplog):
    rare = index(boxes(100), crowd=range(95, 100))
    check_plausible("TRAIN", [source(rare, tmp_path)])
    assert not caplog.records  # others of the class are objects
    rare = replace(rare, classes=["cat", "dog"], category_ids=[1, 2], labels=(np.arange(100) >= 95).astype(np.int64))
    check_plausible("TRAIN", [source(rare, tmp_path)], crowds=False)
    assert not caplog.records
    check_plausible("TEST", [source(rare, tmp_path)])
    assert "all objects of 'dog' are crowds" in caplog.text


def test_classes_of_the_test_alone(index):
    first = replace(index(boxes(4)), classes=["cat", "Dog", "dog"], category_ids=[1, 2, 3])
    train = replace(first, labels=np.array([0, 0, 1, 1]))
    assert only_in_test([train], [train]) == only_in_test([train], [replace(first, labels=np.zeros(4, int))]) == ""
    clause = only_in_test([train], [replace(first, labels=np.array([0, 1, 2, 2]))])
    assert clause.startswith("1 class has objects in the test and none in the training")
    assert "measured: 'dog'; is 'dog' the 'Dog' of the training?" in clause
    assert only_in_test([train], [replace(first, labels=np.full(4, 2), crowd=np.ones(4, bool))]) == ""


def test_pictures_under_several_ids(index, tmp_path):
    one = source(index(boxes(4), names=("1.png", "./2.png", "x/../1.png", "2.png", "3.png", "1.png")), tmp_path)
    found = {finding.picture: finding for finding in named_twice([one])}
    assert set(found) == {"1.png", "./2.png"}
    assert "is named by 3 records: images[0], id 0 of" in found["1.png"].text
    assert "and images[2], id 2 of" in found["1.png"].text
    assert {finding.kind for finding in found.values()} == {"file-twice"}
    assert named_twice([source(index(boxes(2), names=("1.png", "x/1.png")), tmp_path)]) == []


def test_paths_are_told_as_they_were_given(index, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one = source(index(boxes(2), names=("1.png", "1.png")), Path("x"))
    assert named_twice([one])[0].text.startswith("x/1.png is named by 2 records")
    assert shared([one], [one])[0].text.startswith("x/1.png is in the training")


def test_pictures_of_several_sources(index, tmp_path):
    first = source(index(boxes(2), names=("x/1.png", "x/2.png"), name="a.json"), tmp_path)
    other = source(index(boxes(2), names=("2.png", "3.png"), name="b.json"), tmp_path / "x")
    (finding,) = named_twice([first, other])
    assert (finding.picture, finding.record) == ("x/2.png", first.index.record(1))
    assert f"images[1], id 1 of {first.index.path} and images[0], id 0 of {other.index.path}" in finding.text
    assert named_twice([first, first]) == []  # to be seen twice as often
    part = replace(first.index, image_ids=first.index.image_ids + 7)  # another split of a folder in VOC's layout
    assert len(named_twice([first, source(part, tmp_path)])) == 2
    assert named_twice([first, source(other.index, tmp_path / "y")]) == []
    (both,) = shared([first], [source(other.index, tmp_path / "y"), other])
    assert (both.kind, both.picture) == ("file-in-both", "2.png")
    assert f"(images[1], id 1 of {first.index.path})" in both.text
    assert f"(images[0], id 0 of {other.index.path})" in both.text
    assert shared([first], []) == shared([], [other]) == []


def test_links_to_the_folder_are_the_folder(index, tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "x", target_is_directory=True)
    one = index(boxes(1))
    assert len(shared([source(one, tmp_path / "x")], [source(one, tmp_path / "link")])) == 1


def test_records_are_sorted_out_where_hashes_agree(index, tmp_path, monkeypatch):
    monkeypatch.setattr("builtins.hash", len)
    one = source(index(boxes(2), names=("1.png", "2.png", "1.png")), tmp_path)
    assert [finding.picture for finding in named_twice([one])] == ["1.png"]
    other = source(index(boxes(2), names=("2.png", "3.png"), name="b.json"), tmp_path)
    assert [finding.picture for finding in shared([one], [other])] == ["2.png"]


def test_the_commands_say_it_once_a_kind(coco, cfg, caplog):
    train = coco.dataset([(30, 30)] * 8, name="train.json")
    path = coco.folder / "train.json"
    content = json.loads(path.read_text())
    for image in content["images"][1:]:
        image["file_name"] = "1.png"
    for annotation in content["annotations"][:3]:
        annotation["iscrowd"] = 1
    path.write_text(json.dumps(content))
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (train,), (train,)
    with caplog.at_level(logging.WARNING, "detector"):
        dataset = build_train_dataset(cfg)
        crowds, twice = caplog.messages
        assert "3 of 8 objects (38 %) have iscrowd 1" in crowds
        assert "DATASETS.TRAIN: 1 picture is named by several records (1.png); " in twice
        assert "is named by 8 records" in twice
        assert "and 3 more. Join the records" in twice
        caplog.clear()
        build_test_datasets(cfg, dataset)
    crowds, twice, both = caplog.messages
    assert "DATASETS.TEST: 1 picture is named by" in twice
    assert "DATASETS.TRAIN and TEST: 1 picture is in both (1.png); " in both
    assert "Take them out of one" in both


def test_a_training_says_which_classes_only_its_test_has(coco, cfg, caplog):
    cfg.DATASETS.TRAIN = (coco.dataset([(30, 30)] * 2, name="a.json"),)
    cfg.MODEL.NUM_CLASSES = 0
    path = coco.folder / "a.json"
    content = json.loads(path.read_text())
    content["categories"].append({"id": 99, "name": "fox"})
    path.write_text(json.dumps(content))
    content["annotations"][1]["category_id"] = 99
    (coco.folder / "b.json").write_text(json.dumps(content))
    cfg.DATASETS.TEST = (f"{coco.folder}:{coco.folder / 'b.json'}",)
    dataset = build_train_dataset(cfg)
    assert "fox" not in caplog.text
    build_test_datasets(cfg, dataset)
    assert "1 class has objects in the test and none in the training" in caplog.text
    assert "'fox'" in caplog.text


def test_names_that_no_terminal_shows_are_escaped(index, tmp_path, caplog):
    found = index(boxes(1))
    found = replace(found, file_names=np.array(["\udce9\n.png"] * 2), image_ids=np.arange(2))
    found = replace(found, heights=found.heights.repeat(2), widths=found.widths.repeat(2))
    check_plausible("TRAIN", [source(found, tmp_path)])
    assert "1 picture is named by several records (\\xe9\\x0a.png); " in caplog.text


def test_fractions_stop_a_command(coco, cfg):
    cfg.DATASETS.TRAIN = (coco.dataset([(30, 30)] * 2, [scaled(boxes(3))] * 2),)
    with pytest.raises(UserError, match=r"train\.json: 6 of 6 boxes have sides below two pixels"):
        build_train_dataset(cfg)


def test_crowds_that_are_wanted_are_not_told(index, tmp_path, caplog):
    one = source(index(boxes(10), crowd=range(10)), tmp_path)
    check_plausible("TRAIN", [one], crowds=False)
    assert not caplog.messages
    check_plausible("TRAIN", [one])
    assert len(caplog.messages) == 1
