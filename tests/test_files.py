"""Files that are written whole, and what is no file."""

import os
import stat

import pytest

from detector.files import write_atomic, write_json
from detector.weights.checkpoint import save_checkpoint


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
