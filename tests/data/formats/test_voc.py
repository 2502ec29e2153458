"""Folders in VOC's layout: splits, classes, boxes, difficult objects, and what is broken in them."""

import cv2
import numpy as np
import pytest
from helpers.voc import VocFolder, thing, turn
from PIL import Image

from detector.data import catalog
from detector.data.catalog import load_dataset
from detector.data.check import check_training
from detector.data.formats.voc import CLASSES, read
from detector.data.loader import build_test_datasets, build_train_dataset, test_loader, train_loader
from detector.data.problems import Problems
from detector.errors import UserError

test_loader.__test__ = False  # a function of the library, no test


def test_a_split_by_hand(voc):
    parts = "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>"
    voc.add("b", [thing("red", (1, 1, 60, 40), 0, parts), thing("blue", (11, 6.5, 20, 30.25), 1)])
    voc.add("a", [thing("blue", (5, 5, 9, 8))], (70, 50), ".JPG")
    voc.add("empty")
    voc.add("other", [thing("a new one", (1, 1, 9, 9))])
    voc.split("train", "b", "empty", "a")
    index = read(voc.folder, "train")
    assert (index.folder, index.path, index.kind) == (voc.pictures, voc.annotations, "voc")
    assert index.classes == ["a new one", "blue", "red"]  # of all splits, so that they agree
    assert index.category_ids == [1, 2, 3]
    assert index.image_ids.tolist() == ["b", "empty", "a"]
    assert index.file_names.tolist() == ["b.png", "empty.png", "a.JPG"]
    assert [index.size(i) for i in range(3)] == [(40, 60), (40, 60), (70, 50)]
    assert index.offsets.tolist() == [0, 2, 2, 3]
    assert index.labels.tolist() == [2, 1, 1]
    assert index.boxes.tolist() == [[0, 0, 60, 40], [10, 5.5, 20, 30.25], [4, 4, 9, 8]]
    assert index.boxes_xywh.tolist() == [[0, 0, 60, 40], [10, 5.5, 10, 24.75], [4, 4, 5, 4]]
    assert index.areas.tolist() == [2400, 247.5, 20]
    assert index.difficult.tolist() == [False, True, False]
    assert index.annotation_ids.tolist() == ["b.xml#1", "b.xml#2", "a.xml#1"]
    assert not index.crowd.any()
    assert (index.num_boxes().tolist(), index.num_boxes(difficult=True).tolist()) == ([1, 0, 1], [2, 0, 1])
    assert read(voc.folder, "all").image_ids.tolist() == ["a", "b", "empty", "other"]


def test_hidden_files_do_not_count_and_suffixes_have_any_case(voc):
    voc.add("a", [thing("x", (1, 1, 5, 5))])
    (voc.annotations / "a.xml").rename(voc.annotations / "a.XML")
    (voc.annotations / "._a.xml").write_bytes(b"\x00\x05\x16\x07")
    (voc.pictures / "._a.png").write_bytes(b"\x00\x05\x16\x07")
    assert read(voc.folder, "all").file_names.tolist() == ["a.png"]


@pytest.mark.parametrize("annotations", ["Annotations", "annotations", "annots"])
@pytest.mark.parametrize("pictures", ["JPEGImages", "images"])
def test_folders_may_have_any_of_their_names(tmp_path, pictures, annotations):
    voc = VocFolder(tmp_path / "own", pictures, annotations)
    voc.add("1", [thing("x", (1, 1, 5, 5))])
    index = read(voc.folder, "all")
    assert (index.folder.name, index.path.name, len(index)) == (pictures, annotations, 1)


def test_broken_boxes_are_dropped_counted_and_named(voc):
    good = thing("x", (0, 0, 60, 40))  # tools that count from 0 write such edges
    voc.add("a", [thing("x", (5, 5, 5, 5)), good, thing("x", (9, 9, 3, 20)), thing("x", (61, 3, 80, 9))])
    voc.add("b", [thing("x", (5, 9, 8, 3)), thing("x", (50, 30, 90, 45))])
    problems = Problems(everything=True)
    index = read(voc.folder, "all", problems=problems)
    assert index.annotation_ids.tolist() == ["a.xml#2", "b.xml#2"]
    assert index.boxes.tolist() == [[0, 0, 60, 40], [49, 29, 60, 40]]
    assert index.offsets.tolist() == [0, 1, 2]
    flat, outside, beyond = problems.lines
    assert "3 boxes have a width or height of zero or less and are dropped (annotation ids: a.xml#1, a.xml#3" in flat
    assert "1 box lies outside its image and is dropped (annotation ids: a.xml#4)" in outside
    assert "1 box reaches out" in beyond
    kinds = ["flat-box"] * 3 + ["box-outside", "box-beyond-edge"]
    assert [one.kind for one in problems.findings] == kinds
    assert problems.findings[3].picture == "a.png"
    assert problems.findings[3].record == str(voc.annotations / "a.xml#4")
    assert problems.findings[3].box == (60, 2, 20, 7)


def test_the_two_broken_boxes_of_bccd(bccd, caplog):
    index = load_dataset(f"voc:{bccd}:all", "").index
    assert (len(index), len(index.labels), index.classes) == (364, 4886, ["Platelets", "RBC", "WBC"])
    assert "2 boxes" in caplog.text
    assert "BloodImage_00338.xml#13, BloodImage_00343.xml#4" in caplog.text
    parts = {split: set(read(bccd, split).image_ids.tolist()) for split in ("trainval", "test")}
    assert (len(parts["trainval"]), len(parts["test"])) == (292, 72)
    assert not parts["trainval"] & parts["test"]


def test_splits_of_a_folder_without_lists(voc):
    for i in range(8):
        voc.add(f"{i}", [thing("x", (1, 1, 5, 5))])
    parts = {split: read(voc.folder, split).image_ids.tolist() for split in ("train", "val", "test", "all")}
    assert [len(part) for part in parts.values()] == [6, 1, 1, 8]
    with pytest.raises(FileNotFoundError, match=r"dev\.txt: there is no such split; a folder without lists is divided"):
        read(voc.folder, "dev")
    for i in range(2, 8):
        (voc.annotations / f"{i}.xml").unlink()
    with pytest.raises(ValueError, match="2 pictures are too few to be divided; write split 'all'"):
        read(voc.folder, "test")


def test_classes_may_be_listed(voc):
    voc.add("a", [thing("cat", (1, 1, 5, 5)), thing("dog", (1, 1, 5, 5))])
    (voc.folder / "classes.txt").write_text("\ufeffdog\ncat\n\nbird\n", encoding="utf-8")
    index = read(voc.folder, "all")
    assert (index.classes, index.labels.tolist()) == (["dog", "cat", "bird"], [1, 0])
    (voc.folder / "classes.txt").write_text("dog\n")
    with pytest.raises(ValueError, match=r"a\.xml: object 1 \('cat'\): unknown class; .* dog .*; add a line for it"):
        read(voc.folder, "all")
    (voc.folder / "classes.txt").write_text("dog\ndog\n")
    with pytest.raises(ValueError, match=r"classes\.txt: write the name of each class once"):
        read(voc.folder, "all")


def test_the_label_map_of_annotation_tools_lists_classes(voc):
    voc.add("a", [thing("cat", (1, 1, 5, 5)), thing("a: dog", (1, 1, 5, 5))])
    lines = (
        "# label:color_rgb:parts:actions",
        "background:0,0,0::",
        "cat:1,2,3::",
        "bird:1,2,3:wing,tail:",
        "a: dog:1,2,3::",
    )
    (voc.folder / "labelmap.txt").write_text("".join(f"{line}\n" for line in lines))
    index = read(voc.folder, "all")
    assert (index.classes, index.labels.tolist(), index.listed) == (["cat", "bird", "a: dog"], [0, 2], True)
    (voc.folder / "labelmap.txt").write_text("background:0,0,0::\nbird:1,2,3::\n")
    with pytest.raises(
        ValueError, match=r"object 1 \('cat'\): unknown class; the classes are bird \(listed in .*map\.txt\)"
    ):
        read(voc.folder, "all")
    problems = Problems(everything=True)
    assert len(read(voc.folder, "all", problems=problems).labels) == 0
    assert [one.record for one in problems.findings] == [str(voc.annotations / f"a.xml#{n}") for n in (1, 2)]
    (voc.folder / "classes.txt").write_text("a: dog\ncat\n")
    assert read(voc.folder, "all").classes == ["a: dog", "cat"]
    (voc.folder / "classes.txt").unlink()
    (voc.folder / "labelmap.txt").unlink()
    assert not read(voc.folder, "all").listed
    assert read(voc.folder, "all", ["cat", "a: dog"]).listed


def test_missing_pictures_are_listed_before_the_first_step(voc, cfg):
    for name in "abcd":
        voc.add(name, [thing("x", (1, 1, 5, 5))], suffix=None if name in "bd" else ".png")
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST, cfg.MODEL.NUM_CLASSES = ("voc:cells:all",), (), 1
    dataset = build_train_dataset(cfg)
    with pytest.raises(
        UserError, match=r"2 of 4 pictures cannot be used:\n.*b\.jpg: there is no such picture\n.*d\.jpg"
    ):
        check_training(dataset, {}, "stop")
    assert check_training(dataset, {}, "skip")[0].image_ids == ["a", "c"]


def test_one_pixel_is_an_object_and_a_point_is_none(voc):
    voc.add("a", [thing("x", (5, 5, 5, 9)), thing("x", (5, 5, 5, 5)), thing("x", (60, 40, 60, 30))])
    problems = Problems(everything=True)
    index = read(voc.folder, "all", problems=problems)
    assert (index.boxes.tolist(), index.areas.tolist()) == ([[4, 4, 5, 9]], [5])
    assert [(one.kind, one.record[-3:]) for one in problems.findings] == [
        ("voc-one-pixel", "l#1"), ("flat-box", "l#2"), ("flat-box", "l#3"),
    ]  # fmt: skip


def test_what_is_missing_is_named(voc, tmp_path):
    with pytest.raises(ValueError, match=r"Annotations: there are no XML files in this folder$"):
        read(voc.folder, "all")
    (voc.annotations / "a.xml.txt").write_text("<annotation/>")
    with pytest.raises(ValueError, match=r"no XML files in this folder; a\.xml\.txt and those like it should end in"):
        read(voc.folder, "all")
    voc.add("a")
    assert read(voc.folder, "all").classes == []
    voc.add("a", [thing("x", (1, 1, 5, 5))])
    voc.split("train", "a", "lost")
    voc.split("twice", "a", "a.png", "a")
    voc.split("none")
    with pytest.raises(
        FileNotFoundError,
        match=r"lost\.xml: there is no such annotation file, but split 'train' names it in .*/train\.txt",
    ):
        read(voc.folder, "train")
    with pytest.raises(FileNotFoundError, match=r"val\.txt: there is no such split; there are none, train, twice, all"):
        read(voc.folder, "val")
    assert len(read(voc.folder, "twice")) == 1
    with pytest.raises(ValueError, match=r"none\.txt: this list of pictures is empty"):
        read(voc.folder, "none")
    (tmp_path / "plain").mkdir()
    with pytest.raises(FileNotFoundError, match=r"plain: its pictures are expected in JPEGImages/ or images/"):
        read(tmp_path / "plain", "all")


def test_pictures_are_found_by_name_then_by_filename(voc):
    objects = [thing("x", (1, 1, 5, 5))]
    voc.add("a", objects, filename="stale.png")
    voc.add("b", objects, suffix=None, filename="of another name.png")
    cv2.imwrite(str(voc.pictures / "of another name.png"), np.zeros((40, 60, 3), np.uint8))
    assert read(voc.folder, "all").file_names.tolist() == ["a.png", "of another name.png"]
    cv2.imwrite(str(voc.pictures / "a.bmp"), np.zeros((40, 60, 3), np.uint8))
    with pytest.raises(ValueError, match=r"a\.xml: a\.bmp and a\.png in .* have its name; say which in <filename>"):
        read(voc.folder, "all")
    voc.add("a", objects, filename="a.bmp")
    assert read(voc.folder, "all").file_names[0] == "a.bmp"


def test_a_missing_size_is_taken_from_the_picture(voc):
    voc.add("a", [thing("x", (1, 1, 5, 5))], (33, 44), written_size=(0, 0))
    assert read(voc.folder, "all").size(0) == (33, 44)
    voc.add("b", written_size=("", 44))
    voc.add("c", written_size=(33, "Unspecified"))
    problems = Problems(everything=True)
    index = read(voc.folder, "all", problems=problems)
    assert [index.size(i) for i in range(3)] == [(33, 44), (40, 60), (40, 60)]
    (line,) = problems.lines
    assert "Annotations: 3 pictures have no size in their annotation file and were measured (pictures: a.png" in line
    assert [(one.kind, one.picture) for one in problems.findings] == [("voc-measured", f"{k}.png") for k in "abc"]


def test_a_picture_that_cannot_be_measured_is_as_large_as_its_boxes(voc):
    voc.add("a", [thing("x", (1, 3, 5, 50)), thing("x", (7, 3, 20, 6))], written_size=(0, 0))
    voc.add("b", written_size=(0, 0), suffix=None)
    (voc.pictures / "a.png").write_bytes(b"no picture")
    problems = Problems(everything=True)
    index = read(voc.folder, "all", problems=problems)
    assert ([index.size(0), index.size(1)], len(index.labels)) == ([(50, 20), (1, 1)], 2)
    assert [one.kind for one in problems.findings] == ["voc-no-size"] * 2
    first, second = (one.text for one in problems.findings)
    assert first.endswith("a.png cannot be read to learn it")
    assert second.startswith(f"{voc.annotations / 'b.xml'}: it has no size, and")


def test_a_wrong_size_names_picture_and_file(voc, cfg):
    voc.add("a", [thing("x", (1, 1, 5, 5))], written_size=(50, 60))
    cfg.DATASETS.TRAIN, cfg.MODEL.NUM_CLASSES = ("voc:cells:all",), 1
    dataset = build_train_dataset(cfg)
    with pytest.raises(ValueError, match=r"a\.png: the picture is 60 wide and 40 high, .* \(.*Annotations/a\.xml\)"):
        dataset[0]


def test_entries_and_names(voc, tmp_path, monkeypatch):
    voc.add("a", [thing("x", (1, 1, 5, 5))])
    voc.split("trainval", "a")
    source = load_dataset("voc:cells:trainval", tmp_path)
    assert (source.name, source.folder, source.difficult) == ("cells_trainval", voc.pictures, False)
    monkeypatch.chdir(voc.folder)
    assert load_dataset("voc:.:trainval", "nowhere").name == "cells_trainval"
    assert load_dataset(f"voc:{voc.folder}:all", "nowhere").name == "cells_all"
    for entry in ("voc:cells", "voc:cells:", "voc::train"):
        with pytest.raises(ValueError, match="write voc:FOLDER:SPLIT"):
            load_dataset(entry, tmp_path)
    with pytest.raises(
        FileNotFoundError, match=r"'voc:nowhere:all': its folder is expected at .*nowhere; .*DATASETS\.ROOT"
    ):
        load_dataset("voc:nowhere:all", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"folder of pictures is expected at .*/voc or at .*/voc"):
        load_dataset("voc:train.json", tmp_path)
    with pytest.raises(KeyError, match=r"voc_2007_trainvl.*close: voc_2007_trainval.*voc:FOLDER:SPLIT"):
        load_dataset("voc_2007_trainvl", tmp_path)


@pytest.mark.parametrize("home", ["VOCdevkit/VOC2007", "VOC2007", "voc/VOC2007"])
def test_the_catalog_finds_voc_and_knows_its_classes(tmp_path, home):
    voc = VocFolder(tmp_path / home)
    voc.add("000001", [thing("person", (1, 1, 5, 5)), thing("dog", (1, 1, 5, 5))])
    voc.split("test", "000001")
    source = load_dataset("voc_2007_test", tmp_path)
    assert (source.name, source.difficult) == ("voc_2007_test", True)
    assert source.index.classes == list(CLASSES) == sorted(CLASSES)
    assert len(CLASSES) == 20
    assert source.index.labels.tolist() == [14, 11]
    voc.add("000001", [thing("robot", (1, 1, 5, 5))])
    with pytest.raises(ValueError, match=r"000001\.xml: object 1 \('robot'\): unknown class; .*tvmonitor"):
        load_dataset("voc_2007_test", tmp_path)


def test_the_catalog_lists_the_published_splits(tmp_path):
    names = {name for name in catalog.DATASETS if name.startswith("voc")}
    assert names == {
        "voc_2007_train", "voc_2007_val", "voc_2007_trainval", "voc_2007_test",
        "voc_2012_train", "voc_2012_val", "voc_2012_trainval",
    }  # fmt: skip
    with pytest.raises(FileNotFoundError, match=r"expected at .*VOCdevkit/VOC2012; put it there \(JPEGImages/"):
        load_dataset("voc_2012_trainval", tmp_path)


@pytest.mark.parametrize(("key", "trained"), [("auto", [1, 0]), ("yes", [1, 1]), ("no", [0, 0])])
def test_difficult_objects_are_trained_on_by_year_or_by_key(tmp_path, cfg, key, trained):
    cfg.DATASETS.TRAIN, cfg.MODEL.NUM_CLASSES = ("voc_2007_train", "voc_2012_train"), 20
    cfg.DATASETS.TRAIN_DIFFICULT = key
    for year in (2007, 2012):
        voc = VocFolder(tmp_path / f"VOC{year}")
        voc.add("easy", [thing("dog", (1, 1, 9, 9), 0), thing("cat", (11, 11, 20, 20), 1)])
        voc.add("only", [thing("cat", (1, 1, 9, 9), 1)])
        voc.split("train", "easy", "only")
    dataset = build_train_dataset(cfg)
    assert [len(part) for part in dataset.datasets] == [1 + t for t in trained]  # else "only" has nothing to train on
    for part, yes in zip(dataset.datasets, trained):
        _, target = part[0]
        assert (target["labels"].tolist(), len(target["ignore"])) == (([11, 7], 0) if yes else ([11], 1))
    cfg.DATASETS.TEST = cfg.DATASETS.TRAIN
    for part in build_test_datasets(cfg, dataset).values():
        assert [len(part[i][1]["ignore"]) for i in range(2)] == [1, 1]


def test_loaders_take_voc_and_coco_together(voc, coco, cfg):
    for i in range(4):
        voc.add(f"{i}", [thing("cat", (3, 4, 20, 20)), thing("dog", (30, 4, 40, 20))])
    cfg.DATASETS.TRAIN = ("voc:cells:train", coco.dataset([(40, 60)] * 2))
    dataset = build_train_dataset(cfg)
    seen = [t["image_id"] for batch in train_loader(cfg, dataset, stop_step=2) for t in batch.targets]
    assert {type(one) for one in seen} == {str, int}
    cfg.DATASETS.TEST = ("voc:cells:test",)
    (tests,) = build_test_datasets(cfg, dataset).values()
    assert [t["image_id"] for batch in test_loader(cfg, tests) for t in batch.targets] == tests.image_ids


def test_an_orientation_tag_turns_the_picture_only_if_the_size_says_so(voc, cfg):
    voc.add("a", [thing("x", (1, 1, 5, 5))], (40, 60), ".jpg")
    turn(voc.pictures / "a.jpg")
    cfg.DATASETS.TRAIN, cfg.MODEL.NUM_CLASSES = ("voc:cells:all",), 1
    wide = build_train_dataset(cfg)[0][0].shape
    assert wide[2] > wide[1]


def test_lists_that_are_no_text_are_named(voc):
    voc.add("a", [thing("x", (1, 1, 5, 5))])
    voc.split("train", "a")
    (voc.folder / "ImageSets/Main/train.txt").write_bytes(b"a\n\xff\n")
    with pytest.raises(UserError, match=r"train\.txt: byte 3 is not UTF-8; write one name a line"):
        read(voc.folder, "train")
    (voc.folder / "classes.txt").write_bytes(b"\xfe")
    with pytest.raises(UserError, match=r"classes\.txt: byte 1 is not UTF-8"):
        read(voc.folder, "all")


def test_a_size_that_is_missing_is_learned_without_decoding(voc, monkeypatch):
    voc.add("a", [thing("x", (1, 1, 5, 5))], written_size=(0, 0))
    voc.add("turned", [thing("x", (1, 1, 5, 5))], suffix=".jpg", written_size=(0, 0))
    turn(voc.pictures / "turned.jpg")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # Pillow's own reader would refuse
    index = read(voc.folder, "all")
    assert [index.size(0), index.size(1)] == [(40, 60), (60, 40)]
