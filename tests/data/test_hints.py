"""What a person is told to write instead of an entry that names no data set."""

import json

import pytest

from detector.data.catalog import load_dataset
from detector.data.hints import hint
from detector.errors import UserError

XML = "<annotation><filename>1.jpg</filename></annotation>"
COCO = json.dumps({"images": [{"file_name": "1.jpg"}], "annotations": [{"bbox": [1, 2, 3, 4]}], "categories": []})


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A data set in each format, in the working directory."""
    files = {
        "pets/images/1.jpg": "",
        "pets/annotations/all.json": COCO,
        "robo/train/1.jpg": "",
        "robo/train/_annotations.coco.json": COCO,
        "cells/JPEGImages/1.jpg": "",
        "cells/Annotations/1.xml": XML,
        "cells/ImageSets/Main/train.txt": "1\n",
        "birds/data.yaml": "train: train/images\nval: valid/images\nnames: [x]\n",
        "birds/train/images/1.jpg": "",
        "birds/train/labels/1.txt": "0 .5 .5 .2 .2\n",
        "birds/valid/images/1.jpg": "",
        "bare/1.jpg": "",
        "bare/1.txt": "0 .5 .5 .2 .2\n",
        "export.zip": "",
    }
    for name, content in files.items():
        path = tmp_path / "a" / "b" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    monkeypatch.chdir(tmp_path / "a" / "b")
    return tmp_path / "a" / "b"


PETS = "pets/images:pets/annotations/all.json"
ROBO = "robo/train:robo/train/_annotations.coco.json"


@pytest.mark.parametrize(
    ("entry", "end"),
    [
        ("pets", f"write {PETS}"),
        ("pets/", f"write {PETS}"),
        ("pets/annotations/all.json", f"write {PETS}"),
        ("pets/annotations/all.json:pets/images", f"the folder of the pictures comes first: write {PETS}"),
        (f"coco:{PETS}", f"COCO's format has no prefix: write {PETS}"),
        ("coco:pets", f"write {PETS}"),
        ("COCO:pets", f"write {PETS}"),
        ("voc:pets:train", f"write {PETS}"),
        ("yolo:pets:train", f"write {PETS}"),
        ("robo/train:_annotations.coco.json", f"the file is in the folder of the pictures: write {ROBO}"),
        ("robo/train/_annotations.coco.json", f"write {ROBO}"),
        ("pets/images:pets/annotations/al.json", "is pets/annotations/all.json meant?"),
        ("pest/images:pets/annotations/all.json", "is pets meant?"),
        ("VOC:cells:train", "prefixes are small letters: write voc:cells:train"),
        ("cells:train", "a folder in VOC's layout: write voc:cells:train"),
        ("yolo:cells:train", "a folder in VOC's layout: write voc:cells:train"),
        ("voc:cells", "write voc:cells:SPLIT, with SPLIT one of train, all"),
        ("cells/JPEGImages", "is a part of the data set in cells: write voc:cells:train"),
        ("cells/Annotations", "is a part of the data set in cells: write voc:cells:train"),
        ("voc:cels:train", "is cells meant?"),
        ("birds:valid", "write yolo:birds:val"),
        ("voc:birds:train", "a folder in YOLO's layout: write yolo:birds:train"),
        ("Yolo:birds:train", "write yolo:birds:train"),
        ("birds/train", "is a part of the data set in birds: write yolo:birds:train"),
        ("yolo:birds/train:all", "is a part of the data set in birds: write yolo:birds:train"),
        ("birds/data.yaml", "write yolo:birds/data.yaml:SPLIT, with SPLIT one of train, val, all"),
        ("bare", "bare has neither data.yaml nor classes.txt"),
        ("export.zip", "is an archive: unpack it, and name the folder that comes out"),
        ("quickstart", "is a config, no data set: write --config-file quickstart"),
        ("bccd/fcos_resnet18", "write --config-file bccd/fcos_resnet18"),
        ("quickstart.yaml", "write --config-file quickstart"),
    ],
)
def test_what_to_write_instead(here, entry, end):
    with pytest.raises(UserError) as error:
        load_dataset(entry, here / "nowhere")
    text = str(error.value)
    assert end in text
    assert "\n" not in text
    assert len(text) < 300


def test_what_is_written_there_is_what_the_root_has(here, monkeypatch):
    monkeypatch.chdir("/")
    assert hint("pets", here).endswith("write pets/images:pets/annotations/all.json")


def test_nothing_is_said_of_what_is_not_known(here):
    for entry in ("", "nothing", "a:b", "voc:", "coco:", ":", "::", "x" * 5000, "voc:" + "y" * 300 + ":a", "a\0:b"):
        assert hint(entry, here / "nowhere") == ""


@pytest.mark.parametrize("entry", ["x" * 5000, "a:" * 3000, "voc:" + "y" * 300 + ":train", "a/b" * 300 + ":x.json"])
def test_an_entry_that_no_path_can_be_is_a_persons_mistake(here, entry):
    with pytest.raises(UserError):
        load_dataset(entry, here)


def test_the_errors_of_readers_stay(here):
    with pytest.raises(UserError, match=r"there is no such split; there are train, all$"):
        load_dataset("voc:cells:trian", here)
    with pytest.raises(UserError, match=r"there is no split 'test'; there are train, val, all$"):
        load_dataset("yolo:birds:test", here)


def test_folders_with_colons(tmp_path):
    """The colon that parts the two halves is the one between a folder and a file."""
    home = tmp_path / "my:pets"
    (home / "images").mkdir(parents=True)
    (home / "images" / "1.jpg").touch()
    (home / "all.json").write_text(
        json.dumps(
            {
                "images": [{"id": 1, "file_name": "1.jpg", "height": 9, "width": 9}],
                "annotations": [],
                "categories": [{"id": 1, "name": "x"}],
            }
        )
    )
    source = load_dataset(f"{home}/images:{home}/all.json", "nowhere")
    assert (source.folder, source.index.path) == (home / "images", home / "all.json")
    with pytest.raises(KeyError, match=r"is a folder: write .*my:pets/images:.*my:pets/all\.json$"):
        load_dataset(str(home), "nowhere")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("set.zip", "(set.zip is an archive: unpack it)"),
        ("a.tfrecord", "a.tfrecord looks like TFRecord, which is not read"),
        ("labels.csv", "labels.csv is a table, which is not read: export as COCO"),
    ],
)
def test_a_folder_with_files_that_are_not_read_names_one(tmp_path, name, said):
    (tmp_path / "a.jpg").write_text("")
    (tmp_path / name).write_text("")
    assert said in hint(str(tmp_path), tmp_path)


def test_a_folder_with_another_tool_s_json_names_the_tool(tmp_path):
    (tmp_path / "a.json").write_text('{"shapes": [], "imagePath": "a.jpg"}')
    assert "a.json is passed over: it looks like labelme's own format: export as COCO" in hint(str(tmp_path), tmp_path)
