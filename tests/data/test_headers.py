"""The size that the head of a picture declares, before anything is decoded."""

import io
import struct
import tracemalloc

import cv2
import numpy as np
import pytest
from PIL import Image

from detector.data import headers
from detector.data.headers import declared_size
from detector.data.images import read_rgb


def encoded(kind, mode="RGB", size=(64, 48), **options):
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, kind, **options)
    return buffer.getvalue()


TAGS = Image.Exif()
TAGS[0x0112] = 6


@pytest.mark.parametrize(
    ("kind", "mode", "options"),
    [
        ("JPEG", "RGB", {}),
        ("JPEG", "RGB", {"progressive": True}),
        ("JPEG", "L", {}),
        ("JPEG", "CMYK", {}),
        ("JPEG", "RGB", {"exif": TAGS}),
        ("PNG", "RGB", {}),
        ("PNG", "I;16", {}),
        ("PNG", "RGBA", {}),
        ("BMP", "RGB", {}),
        ("TIFF", "RGB", {}),
        ("TIFF", "RGB", {"big_tiff": True}),
        ("TIFF", "L", {"compression": "tiff_lzw"}),
        ("WEBP", "RGB", {}),
        ("WEBP", "RGB", {"lossless": True}),
        ("GIF", "P", {}),
        ("PPM", "RGB", {}),
        ("JPEG2000", "RGB", {}),
    ],
)
def test_the_declared_size_is_that_of_the_picture(kind, mode, options):
    assert declared_size(encoded(kind, mode, **options)) == (48, 64)
    assert declared_size(encoded(kind, mode, (7, 301), **options)) == (301, 7)


def test_the_declared_size_is_not_turned():
    data = encoded("JPEG", exif=TAGS)
    assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape == (64, 48, 3)
    assert declared_size(data) == (48, 64)


def test_other_ways_to_write_a_header():
    whole = encoded("JPEG")
    frame = whole.index(b"\xff\xc0")
    assert declared_size(whole[:frame] + b"\xff\xff" + whole[frame:]) == (48, 64)  # fill bytes
    assert declared_size(whole[:frame] + b"junk\xff\x00\xff\xd0" + whole[frame:]) == (48, 64)
    preview = b"\xff\xd8" + encoded("JPEG", size=(16, 12))[2:]
    segment = b"\xff\xe1" + struct.pack(">H", len(preview) + 2) + preview
    assert declared_size(whole[:2] + segment + whole[2:]) == (48, 64)  # that of a preview does not count
    upside_down = bytearray(encoded("BMP"))
    upside_down[22:26] = struct.pack("<i", -48)
    assert declared_size(bytes(upside_down)) == (48, 64)
    old = b"BM" + bytes(12) + struct.pack("<IHHHH", 12, 64, 48, 1, 24)
    assert declared_size(old) == (48, 64)
    tags = struct.pack(">HHIHxxHHIHxx", 256, 3, 1, 64, 257, 3, 1, 48)
    assert declared_size(b"MM\0*" + struct.pack(">IH", 8, 2) + tags) == (48, 64)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "TIFF", "WEBP"])
def test_a_head_that_ends_says_nothing(kind):
    data = encoded(kind)
    for end in range(0, min(len(data), 700), 7):
        assert declared_size(data[:end]) in (None, (48, 64))
    assert declared_size(data[:4]) is None
    assert declared_size(b"no picture at all") is None
    assert declared_size(b"") is None


def claiming(kind, height, width):
    """A small picture whose header declares another size."""
    data = bytearray(encoded(kind))
    if kind == "JPEG":
        at = data.index(b"\xff\xc0") + 5
        data[at : at + 4] = struct.pack(">HH", height, width)
    else:
        data[16:24] = struct.pack(">II", width, height)
    return bytes(data)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_size_that_the_record_contradicts_is_refused_before_decoding(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(cv2, "imdecode", None)  # would fail
    path = tmp_path / "a.jpg"
    path.write_bytes(claiming(kind, 900, 700))
    with pytest.raises(ValueError, match=r"a\.jpg: the picture is 700 wide and 900 high, its .* 64 wide and 48 high"):
        read_rgb(path, (48, 64))


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("expected", [None, (50, 100), (100, 50)])
def test_more_pixels_than_are_decoded_are_refused_whatever_the_record_says(tmp_path, monkeypatch, kind, expected):
    monkeypatch.setattr(cv2, "imdecode", None)
    monkeypatch.setattr(headers, "MAX_PIXELS", 4999)
    path = tmp_path / "a.jpg"
    path.write_bytes(claiming(kind, 50, 100))
    with pytest.raises(ValueError, match=r"a\.jpg: the picture is 100 wide and 50 high, more than 4999 pixels; cut it"):
        read_rgb(path, expected)


def test_as_many_pixels_as_are_allowed_are_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(headers, "MAX_PIXELS", 64 * 48)
    path = tmp_path / "a.jpg"
    path.write_bytes(encoded("JPEG"))
    assert read_rgb(path).shape == (48, 64, 3)
    monkeypatch.setattr(headers, "MAX_PIXELS", 64 * 48 - 1)
    with pytest.raises(ValueError, match="more than 3071 pixels"):
        read_rgb(path)


def test_a_size_that_pillow_refuses_is_one_line(tmp_path, monkeypatch):
    path = tmp_path / "a.webp"
    path.write_bytes(encoded("WEBP"))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ValueError, match=r"a\.webp: it is too large to be decoded: Image size \(3072 pixels\) exceeds"):
        read_rgb(path)


def test_a_refusal_takes_no_memory(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(claiming("PNG", 20000, 20000))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="20000 wide and 20000 high, its annotation"):
            read_rgb(path, (480, 640))
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
