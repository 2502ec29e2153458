"""A result as a picture, as plain values, as rows of COCO, and what it says of itself."""

import json
import sys
from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from PIL import Image

from detector.data.transforms import Sample
from detector.errors import UserError
from detector.inference.results import Result

GROUND = np.full((60, 80, 3), 90, np.uint8)


@pytest.fixture
def result():
    return Result(
        boxes=np.array([[10, 20, 30.5, 50], [0, 0, 80, 60]], np.float32),
        labels=np.array([1, 0]),
        scores=np.array([0.75, 0.5], np.float32),
        height=60,
        width=80,
        image_id=4,
        path=None,
        frame=None,
        seconds=None,
        classes=["cat", "\x1b[31mdog"],
        category_ids=[17, 18],
        thresholds=[0.5, 0.25],
        pixels=lambda: GROUND,
    )


def test_plain_values(result, tmp_path):
    assert result.to_dict() == {
        "file": None,
        "width": 80,
        "height": 60,
        "detections": [
            {"box": [10, 20, 30.5, 50], "score": 0.75, "class": "\x1b[31mdog", "category_id": 18, "threshold": 0.25},
            {"box": [0, 0, 80, 60], "score": 0.5, "class": "cat", "category_id": 17, "threshold": 0.5},
        ],
    }
    assert list(replace(result, path=tmp_path, frame=3, seconds=0.1).to_dict())[:3] == ["file", "frame", "seconds"]
    json.dumps(result.to_dict())
    assert (result.names, len(result)) == (["\x1b[31mdog", "cat"], 2)


def test_rows_of_coco(result):
    first, second = result.to_coco()
    assert first == {"image_id": 4, "category_id": 18, "bbox": [10, 20, 20.5, 30], "score": 0.75}
    assert (second["category_id"], second["bbox"]) == (17, [0, 0, 80, 60])
    assert [row["image_id"] for row in result.to_coco("mine")] == ["mine", "mine"]


def test_what_it_says_of_itself(result, tmp_path):
    assert repr(result) == "<picture 4 (80 x 60): 1 \\x1b[31mdog, 1 cat>"
    nothing = replace(result, boxes=np.zeros((0, 4), np.float32), labels=np.zeros(0, int), scores=np.zeros(0))
    assert (
        repr(replace(nothing, path=tmp_path / "a.mp4", frame=7))
        == f"<{tmp_path / 'a.mp4'}, frame 7 (80 x 60): nothing>"
    )
    assert (len(nothing), nothing.names, nothing.to_coco()) == (0, [], [])


def test_it_is_drawn_on_a_copy(result):
    drawn = result.draw()
    assert (drawn.shape, drawn.dtype) == ((60, 80, 3), np.uint8)
    assert (drawn[35, 10] != 90).any()  # the left side of the first box
    assert (GROUND == 90).all()


def test_the_truth_is_drawn_in_dashes(result):
    truth = Sample(np.array([[50, 45, 70, 55]], np.float32), np.array([1]), np.zeros((0, 4), np.float32))
    alone, beside = result.draw(), replace(result, truth=truth).draw()
    changed = np.argwhere((alone != beside).any(-1))
    assert changed.min(0).tolist() == [45, 50]
    assert changed.max(0).tolist() == [55, 70]


@pytest.mark.parametrize("name", ["a.jpg", "inner/a.png", "a.webp"])
def test_it_is_saved_in_the_format_of_its_suffix(result, tmp_path, name):
    assert result.save(str(tmp_path / name)) == tmp_path / name
    saved = Image.open(tmp_path / name)
    assert (saved.format, saved.size) == (
        {".jpg": "JPEG", ".png": "PNG", ".webp": "WEBP"}[(tmp_path / name).suffix],
        (80, 60),
    )
    np.testing.assert_allclose(np.asarray(saved.convert("RGB")).mean((0, 1)), result.draw().mean((0, 1)), atol=3)


def test_what_it_was_found_in_is_not_drawn_on(result, tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), GROUND)
    (tmp_path / "link.png").symlink_to(tmp_path / "a.png")
    found = replace(result, path=tmp_path / "a.png")
    before = (tmp_path / "a.png").read_bytes()
    for name in ("a.png", "link.png"):
        with pytest.raises(UserError, match="is the picture itself, which is not drawn on; name another file"):
            found.save(tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == before
    with pytest.raises(UserError, match=r"OpenCV writes no pictures '\.pdf'; write \.jpg, \.png or \.webp"):
        found.save(tmp_path / "a.pdf")
    with pytest.raises(UserError, match="OpenCV writes no pictures ''"):
        found.save(tmp_path / "a")


def test_a_notebook_shows_it(result, monkeypatch):
    """As a value of a cell, and by show, which elsewhere returns the picture and opens nothing."""
    np.testing.assert_array_equal(np.asarray(result.show()), result.draw())
    assert result._repr_jpeg_()[:2] == b"\xff\xd8"
    shown = []
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=1)))
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=shown.append))
    assert result.show() is None
    assert [picture.size for picture in shown] == [(80, 60)]
