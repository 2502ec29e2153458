import os

import cv2
import numpy as np
import pytest
from PIL import Image

from detector.data.images import read_rgb
from detector.data.sizes import measured

ORIENTATION = 0x0112


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTOR_CACHE", str(tmp_path / "cache"))


def draw(path, width, height, turn=1):
    exif = Image.Exif()
    exif[ORIENTATION] = turn
    Image.fromarray(np.zeros((height, width, 3), np.uint8)).save(path, exif=exif)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp", ".tif"])
@pytest.mark.parametrize("turn", [1, 3, 6, 8])
def test_sizes_are_those_of_pixels_that_are_read(tmp_path, suffix, turn):
    draw(tmp_path / f"a{suffix}", 30, 20, turn)
    size = measured(tmp_path, [f"a{suffix}"])[0]
    assert read_rgb(tmp_path / f"a{suffix}", tuple(size.tolist())).shape[:2] == tuple(size)
    if suffix in (".jpg", ".png", ".tif"):  # the turned one is the one that a viewer shows
        assert size.tolist() == ([30, 20] if turn > 4 else [20, 30])


def test_many_are_measured_and_what_cannot_be_is_zero(tmp_path):
    names = [f"{i}.png" for i in range(600)]
    for i, name in enumerate(names):
        cv2.imwrite(str(tmp_path / name), np.zeros((1 + i % 7, 1 + i % 11), np.uint8))
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "empty.jpg").write_bytes(b"")
    os.mkfifo(tmp_path / "pipe.jpg")
    odd = ["missing.jpg", "text.jpg", "empty.jpg", "pipe.jpg", "a\0b"]
    found = measured(tmp_path, [*odd, *names])
    assert found[:5].tolist() == [[0, 0]] * 5
    assert found[5:].tolist() == [[1 + i % 7, 1 + i % 11] for i in range(600)]


def test_known_files_are_not_opened_again_unless_they_changed(tmp_path, monkeypatch):
    draw(tmp_path / "a.png", 30, 20)
    draw(tmp_path / "b.png", 31, 20)
    assert measured(tmp_path, ["a.png", "b.png"]).tolist() == [[20, 30], [20, 31]]
    opened = []
    monkeypatch.setattr("detector.data.sizes.size_of", lambda path, length: opened.append(path) or (7, 8))
    assert measured(tmp_path, ["b.png", "a.png"]).tolist() == [[20, 31], [20, 30]]
    assert opened == []
    draw(tmp_path / "a.png", 32, 20)
    os.utime(tmp_path / "a.png", ns=(1, 1))
    assert measured(tmp_path, ["b.png", "a.png"]).tolist() == [[20, 31], [7, 8]]
    assert opened == [str(tmp_path / "a.png")]


def test_a_size_behind_a_long_head_is_found(tmp_path):
    draw(tmp_path / "a.jpg", 30, 20)
    data = (tmp_path / "a.jpg").read_bytes()
    comment = b"\xff\xfe" + (50_000).to_bytes(2, "big") + b"x" * 49_998
    (tmp_path / "long.jpg").write_bytes(data[:2] + comment * 9 + data[2:])
    assert measured(tmp_path, ["long.jpg"]).tolist() == [[20, 30]]
