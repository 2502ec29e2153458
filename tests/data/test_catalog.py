import re

import pytest
from helpers import ROOT

from detector.data import catalog
from detector.data.catalog import DATASETS, Location, distinct, load_dataset, name_of, split_entry
from detector.data.loader import build_test_datasets
from detector.data.origins import CATALOG, FOLDERS
from detector.errors import UserError


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("coco_2017_val", None),
        ("images:train.json", ("images", "train.json")),
        ("/a/images:/a/train.json", ("/a/images", "/a/train.json")),
        (r"C:\images:D:\train.json", (r"C:\images", r"D:\train.json")),
        ("C:/images:train.json", ("C:/images", "train.json")),
        (r"images:C:\train.json", ("images", r"C:\train.json")),
        ("/odd:name/images:train.json", ("/odd:name/images", "train.json")),
        ("x:/a/train.json", ("x", "/a/train.json")),
    ],
)
def test_entries_are_split_at_the_colon_that_separates(entry, expected):
    assert split_entry(entry) == expected


def test_names_and_their_places(tmp_path):
    assert {f"coco_2014_{part}" for part in ("train", "val", "minival", "valminusminival")} <= set(DATASETS)
    assert DATASETS["coco_2017_val"](tmp_path) == Location(
        tmp_path / "coco" / "val2017", tmp_path / "coco" / "annotations" / "instances_val2017.json"
    )
    assert DATASETS["coco_2014_minival"](tmp_path) == Location(
        tmp_path / "coco" / "val2014", tmp_path / "coco" / "annotations" / "instances_minival2014.json"
    )


def test_unknown_names_are_answered_with_near_ones(tmp_path):
    with pytest.raises(KeyError, match=r"coco_2017_vall.*close: coco_2017_val.*IMAGE_FOLDER:ANNOTATIONS\.json"):
        load_dataset("coco_2017_vall", tmp_path)


def test_missing_folder_and_file_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"pictures is expected at .*train2017; .*DATASETS\.ROOT") as error:
        load_dataset("coco_2017_train", tmp_path)
    assert "instances_train2017.json" in str(error.value)  # the layout, not a file that only a clone has
    assert "README" not in str(error.value)
    (tmp_path / "coco" / "train2017").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"annotation file is expected at .*instances_train2017\.json"):
        load_dataset("coco_2017_train", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"pictures is expected at .*/nowhere or at .*/nowhere; write IMAGE"):
        load_dataset("nowhere:train.json", tmp_path)


def test_what_is_missing_is_named_in_full_with_where_public_data_are_to_be_had(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for entry, said in (
        (
            "voc:bccd:test",
            f"its folder is expected at {tmp_path}/data/bccd or at {tmp_path}/bccd; it is the folder BCCD of",
        ),
        ("yolo:pets:all", f"nothing is at {tmp_path}/data/pets or at {tmp_path}/pets; write IMAGE_FOLDER"),
        ("coco_2017_val", f"its folder of pictures is expected at {tmp_path}/data/coco/val2017; put it there"),
        ("voc_2007_test", f"its folder is expected at {tmp_path}/data/VOCdevkit/VOC2007; put it there"),
    ):
        with pytest.raises(FileNotFoundError) as error:
            load_dataset(entry, "data")
        assert str(error.value).startswith(f"dataset {entry!r}: {said}")
        assert ("https://" in str(error.value)) == (entry in ("voc:bccd:test", "coco_2017_val"))
    with pytest.raises(KeyError, match=f"there is no folder pets here or in {tmp_path}/data; own data"):
        load_dataset("pets", "data")


def test_where_data_are_to_be_had_is_what_the_page_says():
    page = (ROOT / "datasets/README.md").read_text()
    for clause in (*FOLDERS.values(), *CATALOG.values()):
        assert re.search(r"https?://[\w./#]+", clause)[0].removesuffix("#download") in page


def test_a_bare_folder_is_answered_with_what_to_write(tmp_path):
    voc, coco, other = (tmp_path / name for name in ("voc", "coco", "other"))
    (voc / "JPEGImages").mkdir(parents=True)
    with pytest.raises(KeyError, match=r"write voc:.*/voc:SPLIT, with SPLIT one of train, val, trainval, test, all$"):
        load_dataset(str(voc), tmp_path)
    (voc / "ImageSets" / "Main").mkdir(parents=True)
    (voc / "ImageSets" / "Main" / "mine.txt").touch()
    with pytest.raises(KeyError, match=r"write voc:voc:SPLIT, with SPLIT one of mine, all$"):
        load_dataset("voc", tmp_path)  # under the root
    (coco / "annotations").mkdir(parents=True)
    (coco / "images").mkdir()
    (coco / "images" / "1.jpg").touch()
    (coco / "annotations" / "a.json").write_text('{"images": [{"file_name": "1.jpg"}], "annotations": []}')
    with pytest.raises(KeyError, match=r"is a folder: write .*coco/images:.*coco/annotations/a\.json$"):
        load_dataset(str(coco), tmp_path)
    other.mkdir()
    with pytest.raises(KeyError, match=r"a folder without annotations: expected is IMAGE_FOLDER:.*JPEGImages/"):
        load_dataset(str(other), tmp_path)


@pytest.mark.parametrize(
    "entry", ["coco_2017_val", "cocoo", "nowhere:a.json", "voc:nowhere:train", "voc:.", "voc:{}:train"]
)
def test_a_set_that_is_not_there_names_its_key(cfg, entry, tmp_path):
    (tmp_path / "a.jpg").touch()
    (tmp_path / "a.txt").write_text("0 .5 .5 .1 .1")
    (tmp_path / "classes.txt").write_text("x")
    cfg.DATASETS.TEST = (entry.format(tmp_path),)
    with pytest.raises((KeyError, FileNotFoundError), match=r"^DATASETS\.TEST: "):
        build_test_datasets(cfg)


OUTSIDE = ["/etc/hosts", "../b.png", "a/../../b.png", ".."]
INSIDE = ["b.png", "a/../b.png", "a/b..png", "..b.png", "a:b.png", "~/b.png"]


@pytest.mark.parametrize("name", OUTSIDE + INSIDE)
def test_pictures_outside_their_folder_are_refused(coco, cfg, name):
    path = coco.annotate([{"bbox": [1, 2, 3, 4]}], [{"id": 1, "file_name": name, "height": 60, "width": 80}])
    cfg.DATASETS.TEST = (f"{coco.images}:{path}",)
    if name in INSIDE:
        assert build_test_datasets(cfg)
        return
    with pytest.raises(UserError) as error:
        build_test_datasets(cfg)
    assert f"{name!r} (images[0], id 1 of {path}) lies outside the folder of pictures {coco.images}" in str(error.value)
    assert "DATASETS.ALLOW_OUTSIDE True" in str(error.value)
    cfg.DATASETS.ALLOW_OUTSIDE = True
    assert build_test_datasets(cfg)


def test_pairs_are_relative_to_the_working_directory_then_to_root(coco, tmp_path, monkeypatch):
    coco.annotate([{"bbox": [1, 2, 3, 4]}])
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    source = load_dataset("images:train.json", tmp_path)
    assert (source.name, source.folder) == ("train", tmp_path / "images")
    assert source.index.path == tmp_path / "train.json"
    monkeypatch.chdir(tmp_path)
    assert str(load_dataset("images:train.json", elsewhere).folder) == "images"


def test_shapes_are_generated_under_the_root(tmp_path, monkeypatch):
    generate = catalog.ensure_shapes.__globals__["generate_shapes"]
    monkeypatch.setitem(
        catalog.ensure_shapes.__globals__, "generate_shapes", lambda folder: generate(folder, num_train=3, num_val=2)
    )
    root = tmp_path / "new" / "root"
    train, val = load_dataset("shapes_train", root), load_dataset("shapes_val", root)
    assert (len(train.index), len(val.index)) == (3, 2)
    assert train.folder == root / "shapes" / "train"
    assert train.name == "shapes_train"
    assert [path.name for path in root.iterdir()] == ["shapes"]


def test_names_of_data_that_are_used_together():
    assert distinct(["a", "b", "a", "a_2", "a"]) == ["a", "b", "a_2", "a_2_2", "a_3"]
    entries = ["here/pictures:gone/val.json", "voc:gone/birds:test", "yolo:gone/birds.yaml:val", "voc_2007_test"]
    assert [name_of(entry, "") for entry in entries] == ["val", "birds_test", "gone_val", "voc_2007_test"]
