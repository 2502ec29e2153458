"""Folders in YOLO's layout: where pictures and labels are, what lines say, and what is wrong with them."""

import os
import re
import unicodedata

import cv2
import numpy as np
import pytest
from PIL import Image

from detector.data.catalog import load_dataset
from detector.data.formats.yolo import read
from detector.data.layouts import find_data_sets
from detector.data.loader import build_test_datasets, build_train_dataset
from detector.data.problems import KINDS, Problems
from detector.errors import MissingFileError, UserError


def draw(path, width=80, height=40):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((height, width, 3), 90, np.uint8))


def put(root, **files):
    """Text files by their names, with / for __ and a suffix for the last _: `labels__a_txt`."""
    for name, text in files.items():
        path = root / ".".join(name.replace("__", "/").rsplit("_", 1))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text) if isinstance(text, bytes) else path.write_text(text, encoding="utf-8", newline="")


@pytest.fixture
def root(tmp_path):
    """A folder with two pictures, 80 wide and 40 high, in images/train and one in images/val; names: cat, dog."""
    folder = tmp_path / "pets"
    for name in ("train/a.png", "train/b.png", "val/c.png"):
        draw(folder / "images" / name)
    put(folder, data_yaml="names: [cat, dog]\nnc: 2\ntrain: images/train\nval: images/val\ntest:\n")
    put(folder, labels__train__a_txt="0 0.5 0.5 0.25 0.5\n1 0.25 0.25 0.5 0.5\n", labels__train__b_txt="")
    put(folder, labels__val__c_txt="1 0.5 0.5 1 1\n")
    return folder


def told(folder, split="train"):
    """What the reader finds: the index, kinds of findings, lines."""
    problems = Problems(everything=True)
    index = read(folder, split, problems)
    assert {one.kind for one in problems.findings} <= set(KINDS)
    return index, [one.kind for one in problems.findings], problems


def lines(root, text, classes="[cat, dog]", more=""):
    """The index of one picture with these lines."""
    put(root, labels__train__a_txt=text, data_yaml=f"names: {classes}\ntrain: images/train\n{more}")
    return told(root)


def test_a_split_by_hand(root):
    problems = Problems()
    index = read(root, "train", problems)
    assert (index.kind, index.path, index.folder) == ("yolo", root / "data.yaml", root / "images" / "train")
    assert (index.classes, index.category_ids) == (["cat", "dog"], [0, 1])
    assert index.image_ids.tolist() == ["a", "b"]
    assert index.file_names.tolist() == ["a.png", "b.png"]
    assert (index.size(0), index.offsets.tolist(), index.labels.tolist()) == ((40, 80), [0, 2, 2], [0, 1])
    assert index.boxes_xywh.tolist() == [[30, 10, 20, 20], [0, 0, 40, 20]]
    assert index.boxes.tolist() == [[30, 10, 50, 30], [0, 0, 40, 20]]
    assert index.areas.tolist() == [400, 800]
    assert index.annotation_ids.tolist() == ["labels/train/a.txt:1", "labels/train/a.txt:2"]
    assert index.record(1) == str(root / "labels" / "train" / "b.txt")
    assert not index.crowd.any()
    assert not index.difficult.any()
    assert problems.lines == []


def test_all_is_every_split_and_names_then_start_at_the_root(root):
    index = read(root / "data.yaml", "all")
    assert index.folder == root
    assert index.image_ids.tolist() == ["images/train/a", "images/train/b", "images/val/c"]
    assert len(index.labels) == 3


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        ("[cat, dog]", ["cat", "dog"]),
        ("{0: cat, 1: dog}", ["cat", "dog"]),
        ("{'1': dog, '0': cat}", ["cat", "dog"]),
        ("[yes, no]", ["yes", "no"]),  # YAML's booleans are names here
        ("[1, 2.0]", ["1", "2.0"]),
        ("['Überholspur', \"a: b\"]", ["Überholspur", "a: b"]),
        ("classes.txt", ["one", "two"]),
    ],
)
def test_names_in_any_form(root, names, classes):
    put(root, classes_txt="one\r\ntwo\n", data_yaml=f"names: {names}\ntrain: images/train\n")
    assert read(root).classes == classes


def test_classes_without_names_are_numbered(root):
    put(root, data_yaml="nc: 2\ntrain: images/train\n")
    index, kinds, problems = told(root)
    assert (index.classes, kinds) == (["class_0", "class_1"], ["yolo-no-names"])
    assert "there are no names, but nc: 2; the classes are called class_0 to class_1" in problems.lines[0]


def test_a_name_that_is_nothing_is_told(root):
    put(root, data_yaml="names: [cat, ~]\ntrain: images/train\n")
    index, kinds, problems = told(root)
    assert (index.classes, kinds) == (["cat", "~"], ["yolo-no-names"])
    assert "class 1 is called '~'" in problems.lines[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("names: {0: cat, 2: dog}", r"data\.yaml: names has 2 entries, but none for class 1"),
        ("names: {cat: 0}", "none for class 0"),
        ("names: []", "write the names as a list"),
        ("names: [[cat]]", "write the names as a list"),
        ("names: cats", "names is 'cats'"),
        ("train: x", "there are no names; list the classes"),
        ("names: [cat]\nnc: 3", "nc is '3', but names has 1"),
        ("names: [cat]\nkpt_shape: 17", r"kpt_shape is '17'; write .*\[17, 3\]"),
        ("names: [cat]\ntrain: {a: b}", "train is .*; write a folder, a list"),
        ("names: [cat]\nnames: [dog]", "'names' stands twice"),
        ("names: [cat", "not valid YAML"),
        ("- cat", "expected KEY: VALUE lines"),
        (f"a: {'[' * 2000}", "levels deep"),
        (f"names: [cat]\ntrain: images/train\nx: {'y' * (1 << 20)}", "more than 1048576 bytes"),
    ],
)
def test_what_a_yaml_file_may_not_say(root, text, said):
    put(root, data_yaml=text + "\n")
    with pytest.raises(UserError, match=said) as error:
        read(root)
    assert str(root / "data.yaml") in str(error.value)
    assert len(str(error.value)) < 1000


def test_nothing_in_a_yaml_file_is_run(root):
    mark = root / "ran"
    text = "names: [cat, dog]\ntrain: images/train\ndownload: |\n  import pathlib\n"
    put(root, data_yaml=f"{text}x: !!python/object/apply:os.mkdir ['{mark}']\n")
    read(root)
    assert not mark.exists()


def test_many_classes_are_welcome_and_aliases_do_not_multiply(root):
    names = "".join(f"  {i}: name {i}\n" for i in range(13204))
    put(root, data_yaml=f"train: images/train\nnames:\n{names}")
    assert len(read(root).classes) == 13204
    rows = "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9))
    put(root, data_yaml=f"names: [cat]\na0: &a0 [x]\n{rows}")
    with pytest.raises(UserError, match="keys and values"):
        read(root)


# ---------------------------------------------------------------------------- where pictures are


def test_one_yaml_file_of_any_name_and_no_choice_among_several(root):
    (root / "data.yaml").rename(root / "mine.yml")
    assert len(read(root)) == 2
    put(root, other_yaml="names: [x]\n")
    with pytest.raises(UserError, match=r"has 2 YAML files \(mine.yml, other.yaml\).*yolo:.*mine.yml:SPLIT"):
        read(root)
    assert len(read(root / "mine.yml")) == 2


@pytest.mark.parametrize(
    ("said", "where"),
    [
        ("path: .\ntrain: images/train", "."),
        ("path: ..\ntrain: pets/images/train", "."),
        ("path: /content/datasets/pets\ntrain: images/train", "."),  # of a machine that had it there
        ("path: ../datasets/pets\ntrain: images/train", "."),
        ("train: ./images/train/", "."),
        ("train: ../images/train", "."),  # as Roboflow writes it, though the folder is beside the file
        ("train: images\\train", "."),
        ("train: /content/pets/images/train", "."),
        ("train: [images/train]", "."),
        ("path: ROOT\ntrain: images/train", "elsewhere"),
        ("train: ROOT/images/train", "elsewhere"),
    ],
)
def test_places_that_a_yaml_file_names(root, said, where):
    (root / "data.yaml").unlink()
    file = root / where / "data.yaml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(f"names: [cat, dog]\n{said}\n".replace("ROOT", str(root)))
    index = read(file)
    assert index.file_names.tolist() == ["a.png", "b.png"]
    assert os.path.samefile(index.folder, root / "images" / "train")
    assert len(index.labels) == 2


@pytest.mark.parametrize("said", ["/content/datasets/pets", "../datasets/pets"])
def test_a_root_that_is_not_there_is_told(root, said):
    put(root, data_yaml=f"names: [cat, dog]\npath: {said}\ntrain: images/train\n")
    _, kinds, problems = told(root)
    assert kinds == ["yolo-moved"]
    assert problems.lines == [f"{root}/data.yaml: path {said} is not there; splits are looked for in {root}"]
    put(root, data_yaml="names: [cat, dog]\npath: .\ntrain: images/train\n")
    assert told(root)[1] == []


def test_pictures_without_objects_are_a_note_that_is_said_once(root, caplog):
    caplog.set_level("INFO", "detector")
    (root / "labels" / "train" / "b.txt").unlink()
    for _ in range(2):
        load_dataset(f"yolo:{root}:train", ".")
    (record,) = caplog.records
    assert record.levelname == "INFO"
    assert "1 of 2 pictures has no label file" in record.getMessage()
    (root / "labels" / "train" / "a.txt").unlink()  # then something is wrong
    for number in (2, 3):
        load_dataset(f"yolo:{root}:train", ".")
        assert len(caplog.records) == number
        assert caplog.records[-1].levelname == "WARNING"


def test_a_folder_of_the_same_name_outside_is_told(root):
    draw(root.parent / "images" / "train" / "x.png")
    put(root, data_yaml="names: [cat]\ntrain: ../images/train\n")
    index, kinds, problems = told(root)
    assert index.file_names.tolist() == ["x.png"]
    assert kinds[0] == "yolo-two-places"
    assert "is there too" in problems.lines[0]


def test_a_part_of_a_path_is_no_other_folder(root):
    put(root, data_yaml="names: [cat, dog]\ntrain: train/images\n")
    with pytest.raises(MissingFileError, match=r"data.yaml: train/images is expected at .*/pets/train/images"):
        read(root)
    put(root, data_yaml="names: [cat, dog]\ntrain: /content/images\n")  # images/ is there, with all splits
    with pytest.raises(MissingFileError, match=r"/content/images is expected at"):
        read(root)


def test_several_folders_and_lists(root):
    draw(root / "more" / "d.png")
    put(root, more__d_txt="0 0.5 0.5 0.5 0.5\n", lists__x_txt=b"\xef\xbb\xbf../images/val/c.png\r\n\r\n")
    put(root, data_yaml="names: [cat, dog]\ntrain:\n- images/train\n- more\n- lists/x.txt\n")
    index = read(root)
    assert index.folder == root
    assert index.file_names.tolist() == ["images/train/a.png", "images/train/b.png", "images/val/c.png", "more/d.png"]
    assert index.offsets.tolist() == [0, 2, 2, 3, 4]
    assert index.record(3) == str(root / "more" / "d.txt")


@pytest.mark.parametrize(
    ("line", "moved"),
    [
        ("./images/train/a.png", False),
        ("images/train/a.png", False),
        ("ROOT/images/train/a.png", False),
        ("images\\train\\a.png", True),
        ("data/pets/images/train/a.png", True),
        ("/content/darknet/images/train/a.png", True),
        ("C:\\pets\\images\\train\\a.png", True),
        ("../images/train/a.png", True),
        ('"images/train/a.png"', False),
    ],
)
def test_lines_of_a_list(root, line, moved):
    put(root, train_txt=line.replace("ROOT", str(root)) + "\n", data_yaml="names: [cat, dog]\ntrain: train.txt\n")
    index, kinds, _ = told(root)
    assert index.file_names.tolist() == ["images/train/a.png"]
    assert index.folder == root
    assert kinds == ["yolo-moved"] * moved
    assert len(index.labels) == 2


def test_a_list_that_leads_out_of_the_folder_is_asked_about(root, cfg):
    draw(root.parent / "secret" / "x.png")
    put(root, train_txt="../secret/x.png\n", data_yaml="names: [cat, dog]\ntrain: train.txt\n")
    index = read(root)
    assert index.file_names.tolist() == [str(root.parent / "secret" / "x.png")]
    cfg.DATASETS.TEST = (f"yolo:{root}:train",)
    with pytest.raises(UserError, match=r"lies outside the folder.*ALLOW_OUTSIDE True"):
        build_test_datasets(cfg)


def test_missing_pictures_of_a_list_are_errors(root):
    put(root, train_txt="images/train/a.png\ngone.png\nimages/train/z.png\n")
    put(root, data_yaml="names: [cat, dog]\ntrain: train.txt\n")
    with pytest.raises(UserError, match=r"train\.txt: gone\.png is not there \(2 of its pictures are missing\)"):
        read(root)
    index, kinds, _ = told(root)
    assert (index.image_ids.tolist(), kinds) == (["images/train/a"], ["yolo-missing-picture"] * 2)


@pytest.mark.parametrize(("asked", "there"), [("val", "valid"), ("valid", "val"), ("val", "validation")])
def test_words_for_validation(root, asked, there):
    put(root, data_yaml=f"names: [cat, dog]\n{there}: images/val\n")
    assert read(root, asked).image_ids.tolist() == ["c"]


def test_one_class_without_a_name(root):
    put(root, data_yaml="nc: 2\ntrain: images/train\n")
    assert "the classes are called class_0 to class_1; list" in told(root)[2].lines[0]
    put(root, data_yaml="nc: 1\ntrain: images/val\n", labels__val__c_txt="0 0.5 0.5 1 1\n")
    assert "the class is called class_0; list" in told(root)[2].lines[0]


def test_splits_of_other_names_and_those_that_are_not_there(root):
    put(root, data_yaml="names: [cat, dog]\nlicense: CC BY/4.0\nminival: images/val\ntrain: null\nurl: http://a/b\n")
    assert read(root, "minival").image_ids.tolist() == ["c"]
    with pytest.raises(MissingFileError, match=r"there is no split 'train'; there are minival, all"):
        read(root, "train")
    assert len(read(root, "all")) == 1


def test_all_leaves_out_what_was_not_fetched(root):
    put(root, data_yaml="names: [cat, dog]\ntrain: images/train\ntest: ../test/images\n")
    index, kinds, problems = told(root, "all")
    assert (len(index), kinds) == (2, ["yolo-missing-split", "yolo-in-no-split"])
    assert "../test/images is expected at" in problems.lines[0]


def test_pictures_in_no_split_are_told_where_all_are_wanted(root):
    draw(root / "images" / "loose.png")
    draw(root / "images" / "extra" / "z.png")
    put(root, labels__extra__z_txt="0 0.5 0.5 1 1\n")
    rest = [str(root / "images" / name) for name in ("extra/z.png", "loose.png")]
    index, kinds, problems = told(root, "all")
    assert (len(index), kinds) == (3, ["yolo-in-no-split"] * 2)
    line = f"{root / 'data.yaml'}: 2 pictures lie in no split and are passed over (e.g.: {', '.join(rest)})"
    assert problems.lines == [line]
    assert [one.record for one in problems.findings] == rest
    assert [one.record for one in find_data_sets(root).findings] == rest
    assert told(root)[1] == []
    put(root, data_yaml="names: [cat, dog]\ntrain: images/train\nval: [images/val, images]\n")
    assert told(root, "all")[1] == ["yolo-no-label-file"]


@pytest.mark.parametrize("end", ["png.txt", "TXT"])
def test_other_names_of_label_files(root, end):
    for name in "ab":
        os.rename(root / f"labels/train/{name}.txt", root / f"labels/train/{name}.{end}")
    index, kinds, _ = told(root)
    assert (index.labels.tolist(), kinds) == ([0, 1], [])
    assert index.annotation_ids.tolist()[0] == f"labels/train/a.{end}:1"


@pytest.mark.parametrize("place", ["labelTxt/train", "annotations/train", "labels", "train/yolo/txt"])
def test_label_files_that_lie_elsewhere_are_found_and_named(root, cfg, place):
    (root / place).mkdir(parents=True, exist_ok=True)
    for name in "ab":
        os.rename(root / f"labels/train/{name}.txt", root / place / f"{name}.txt")
    there = f"looked for at {root / 'labels/train/a.txt'} while {root / place / 'a.txt'} has its name"
    _, kinds, problems = told(root)
    assert kinds == ["yolo-no-label-file"] * 2
    assert there in problems.lines[0]
    cfg.DATASETS.TRAIN = (f"yolo:{root}:train",)
    with pytest.raises(UserError, match=re.escape(there)) as caught:
        build_train_dataset(cfg)
    assert "test file" not in str(caught.value)
    (root / "labels" / "train" / "b.txt").write_text("0 0.5 0.5 1 1\n")
    assert "has its name" not in told(root)[2].lines[0]


def test_a_split_in_other_letters_is_named(root):
    os.rename(root / "images", root / "Images")
    with pytest.raises(MissingFileError, match=r"Images/train is there: write it with its own capital letters"):
        read(root)


def test_roboflow_s_folders(root):
    draw(root / "valid" / "images" / "v_jpg.rf.0a1b.jpg")
    put(root, data_yaml="train: ../train/images\nval: ../valid/images\nnc: 2\nnames: ['cat', 'dog']\n")
    (root / "valid" / "labels").mkdir()
    (root / "valid" / "labels" / "v_jpg.rf.0a1b.txt").write_text("1 0.5 0.5 0.5 0.5")
    index = read(root, "valid")
    assert index.image_ids.tolist() == ["v_jpg.rf.0a1b"]
    assert index.boxes_xywh.tolist() == [[20, 10, 40, 20]]


def test_folders_without_yaml(tmp_path):
    flat, cvat, lone = tmp_path / "flat", tmp_path / "cvat", tmp_path / "lone"
    draw(flat / "a.png")  # labelImg
    put(flat, a_txt="1 0.5 0.5 0.5 0.5\n", classes_txt="cat\ndog\n")
    assert (read(flat, "all").classes, len(read(flat, "all").labels)) == (["cat", "dog"], 1)
    with pytest.raises(MissingFileError, match=r"no split 'train'; there are all$"):
        read(flat, "train")
    draw(cvat / "obj_train_data" / "a.png")  # CVAT and darknet
    put(cvat, obj_names="cat\ndog\n", train_txt="data/obj_train_data/a.png\n", obj_data="classes = 2\n")
    (cvat / "obj_train_data" / "a.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    index = read(cvat, "train")
    assert (index.file_names.tolist(), index.labels.tolist()) == (["obj_train_data/a.png"], [0])
    draw(lone / "images" / "train" / "a.png")
    with pytest.raises(UserError, match=r"neither data\.yaml nor classes\.txt.*write classes\.txt"):
        read(lone)
    put(lone, labels__classes_txt="cat\n")
    assert (read(lone).classes, len(read(lone))) == (["cat"], 1)


def test_folders_and_links_are_walked_once(root):
    draw(root / "images" / "train" / "deep" / "er" / "d.png")
    put(root, labels__train__deep__er__d_txt="0 0.5 0.5 0.5 0.5\n")
    os.symlink(root / "images" / "train", root / "images" / "train" / "loop")
    draw(root.parent / "elsewhere" / "e.png")
    os.symlink(root.parent / "elsewhere", root / "images" / "train" / "link")
    draw(root / "images" / "train" / "._a.png")
    draw(root / "images" / "train" / "__MACOSX" / "a.png")
    index = read(root)
    assert index.file_names.tolist() == ["a.png", "b.png", "deep/er/d.png", "link/e.png"]
    assert index.image_ids.tolist()[2] == "deep/er/d"
    assert index.annotation_ids.tolist()[-1] == "labels/train/deep/er/d.txt:1"


def test_pictures_below_a_folder_called_images_twice(tmp_path):
    root = tmp_path / "images" / "pets"
    draw(root / "images" / "a.png")
    put(root, labels__a_txt="0 0.5 0.5 1 1\n", data_yaml="names: [cat]\ntrain: images\n")
    assert len(read(root).labels) == 1
    beside = tmp_path / "images" / "flat"
    draw(beside / "a.png")
    put(beside, a_txt="0 0.5 0.5 1 1\n", data_yaml="names: [cat]\ntrain: .\n")
    assert len(read(beside).labels) == 1


def test_what_a_scan_passes_over_is_told(root):
    put(root, images__train__film_mp4="x", images__train__b_gif="x", images__train__notes_txt="x")
    put(root, labels__train__ghost_txt="0 0.5 0.5 1 1\n", labels__train__gone__x_txt="", labels__classes_txt="cat\n")
    index, kinds, problems = told(root)
    assert len(index) == 2
    assert kinds == ["yolo-passed-over"] * 2 + ["yolo-label-without-picture"] * 2
    assert "2 files are passed over" in problems.lines[0]
    assert "2 label files have no picture" in problems.lines[1]
    assert problems.findings[2].record == str(root / "labels" / "train" / "ghost.txt")


def test_labels_of_other_splits_are_no_strays(root):
    put(root, train_txt="images/train/a.png\n", data_yaml="names: [cat, dog]\ntrain: train.txt\n")
    assert told(root)[1] == []


def test_pictures_without_label_file_are_counted_empty_ones_are_not(root):
    (root / "labels" / "train" / "a.txt").unlink()
    index, kinds, problems = told(root)
    assert (len(index), len(index.labels), kinds) == (2, 0, ["yolo-no-label-file"])
    assert (
        f"1 of 2 pictures has no label file; the first is looked for at {root}/labels/train/a.txt"
        in (problems.lines[0])
    )
    assert problems.findings[0].picture == "a.png"


def test_two_pictures_of_one_label_file(root):
    draw(root / "images" / "train" / "a.jpg", 40, 20)
    index, kinds, _ = told(root)
    assert index.image_ids.tolist() == ["a.jpg", "a.png", "b"]
    assert index.offsets.tolist() == [0, 2, 4, 4]
    assert index.boxes_xywh[[0, 2]].tolist() == [[15, 5, 10, 10], [30, 10, 20, 20]]
    assert kinds == ["yolo-two-pictures"] * 2
    draw(root / "images" / "train" / "a.png.jpg")
    assert read(root).image_ids.tolist() == ["a.jpg", "a.png", "a.png.jpg", "b.png"]


def test_no_picture_is_an_error(root):
    put(root, data_yaml="names: [cat]\ntrain: labels/train\n")
    with pytest.raises(UserError, match=r"data\.yaml: split 'train' has no picture in .*labels/train"):
        read(root)
    with pytest.raises(UserError, match="split 'train' has no picture in"):
        read(root, problems=Problems(everything=True))


def test_sizes_are_those_of_upright_pictures(root):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((40, 80, 3), np.uint8)).save(root / "images" / "train" / "a.png", exif=exif)
    index = read(root)
    assert index.size(0) == (80, 40)
    assert index.boxes_xywh[0].tolist() == [15, 20, 10, 40]


@pytest.mark.parametrize("tag", [3, 6])
def test_labels_mark_pictures_as_viewers_show_them(root, cfg, tag):
    pixels = np.zeros((40, 80, 3), np.uint8)
    pixels[:20, :40] = 255  # lower right once it is turned by 180 degrees, upper right by 90
    exif = Image.Exif()
    exif[0x0112] = tag
    Image.fromarray(pixels).save(root / "images" / "val" / "c.png", exif=exif)
    cfg.DATASETS.TEST, cfg.INPUT.MIN_SIZE_TEST = (f"yolo:{root}:val",), 40
    (test,) = build_test_datasets(cfg).values()
    image, _ = test[0]
    white = image[0] > 128
    right, lower = white[:, white.shape[1] // 2 :].sum(), white[white.shape[0] // 2 :].sum()
    assert right == white.sum() == 800
    assert lower == (800 if tag == 3 else 0)


def test_a_picture_without_size_is_an_error(root):
    (root / "images" / "train" / "b.png").write_text("no picture")
    with pytest.raises(UserError, match=r"b\.png: its size cannot be read"):
        read(root)
    index, kinds, _ = told(root)
    assert (index.image_ids.tolist(), kinds) == (["a"], ["yolo-unreadable-picture"])
    (root / "images" / "train" / "a.png").write_text("no picture")
    with pytest.raises(UserError, match=r"a\.png: its size cannot be read.*\(2 such pictures\)"):
        read(root)
    assert len(told(root)[0]) == 0


# ---------------------------------------------------------------------------- lines


@pytest.mark.parametrize(
    "text",
    [
        "1 0.5 0.5 0.25 0.5",
        "1\t0.5\t0.5\t0.25\t0.5\r\n",
        b"\xef\xbb\xbf1 0.5 0.5 0.25 0.5\n",
        "1 0.5 0.5 0.25 0.5\n".encode("utf-16"),
        "\n  \n1.0 .5 5e-1 +0.25 0.50000\n\n",
        "1 0.5 0.5 0.25 0.5\r\r",
        "1 0.375 0.25 0.625 0.25 0.625 0.75 0.375 0.75",  # a polygon, or a turned box
        "1 0.375 0.5 0.5 0.25 0.625 0.75",
    ],
)
def test_lines_in_any_form(root, text):
    index, kinds, _ = lines(root, text)
    assert index.boxes_xywh.tolist() == [[30, 10, 20, 20]]
    assert index.labels.tolist() == [1]
    assert kinds == []


def test_poses_are_boxes_with_points_that_are_passed_over(root):
    row = "0 0.5 0.5 0.25 0.5 0.1 0.1 2 0.9 0.9 2\n"  # 5 + 2 x 3 numbers: without kpt_shape a polygon
    index, kinds, _ = lines(root, row, more="kpt_shape: [2, 3]\n")
    assert (index.boxes_xywh.tolist(), kinds) == ([[30, 10, 20, 20]], [])


def test_boxes_polygons_and_scores_may_stand_in_one_file(root):
    index, kinds, problems = lines(root, "0 0.5 0.5 0.25 0.5\n1 0 0 0.5 0 0.5 0.5\n1 0.5 0.5 0.25 0.5 0.93\n")
    assert index.boxes_xywh.tolist() == [[30, 10, 20, 20], [0, 0, 40, 20], [30, 10, 20, 20]]
    assert kinds == ["yolo-sixth-number"]
    assert problems.findings[0].record.endswith("a.txt:3")
    assert "1 line has a sixth number" in problems.lines[0]


@pytest.mark.parametrize(
    ("row", "kind", "said"),
    [
        ("2 0.5 0.5 0.1 0.1", "yolo-class", r"its class is 2, but .*data\.yaml names 2, 0 to 1"),
        ("-1 0.5 0.5 0.1 0.1", "yolo-class", "its class is -1"),
        ("0.5 0.5 0.5 0.1 0.1", "yolo-line", "its class is 0.5, which is no whole number"),
        ("cat 0.5 0.5 0.1 0.1", "yolo-line", "'cat' is no number; the class is its place among the names"),
        ("0 0,5 0.5 0.1 0.1", "yolo-line", "'0,5' is no number.*decimals have a point"),
        ("0 1_0 0.5 0.1 0.1", "yolo-line", "'1_0' is no number"),
        ("0 0.5 0.5 0.1", "yolo-line", "it has 4 numbers; write class"),
        ("0", "yolo-line", "it has 1 numbers"),
        ("0 0.1 0.1 0.2 0.2 0.3 0.3 0.4", "yolo-line", "it has 8 numbers, which is neither"),
        ("0 nan 0.5 0.1 0.1", "yolo-line", "no finite number"),
        ("nan 0.5 0.5 0.1 0.1", "yolo-line", "no finite number"),
        ("0 0.1 0.1 inf 0.2 0.3 0.3", "yolo-line", "no finite number"),
        ("1e999 0.5 0.5 0.1 0.1", "yolo-line", "no finite number"),
        ("0 40 20 20 20", "yolo-pixels", r"its box is \[40.0, 20.0, 20.0, 20.0\], but belongs in fractions.*divide"),
        ("0 10 10 50 10 50 30", "yolo-pixels", "divide pixels"),
        ("0 0.5 0.5 -0.1 0.1", "yolo-line", "width or height is below 0"),
    ],
)
def test_what_a_line_may_not_say(root, row, kind, said):
    put(root, labels__train__a_txt=f"0 0.5 0.5 0.25 0.5\n{row}\n1 0.25 0.25 0.5 0.5\n")
    with pytest.raises(UserError, match=rf"/labels/train/a\.txt(, line |:)2: .*{said}"):
        read(root)
    index, kinds, problems = told(root)
    assert kinds == [kind]
    assert problems.findings[0].picture == "a.png"
    assert problems.findings[0].record == str(root / "labels" / "train" / "a.txt:2")
    assert index.annotation_ids.tolist() == ["labels/train/a.txt:1", "labels/train/a.txt:3"]
    assert index.boxes_xywh.tolist() == [[30, 10, 20, 20], [0, 0, 40, 20]]


def test_lines_that_stand_twice_count_once(root):
    index, kinds, problems = lines(
        root, "0 0.5 0.5 0.25 0.5\n1 0.5 0.5 0.25 0.5\n0 .5 0.50 0.25 0.5\n0 0.5 0.5 0.25 0.500001\n"
    )
    assert index.annotation_ids.tolist() == [f"labels/train/a.txt:{n}" for n in (1, 2, 4)]
    assert kinds == ["yolo-line-twice"]
    assert problems.findings[0].record.endswith("a.txt:3")
    put(root, labels__train__a_txt="0 0.5 0.5 0.25 0.5\n", labels__train__b_txt="0 0.5 0.5 0.25 0.5\n")
    assert told(root)[1] == []  # of two pictures


def test_what_reaches_out_is_clipped_and_what_is_flat_is_told(root):
    index, kinds, _ = lines(root, "0 0.9 0.5 0.4 0.5\n0 0.5 0.5 0 0.5\n0 1.5 0.5 0.5 0.5\n0 0.5 0.5 1.000001 1\n")
    assert index.boxes[0].tolist() == pytest.approx([56, 10, 80, 30])
    assert index.usable.tolist() == [True, False, False, True]
    assert kinds == ["flat-box", "box-outside", "box-beyond-edge"]


def test_a_film_among_the_labels_is_not_read_whole(root, monkeypatch):
    monkeypatch.setattr("detector.data.formats.yolo_lines.MAX_BYTES", 20)
    with pytest.raises(UserError, match=r"a\.txt: more than 20 bytes, which no label file has"):
        read(root)


# ---------------------------------------------------------------------------- entries


def test_entries(root, cfg):
    source = load_dataset(f"yolo:{root}:train", "nowhere")
    assert (source.name, source.folder, len(source.index)) == ("pets_train", root / "images" / "train", 2)
    assert load_dataset(f"yolo:{root / 'data.yaml'}:val", "nowhere").name == "pets_val"
    assert load_dataset("yolo:pets:val", root.parent).name == "pets_val"
    for entry in ("yolo:pets", "yolo:pets:", "yolo::train"):
        with pytest.raises(UserError, match="write yolo:FOLDER:SPLIT"):
            load_dataset(entry, root.parent)
    with pytest.raises(MissingFileError, match=r"nothing is at C:.pets; "):
        load_dataset(r"yolo:C:\pets:train", root.parent)
    with pytest.raises(MissingFileError, match=r"'yolo:nowhere:train': nothing is at .*nowhere; .*DATASETS\.ROOT"):
        load_dataset("yolo:nowhere:train", root.parent)
    with pytest.raises(UserError, match=r"write yolo:.*data\.yaml:train"):
        load_dataset(f"{root / 'data.yaml'}:train", root.parent)
    with pytest.raises(KeyError, match=r"write yolo:.*/pets:SPLIT, with SPLIT one of train, val, all$"):
        load_dataset(str(root), "")
    with pytest.raises(KeyError, match=r"is a file: write yolo:.*/data\.yaml:SPLIT"):
        load_dataset(str(root / "data.yaml"), "")


def test_it_is_trained_and_tested_on(root, cfg):
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (f"yolo:{root}:train",), (f"yolo:{root}:val",)
    train = build_train_dataset(cfg)
    assert (len(train), train.num_boxes, train.classes) == (1, 2, ["cat", "dog"])
    (test,) = build_test_datasets(cfg).values()
    _, target = test[0]
    assert target["image_id"] == "c"
    assert target["labels"].tolist() == [1]


def pose_lines(points, values, box=(0.5, 0.5, 0.2, 0.3), seed=0):
    """Three lines of a box and so many points in it."""
    rng = np.random.default_rng(seed)
    x, y, w, h = box
    rows = []
    for _ in range(3):
        each = [[x + w * dx, y + h * dy, 2][:values] for dx, dy in rng.uniform(-0.5, 0.5, (points, 2))]
        rows.append(f"0 {x} {y} {w} {h} " + " ".join(f"{v:.4g}" for point in each for v in point))
    return "\n".join(rows) + "\n"


@pytest.mark.parametrize(("points", "values"), [(4, 2), (17, 2), (4, 3), (14, 3)])
@pytest.mark.parametrize("box", [(0.5, 0.5, 0.2, 0.3), (0.5, 0.5, 0.6, 0.7)])
def test_poses_without_kpt_shape_are_taken_as_boxes_and_told(root, points, values, box):
    if values == 2 and points == 4 and box[2] > 0.5:
        return  # four points need not span their box
    text = pose_lines(points, values, box)
    index, kinds, problems = lines(root, text)
    x, y, w, h = box
    wanted = [(x - w / 2) * 80, (y - h / 2) * 40, w * 80, h * 40]
    np.testing.assert_allclose(index.boxes_xywh, [wanted], atol=1e-9)  # they are one box three times
    assert set(kinds) == {"yolo-pose", "yolo-line-twice"}
    assert f"write kpt_shape: [{points}, {values}], or an empty kpt_shape if they are polygons" in problems.lines[0]
    index, kinds, _ = lines(root, text, more="kpt_shape:\n")  # somebody says that they are polygons
    assert "yolo-pose" not in kinds
    assert np.abs(index.boxes_xywh[0] - wanted).max() > 1e-3


def test_polygons_and_turned_boxes_are_not_taken_for_poses(root):
    rng = np.random.default_rng(1)
    rows = {4: [], 9: []}
    for corners, some in rows.items():
        for _ in range(40):
            centre, radius, start = rng.uniform(0.1, 0.9, 2), rng.uniform(0.005, 0.4), rng.uniform(0, 7)
            angles = start + np.arange(corners) * 2 * np.pi / corners
            points = np.clip(centre + radius * np.stack([np.cos(angles), np.sin(angles)], 1), 0, 1)
            some.append(f"1 {' '.join(f'{v:.5f}' for v in points.ravel())}")
    odd = "1 0.6 0.5 0.3 0.5 0.7 0.6 0.6 0.6 0.65 0.55"  # a spike to the left: as a pose it would be a likely one
    for some in (*rows.values(), [odd, odd.replace("1 ", "0 ")], [rows[9][0]], [*rows[4], *rows[9]]):
        index, kinds, _ = lines(root, "\n".join(some) + "\n")
        assert (len(index.labels), kinds) == (len(some), [])


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_accents_in_another_form_are_the_same(root, form):
    one = {way: unicodedata.normalize(way, "bär") for way in ("NFC", "NFD")}
    there, said = one.pop(form), one.popitem()[1]
    draw(root / f"images/train/{there}.png")
    (root / f"labels/train/{said}.txt").write_text("1 0.5 0.5 1 1\n")
    put(root, data_yaml="names: [cat, dog]\ntrain: list.txt\n", list_txt=f"images/train/{said}.png\n")
    index, kinds, _ = told(root)
    assert (index.file_names.tolist(), index.labels.tolist(), kinds) == ([f"images/train/{there}.png"], [1], [])


@pytest.mark.parametrize("place", ["", "data", "data/obj.data"])
def test_lists_that_darknet_s_data_file_names(tmp_path, place):
    for name in "abc":
        draw(tmp_path / "data" / "obj" / f"{name}.png")
        (tmp_path / "data" / "obj" / f"{name}.txt").write_text("1 0.5 0.5 1 1\n")
    put(tmp_path / "data", x_names="cat\ndog\n", te_txt="data/obj/c.png\n")
    put(tmp_path / "data", tr_txt="data/obj/a.png\ndata/obj/b.png\n")
    text = "classes = 2\n# lists\ntrain=data/tr.txt\nvalid = data/te.txt\nnames = data/x.names\nbackup = backup/\n"
    (tmp_path / "data" / "obj.data").write_text(text)
    for split, names in (("train", "ab"), ("val", "c"), ("valid", "c"), ("all", "abc")):
        index, kinds, _ = told(tmp_path / place, split)
        assert [os.path.basename(name) for name in index.file_names.tolist()] == [f"{name}.png" for name in names]
        assert (index.classes, set(index.labels.tolist()), kinds) == (["cat", "dog"], {1}, [])
        assert not any(os.path.isabs(name) for name in index.file_names.tolist())


def test_all_faults_are_counted_before_the_first_one_stops_the_loader(root):
    put(root, labels__train__a_txt="0 0.5 0.5 0.1\n2 0.5 0.5 0.1 0.1\n0 9 9 9 9\n", labels__train__b_txt="x\n")
    said = rf"a\.txt, line 1: .* \(and 3 more: `detector check yolo:{root}:train` lists them\)$"
    with pytest.raises(UserError, match=said):
        read(root)
    assert len(told(root)[1]) == 4
    put(root, labels__train__a_txt="0 0.5 0.5 0.1\n", labels__train__b_txt="")
    with pytest.raises(UserError, match=r"line 1: '0 0.5 0.5 0.1': it has 4 numbers; [^(]*$"):
        read(root)


@pytest.mark.parametrize(("text", "asked"), [("1 {}\n2 {}\n", True), ("0 {}\n2 {}\n", False), ("1 {}\n3 {}\n", False)])
def test_classes_that_seem_to_count_from_one(root, text, asked):
    _, kinds, problems = lines(root, text.replace("{}", "0.5 0.5 0.1 0.1"))
    assert kinds == ["yolo-class"]
    assert ("if yours count from 1, subtract 1 from all" in problems.findings[0].text) == asked


@pytest.mark.parametrize("how", ["dangling", "folder"])
def test_a_label_file_that_cannot_be_read_is_one_finding(root, how):
    path = root / "labels" / "train" / "a.txt"
    path.unlink()
    path.symlink_to("gone" if how == "dangling" else "../val")
    with pytest.raises(UserError, match=r"train/a\.txt: .*fetch it again, or delete it"):
        read(root)
    put(root, labels__train__b_txt="1 0.5 0.5 1 1\n")
    index, kinds, problems = told(root)
    assert (kinds, problems.findings[0].picture) == (["yolo-label-file"], "a.png")
    assert (index.file_names.tolist(), index.labels.tolist(), index.offsets.tolist()) == (["b.png"], [1], [0, 1])


def test_a_picture_that_is_named_in_two_ways_counts_once(root, monkeypatch):
    monkeypatch.chdir(root.parent)
    put(root, train_txt=f"images/train/a.png\n{root}/images/train/a.png\n{root}/images/train/b.png\n")
    put(root, data_yaml="names: [cat, dog]\ntrain: [train.txt, images/train]\n")
    index = read("pets")
    assert index.image_ids.tolist() == ["images/train/a", "images/train/b"]
    assert len(index.labels) == 2


@pytest.mark.parametrize(
    ("there", "wanted"),
    [
        ("label/val/c.txt", "labels/val/c.txt"),
        ("labels/train/c.txt", "labels/val/c.txt"),
        ("images/val/other.txt", "images/val/c.txt"),
        ("images/val/classes.txt", "labels/val/c.txt"),
    ],
)
def test_a_label_file_is_missed_where_it_belongs(root, there, wanted):
    for path in (root / "labels").rglob("*.txt"):
        path.unlink()
    (root / "labels" / "val").rmdir()
    (root / there).parent.mkdir(parents=True, exist_ok=True)
    (root / there).write_text("0 0.5 0.5 1 1\n")
    index, _, problems = told(root, "val")
    found = [one.text for one in problems.findings if one.kind == "yolo-no-label-file"]
    assert found == [f"c.png: it has no label file; {root / wanted} is not there"]
    assert any(f"the first is looked for at {root / wanted} " in line for line in problems.lines)
    if there != "images/val/other.txt":
        assert index.record(0) == str(root / wanted)
