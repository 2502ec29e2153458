"""Boxes around segmentations, where a record of COCO has none of its own."""

import json

import msgspec
import numpy as np
import pytest

from detector.data.formats import coco as reader
from detector.data.formats.segmentation import box_around
from detector.data.problems import Problems

SQUARE = [[10, 10, 40, 10, 40, 30.5, 10, 30.5]]
RUNS = {"size": [6, 4], "counts": [7, 3, 3, 2, 9]}
"""Rows 1 to 3 of the second column, rows 1 and 2 of the third."""


def around(shape):
    return box_around(msgspec.Raw(json.dumps(shape).encode()))


@pytest.mark.parametrize(
    ("shape", "box"),
    [
        (SQUARE, (10, 10, 30, 20.5)),
        ([*SQUARE, [0, 0, 1, 0, 1, 50]], (0, 0, 40, 50)),
        (RUNS, (1, 1, 2, 3)),
        ({"size": [6, 4], "counts": [4, 4, 16]}, (0, 0, 2, 6)),  # over the end of a column
        ({"size": [6, 4], "counts": [0, 24]}, (0, 0, 4, 6)),
        ({"size": [6, 4], "counts": [0, 0, 23, 1]}, (3, 5, 1, 1)),
    ],
)
def test_boxes_by_hand(shape, box):
    assert around(shape) == box


@pytest.mark.parametrize(
    "shape",
    [
        None, [], [[]], [[1, 2, 3, 4]], [[1, 2, 3, 4, 5, 6, 7]], [[1, 2, 1, 5, 1, 9]], {"x": 1}, "a", 3, [[{"x": 1}]],
        {"size": [6, 4], "counts": [24]}, {"size": [6, 4], "counts": [3, 4]}, {"size": [6, 4], "counts": []},
        {"size": [6, 4], "counts": [9, -3, 18]}, {"size": [0, 0], "counts": [0, 0]}, {"size": [6], "counts": [24]},
        {"size": [6, 4], "counts": "\u00e9"}, {"size": [6, 4], "counts": "o"}, {"size": [6, 4], "counts": "o" * 99},
    ],
)  # fmt: skip
def test_what_is_no_segmentation_or_has_no_area_has_no_box(shape):
    assert around(shape) is None
    assert box_around(msgspec.UNSET) is None


def test_masks_as_texts_have_the_boxes_of_pycocotools():
    mask = pytest.importorskip("pycocotools.mask")
    rng = np.random.default_rng(0)
    for _ in range(40):
        height, width = rng.integers(1, 200, 2)
        pixels = np.zeros((height, width), np.uint8, order="F")
        for y, x in zip(rng.integers(0, height, 3), rng.integers(0, width, 3), strict=True):
            pixels[y : y + rng.integers(1, 90), x : x + rng.integers(1, 90)] = 1
        text = mask.encode(pixels)
        shape = {"size": [int(height), int(width)], "counts": text["counts"].decode()}
        assert around(shape) == tuple(mask.toBbox(text).tolist())


@pytest.mark.parametrize("shape", [SQUARE, RUNS])
@pytest.mark.parametrize("said", [[0, 0, 0, 0], [5, 5, 0, 3], [5, 5, -1, 2], [], None, ...])
def test_the_box_of_a_segmentation_counts_where_there_is_none(coco, shape, said):
    rows = [{"id": id_, "image_id": 1, "bbox": [1, 2, 10, 20], "segmentation": SQUARE} for id_ in (1, 2, 3)]
    for row in rows[1:]:
        row |= {"bbox": said, "segmentation": shape}
        if said is ...:
            del row["bbox"]
    path = coco.annotate(rows)
    problems = Problems(everything=True)
    index = reader.read(path, problems=problems)
    assert index.boxes_xywh.tolist() == [[1, 2, 10, 20], *[list(around(shape))] * 2]
    assert index.usable.all()
    (line,) = problems.lines
    assert line.endswith(
        "2 of `annotations` have a segmentation and no bbox with an area (the first: annotations[1]); "
        "the box around it is taken"
    )
    assert {finding.kind for finding in problems.findings} == {"box-of-segmentation"}


def test_a_flat_box_without_a_segmentation_stays_flat(coco):
    rows = [{"id": 1, "image_id": 1, "bbox": [1, 2, 0, 0]}, {"id": 2, "image_id": 1, "bbox": [1, 2, 10, 20]}]
    problems = Problems(everything=True)
    index = reader.read(coco.annotate(rows), problems=problems)
    assert index.usable.tolist() == [False, True]
    assert {finding.kind for finding in problems.findings} == {"flat-box"}
