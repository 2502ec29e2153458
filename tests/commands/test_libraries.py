"""A system without what opencv-python needs."""

import subprocess
import sys
from importlib import import_module

import pytest
from helpers import environment

from detector.commands.base import run
from detector.commands.libraries import lacking_library
from detector.plugins import load_plugins

LACKING = 'raise ImportError("libGL.so.1: cannot open shared object file: No such file or directory")\n'
SAID = r"^error: OpenCV cannot .* this machine has no libGL\.so\.1, .*opencv-python-headless`, which needs none$"


@pytest.fixture
def broken(tmp_path, monkeypatch):
    """broken(name, text): a package of that name, in place of the one that may be loaded."""

    def write(name, text=LACKING):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("from .native import x\n")
        (tmp_path / name / "native.py").write_text(text)
        for loaded in [module for module in sys.modules if module.partition(".")[0] == name]:
            monkeypatch.delitem(sys.modules, loaded)
        monkeypatch.syspath_prepend(tmp_path)
        return tmp_path

    return write


def test_a_missing_library_of_opencv_is_one_line_with_the_remedy(broken):
    broken("cv2")
    with pytest.raises(SystemExit, match=SAID):
        run(lambda: import_module("cv2"))


def test_so_it_is_below_a_plugin(broken, tmp_path):
    broken("cv2")
    (tmp_path / "plugin_that_draws.py").write_text("import cv2\n")
    with pytest.raises(SystemExit, match=SAID):
        run(lambda: load_plugins(["plugin_that_draws"]))


@pytest.mark.parametrize(
    ("name", "text"),
    [("another_package", LACKING), ("cv2", 'raise ImportError("numpy.core.multiarray failed to import")\n')],
)
def test_any_other_import_keeps_its_traceback(broken, name, text):
    broken(name, text)
    with pytest.raises(ImportError, match=r"libGL|numpy") as caught:
        run(lambda: import_module(name))
    assert lacking_library(caught.value) == ""


@pytest.mark.slow
@pytest.mark.parametrize("words", [["train", "--config-file", "quickstart"], ["test", "nowhere.pth"]])
def test_the_commands_answer_so(broken, words):
    folder = broken("cv2")
    (folder / "nowhere.pth").write_bytes(b"")
    answer = subprocess.run(
        [sys.executable, "-m", "detector", *words], cwd=folder, env=environment(folder), capture_output=True, text=True
    )
    assert answer.returncode == 1
    assert "Traceback" not in answer.stderr
    assert ("opencv-python-headless" in answer.stderr) == (words[0] == "train")
