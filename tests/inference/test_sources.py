"""What a source comes to: which pictures, in which order, what is passed over, and what is refused."""

import io
import os
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from detector.data.images import read_rgb
from detector.errors import FileAccessError, MissingFileError, UserError
from detector.inference.sources import find_images, open_source


def names(source, folder, **more):
    """The files of a source, relative to a folder."""
    opened = open_source(str(source), **more)
    return [str(picture.path.relative_to(folder)) for picture in opened.pictures]


def test_a_folder_with_links_is_searched_once(write_greys, tmp_path, caplog):
    """Every format that OpenCV reads, by suffix or by its first bytes; the rest is counted and named."""
    caplog.set_level("INFO", "detector")
    photos = write_greys("b.JPG", "inner/a.webp", "c.png")
    other = write_greys("d.png", folder=tmp_path / "elsewhere")
    (photos / "linked").symlink_to(other)
    (photos / "inner" / "back").symlink_to(photos)
    (photos / "inner" / "gone.png").symlink_to(photos / "nothing.png")
    (photos / "c.png").rename(photos / "c.unknown")
    for name in ("notes.txt", "film.mp4", "x.xml", "y.json", "z.pdf", "zz.dat"):
        (photos / name).write_bytes(b"no picture")
    os.mkfifo(photos / "pipe.jpg")
    found = ["b.JPG", "c.unknown", "inner/a.webp", "inner/gone.png", "linked/d.png"]
    assert names(photos, photos) == found
    (line,) = caplog.messages
    assert line.startswith(
        f"{photos}: 7 files that are no pictures are passed over (1 of them a video: name it alone): "
        f"{photos / 'film.mp4'}, {photos / 'notes.txt'}, {photos / 'pipe.jpg'}, "
    )
    assert line.endswith(", ..")
    assert names(photos / "**" / "*.png", photos) == ["inner/gone.png", "linked/d.png"]


def test_a_folder_of_nothing_and_a_name_of_nothing_are_refused(tmp_path):
    (tmp_path / "notes.md").write_text("x")
    for source in (tmp_path, tmp_path / "*.jpg", tmp_path / "nix"):
        with pytest.raises(UserError, match=r": no image there; name an image, a folder of .*, or - for a list on"):
            open_source(str(source))
    for source in ("", " "):
        with pytest.raises(UserError, match=f"^SOURCE '{source}' is empty: name a picture, a folder"):
            open_source(source)
    (tmp_path / "anno.json").write_text("{}")
    with pytest.raises(UserError, match=r"anno\.json is no picture: .* write IMAGE_FOLDER:.*anno\.json"):
        open_source(str(tmp_path / "anno.json"))
    with pytest.raises(UserError, match=r"https://x\.org/a\.jpg is an address, and nothing is fetched"):
        open_source("https://x.org/a.jpg")
    with pytest.raises(MissingFileError, match="dataset 'voc:nix:test'"):
        open_source("voc:nix:test")


def test_a_list_of_files(write_greys, tmp_path, monkeypatch):
    """Lines are relative to the working directory or to the list; what is no picture is found when it is read."""
    photos = write_greys("a.png", "b ü.png")
    here = write_greys("here.png", folder=tmp_path / "cwd")
    monkeypatch.chdir(here)
    text = f"\ufeffa.png\r\n\n  b ü.png  \nhere.png\n{photos / 'a.png'}\ngone.png\n{photos}\n"
    (photos / "list.TXT").write_text(text, encoding="utf-8", newline="")
    opened = open_source(photos / "list.TXT")
    read = [picture.path for picture in opened.pictures]
    expected = ["a.png", "b ü.png", "../cwd/here.png", "a.png", "gone.png", "."]
    assert [os.path.relpath(path, photos) for path in read] == expected
    assert [picture.image_id for picture in opened.pictures] == [1, 2, 3, 4, 5, 6]
    assert opened.total == 6
    with pytest.raises(MissingFileError, match=r"gone\.png: there is no such picture"):
        opened.pictures[4].read()
    with pytest.raises(UserError, match="is no file; a list names pictures"):
        opened.pictures[5].read()
    (photos / "list.TXT").write_text("\n\n")
    with pytest.raises(UserError, match="the list is empty: write one path a line"):
        open_source(photos / "list.TXT")


def test_a_list_on_standard_input(write_greys, monkeypatch):
    photos = write_greys("a.png", "b.png")
    data = os.fsencode(f"{photos / 'b.png'}\n{photos / 'a.png'}\n") + b"caf\xe9.png"
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(data)))
    paths = [picture.path for picture in open_source("-").pictures]
    assert paths[:2] == [photos / "b.png", photos / "a.png"]
    assert os.fsencode(paths[2]) == b"caf\xe9.png"


def test_what_is_there_under_a_name_comes_first(write_greys, tmp_path, monkeypatch):
    write_greys("a.png", folder=tmp_path / "7")
    write_greys("b.png", folder=tmp_path / "voc:x:test")
    write_greys("c.png", folder=tmp_path / "shapes_val")
    monkeypatch.chdir(tmp_path)
    for source, name in (("7", "a.png"), ("voc:x:test", "b.png"), ("shapes_val", "c.png")):
        assert names(source, source) == [name]


def test_a_data_set_brings_its_truth(write_cells, tmp_path):
    entry = write_cells(2, 0, 1)
    opened = open_source(entry)
    assert (opened.kind, opened.total, opened.category_ids) == ("data", 3, {"light": 5, "dark": 9})
    assert [len(picture.truth.boxes) for picture in opened.pictures] == [2, 0, 1]
    assert [(picture.path.name, picture.image_id) for picture in opened.pictures] == [
        ("0.png", 40), ("1.png", 41), ("2.png", 42),
    ]  # fmt: skip
    assert opened.pictures[0].read().shape == (64, 96, 3)
    assert [len(picture.truth.ignore) for picture in opened.pictures] == [0, 0, 0]
    path = tmp_path / "cells.json"
    path.write_text(path.read_text().replace('"iscrowd": 0', '"iscrowd": 1', 1))
    truth = open_source(entry).pictures[0].truth
    assert (truth.boxes[:, 0].tolist(), truth.ignore[:, 0].tolist()) == ([10], [0])


def test_a_data_set_stays_in_its_folder_unless_told(write_cells, tmp_path):
    entry = write_cells(1)
    (tmp_path / "cells" / "0.png").rename(tmp_path / "outside.png")
    path = tmp_path / "cells.json"
    path.write_text(path.read_text().replace("0.png", "../outside.png"))
    with pytest.raises(UserError, match="lies outside the folder of pictures"):
        open_source(entry)
    assert open_source(entry, outside=True).pictures[0].read().shape == (64, 96, 3)


def test_earlier_output_below_a_folder_is_no_source(write_greys):
    photos = write_greys("a.png", "drawn/b.png")
    (photos / "drawn" / "detections.json").write_text("[]")
    assert [path.name for path in find_images(str(photos), photos / "drawn")] == ["a.png", "b.png"]


# ---------------------------------------------------------------------------- videos and cameras


def test_a_video_gives_its_frames_and_then_nothing(write_film, tmp_path):
    opened = open_source(str(write_film(tmp_path / "a.mp4", (20, 90, 200))))
    assert (opened.kind, opened.total, opened.rate, opened.moving) == ("video", 3, 12.5, True)
    frames = iter(opened.pictures)
    for i, grey in enumerate((20, 90, 200)):
        picture = next(frames)
        assert (picture.frame, picture.seconds, picture.image_id) == (i, i / 12.5, i + 1)
        assert abs(picture.read().mean() - grey) < 3
    assert next(frames).read() is None
    opened.close()


def test_videos_have_red_where_red_is(tmp_path):
    film = cv2.VideoWriter(str(tmp_path / "a.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    film.write(np.full((48, 64, 3), (10, 20, 240), np.uint8))
    film.release()
    opened = open_source(tmp_path / "a.avi")
    np.testing.assert_allclose(next(iter(opened.pictures)).read().mean((0, 1)), (240, 20, 10), atol=6)
    opened.close()


def test_a_broken_video_and_a_camera_that_is_not_there(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"a\.mp4: the video cannot be opened; it is damaged"):
        open_source(str(tmp_path / "a.mp4"))
    with pytest.raises(FileAccessError, match="camera 99 cannot be opened"):
        open_source("99")


def test_a_rate_that_is_not_said_is_the_usual(monkeypatch, caplog):
    """As of cameras: here one that has two frames."""

    class Camera:
        left = 2

        def __init__(self, number):
            assert number == 5

        def isOpened(self):  # noqa: N802
            return True

        def get(self, key):
            return 0.0

        def read(self):
            self.left -= 1
            return self.left >= 0, np.zeros((4, 6, 3), np.uint8)

        def release(self):
            pass

    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    opened = open_source("5")
    assert (opened.kind, opened.name, opened.total, opened.rate) == ("camera", "camera_5", None, 25.0)
    assert caplog.messages == ["camera_5 does not say how many frames it has a second: 25 are taken"]
    frames = iter(opened.pictures)
    assert [next(frames).read() is None for _ in range(3)] == [False, False, True]


# ---------------------------------------------------------------------------- pictures in memory

COLOURS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("source", "order"),
    [
        (COLOURS, "rgb"),
        (COLOURS[..., ::-1], "bgr"),
        (torch.from_numpy(COLOURS).permute(2, 0, 1), "rgb"),
        (torch.from_numpy(COLOURS).permute(2, 0, 1).flip(0), "bgr"),
        (Image.fromarray(COLOURS), "rgb"),
        (Image.fromarray(COLOURS), "bgr"),
        (Image.fromarray(COLOURS).convert("RGBA"), "rgb"),
    ],
)
def test_pixels_in_memory_are_the_same_in_whatever_form(source, order):
    (alone,) = open_source(source, order=order).pictures
    (listed,) = open_source([source], order=order).pictures
    for picture in (alone, listed):
        np.testing.assert_array_equal(picture.read(), COLOURS)
        assert picture.read().flags["C_CONTIGUOUS"]


def test_a_pil_image_is_turned_as_its_file_is(tmp_path):
    tag = Image.Exif()
    tag[0x0112] = 6
    Image.fromarray(COLOURS.repeat(8, 0).repeat(8, 1)).save(tmp_path / "a.png", exif=tag)
    of_file = open_source(str(tmp_path / "a.png")).pictures[0].read()
    assert of_file.shape == (56, 40, 3)
    np.testing.assert_array_equal(open_source(Image.open(tmp_path / "a.png")).pictures[0].read(), of_file)
    deep = Image.fromarray((COLOURS[..., 0].astype(np.uint16) << 8) + 77)
    np.testing.assert_array_equal(open_source(deep).pictures[0].read()[..., 1], COLOURS[..., 0])


def test_an_array_may_be_filled_anew_while_it_is_looked_at():
    array = np.zeros((4, 4, 3), np.uint8)

    def frames():
        for value in (1, 2):
            array[:] = value
            yield array

    assert [int(picture.read().max()) for picture in list(open_source(frames()).pictures)] == [1, 2]


@pytest.mark.parametrize(
    ("source", "what"),
    [
        (np.zeros((4, 5, 3), np.float32), r"an array float32 \[4, 5, 3\]"),
        (np.zeros((4, 5), np.uint8), r"an array uint8 \[4, 5\]"),
        (np.zeros((2, 4, 5, 3), np.uint8), r"an array uint8 \[2, 4, 5, 3\]"),
        (np.zeros((0, 5, 3), np.uint8), r"an array uint8 \[0, 5, 3\]"),
        (torch.zeros(3, 4, 5), r"a tensor float32 \[3, 4, 5\]"),
        (torch.zeros(3, 4, 5, dtype=torch.bfloat16), r"a tensor bfloat16 \[3, 4, 5\]"),
        (torch.zeros(4, 5, 3, dtype=torch.uint8), r"a tensor uint8 \[4, 5, 3\]"),
    ],
)
def test_what_is_no_picture_is_said_with_what_is_wanted(source, what):
    text = f"picture 1 is {what}: pass a path, a PIL image, or pixels as they are, uint8 from 0 to 255"
    with pytest.raises(UserError, match=text):
        open_source(source)
    (picture,) = open_source([source]).pictures  # of a list: where its result would stand
    with pytest.raises(UserError, match=text):
        picture.read()


def test_things_that_are_no_source_are_refused():
    for source, kind in ((None, "NoneType"), (3, "int"), (b"a.jpg", "bytes"), ({"a": 1}, "dict")):
        with pytest.raises(UserError, match=f"a {kind} is no picture: pass a path"):
            open_source(source)
    with pytest.raises(UserError, match="picture 1 is a int: pass a path"):
        next(iter(open_source([3]).pictures)).read()
    with pytest.raises(UserError, match="order 'RGB': the channels"):
        open_source(COLOURS, order="RGB")
    broken = Image.open(io.BytesIO(cv2.imencode(".png", COLOURS.repeat(40, 0))[1].tobytes()[:-900]))
    with pytest.raises(UserError, match="picture 1: Pillow cannot read it: "):
        open_source(broken)


def test_an_iterable_is_read_as_it_is_needed():
    def endless():
        while True:
            yield COLOURS

    pictures = iter(open_source(endless()).pictures)
    assert [next(pictures).image_id for _ in range(3)] == [1, 2, 3]
    assert open_source([COLOURS] * 4).total == 4


def test_pictures_of_16_bits_are_scaled_as_files_in_whatever_mode(tmp_path):
    values = np.array([[0, 255, 256], [30000, 65535, 77]], np.uint16)
    cv2.imwrite(str(tmp_path / "a.png"), values)
    of_file = read_rgb(tmp_path / "a.png")
    images = [Image.fromarray(values), Image.fromarray(values.astype(np.int32)), Image.open(tmp_path / "a.png")]
    assert [image.mode for image in images[:2]] == ["I;16", "I"]
    for image in (*images, Image.fromarray(values.astype(">u2"))):
        np.testing.assert_array_equal(open_source(image).pictures[0].read(), of_file)


@pytest.mark.parametrize(
    ("values", "what"),
    [
        (np.full((2, 3), 0.5, np.float32), "a PIL image of mode F, whose white nobody knows"),
        (np.full((2, 3), 65536, np.int32), "a PIL image of mode I with values from 65536 to 65536, no 16 bits"),
        (np.array([[-1, 9]], np.int32), "a PIL image of mode I with values from -1 to 9, no 16 bits"),
    ],
)
def test_pil_images_whose_scale_nobody_knows_are_refused(values, what):
    with pytest.raises(UserError, match=rf"^picture 1 is {what}: pass a path, a PIL image, or pixels"):
        open_source(Image.fromarray(values))
