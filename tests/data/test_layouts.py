"""The data sets in a folder are those that the readers take from it."""

import json

import cv2
import numpy as np
import pytest

from detector.data import layouts
from detector.data.formats.yolo_folder import NO_SPLIT
from detector.data.layouts import PASSED_OVER, find_data_sets

XML = "<annotation><filename>{}</filename></annotation>"


def coco(*names, **more):
    images = [{"id": i, "file_name": name} for i, name in enumerate(names)]
    return json.dumps({"images": images, "annotations": [{"bbox": [1, 2, 3, 4]}], "categories": []} | more)


@pytest.fixture
def tree(tmp_path):
    """Writes files, name -> content, and returns what is found, with names below the folder."""

    def found(*pictures, **files):
        more = {name: "" for name in pictures} | files.pop("files", {})
        for name, content in more.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            data = content if isinstance(content, bytes) else content.encode()
            (tmp_path / name).write_bytes(data)
        result = find_data_sets(tmp_path)
        return [entry.replace(str(tmp_path), "F") for entry in result.entries], result

    return found


@pytest.mark.parametrize("pictures", ["images", "images/default", "img/a/b"])
def test_annotations_of_coco_beside_images_are_no_vocs(tree, pictures):
    entries, _ = tree(f"{pictures}/a.jpg", files={"annotations/instances_default.json": coco("a.jpg")})
    assert entries == [f"F/{pictures}:F/annotations/instances_default.json"]


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf" + coco("a.jpg", "b.jpg").encode(),
        coco(None, "a.jpg", "b.jpg").encode(),
        coco(5, "a.jpg").encode(),
        coco("/data/media/upload/3/a.jpg", "images\\b.jpg").encode(),
        coco("a.jpg", annotations=[]).encode(),
        coco("a.jpg", annotations=[{"segmentation": [[1, 2, 3, 4, 5, 6]]}]).encode(),
        json.dumps({"images": [{"file_name": "a.jpg"}], "categories": []}).encode(),
    ],
    ids=["bom", "null", "number", "label studio", "empty", "segmentation", "no annotations"],
)
@pytest.mark.parametrize("name", ["result.json", "RESULT.JSON"])
def test_what_the_loader_takes_for_coco(tree, content, name):
    assert tree("images/a.jpg", "images/b.jpg", files={name: content})[0] == [f"F/images:F/{name}"]


def test_files_with_equal_names_in_folders_of_their_own(tree):
    names = [f"{i:04}.jpg" for i in range(30)]
    files = {
        "train.json": coco(*names),
        "valid.json": coco(*names),
        "annotations/instances_test2017.json": coco(*names),
    }
    pictures = [f"{part}/{name}" for part in ("test2017", "train", "validation") for name in names]
    assert tree(*pictures, files=files)[0] == [
        "F/test2017:F/annotations/instances_test2017.json",
        "F/train:F/train.json",
        "F/validation:F/valid.json",
    ]


def test_files_that_share_their_first_pictures_only(tree):
    names = [f"{i:04}.jpg" for i in range(30)]
    files = {"a.json": coco(*names[:20], "0025.jpg"), "b.json": coco(*names[:20], "0026.jpg"), "c.json": coco(*names)}
    entries, result = tree(*(f"images/{name}" for name in names), files=files)
    assert entries == ["F/images:F/a.json", "F/images:F/b.json", "F/images:F/c.json"]
    assert result.findings == []


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("[]", "no list of `images`"),
        ('{"images": ["a.jpg"]}', "no list of `images`"),
        ('{"images": [{"file_name": "a.jpg"}]}', "neither `annotations` nor"),
        ("{", "no JSON"),
        (coco("a.jpg", annotations=[{"caption": "a cat"}]), "have no `bbox`"),
    ],
)
def test_files_that_are_no_data_set_are_passed_over_with_a_reason(tree, content, why):
    entries, result = tree("images/a.jpg", "images/b.jpg", files={"b.json": coco("b.jpg"), "other.json": content})
    assert entries == ["F/images:F/b.json"]
    assert [finding.kind for finding in result.findings] == [PASSED_OVER]
    assert why in result.findings[0].text


YOLO = "0 .5 .5 .2 .2\n"


@pytest.mark.parametrize(
    ("pictures", "files", "expected"),
    [
        (["a.jpg"], {"a.txt": YOLO, "classes.txt": "x"}, "yolo:F:all"),
        (
            ["images/a.jpg"],
            {"labels/a.txt": YOLO, "classes.txt": "x", "notes.json": '{"categories": []}'},
            "yolo:F:all",
        ),
        (["obj_train_data/a.jpg"], {"obj_train_data/a.txt": YOLO, "obj.names": "x", "obj.data": ""}, "yolo:F:train"),
        (["data/a.jpg"], {"data/a.txt": YOLO, "obj.names": "x"}, "yolo:F:all"),
        (["train/a.jpg"], {"train/a.txt": YOLO, "train/_darknet.labels": "x"}, "yolo:F:train"),
        (["cats/a.jpg"], {"cats/a.txt": YOLO, "cats/classes.txt": "x"}, "yolo:F/cats:all"),
        (["images/a.jpg"], {"own.yaml": "train: images\nnames: [x]", "labels/a.txt": YOLO}, "yolo:F:train"),
    ],
    ids=["labelimg", "label studio", "cvat", "fiftyone", "darknet", "in a folder", "another name"],
)
def test_folders_of_yolo(tree, pictures, files, expected):
    entries, result = tree(*pictures, files=files)
    assert (entries, result.sure) == ([expected], True)


def test_labels_without_classes_are_told_by_their_reader(tree):
    entries, result = tree("a.jpg", files={"a.txt": YOLO})
    assert (entries, result.sure) == (["yolo:F:all"], False)
    entries, result = tree(files={"images/b.jpg": "", "labels/b.txt": YOLO, "b.json": coco("b.jpg")})
    assert entries == ["F/images:F/b.json"]  # labels of the same pictures


@pytest.mark.parametrize(
    "files", [{"a.txt": "a picture of 1 2 3 4 birds\n"}, {"config.yaml": "SEED: 1\n"}, {"a.txt": ""}]
)
def test_pictures_with_other_texts_are_no_data_set(tree, files):
    assert tree("a.jpg", files=files)[0] == []


@pytest.mark.parametrize("there", [(), ("test/images/notes.md",)])
def test_a_split_that_is_not_there_is_a_warning(tree, there):
    yaml = "train: ../train/images\nval: ../valid/images\ntest: ../test/images\nnames: [x]\n"
    files = {"data.yaml": yaml, "train/labels/a.txt": YOLO}
    entries, result = tree("train/images/a.jpg", "valid/images/b.jpg", *there, files=files)
    assert entries == ["yolo:F:train", "yolo:F:val"]
    assert [finding.kind for finding in result.findings] == [NO_SPLIT]
    assert "test" in result.findings[0].text


def test_pictures_of_the_training_are_no_split_to_do_without(tree):
    files = {"data.yaml": "train: train\nval: val\nnames: [x]\n", "val/a.txt": YOLO}
    assert tree("val/a.jpg", files=files)[0] == ["yolo:F:train", "yolo:F:val"]
    files["data.yaml"] = "train: train\nval: val\ntest: test\nnames: [x]\n"
    assert tree(files=files)[0] == ["yolo:F:train", "yolo:F:val"]
    assert tree(files={"data.yaml": "train: no\nval: none\nnames: [x]\n"})[0] == ["yolo:F:train", "yolo:F:val"]


@pytest.mark.parametrize(
    ("picture", "xml", "expected"),
    [
        ("a.jpg", "Annotations/a.xml", ["voc:F:all"]),
        ("img/a.jpg", "annots/a.xml", ["voc:F:all"]),
        ("img/a.jpg", "Annotation/a.xml", ["voc:F:all"]),
        ("images/train/a.jpg", "labels/train/a.xml", ["voc:F:all"]),
        ("JPEGImages/train/a.jpg", "Annotations/train/a.xml", ["voc:F:train"]),
        ("train/JPEGImages/a.jpg", "train/Annotations/a.xml", ["voc:F:train"]),
        ("VOCdevkit/VOC2007/JPEGImages/a.jpg", "VOCdevkit/VOC2007/Annotations/a.xml", ["voc:F/VOCdevkit/VOC2007:all"]),
        ("a.jpg", "a.XML", ["voc:F:all"]),
    ],
)
def test_folders_of_voc(tree, picture, xml, expected):
    assert tree(picture, files={xml: XML.format("a.jpg")})[0] == expected


def test_a_folder_of_several_data_sets(tree):
    files = {
        "a/data.yaml": "train: images\nnames: [x]\n",
        "a/labels/1.txt": YOLO,
        "b/1.xml": XML,
        "c/ann/1.xml": XML,
        "d/d.json": coco("4.jpg"),
        "e/5.txt": YOLO,
        ".hidden/6.xml": XML,
    }
    pictures = ("a/images/1.jpg", "b/1.jpg", "c/img/1.jpg", "d/4.jpg", "e/5.jpg", ".hidden/6.jpg")
    entries, result = tree(*pictures, files=files)
    assert entries == ["yolo:F/a:train", "voc:F/b:all", "F/d:F/d/d.json", "voc:F/c:all", "yolo:F/e:all"]
    assert result.sure


def test_a_folder_of_splits_and_another_data_set(tree):
    files = {"train/1.xml": XML, "val/2.xml": XML, "more/data.yaml": "train: images\nnames: [x]\n"}
    entries, _ = tree("train/1.jpg", "val/2.jpg", "more/images/3.jpg", files=files)
    assert entries == ["voc:F:train", "voc:F:val", "yolo:F/more:train"]


def test_links_into_the_tree_are_not_followed(tree, tmp_path):
    for name, target in (("again", tmp_path), ("other", tmp_path / "sub"), ("up", tmp_path.parent)):
        (tmp_path / name).symlink_to(target)
    assert tree("sub/1.jpg", files={"sub/a.json": coco("1.jpg")})[0] == ["F/sub:F/sub/a.json"]


def test_folders_that_may_not_be_read_are_passed_over(tree, tmp_path, monkeypatch):
    files = {"a/a.json": coco("1.jpg"), "locked/data.yaml": "train: images\nnames: [x]\n", "locked/images/2.jpg": ""}
    monkeypatch.setattr("os.access", lambda path, mode: "locked" not in str(path))
    assert tree("a/1.jpg", files=files)[0] == ["F/a:F/a/a.json"]


def test_one_data_set_in_two_formats_is_taken_once(tree, tmp_path):
    files = {"1.xml": XML, "all.json": coco("1.jpg"), "sub/more.json": coco("1.jpg"), "notes.json": "{}"}
    entries, result = tree("1.jpg", files=files)
    assert entries == ["voc:F:all"]
    assert [finding.kind for finding in result.findings] == [PASSED_OVER] * 2
    assert all(finding.text.endswith("it lies in voc:" + str(tmp_path) + ":all") for finding in result.findings)


def test_the_data_set_in_which_a_file_lies_is_named(tree, tmp_path):
    files = {"a/1.xml": XML, "b/2.xml": XML, "b/all.json": coco("2.jpg")}
    entries, result = tree("a/1.jpg", "b/2.jpg", files=files)
    assert entries == ["voc:F/a:all", "voc:F/b:all"]
    (finding,) = result.findings
    assert finding.text.endswith(f"it lies in voc:{tmp_path}/b:all")


def test_a_folder_that_goes_meanwhile_is_passed_over(tmp_path, monkeypatch):
    for name in ("a", "b"):
        (tmp_path / name / "images").mkdir(parents=True)
        (tmp_path / name / "labels").mkdir()
        (tmp_path / name / "classes.txt").write_text("cat\n")
        cv2.imwrite(str(tmp_path / name / "images" / "1.png"), np.zeros((20, 30, 3), np.uint8))
        (tmp_path / name / "labels" / "1.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    assert len(find_data_sets(tmp_path).entries) == 2
    real = layouts.yaml_of

    def gone(folder):
        if folder == tmp_path / "a":
            raise FileNotFoundError(2, "No such file or directory", str(folder))
        return real(folder)

    monkeypatch.setattr(layouts, "yaml_of", gone)
    assert find_data_sets(tmp_path).entries == [f"yolo:{tmp_path}/b:all"]
