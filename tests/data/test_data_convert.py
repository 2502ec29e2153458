"""Data sets from each format into each: what a round trip keeps, what it says it loses, and what stops it."""

import json
import os
from dataclasses import replace

import cv2
import numpy as np
import pytest
from helpers.converted import write_dataset
from PIL import Image

from detector.data.catalog import Source, load_dataset
from detector.data.convert import FORMS, write_datasets
from detector.data.images import read_rgb
from detector.data.problems import Problems
from detector.errors import FileAccessError, MissingFileError, UserError

PRECISION = {"coco": 0, "voc": 1e-6, "yolo": 1e-7}
"""Pixels by which an edge may move in a picture of up to 100,000."""


def draw(path, width=80, height=40, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


def coco(folder, names, annotations, classes=((3, "cat"), (7, "dog & <co>")), width=80):
    """A source of pictures 40 high; annotations: (picture, category, box, more)."""
    for i, name in enumerate(names):
        draw(folder / "pictures" / name, width, seed=i)
    content = {
        "images": [{"id": 10 + i, "file_name": name, "height": 40, "width": width} for i, name in enumerate(names)],
        "annotations": [
            {"id": 100 + i, "image_id": 10 + picture, "category_id": category, "bbox": box, **more}
            for i, (picture, category, box, more) in enumerate(annotations)
        ],
        "categories": [{"id": id_, "name": name} for id_, name in classes],
    }
    path = folder / "a.json"
    path.write_text(json.dumps(content))
    return load_dataset(f"{folder / 'pictures'}:{path}", "")


@pytest.fixture
def source(tmp_path):
    """Three pictures, one without boxes; a crowd, areas of masks, boxes between pixels."""
    return coco(
        tmp_path / "source",
        ["b.png", "a.png", "empty.jpg"],
        [
            (0, 7, [1.25, 2.1, 30.123456789, 17.3], {"area": 300.5}),
            (1, 3, [0, 0, 80, 40], {}),
            (0, 3, [10, 10, 5, 5], {"iscrowd": 1}),
        ],
    )


def by_name(index):
    """Name of a picture without suffix -> its boxes [M, 4] and labels, in the order of the file."""
    stems = [os.path.splitext(name)[0] for name in index.file_names.tolist()]
    rows = [index.rows(i) for i in range(len(index))]
    return {stem: (index.boxes_xywh[some], index.labels[some].tolist()) for stem, some in zip(stems, rows, strict=True)}


def assert_same(found, wanted, apart):
    found, wanted = by_name(found), by_name(wanted)
    assert found.keys() == wanted.keys()
    for name, (boxes, labels) in wanted.items():
        assert found[name][1] == labels
        np.testing.assert_allclose(found[name][0], boxes, rtol=0, atol=apart)


def without_crowds(source):
    """The source with crowds as objects, which every format holds."""
    return replace(source, index=replace(source.index, crowd=np.zeros_like(source.index.crowd)))


@pytest.mark.parametrize("second", FORMS)
@pytest.mark.parametrize("first", FORMS)
def test_boxes_labels_and_empty_pictures_go_everywhere_and_back(source, tmp_path, first, second):
    source = without_crowds(source)
    one = write_dataset(source, first, tmp_path / "1")
    two = write_dataset(load_dataset(one.entry, ""), second, tmp_path / "2")
    back = write_dataset(load_dataset(two.entry, ""), "coco", tmp_path / "3")
    apart = 2 * max(PRECISION[first], PRECISION[second])
    for written in (one, two, back):
        problems = Problems(everything=True)
        index = load_dataset(written.entry, "", problems).index
        assert problems.findings == []
        assert index.classes == ["cat", "dog & <co>"]
        assert_same(index, source.index, apart)
        assert (written.pictures, written.boxes) == (3, 3)
    for name in source.index.file_names.tolist():
        data = (load_dataset(back.entry, "").folder / name).read_bytes()
        assert data == (source.folder / name).read_bytes()


def test_coco_keeps_everything(source, tmp_path):
    written = write_dataset(source, "coco", tmp_path / "out", "val")
    assert written.losses == []
    assert written.entry == f"{tmp_path / 'out'}/images/val:{tmp_path / 'out'}/annotations/val.json"
    index = load_dataset(written.entry, "").index
    for name in (
        *("image_ids", "file_names", "heights", "widths", "offsets", "annotation_ids", "labels", "boxes_xywh"),
        *("areas", "crowd", "difficult", "boxes", "usable"),
    ):
        np.testing.assert_array_equal(getattr(index, name), getattr(source.index, name), name)
    assert (index.classes, index.category_ids) == (source.index.classes, [3, 7])


def test_what_voc_cannot_hold(source, tmp_path):
    written = write_dataset(source, "voc", tmp_path / "out")
    assert [text.split(" ")[0] for text in written.losses] == ["3", "2", "1", "1"]
    ids, classes, areas, crowds = written.losses
    assert "pictures and 3 boxes lose their ids" in ids
    assert classes == "2 classes lose their ids: names stand for them"
    assert areas == "1 area that is not the box's, such as that of masks, is not kept"
    assert crowds == "1 crowd region is marked as difficult: the format has no crowds"
    index = load_dataset(written.entry, "").index
    assert index.difficult.tolist() == [False, True, False]
    assert index.image_ids.tolist() == ["b", "a", "empty"]


def test_what_yolo_cannot_hold(source, tmp_path):
    written = write_dataset(source, "yolo", tmp_path / "out")
    assert written.losses[1] == "2 classes lose their ids: names and order stand for them"
    assert "1 crowd region is left out" in written.losses[-1]
    assert written.boxes == 2
    index = load_dataset(written.entry, "").index
    assert (index.image_ids.tolist(), index.labels.tolist()) == (["a", "b", "empty"], [0, 1])
    assert (tmp_path / "out" / "labels" / "train" / "empty.txt").read_bytes() == b""


def test_difficult_objects(source, tmp_path):
    hard = replace(source, index=replace(source.index, difficult=np.array([True, False, False]), kind="voc"))
    voc = write_dataset(hard, "voc", tmp_path / "voc")
    assert load_dataset(voc.entry, "").index.difficult.tolist() == [True, True, False]  # the second is the crowd
    yolo = write_dataset(hard, "yolo", tmp_path / "yolo")
    assert "1 difficult object is written like any other" in " ".join(yolo.losses)
    assert len(load_dataset(yolo.entry, "").index.labels) == 2
    coco_ = write_dataset(hard, "coco", tmp_path / "coco")
    assert '1 difficult object is written with "ignore": 1' in coco_.losses[-1]
    rows = json.loads((tmp_path / "coco" / "annotations" / "train.json").read_text())["annotations"]
    assert [row.get("ignore") for row in rows] == [1, None, None]
    assert [row["id"] for row in rows] == [1, 2, 3]


@pytest.mark.parametrize("form", FORMS)
def test_boxes_that_reach_out_are_flat_or_narrow(tmp_path, form):
    boxes = [[-3, 5, 10, 10], [5, 5, 0, 10], [90, 5, 10, 10], [7.5, 5, 0.25, 10], [70, 30, 10.0000001, 10]]
    source = coco(tmp_path / "source", ["a.png"], [(0, 3, box, {}) for box in boxes])
    written = write_dataset(source, form, tmp_path / "out")
    index = load_dataset(written.entry, "", Problems(everything=True)).index
    if form == "coco":
        assert index.boxes_xywh.tolist() == boxes
        assert written.losses == []
        return
    said = " ".join(written.losses)
    assert "2 boxes have no area inside their picture and are left out" in said
    assert written.boxes == 3
    if form == "yolo":
        assert "1 box reaches out of its picture and is clipped to it" in said
        np.testing.assert_allclose(index.boxes_xywh, [[0, 5, 7, 10], boxes[3], [70, 30, 10, 10]], atol=1e-9)
    else:
        assert "1 box is narrower than a pixel and is written one pixel wide" in said
        text = (tmp_path / "out" / "Annotations" / "a.xml").read_text()
        assert "<xmin>8.5</xmin><ymin>6</ymin><xmax>8.5</xmax><ymax>15</ymax>" in text
        assert "<xmin>-2</xmin>" in text  # what reaches out stays


def test_whole_edges_are_whole_numbers_also_after_fractions(tmp_path):
    boxes = [(0, 3, [x, 1, 7, 11], {}) for x in range(0, 9000, 150)]
    source = coco(tmp_path / "source", ["a.png"], boxes, width=9001)
    yolo = write_dataset(source, "yolo", tmp_path / "yolo")
    read = load_dataset(yolo.entry, "")
    assert (read.index.boxes_xywh != source.index.boxes_xywh).any()
    np.testing.assert_allclose(read.index.boxes_xywh, source.index.boxes_xywh, rtol=0, atol=1e-8)
    write_dataset(read, "voc", tmp_path / "voc")
    text = (tmp_path / "voc" / "Annotations" / "a.xml").read_text()
    assert "." not in text.replace("a.png", "")
    assert "<xmin>8851</xmin><ymin>2</ymin><xmax>8857</xmax><ymax>12</ymax>" in text


def test_a_yaml_file_has_what_ultralytics_wants(source, tmp_path):
    write_dataset(source, "yolo", tmp_path / "out", "test")
    lines = (tmp_path / "out" / "data.yaml").read_text().splitlines()
    assert lines[:4] == ["train: null", "val: null", "test: images/test", "nc: 2"]
    assert not any(line.startswith("path") for line in lines)  # it would be looked for among all its data sets


# ---------------------------------------------------------------------------- names


ODD = ["cam1/shot 1.png", "cam2/shot 1.png", "Ünïcode 猫.JPG", "a.b.c.png", "images/x.png", "left/images/y.png"]


def test_names_of_pictures_survive_in_yolo(tmp_path):
    source = coco(tmp_path / "source", ODD, [(i, 3, [i, 1, 5, 5], {}) for i in range(len(ODD))])
    written = write_dataset(source, "yolo", tmp_path / "out")
    index = load_dataset(written.entry, "").index
    assert sorted(index.file_names.tolist()) == sorted([*ODD[:4], "x.png", "left/y.png"])
    assert "2 pictures have another name here, for instance 'x.png', which was 'images/x.png'" in written.losses[0]
    back = load_dataset(write_dataset(load_dataset(written.entry, ""), "coco", tmp_path / "back").entry, "").index
    assert {name: boxes[0, 0] for name, (boxes, _) in by_name(back).items()} == pytest.approx(
        {"cam1/shot 1": 0, "cam2/shot 1": 1, "Ünïcode 猫": 2, "a.b.c": 3, "x": 4, "left/y": 5}
    )


def test_names_of_pictures_survive_in_voc(tmp_path):
    source = coco(tmp_path / "source", ODD, [(i, 3, [i, 1, 5, 5], {}) for i in range(len(ODD))])
    write_dataset(source, "voc", tmp_path / "out")
    lines = (tmp_path / "out" / "ImageSets" / "Main" / "train.txt").read_text().splitlines()
    assert lines == [os.path.splitext(name)[0] for name in ODD]
    for name, line in zip(ODD, lines, strict=True):
        assert (tmp_path / "out" / "JPEGImages" / name).is_file()
        assert (tmp_path / "out" / "Annotations" / f"{line}.xml").is_file()


@pytest.mark.parametrize("form", ["voc", "yolo"])
def test_one_stem_one_picture(tmp_path, form):
    names = ["a.png", "a.jpg", "A.png", "a_2.png", " b.png", ".c.png", "d", "d.jfif"]
    for i, name in enumerate(names):
        draw(tmp_path / "source" / "pictures" / "x.png", seed=i)
        data = (tmp_path / "source" / "pictures" / "x.png").read_bytes()
        (tmp_path / "source" / "pictures" / name).write_bytes(data)
    (tmp_path / "source" / "pictures" / "x.png").unlink()
    images = [{"id": i, "file_name": name, "height": 40, "width": 80} for i, name in enumerate(names)]
    rows = [{"id": i, "image_id": i, "category_id": 1, "bbox": [i, 1, 5, 5]} for i in range(len(names))]
    content = {"images": images, "annotations": rows, "categories": [{"id": 1, "name": "x"}]}
    (tmp_path / "a.json").write_text(json.dumps(content))
    source = load_dataset(f"{tmp_path / 'source' / 'pictures'}:{tmp_path / 'a.json'}", "")
    written = write_dataset(source, form, tmp_path / "out")
    index = load_dataset(written.entry, "").index
    place = {int(index.boxes_xywh[index.rows(i)][0, 0].round()): index.file_names[i] for i in range(len(index))}
    assert [place[i] for i in range(len(names))] == [
        *("a.png", "a_2.jpg", "A_3.png", "a_2_2.png", "b.png", "_c.png", "d.png", "d_2.png")
    ]
    for i, name in enumerate(names):
        old, new = source.folder / name, load_dataset(written.entry, "").folder / place[i]
        assert old.read_bytes() == new.read_bytes()
    assert "7 pictures have another name here" in " ".join(written.losses)


@pytest.mark.parametrize("form", FORMS)
def test_names_that_no_text_can_hold(tmp_path, form):
    """A Latin-1 name of an old archive, and one with a line break."""
    folder = tmp_path / "yolo"
    draw(folder / "x.png")
    for name in (b"caf\xe9.png", b"a\nb.png"):
        with open(os.fsencode(folder) + b"/" + name, "wb") as file:
            file.write((folder / "x.png").read_bytes())
        with open(os.fsencode(folder) + b"/" + name.replace(b"png", b"txt"), "w") as file:
            file.write("0 0.5 0.5 0.5 0.5")
    (folder / "data.yaml").write_text("names: [x]\ntrain: .\n")
    written = write_dataset(load_dataset(f"yolo:{folder}:train", ""), form, tmp_path / "out")
    index = load_dataset(written.entry, "").index
    assert sorted(index.file_names.tolist()) == ["a_b.png", "caf_.png", "x.png"]
    assert len(index.labels) == 2
    assert "2 pictures have another name here" in " ".join(written.losses)


@pytest.mark.parametrize("form", FORMS)
def test_two_records_of_one_picture(tmp_path, form):
    source = coco(tmp_path / "source", ["a.png", "b.png"], [(0, 3, [1, 1, 5, 5], {}), (1, 7, [9, 9, 9, 9], {})])
    names = source.index.file_names.copy()
    names[1] = "a.png"
    written = write_dataset(replace(source, index=replace(source.index, file_names=names)), form, tmp_path / "out")
    index = load_dataset(written.entry, "").index
    assert (len(index), index.labels.tolist()) == (2, [0, 1])
    assert "1 record names a picture that another one names" in " ".join(written.losses)
    assert len(set(index.file_names.tolist())) == (1 if form == "coco" else 2)


CLASSES = [
    "no",
    "1",
    "null",
    "two words",
    "a: b",
    "<b>&amp;",
    "# c",
    "é猫",
    "'q'",
    '"',
    "-",
    "{x}",
    "a\tb",
    "0x1f",
    "~",
    "a\xa0  b",
]


@pytest.mark.parametrize("form", FORMS)
def test_names_of_classes_survive(tmp_path, form):
    classes = list(enumerate(CLASSES, 1))
    source = coco(tmp_path / "source", ["a.png"], [(0, i, [i, 1, 5, 5], {}) for i, _ in classes], classes)
    written = write_dataset(source, form, tmp_path / "out")
    index = load_dataset(written.entry, "").index
    assert index.labels.tolist() == list(range(len(CLASSES)))
    assert index.classes == [name.replace("\t", " ") if form == "voc" else name for name in CLASSES]
    assert ("1 class has another name here: 'a\\tb' is 'a b'" in written.losses) == (form == "voc")


def test_classes_of_one_name_are_told_apart_in_voc(tmp_path):
    classes = [(1, "x"), (2, "x"), (3, "x_2"), (4, " "), (5, "x")]
    source = coco(tmp_path / "source", ["a.png"], [(0, i, [i, 1, 5, 5], {}) for i in range(1, 6)], classes)
    index = load_dataset(write_dataset(source, "voc", tmp_path / "out").entry, "").index
    assert index.classes == ["x", "x_3", "x_2", "unnamed", "x_4"]
    assert index.labels.tolist() == [0, 1, 2, 3, 4]


# ---------------------------------------------------------------------------- pictures that a tag turns


@pytest.mark.parametrize("tag", range(1, 9))
@pytest.mark.parametrize("width", [30, 20])
def test_boxes_stay_on_what_they_mark_in_turned_pictures(tmp_path, tag, width):
    """A white block in a dark picture, boxed as stored: in YOLO's layout the box is where a viewer shows it."""
    height = 20
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[3:8, 11:18] = 255
    exif = Image.Exif()
    exif[0x0112] = tag
    (tmp_path / "p").mkdir()
    Image.fromarray(pixels).save(tmp_path / "p" / "a.png", exif=exif)
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": height, "width": width}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [11, 3, 7, 5]}],
        "categories": [{"id": 1, "name": "x"}],
    }
    (tmp_path / "a.json").write_text(json.dumps(content))
    source = load_dataset(f"{tmp_path / 'p'}:{tmp_path / 'a.json'}", "")
    written = write_dataset(source, "yolo", tmp_path / "yolo")
    yolo = load_dataset(written.entry, "")
    shown = cv2.imread(str(yolo.folder / "a.png"))  # as Ultralytics reads it
    assert shown.shape[:2] == yolo.index.size(0)
    x, y, w, h = yolo.index.boxes_xywh[0].round().astype(int)
    assert shown[y : y + h, x : x + w].min() == 255
    assert shown.sum() == shown[y : y + h, x : x + w].sum()
    assert ("1 picture is turned by its EXIF tag" in " ".join(written.losses)) == (tag > 1)
    ours = read_rgb(yolo.folder / "a.png", yolo.index.size(0), upright=True)
    assert (ours[..., ::-1] == shown).all()
    back = load_dataset(write_dataset(yolo, "coco", tmp_path / "back").entry, "")
    stored = read_rgb(back.folder / "a.png", back.index.size(0))
    x, y, w, h = back.index.boxes_xywh[0].round().astype(int)
    assert stored[y : y + h, x : x + w].min() == 255


# ---------------------------------------------------------------------------- folders


@pytest.mark.parametrize("form", FORMS)
def test_several_splits_in_one_folder(source, tmp_path, form):
    other = coco(tmp_path / "other", ["a.png", "z.png"], [(0, 3, [4, 4, 4, 4], {})])
    written = write_datasets({"train": source, "val": other}, form, tmp_path / "out")
    train, val = (load_dataset(entry, "") for entry in written.entries)
    assert (len(train.index), len(val.index)) == (3, 2)
    assert val.index.boxes_xywh.tolist() == [pytest.approx([4, 4, 4, 4])]
    for one, old in ((train, source), (val, other)):
        first = {(old.folder / name).read_bytes() for name in old.index.file_names.tolist()}
        assert first == {(one.folder / name).read_bytes() for name in one.index.file_names.tolist()}
    if form != "coco":
        assert all(text.startswith(("train: ", "val: ")) for text in written.losses)
    if form == "voc":  # one folder of pictures
        assert sorted(val.index.file_names.tolist()) == ["a_2.png", "z.png"]
    stranger = coco(tmp_path / "stranger", ["a.png"], [], [(1, "bird")])
    with pytest.raises(UserError, match="list different categories"):
        write_datasets({"train": source, "val": stranger}, form, tmp_path / "out2")
    assert not (tmp_path / "out2").exists()


def test_links_are_the_same_files(source, tmp_path):
    written = write_dataset(source, "yolo", tmp_path / "out", link=True)
    assert os.path.samefile(load_dataset(written.entry, "").folder / "a.png", source.folder / "a.png")
    assert not os.path.samefile(
        load_dataset(write_dataset(source, "yolo", tmp_path / "copy").entry, "").folder / "a.png",
        source.folder / "a.png",
    )


def test_a_link_of_a_picture_is_linked_to_what_it_names(source, tmp_path):
    (source.folder / "a.png").rename(tmp_path / "far.png")
    (source.folder / "a.png").symlink_to(tmp_path / "far.png")
    written = write_dataset(source, "coco", tmp_path / "out", link=True)
    there = load_dataset(written.entry, "").folder / "a.png"
    assert not there.is_symlink()
    assert os.path.samefile(there, tmp_path / "far.png")


def test_links_that_cannot_be_made_name_the_remedy_and_leave_nothing(source, tmp_path, monkeypatch):
    def link(*_):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", link)
    with pytest.raises(FileAccessError, match=r"b\.png cannot be linked to in .*leave out --link"):
        write_dataset(source, "yolo", tmp_path / "out", link=True)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("new", [True, False])
def test_what_is_interrupted_leaves_the_folder_as_it_was(source, tmp_path, monkeypatch, form, new):
    out = tmp_path / "out"
    if not new:
        out.mkdir()
    real, seen = os.rename, []

    def rename(old, to):
        seen.append(os.path.basename(to))
        assert not os.path.exists(out / "data.yaml")
        assert not os.path.exists(out / "annotations")
        assert not os.path.exists(out / "Annotations")
        if len(seen) == (3 if form != "coco" else 2):
            raise KeyboardInterrupt
        real(old, to)

    monkeypatch.setattr("detector.data.convert.os.rename", rename)
    with pytest.raises(KeyboardInterrupt):
        write_dataset(source, form, out)
    assert len(seen) > 1
    assert out.exists() is not new
    assert new or list(out.iterdir()) == []


def test_folders_that_are_refused(source, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    with pytest.raises(UserError, match=r"full is not empty \(it holds x\); name a new folder"):
        write_dataset(source, "coco", tmp_path / "full")
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["x"]
    (tmp_path / "killed" / ".unfinished.0a1b2c3d").mkdir(parents=True)
    with pytest.raises(
        UserError, match=r"killed/\.unfinished\.0a1b2c3d is what an interrupted conversion left; delete"
    ):
        write_dataset(source, "coco", tmp_path / "killed")
    with pytest.raises(UserError, match="is a file"):
        write_dataset(source, "coco", tmp_path / "full" / "x")
    for split in ("", "a b", "../x", "names", ".x"):
        with pytest.raises(UserError, match="cannot be the name of a split"):
            write_dataset(source, "yolo", tmp_path / "out", split)
    assert not (tmp_path / "out").exists()


def test_missing_and_outside_pictures_are_said_before_anything_is_written(source, tmp_path):
    (source.folder / "a.png").unlink()
    with pytest.raises(MissingFileError, match=r"a\.png: there is no such picture \(images\[1\], .*; 1 of 3 are miss"):
        write_dataset(source, "voc", tmp_path / "out")
    names = source.index.file_names.astype("U20")
    names[0] = "../a.json"
    outside = Source("x", source.folder, replace(source.index, file_names=names))
    with pytest.raises(UserError, match="lies outside the folder of pictures"):
        write_dataset(outside, "voc", tmp_path / "out")
    assert not (tmp_path / "out").exists()


# ---------------------------------------------------------------------------- real data


def coco_tiny_val(coco_tiny):
    source = load_dataset(f"{coco_tiny / 'val2017'}:{coco_tiny / 'annotations' / 'instances_val2017.json'}", "")
    return without_crowds(source)


@pytest.mark.parametrize("second", FORMS)
@pytest.mark.parametrize("first", FORMS)
@pytest.mark.parametrize("data", ["coco_tiny", "bccd"])
def test_real_data_go_everywhere_and_back(coco_tiny, bccd, tmp_path, data, first, second):
    source = coco_tiny_val(coco_tiny) if data == "coco_tiny" else load_dataset(f"voc:{bccd}:test", "")
    one = write_dataset(source, first, tmp_path / "1")
    two = write_dataset(load_dataset(one.entry, ""), second, tmp_path / "2", link=True)
    for written in (one, two):
        problems = Problems(everything=True)
        index = load_dataset(written.entry, "", problems).index
        assert problems.findings == []
        assert (written.pictures, written.boxes) == (len(source.index), int(source.index.usable.sum()))
        assert index.classes == source.index.classes
        assert_same(index, source.index, 1e-6)
    stems = {os.path.splitext(name)[0] for name in source.index.file_names.tolist()}
    if second != "coco":
        assert set(index.image_ids.tolist()) == stems  # which are the ids in VOC's layout


@pytest.mark.parametrize("box", [[10, 10, 1, 1], [20, 20, 0.4, 0.6], [79, 39, 1, 1], [0, 0, 1, 5]])
def test_boxes_of_a_pixel_stay_boxes_in_voc(tmp_path, box):
    source = coco(tmp_path / "source", ["a.png"], [(0, 3, box, {})])
    written = write_dataset(source, "voc", tmp_path / "voc")
    ((x, y, width, height),) = load_dataset(written.entry, "").index.boxes_xywh.tolist()
    assert (x, y, width, height) == pytest.approx((*box[:2], max(1, box[2]), max(1, box[3])), abs=2e-6)
    assert written.boxes == 1


@pytest.mark.parametrize("form", ["voc", "yolo"])
def test_names_with_blanks_before_the_suffix_are_read_back(tmp_path, form):
    names = [
        "a .jpg",
        "photo (1) .jpg",
        "b\u00a0.png",
        "\ufeffc.png",
        "d /e\u3000.png",
        "__MACOSX/f.png",
        "a.jpg",
        "g..png",
    ]
    source = coco(tmp_path / "source", names, [(i, 3, [i, 1, 5, 5], {}) for i in range(len(names))])
    written = write_dataset(source, form, tmp_path / "out")
    problems = Problems(everything=True)
    index = load_dataset(written.entry, "", problems).index
    found = {name: boxes[0, 0].round(5) for name, (boxes, _) in by_name(index).items()}
    wanted = ["a", "photo (1)", "b", "c", "d/e", "_MACOSX/f", "a_2", "g."]
    assert found == {name: i for i, name in enumerate(wanted)}
    assert problems.findings == []


def test_a_split_in_yolo_has_no_name_that_labels_are_found_by(source, tmp_path):
    for split in ("images", "JPEGImages"):
        with pytest.raises(UserError, match="cannot be the name of a split"):
            write_dataset(source, "yolo", tmp_path / "out", split)
        for form in ("coco", "voc"):
            index = load_dataset(write_dataset(source, form, tmp_path / form / split, split).entry, "").index
            assert len(index.labels) == 3
