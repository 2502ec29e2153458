from pathlib import Path

import numpy as np
import pytest

from detector.data.packed import clip_to_images
from detector.data.problems import Problems

WIDTH, HEIGHT = 200, 100


def boxes(number=60, seed=0):
    rng = np.random.default_rng(seed)
    low = rng.integers(0, (170, 80), (number, 2))
    return np.concatenate([low, rng.integers(5, (WIDTH, HEIGHT) - low + 1)], 1).astype(float)


def told(some, form="coco"):
    problems = Problems(everything=True)
    limits = np.tile([WIDTH, HEIGHT], (len(some), 1))
    ids = np.arange(len(some))
    clip_to_images(Path("a.json"), some, limits, ids, lambda row: ("1.jpg", "a"), problems, form=form)
    return [one.text for one in problems.findings if one.kind == "boxes-misplaced"]


def swapped(some):
    return some[:, [1, 0, 3, 2]]


def centred(some):
    return np.concatenate([some[:, :2] + some[:, 2:] / 2, some[:, 2:]], 1)


def as_corners(some):
    return np.concatenate([some[:, :2], some[:, :2] + some[:, 2:]], 1)


@pytest.mark.parametrize(
    ("change", "form", "said"),
    [
        (swapped, "coco", "exchange x and y, width and height"),
        (swapped, "voc", "exchange x and y"),
        (centred, "coco", "if x, y were the centre"),
        (lambda some: np.concatenate([some[:, :2] - some[:, 2:] / 2, some[:, 2:]], 1), "yolo", "upper left corner"),
        (lambda some: np.concatenate([some[:, :2], some[:, 2:] - some[:, :2]], 1), "voc", "were width and height"),
        (lambda some: 2 * some, "coco", "2.0 times as large"),
        (lambda some: 2 * some, "voc", "2.0 times as large"),
    ],
)
def test_what_the_numbers_may_mean(change, form, said):
    for seed in range(5):
        some = change(boxes(seed=seed))
        (text,) = told(some, form)
        assert said in text
        assert text.startswith("a.json: ")
        some[0] = 150, 50, 100, 100  # inside by neither meaning
        assert said in told(some, form)[0]


def test_what_fits_no_other_meaning_is_left_alone():
    good = boxes(100)
    assert told(good) == told(good, "voc") == told(good, "yolo") == told(good[:0]) == []
    assert told(as_corners(good)) == []  # another kind
    ragged = good.copy()
    ragged[:20, :2] -= 30  # objects that reach out to all sides
    ragged[20:40, 2:] += 60
    for form in ("coco", "voc", "yolo"):
        assert told(ragged, form) == []
    few = good.copy()
    few[:4] = swapped(good[:4])
    assert told(few) == []
