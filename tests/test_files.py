"""Files that are written whole, paths as people write them, and what is no file."""

import json
import os
import stat
import time
from contextlib import suppress
from pathlib import Path

import pytest

from detector.files import (
    clear_asides,
    no_empty_folders,
    open_append,
    output_folder,
    user_path,
    write_atomic,
    write_json,
    writing,
)
from detector.weights.checkpoint import save_checkpoint


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_home_is_expanded_and_an_unknown_name_stays(home):
    assert user_path("~/a/b") == home / "a" / "b"
    assert user_path("~nobody_of_this_name/a") == Path("~nobody_of_this_name/a")
    assert user_path("a/~") == Path("a/~")


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "numbers.json"
    write_json(path, {"a": 1})
    with suppress(KeyError), writing(path) as file:
        file.write(b"half")
        assert len(os.listdir(tmp_path)) == 2
        raise KeyError
    assert json.loads(path.read_text()) == {"a": 1}
    assert os.listdir(tmp_path) == ["numbers.json"]


def test_two_writers_of_one_name_do_not_meet(tmp_path):
    path = tmp_path / "file"
    with writing(path, durable=True) as first, writing(path) as second:
        first.write(b"first")
        second.write(b"second")
        assert len(os.listdir(tmp_path)) == 2
    assert path.read_bytes() == b"first"
    assert os.listdir(tmp_path) == ["file"]


def test_links_are_replaced_and_not_followed(tmp_path):
    (tmp_path / "precious").write_text("mine")
    link = tmp_path / "results.json"
    link.symlink_to(tmp_path / "precious")
    write_json(link, [1])
    assert (tmp_path / "precious").read_text() == "mine"
    assert not link.is_symlink()
    link.unlink()
    link.symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match=r"results\.json is a link, which is not followed; delete it"):
        open_append(link)
    link.unlink()
    for line in ("one\n", "caf\udce9\n"):
        with open_append(link) as file:
            file.write(line.encode(errors="surrogateescape"))
    assert link.read_bytes() == b"one\ncaf\xe9\n"


def test_names_of_any_bytes_and_length_are_written(tmp_path):
    name = os.fsdecode(b"caf\xe9")
    write_json(tmp_path / "a.json", [{"file": name, name: (1, None, float("nan"))}, "猫"])
    assert json.loads((tmp_path / "a.json").read_bytes()) == [{"file": "caf\\xe9", "caf\\xe9": [1, None, None]}, "猫"]
    long = tmp_path / ("猫" * 83 + ".json")  # 254 bytes, where 255 are allowed
    write_atomic(long, b"x")
    assert long.read_bytes() == b"x"


def test_what_killed_writers_left_goes(tmp_path):
    mine, old, young = (f"{name}.0123456789abcdef.tmp" for name in ("model_final.pth", "results.json", "metrics.json"))
    for name in (mine, old, young, "notes.tmp", "model_final.pth"):
        (tmp_path / name).write_bytes(b"")
    long_ago = time.time() - 7200
    os.utime(tmp_path / old, (long_ago, long_ago))
    os.utime(tmp_path / "notes.tmp", (long_ago, long_ago))
    clear_asides(tmp_path, ("model_", "weights"))
    assert sorted(os.listdir(tmp_path)) == [young, "model_final.pth", "notes.tmp"]


def test_a_pipe_is_written_to_and_stays_one(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    end = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
    write_json(pipe, {"a": 1})
    assert os.read(end, 100) == b'{\n  "a": 1\n}\n'
    os.close(end)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    with pytest.raises(OSError, match=r"cannot write checkpoint .*pipe: a folder or device is there"):
        save_checkpoint(pipe, {})
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert list(tmp_path.iterdir()) == [pipe]


@pytest.mark.parametrize("name", ["folder", "."])
def test_a_folder_is_refused_and_nothing_is_left_in_it(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        write_atomic(name, b"x")
    with pytest.raises(OSError, match="a folder or device is there"):
        save_checkpoint(tmp_path / name, {})
    assert [path.name for path in tmp_path.rglob("*")] == ["folder"]


def test_a_file_is_replaced_whole(tmp_path):
    write_atomic(tmp_path / "new" / "a", b"one")
    write_atomic(tmp_path / "new" / "a", b"two")
    assert [(path.name, path.read_bytes()) for path in (tmp_path / "new").iterdir()] == [("a", b"two")]


def test_a_failure_leaves_no_empty_folder_that_was_made_and_all_others(tmp_path):
    def fails(*names, write=""):
        for name in names:
            output_folder(tmp_path / name)
        if write:
            (tmp_path / write).write_text("")
        raise KeyError

    (tmp_path / "there").mkdir()
    for names in (["a/b/c"], ["a", "a/b"], ["there"]):
        with pytest.raises(KeyError), no_empty_folders():
            fails(*names)
        assert [path.name for path in tmp_path.rglob("*")] == ["there"]
    with pytest.raises(KeyError), no_empty_folders():
        fails("a/b", "a/c", write="a/b/file")
    assert sorted(path.name for path in (tmp_path / "a").rglob("*")) == ["b", "file"]
    with no_empty_folders():
        output_folder(tmp_path / "new")
    assert (tmp_path / "new").is_dir()
