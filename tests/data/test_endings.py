"""Ends of picture files, tried on every length that a file can be cut to."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from detector.data.endings import JPEG_END, completed, has_end
from detector.data.headers import declared_size

KINDS = {
    "plain": {},
    "fine": {"quality": 95, "subsampling": 0},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_blocks": 2},
    "grey": {"mode": "L"},
    "grey progressive": {"mode": "L", "progressive": True},
}


def jpeg(height=32, width=48, mode="RGB", **options):
    rng = np.random.default_rng(0)
    smooth = cv2.resize(rng.integers(30, 226, (4, 5, 3), dtype=np.uint8), (width, height))
    noisy = np.clip(smooth + rng.normal(0, 12, smooth.shape), 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noisy).convert(mode).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def pixels(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


@pytest.mark.parametrize("kind", KINDS)
def test_only_files_that_lack_no_pixel_are_completed(kind):
    data = jpeg(**KINDS[kind])
    assert has_end(data)
    assert data.endswith(JPEG_END)
    whole, taken = pixels(data), []
    for missing in range(1, len(data) - 1):
        cut = data[:-missing]
        mended = completed(cut)
        if mended is not None:
            taken.append(missing)
            assert has_end(mended)
            np.testing.assert_array_equal(pixels(mended), whole, err_msg=f"{missing} bytes are missing")
    assert taken[:2] == [1, 2]  # half of the marker, all of it
    assert len(taken) <= 3  # a last byte may hold nothing but padding


@pytest.mark.parametrize("kind", KINDS)
def test_the_size_is_in_the_header_and_nowhere_else(kind):
    data = jpeg(**KINDS[kind])
    assert declared_size(data) == (32, 48)
    scan = data.index(b"\xff\xda")
    found = [declared_size(data[:length]) for length in range(scan)]
    assert {*found} == {None, (32, 48)}
    assert found == sorted(found, key=bool)  # once there, it stays
    assert declared_size(b"\xff\xd8\xff\xda" + data) is None  # behind the start of the scan there is none


def test_ends_of_other_formats():
    buffer = io.BytesIO()
    Image.new("RGB", (48, 32)).save(buffer, "PNG")
    data = buffer.getvalue()
    assert (has_end(data), has_end(data[:-8]), has_end(b"BM")) == (True, False, True)


def test_what_is_no_jpeg_or_nothing_but_a_head_is_not_completed():
    data = jpeg()
    assert completed(b"\x89PNG" + data) is None
    for junk in (b"\xff\xd8", data[:20], b"\xff\xd8" + b"\xff\xc0\x00\x00" * 3, b"\xff\xd8\xff\xc0\x00\x0b\x08"):
        assert completed(junk) is None
