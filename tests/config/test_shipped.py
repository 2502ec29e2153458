"""Config files by name, from any folder."""

import pytest

from detector.config import find_config, load_config, shipped, shipped_configs


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


def test_an_installed_package_has_them_inside(tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "PACKAGE", tmp_path / "detector")
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "a.yaml").write_text("")
    assert shipped_configs() == ["a"]
    (tmp_path / "detector" / "configs" / "base").mkdir(parents=True)
    (tmp_path / "detector" / "configs" / "base" / "b.yaml").write_text("")
    assert shipped_configs() == ["base/b"]
    assert find_config("base/b") == tmp_path / "detector/configs/base/b.yaml"
