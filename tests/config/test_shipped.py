"""Config files by name, from any folder."""

import shutil
from pathlib import Path

import pytest

from detector.config import (
    find_config,
    load_config,
    load_config_with_origins,
    origins_text,
    shipped,
    shipped_configs,
)


def test_names_are_those_of_the_files():
    names = shipped_configs()
    assert names == sorted(names)
    assert {"quickstart", "fcos/sreresnet50_1080", "base/fcos", "own/fcos_resnet50"} <= set(names)
    assert all(find_config(name).is_file() and not name.endswith(".yaml") for name in names)


def test_a_name_is_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_config("fcos/resnet50_1x") == find_config("fcos/resnet50_1x.yaml")
    assert load_config("fcos/resnet50_1x").OUTPUT_DIR == "output/fcos_resnet50_1x"


def test_an_existing_file_wins(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quickstart.yaml").write_text("SEED: 7\n")
    assert load_config("quickstart.yaml").SEED == 7
    assert load_config("quickstart").SEED == 0
    (tmp_path / "quickstart").write_text("SEED: 8\n")
    assert load_config("quickstart").SEED == 8


@pytest.mark.parametrize(
    ("name", "near"), [("configs/fcos/resnet50_1x.yaml", "fcos/resnet50_1x"), ("quikstart", "quickstart")]
)
def test_a_missing_file_names_the_nearest(tmp_path, monkeypatch, name, near):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=rf"^{name}: no such config file; shipped ones like it: .*{near}"):
        find_config(name)
    with pytest.raises(FileNotFoundError, match=r"no such config file$"):
        find_config("/nowhere/at/all")


@pytest.mark.parametrize("name", ["photos.yml", "photos", "potos.yaml", "inner/photos.yml"])
def test_a_missing_file_names_its_like_beside_it(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    path = Path(name).with_name("photos.yaml")
    path.parent.mkdir(exist_ok=True)
    for file in (path, path.with_name("another.yaml"), path.with_name("photos.txt")):
        file.write_text("SEED: 3\n")
    with pytest.raises(FileNotFoundError, match=rf"^{name}: no such config file; there is {path}$"):
        find_config(name)
    Path("mine.yaml").write_text(f"_BASE_: {Path(name).with_suffix('.yml')}\n")
    with pytest.raises(FileNotFoundError, match=rf"_BASE_ of mine\.yaml; there is {path}$"):
        load_config("mine.yaml")


def test_a_config_of_python_is_said_to_be_one(tmp_path):
    path = tmp_path / "faster-rcnn_r50_fpn_1x_coco.py"
    path.write_text("_base_ = ['../_base_/models/faster-rcnn_r50_fpn.py']\n")
    with pytest.raises(ValueError, match=r"1x_coco\.py is Python, and a config is YAML: .* mmdetection"):
        load_config(path)


def test_a_folder_in_place_of_a_file_names_the_file_beside_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    Path("photos.yaml").write_text("")
    with pytest.raises(FileNotFoundError, match=r"^photos is a folder .*; there is photos\.yaml$"):
        find_config("photos")


def test_an_installed_package_has_them_inside(tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "PACKAGE", tmp_path / "detector")
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "a.yaml").write_text("")
    assert shipped_configs() == ["a"]
    (tmp_path / "detector" / "configs" / "base").mkdir(parents=True)
    (tmp_path / "detector" / "configs" / "base" / "b.yaml").write_text("")
    assert shipped_configs() == ["base/b"]
    assert find_config("base/b") == tmp_path / "detector/configs/base/b.yaml"


@pytest.mark.parametrize("installed", [False, True])
def test_messages_call_shipped_files_by_their_names(tmp_path, monkeypatch, installed):
    if installed:  # below the current folder, as in a virtual environment there
        package = tmp_path / ".venv" / "site-packages" / "detector"
        shutil.copytree(shipped.shipped_folder(), package / "configs")
        monkeypatch.setattr(shipped, "PACKAGE", package)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("_BASE_: fcos/resnet50_1x\nSEED: 3\n")
    _, origins = load_config_with_origins("mine.yaml", ["SOLVER.SCHEDULE", "cosine"])
    assert set(origins.values()) >= {"schedule/1x", "fcos/resnet50_1x", "mine.yaml", "command line", "default"}
    assert not [origin for origin in origins.values() if "/" in origin and "configs" in origin]


def test_in_a_checkout_its_files_are_named_as_they_are_edited(tmp_path, monkeypatch):
    monkeypatch.chdir(shipped.shipped_folder().parent)
    assert "configs/schedule/1x.yaml" in load_config_with_origins("fcos/resnet50_1x")[1].values()


def test_a_file_that_sets_no_folder_has_one_of_its_own_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "birds.v2.yaml").write_text("SEED: 3\n")
    (tmp_path / "mine.yaml").write_text("_BASE_: fcos/resnet50_1x\n")
    cfg, origins = load_config_with_origins("birds.v2.yaml")
    assert (cfg.OUTPUT_DIR, origins["OUTPUT_DIR"]) == ("output/birds.v2", "default (from the file's name)")
    assert load_config(tmp_path / "birds.v2.yaml", ["SEED", 5]).OUTPUT_DIR == "output/birds.v2"
    (tmp_path / "printed.yaml").write_text(origins_text(cfg, origins))
    assert load_config("printed.yaml") == cfg
    assert load_config("birds.v2.yaml", ["OUTPUT_DIR", "output"]).OUTPUT_DIR == "output"
    assert load_config("mine.yaml").OUTPUT_DIR == "output/mine"  # two files on one shipped base share no folder
    (tmp_path / "again.yaml").write_text("_BASE_: [birds.v2.yaml, mine.yaml]\n")
    assert load_config("again.yaml").OUTPUT_DIR == "output/again"
    (tmp_path / "birds.v2.yaml").write_text("OUTPUT_DIR: output/ours\n")
    assert load_config("again.yaml").OUTPUT_DIR == "output/ours"  # which a base of one's own sets
    assert load_config("fcos/resnet50_1x", ["SEED", 3]).OUTPUT_DIR == "output/fcos_resnet50_1x"
    assert load_config("quickstart").OUTPUT_DIR == "output/quickstart"
    assert load_config(None).OUTPUT_DIR == "output"
