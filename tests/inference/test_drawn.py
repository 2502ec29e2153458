"""Drawn files: their names, their marks, and videos that are there whole or not at all."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from detector.errors import FileAccessError, UserError
from detector.inference.drawn import (
    VideoFile,
    check_targets,
    encoded,
    name_pictures,
    save_picture,
    was_drawn,
    was_filmed,
)


def frames_of(path):
    film = cv2.VideoCapture(str(path))
    rate, found = film.get(cv2.CAP_PROP_FPS), []
    while (read := film.read())[0]:
        found.append(cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB))
    return rate, found


@pytest.mark.parametrize("rate", [25.0, 29.97, 12.5, 7.0])
def test_a_video_keeps_rate_size_and_colour(tmp_path, rate):
    film = VideoFile(tmp_path / "new" / "a.mp4", rate)
    for i in range(5):
        film.add(np.full((48, 64, 3), (200, 20 * i, 30), np.uint8))
    assert not (tmp_path / "new" / "a.mp4").exists()
    film.finish()
    film.close()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.mp4"]
    found, frames = frames_of(tmp_path / "new" / "a.mp4")
    assert (round(found, 2), len(frames)) == (rate, 5)
    np.testing.assert_allclose(frames[4].mean((0, 1)), (200, 80, 30), atol=6)
    assert was_filmed(tmp_path / "new" / "a.mp4")


def test_what_is_not_finished_leaves_the_old_one(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"old")
    film = VideoFile(tmp_path / "a.mp4", 10)
    film.add(np.zeros((48, 64, 3), np.uint8))
    film.close()
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a.mp4", b"old")]
    VideoFile(tmp_path / "b.mp4", 10).finish()
    assert not (tmp_path / "b.mp4").exists()


def test_a_frame_of_another_size_is_brought_to_that_of_the_first(tmp_path):
    film = VideoFile(tmp_path / "a.mp4", 10)
    film.add(np.full((48, 64, 3), 30, np.uint8))
    film.add(np.full((96, 64, 3), 200, np.uint8))
    film.finish()
    _, (first, second) = frames_of(tmp_path / "a.mp4")
    assert first.shape == second.shape == (48, 64, 3)
    assert abs(second.mean() - 200) < 4


def test_a_codec_that_is_not_there_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr("detector.inference.drawn.CODEC", "zzzz")
    with pytest.raises(FileAccessError, match=r"a\.mp4: this OpenCV cannot write a video \(zzzz, 64 x 48\); write "):
        VideoFile(tmp_path / "a.mp4", 10).add(np.zeros((48, 64, 3), np.uint8))


def test_only_what_was_drawn_here_is_known_again(tmp_path, write_film):
    save_picture(tmp_path / "a.jpg", np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "b.jpg").write_bytes(encoded(np.zeros((8, 8, 3), np.uint8), ".jpg"))
    (tmp_path / "link.jpg").symlink_to(tmp_path / "a.jpg")
    assert [was_drawn(tmp_path / f"{name}.jpg") for name in ("a", "b", "link", "gone")] == [True, False, False, False]
    assert cv2.imread(str(tmp_path / "a.jpg")).shape == (8, 8, 3)
    write_film(tmp_path / "a.mp4", (1, 2))
    (tmp_path / "short.mp4").write_bytes(b"x")
    assert not any(was_filmed(tmp_path / name) for name in ("a.mp4", "short.mp4", "gone.mp4"))


def test_an_image_that_is_listed_twice_is_drawn_twice():
    paths = [Path("/p/a.png"), Path("/p/a.png"), Path("/p/a_2.jpg"), Path("/p/a.png")]
    found = [str(name) for name in name_pictures(paths)]
    assert found == ["a.jpg", "a_3.jpg", "a_2.jpg", "a_4.jpg"]
    assert name_pictures([]) == []


def test_absolute_and_relative_paths_have_a_common_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths = [tmp_path / "x" / "a.png", Path("y/b.png"), Path("../c.png")]
    assert [str(name) for name in name_pictures(paths)] == [
        f"{tmp_path.name}/x/a.jpg", f"{tmp_path.name}/y/b.jpg", "c.jpg",
    ]  # fmt: skip


def test_the_images_themselves_are_in_the_way(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"x")
    check_targets(tmp_path, {tmp_path / "b.jpg": was_drawn}, [tmp_path / "a.jpg"])
    with pytest.raises(UserError, match=r"a\.jpg, which is one of the images would be overwritten"):
        check_targets(tmp_path, {tmp_path / "a.jpg": lambda path: True}, [tmp_path / "a.jpg", tmp_path / "gone"])
