"""A package of somebody else adds a part."""

import sys

import pytest

from detector.models.backbones import BACKBONES, list_backbones
from detector.plugins import load_plugins
from detector.tasks.header import farewell
from detector.tasks.retest import retest


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder on the import path; what is imported from it is forgotten afterwards."""
    monkeypatch.syspath_prepend(tmp_path)
    names = set(BACKBONES)
    yield tmp_path
    for name in set(BACKBONES) - names:
        del BACKBONES[name]
    for path in tmp_path.iterdir():
        sys.modules.pop(path.name, None)


def write_package(folder, name, text, entry_point=None):
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text(text)
    if entry_point:
        metadata = folder / f"{name}-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (metadata / "entry_points.txt").write_text(f"[detector.plugins]\n{entry_point}\n")


REGISTER = """\
from detector.models.backbones import Weights, register_backbone

@register_backbone("{}", Weights())
def build(norm):
    raise NotImplementedError
"""


def test_an_installed_plugin_registers_its_part_once(folder):
    write_package(folder, "their_package", REGISTER.format("theirs"), "their-parts = their_package")
    assert "their-parts" in load_plugins()
    assert "theirs" in list_backbones()
    assert load_plugins() == load_plugins()


def test_modules_of_the_command_line_come_after_the_installed_ones(folder):
    write_package(folder, "their_package", REGISTER.format("theirs"), "their-parts = their_package")
    write_package(folder, "my_package", REGISTER.format("mine"))
    assert load_plugins(["my_package", "my_package"])[-2:] == ["their-parts", "my_package"]
    assert {"theirs", "mine"} <= set(list_backbones())


def test_the_next_command_names_them_again(folder, tmp_path):
    write_package(folder, "my_package", REGISTER.format("mine"))
    load_plugins(["my_package"])
    lines = farewell(tmp_path, {}, ["detector predict run PHOTOS"]).splitlines()
    assert lines[-1] == "  detector predict run PHOTOS --import my_package"
    assert retest(tmp_path).endswith(f" {tmp_path} --import my_package`")
    load_plugins()
    assert farewell(tmp_path, {}, ["detector test run"]).endswith("  detector test run")


def test_failures_name_the_plugin(folder):
    with pytest.raises(ImportError, match=r"--import my_pakage: ModuleNotFoundError: .*my_pakage.*PYTHONPATH"):
        load_plugins(["my_pakage"])
    write_package(folder, "broken_package", "1 / 0\n", "broken = broken_package")
    with pytest.raises(ImportError, match=r"plugin 'broken' \(broken_package\): ZeroDivisionError"):
        load_plugins()
