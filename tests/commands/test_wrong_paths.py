"""Paths that are empty, folders in place of files, files in place of folders: one line that names the flag."""

import os
from pathlib import Path

import pytest

from detector.__main__ import main
from detector.commands.base import output_folder


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """The current folder: a folder, a file, and links to nothing and to themselves."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("x")
    os.symlink("nowhere", "dangling")
    os.symlink("loop", "loop")


INFO = ["info", "resnet10", "--size", "32"]
ANALYZE = ["analyze", "channels", "resnet10=random", "--output", "out", "--image"]
CLASSIFY = ["classify", "--backbone", "resnet10", "--data", "data", "--json"]
TRAIN = ["train", "--config-file", "quickstart"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([*INFO, "--output", ""], r"--output \. cannot be written: Is a directory"),
        ([*INFO, "--output", "folder"], "--output folder cannot be written: Is a directory"),
        ([*INFO, "--output", "file/x"], "--output file/x cannot be written: (File exists|Not a directory)"),
        ([*ANALYZE, ""], r"--image \. is a folder; name a picture in it"),
        ([*ANALYZE, "folder"], "--image folder is a folder"),
        ([*ANALYZE, "dangling"], "dangling: there is no such picture"),
        ([*CLASSIFY, "folder"], "--json folder is a folder; name a file in it"),
        ([*CLASSIFY, "no/x"], "--json no/x: there is no folder .*no; make it first"),
        (["backbones", "--import", ""], "--import is empty: name a Python package"),
        (["config", "folder"], "folder is a folder and no config file; name a file in it"),
        (["config", "dangling"], "dangling: no such config file"),
        ([*TRAIN, "OUTPUT_DIR", ""], r"command line: OUTPUT_DIR: '' is not allowed; allowed: the name of a folder"),
        (["train", "", "--resume"], "RUN : there is no such folder; write output/NAME, or --config-file FILE"),
        (["train", "loop", "--resume"], "RUN loop: there is no such folder"),
        (["test", ""], "RUN : there is no such folder or checkpoint"),
        (["test", "loop"], "RUN loop: there is no such folder or checkpoint"),
    ],
)
def test_a_wrong_path_is_one_line(words, said, capsys):
    with pytest.raises(SystemExit, match=f"^error: {said}") as ended:
        main(words)
    assert "\n" not in ended.value.code


@pytest.mark.parametrize("name", ["file", "file/x", "dangling", "loop"])
def test_what_cannot_be_a_folder_is_named(name, tmp_path):
    with pytest.raises(OSError, match=f"--output {name}: no folder can be made there: .*; name another one"):
        output_folder(Path(name))
    assert output_folder(tmp_path / "a" / "b").is_dir()
