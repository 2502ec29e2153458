"""Boxes in pictures that an EXIF tag turns, against what Pillow makes of the pixels."""

import numpy as np
import pytest
from PIL import Image, ImageOps

from detector.data.turning import turned


@pytest.mark.parametrize("tag", range(1, 9))
def test_boxes_turn_as_pixels_do(tmp_path, tag):
    boxes = np.array([[11, 3, 7, 5], [0, 0, 1, 2], [28, 19, 2, 1]])
    exif = Image.Exif()
    exif[0x0112] = tag
    for box, (x, y, w, h) in zip(turned(boxes.astype(float), tag, 20, 30).astype(int).tolist(), boxes):
        pixels = np.zeros((20, 30), np.uint8)
        pixels[y : y + h, x : x + w] = 255
        Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
        shown = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / "a.png")))
        rows, columns = np.nonzero(shown)
        assert box == [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]


@pytest.mark.parametrize("tag", range(1, 9))
def test_back_is_by_the_tag_that_undoes_it(tag):
    boxes = np.array([[1.25, 2, 3, 4.5], [5, 6, 7, 8]])
    back = {6: 8, 8: 6}.get(tag, tag)
    sides = (20, 30) if tag < 5 else (30, 20)
    np.testing.assert_array_equal(turned(turned(boxes, tag, 20, 30), back, *sides), boxes)
