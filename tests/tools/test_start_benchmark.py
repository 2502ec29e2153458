"""The benchmark of the start: every line has its number, and its pictures go."""

import re
import tempfile
from pathlib import Path


def test_every_start_is_measured(load_benchmark, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    load_benchmark("start").main(["--pictures", "12", "--rounds", "1"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["pictures", "12"]
    assert all(re.search(r"  \d+\.\d\d s", line) for line in lines[1:])
    assert len(lines) == 6
    assert not list(Path(tmp_path).rglob("*.jpg"))


def test_the_first_look_is_one_without_memory(load_benchmark, tmp_path, monkeypatch):
    from detector.data import check

    start, opened, look = load_benchmark("start"), [], check.look_at_file
    monkeypatch.setenv("DETECTOR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(check, "look_at_file", lambda *args: opened.append(1) or look(*args))
    start.measure(start.settings(start.write_pictures(tmp_path, 3), str(tmp_path)), tmp_path, 2)
    assert len(opened) == 3 * (1 + 2 + 2)  # at the beginning, in the first looks, in the first starts
