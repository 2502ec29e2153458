"""Several sources as one training: the same classes, and boxes in one of them at least."""

import logging

import cv2
import numpy as np
import pytest
import torch

from detector.data.loader import build_test_datasets, build_train_dataset, train_loader
from detector.data.sources import Origin
from detector.evaluation.build import EVALUATORS

ANIMALS = [{"id": 1, "name": "cat"}, {"id": 9, "name": "dog"}]


@pytest.fixture
def voc_folder(tmp_path):
    """voc_folder(name, *classes): a folder in VOC's layout with a picture for each class, and one without objects."""

    def build(name, *classes):
        folder = tmp_path / name
        for place in ("JPEGImages", "Annotations"):
            (folder / place).mkdir(parents=True)
        for i, label in enumerate((*classes, None)):
            cv2.imwrite(str(folder / "JPEGImages" / f"{name}{i}.png"), np.full((40, 60, 3), 90, np.uint8))
            edges = "<xmin>1</xmin><ymin>1</ymin><xmax>20</xmax><ymax>30</ymax>"
            thing = f"<object><name>{label}</name><bndbox>{edges}</bndbox></object>" * (label is not None)
            size = "<size><width>60</width><height>40</height></size>"
            path = folder / "Annotations" / f"{name}{i}.xml"
            path.write_text(f"<annotation>{size}{thing}</annotation>")
        return f"voc:{folder}:all"

    return build


@pytest.fixture
def background(coco):
    """A file of two pictures without boxes, whose categories are those of `coco`'s files."""
    return coco.dataset([(30, 30), (30, 30)], [[], []], name="background.json")


def test_background_joins_where_empty_images_are_wanted(coco, cfg, background):
    cfg.DATASETS.TRAIN = (background, coco.dataset([(30, 30)], name="cats.json"))
    cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS = False
    dataset = build_train_dataset(cfg)
    assert (len(dataset), dataset.name, dataset.classes) == (3, "background+cats", ["cat", "dog"])
    assert [len(dataset[i][1]["boxes"]) for i in range(3)] == [0, 0, 1]
    assert len(next(iter(train_loader(cfg, dataset))).targets) == 2


def test_a_test_without_objects_is_told_of(coco, cfg, background, caplog):
    full = coco.dataset([(30, 30)], name="cats.json")
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (full,), (background, full)
    with caplog.at_level(logging.WARNING, "detector"):
        dataset = build_train_dataset(cfg)
        assert caplog.messages == []
        build_test_datasets(cfg, dataset)
    (said,) = [message for message in caplog.messages if "1.png" not in message]
    assert said.startswith("DATASETS.TEST: ")
    assert "background.json: none of its 2 images has an object to find, so nothing is measured on it" in said


def test_background_is_left_out_with_a_word_where_they_are_not(coco, cfg, background, caplog):
    cfg.DATASETS.TRAIN = (background, coco.dataset([(30, 30)], name="cats.json"))
    with caplog.at_level(logging.WARNING, "detector"):
        dataset = build_train_dataset(cfg)
    assert (len(dataset), dataset.name) == (1, "cats")
    (said,) = [message for message in caplog.messages if "1.png" not in message]  # which both files name
    assert "background.json: none of its 2 images has a box, so all are left out; DATALOADER.FILTER_EMPTY" in said


@pytest.mark.parametrize("filtered", [True, False])
def test_sources_that_all_lack_boxes_are_an_error(coco, cfg, background, filtered):
    cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS = filtered
    cfg.DATASETS.TRAIN = (background, coco.dataset([(30, 30)], [[]], name="more.json"))
    with pytest.raises(ValueError, match=r"background\.json, .*more\.json: there are no annotations to train on"):
        build_train_dataset(cfg)
    cfg.DATASETS.TRAIN = (background, coco.dataset([(30, 30)], [[[1, 1, 0, 4]]], name="flat.json"))
    with pytest.raises(ValueError, match=r"flat\.json: no image has a box to train on \(1 annotation\)"):
        build_train_dataset(cfg)


def test_a_folder_without_objects_takes_the_classes_of_the_others(coco, cfg, voc_folder):
    empty, cats = voc_folder("empty"), coco.dataset([(30, 30)], name="cats.json", categories=ANIMALS)
    cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS = False
    for others in (cats, voc_folder("cells", "red", "white")):
        cfg.DATASETS.TRAIN = (empty, others)
        dataset = build_train_dataset(cfg)
        first, second = dataset.indexes
        assert first.classes == second.classes == dataset.classes
        assert first.category_ids == second.category_ids == dataset.category_ids
        assert len(dataset[0][1]["boxes"]) == 0
    assert dataset.classes == ["red", "white"]
    cfg.DATASETS.TEST = (empty,)
    assert build_test_datasets(cfg, dataset)["empty_all"].classes == ["red", "white"]
    cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS = True
    assert build_train_dataset(cfg).classes == ["red", "white"]


def test_a_folder_without_objects_takes_those_of_its_own_list_first(cfg, voc_folder, tmp_path):
    cfg.DATASETS.TRAIN = (voc_folder("empty"), voc_folder("cells", "red", "white"))
    (tmp_path / "empty" / "classes.txt").write_text("red\nblue\n")
    with pytest.raises(ValueError, match=r"cells/Annotations has objects of 'white', which .*empty/Annotations lack"):
        build_train_dataset(cfg)


def test_classes_that_nobody_names_are_an_error(cfg, voc_folder):
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = (voc_folder("empty"), voc_folder("blank"))
    for build in (build_train_dataset, build_test_datasets):
        with pytest.raises(ValueError, match=r"empty/Annotations, .*blank/Annotations: no file has an object.*classes"):
            build(cfg)


def test_lists_of_unequal_length_are_compared_before_a_number_is_asked_for(coco, cfg):
    two = coco.dataset([(30, 30)], name="two.json")
    names = [{"id": i, "name": name} for i, name in enumerate(("cat", "dog", "cow"), start=1)]
    three = coco.dataset([(30, 30)], name="three.json", categories=names)
    problem = r"two\.json and .*three\.json list different categories \(2 and 3\).*label 2: nothing against id 3 'cow'"
    for number in (0, 2, 3, 80):  # whatever is written, the remedy is the same
        cfg.MODEL.NUM_CLASSES = number
        cfg.DATASETS.TRAIN = (two, three)
        with pytest.raises(ValueError, match=problem):
            build_train_dataset(cfg)
        if number in (0, 2):
            cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (two,), (three,)
            with pytest.raises(ValueError, match=problem):
                build_test_datasets(cfg, build_train_dataset(cfg))


def test_a_number_is_no_remedy_where_the_model_has_another_one(coco, cfg):
    cfg.DATASETS.TEST = (coco.dataset([(30, 30)], name="two.json"),)
    cfg.MODEL.NUM_CLASSES = 3
    with pytest.raises(ValueError, match=r"write MODEL\.NUM_CLASSES 2"):
        build_test_datasets(cfg)
    with pytest.raises(ValueError, match=r"write MODEL\.NUM_CLASSES 2"):
        build_test_datasets(cfg, outputs=["cat", "dog"])
    # whoever loads a model of three classes says what it was trained on: 2 would be refused in its turn
    assert list(build_test_datasets(cfg, outputs=["cat", "dog", "cow"])) == ["two"]


@pytest.fixture
def masks(coco):
    """One picture with an object, two crowds, and a crowd without area, as CVAT writes masks."""
    coco.picture("1.png", 60, 80)
    boxes = [2, 3, 10, 8], [20, 3, 10, 8], [40, 30, 20, 20], [40, 3, 0, 8]
    annotations = [{"bbox": box, "iscrowd": int(k > 0), "category_id": 1 + k % 2} for k, box in enumerate(boxes)]
    return f"{coco.images}:{coco.annotate(annotations)}"


def test_crowds_are_objects_where_the_config_says_so(cfg, masks, caplog):
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = (masks,)
    dataset = build_train_dataset(cfg)
    assert (dataset.num_boxes, len(dataset[0][1]["boxes"]), len(dataset[0][1]["ignore"])) == (1, 1, 2)
    cfg.DATASETS.CROWDS = "objects"
    with caplog.at_level(logging.INFO, "detector"):
        dataset = build_train_dataset(cfg)
    assert any(
        "train.json: 3 of 4 annotations are crowds; by DATASETS.CROWDS they are obj" in m for m in caplog.messages
    )
    assert (dataset.num_boxes, len(dataset[0][1]["ignore"])) == (3, 0)
    assert dataset[0][1]["labels"].tolist() == [0, 1, 0]


def test_crowds_that_are_not_there_are_not_told_of(coco, cfg, caplog):
    cfg.DATASETS.TRAIN, cfg.DATASETS.CROWDS = (coco.dataset([(30, 30)]),), "objects"
    with caplog.at_level(logging.INFO, "detector"):
        build_train_dataset(cfg)
    assert not any("are crowds" in message for message in caplog.messages)


def test_evaluation_counts_such_crowds(cfg, masks):
    """One object and two crowds, all found: without them a third of what is found is what there is to find."""
    cfg.DATASETS.TEST = (masks,)
    for crowds, label, measure in (("ignore", 1, -1.0), ("objects", 1, 0.0), ("objects", 0, 1.0)):
        cfg.DATASETS.CROWDS = crowds
        (dataset,) = build_test_datasets(cfg).values()
        for name in ("coco", "voc"):
            evaluator = EVALUATORS[name](dataset)
            boxes = torch.tensor([[2.0, 3, 12, 11], [40, 30, 60, 50]])
            found = {"boxes": boxes, "labels": torch.zeros(2, dtype=torch.int64), "scores": torch.tensor([0.9, 0.8])}
            evaluator.add([found], [{"image_id": 1}])
            numbers = evaluator.compute()
            key = "AP/" if name == "coco" else "VOC/AP50/"
            assert numbers[key + ("cat", "dog")[label]] == pytest.approx(measure)
            assert all("iscrowd" not in record for record in evaluator.results())


def test_a_file_of_crowds_alone_can_be_trained_on(coco, cfg):
    coco.picture("1.png", 60, 80)
    cfg.DATASETS.TRAIN = (f"{coco.images}:{coco.annotate([{'bbox': [2, 3, 10, 8], 'iscrowd': 1}])}",)
    with pytest.raises(ValueError, match=r"all are crowds: .* write DATASETS\.CROWDS objects"):
        build_train_dataset(cfg)
    cfg.DATASETS.CROWDS = "objects"
    assert build_train_dataset(cfg).num_boxes == 1


@pytest.fixture
def rare(cfg, voc_folder):
    """Data to train on with a class that the test data lack, and the other way round."""
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (voc_folder("one", "red", "blue"),), (voc_folder("two", "white", "blue"),)
    cfg.MODEL.NUM_CLASSES = 0
    return cfg


def names_of(dataset):
    index = dataset.index
    return [index.classes[label] for label in index.labels]


def test_the_classes_of_folders_are_those_of_training_and_test_together(rare, voc_folder):
    train = build_train_dataset(rare)
    (test,) = build_test_datasets(rare, train).values()
    assert train.classes == test.classes == ["blue", "red", "white"]
    assert (train.category_ids, names_of(train), names_of(test)) == ([1, 2, 3], ["red", "blue"], ["white", "blue"])
    (alone,) = build_test_datasets(rare).values()
    assert alone.classes == ["blue", "red", "white"]
    rare.DATASETS.TRAIN += (voc_folder("three", "ant"),)
    assert build_train_dataset(rare).classes == ["ant", "blue", "red", "white"]


def test_what_is_missing_in_the_other_part_is_no_matter(rare):
    rare.DATASETS.TEST += ("voc:gone:all", "no_such_name")
    train = build_train_dataset(rare)
    assert train.classes == ["blue", "red", "white"]
    with pytest.raises(FileNotFoundError, match=r"DATASETS\.TEST: dataset 'voc:gone:all'"):
        build_test_datasets(rare, train)
    rare.DATASETS.TRAIN, rare.DATASETS.TEST = ("voc:gone:all",), rare.DATASETS.TEST[:1]
    (test,) = build_test_datasets(rare).values()
    assert test.classes == ["blue", "white"]


def test_what_is_read_for_its_classes_alone_is_not_warned_of(rare, tmp_path, caplog):
    cv2.imwrite(str(tmp_path / "two" / "JPEGImages" / "bare.png"), np.zeros((40, 60, 3), np.uint8))
    train = build_train_dataset(rare)
    assert not caplog.messages
    build_test_datasets(rare, train)
    assert "bare.png" in caplog.text


@pytest.mark.parametrize("part", ["one", "two"])
def test_a_list_of_classes_rules_over_names_that_occur(rare, tmp_path, part):
    (tmp_path / part / "classes.txt").write_text("white\nred\nblue\ngreen\n")
    train = build_train_dataset(rare)
    (test,) = build_test_datasets(rare, train).values()
    assert train.classes == test.classes == ["white", "red", "blue", "green"]
    assert (names_of(train), names_of(test)) == (["red", "blue"], ["white", "blue"])
    (tmp_path / part / "classes.txt").write_text(
        "white\nred\nblue\n".replace("red\n" if part == "two" else "white\n", "")
    )
    message = {
        "one": "two/Annotations has objects of 'white', which the classes of .*one/Annotations lack",
        "two": "only .*one/Annotations has 'red' .*; only .*two/Annotations has 'white' ",
    }
    with pytest.raises(ValueError, match=message[part]):
        build_test_datasets(rare, build_train_dataset(rare))


def test_the_categories_of_a_file_rule_over_names_that_occur(coco, rare):
    categories = [{"id": i, "name": name} for i, name in ((0, "white"), (5, "red"), (7, "blue"))]
    file = coco.dataset([(30, 30)], [[]], name="file.json", categories=categories)
    rare.DATASETS.TEST += (file,)
    train = build_train_dataset(rare)
    assert (train.classes, train.category_ids) == (["white", "red", "blue"], [0, 5, 7])
    tests = build_test_datasets(rare, train)
    assert [(one.classes, one.category_ids) for one in tests.values()] == [(["white", "red", "blue"], [0, 5, 7])] * 2
    assert names_of(tests["two_all"]) == ["white", "blue"]


def test_two_lists_of_classes_have_to_agree(rare, tmp_path):
    (tmp_path / "one" / "classes.txt").write_text("red\nblue\n")
    (tmp_path / "two" / "classes.txt").write_text("white\nblue\n")
    message = r"only .*one/Annotations has 'red' \(id 1\); only .*two/Annotations has 'white' .* in a classes\.txt"
    with pytest.raises(ValueError, match=message):
        build_test_datasets(rare, build_train_dataset(rare))


def test_a_models_outputs_fix_the_classes(coco, rare):
    """Test data are found in them by name, whatever their order and ids, and exported under their own ids."""
    turned = [{"id": 0, "name": "white"}, {"id": 5, "name": "red"}]
    boxes = {"bbox": [1, 1, 9, 9], "category_id": 5}
    path = coco.annotate([boxes], categories=turned, name="turned.json")
    rare.DATASETS.TEST += (f"{coco.images}:{path}",)
    outputs = ["__background__", "red", "N/A", "blue", "white", "green"]
    tests = build_test_datasets(rare, outputs=outputs)
    assert [one.classes for one in tests.values()] == [["red", "blue", "white", "green"]] * 2
    assert (names_of(tests["two_all"]), names_of(tests["turned"])) == (["white", "blue"], ["red"])
    assert tests["two_all"].category_ids == [1, 2, 3, 4]
    assert tests["turned"].category_ids == [5, 6, 0, 7]
    train = build_train_dataset(rare, outputs=outputs)
    assert (train.classes, names_of(train)) == (["red", "blue", "white", "green"], ["red", "blue"])


def test_a_class_that_a_model_lacks_is_refused_with_both_lists(rare):
    origin = Origin("run/model.pth", "take other data")
    message = (
        r"DATASETS\.TEST: .*two/Annotations has 2 classes \('blue', 'white'\), and run/model\.pth was trained on 2 "
        r"\('red', 'blue'\), without 'white': take other data"
    )
    with pytest.raises(ValueError, match=message):
        build_test_datasets(rare, outputs=["red", "blue"], origin=origin)
    assert build_train_dataset(rare, outputs=["red", "blue"], origin=origin).classes == ["red", "blue"]


def test_files_that_a_resumed_run_trains_on_share_their_ids(coco, rare):
    few = coco.dataset([(30, 30)], name="few.json", categories=[{"id": 1, "name": "white"}])
    more = coco.dataset([(30, 30)], name="more.json", categories=[{"id": 1, "name": "red"}, {"id": 2, "name": "white"}])
    rare.DATASETS.TRAIN = (few, more)
    train = build_train_dataset(rare, outputs=["red", "white", "blue"])
    first, second = train.indexes
    assert first.category_ids == second.category_ids == train.category_ids
    assert (first.labels.tolist(), second.labels.tolist()) == ([1], [0])
