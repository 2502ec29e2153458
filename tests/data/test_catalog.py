import pytest

from detector.data import catalog
from detector.data.catalog import DATASETS, Location, load_dataset, split_entry


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
    with pytest.raises(FileNotFoundError, match=r"pictures is expected at .*train2017; .*DATASETS\.ROOT"):
        load_dataset("coco_2017_train", tmp_path)
    (tmp_path / "coco" / "train2017").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"annotation file is expected at .*instances_train2017\.json"):
        load_dataset("coco_2017_train", tmp_path)
    with pytest.raises(FileNotFoundError, match="pictures is expected at nowhere"):
        load_dataset("nowhere:train.json", tmp_path)


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
