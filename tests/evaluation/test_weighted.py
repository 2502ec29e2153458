"""Measures with weights: all one, they are COCO's; whole numbers, they are those of copies of the images."""

import numpy as np
import pytest
from helpers.matched import scene

from detector.evaluation.coco import value_of
from detector.evaluation.matching import Guesses, Truth, match
from detector.evaluation.precision import accumulate
from detector.evaluation.report import MEASURES
from detector.evaluation.weighted import area_under, weighted


def plain(truth, guesses, classes):
    """COCO's twelve numbers and the AP of each class."""
    found = accumulate(match(truth, guesses), truth.labels, classes)
    values = [value_of(found, measure) for measure in MEASURES.values()]
    of_class = found.precision[..., 0].mean((0, 1))
    return np.array(values), of_class


@pytest.mark.parametrize("seed", range(4))
def test_weights_of_one_give_cocos_numbers(seed):
    truth, guesses = scene(seed)
    found = weighted(match(truth, guesses), truth.image, truth.labels, 5, np.ones((2, 25), np.int32))
    measures, classes = plain(truth, guesses, 5)
    for row in (0, 1):
        assert found.measures[row] == pytest.approx(measures, abs=1e-12)
        assert found.classes[row] == pytest.approx(classes, abs=1e-12)
    assert classes[4] == -1


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("cells", [1, 1 << 22])
def test_weights_are_copies_of_images(seed, cells, monkeypatch):
    monkeypatch.setattr("detector.evaluation.weighted._CELLS", cells)
    truth, guesses = scene(seed, images=12, detections=700)
    rng = np.random.default_rng(seed)
    guesses = guesses._replace(scores=rng.permutation(len(guesses.scores)) / len(guesses.scores))  # without ties
    weights = rng.multinomial(12, np.full(12, 1 / 12), size=4).astype(np.int32)
    found = weighted(match(truth, guesses), truth.image, truth.labels, 5, weights)
    for row, drawn in enumerate(weights):
        measures, classes = plain(copied(truth, drawn), copied(guesses, drawn), 5)
        assert found.measures[row] == pytest.approx(measures, abs=1e-12)
        assert found.classes[row] == pytest.approx(classes, abs=1e-12)


def copied(columns, drawn):
    """Objects or detections of an index in which image i stands drawn[i] times."""
    new = np.cumsum(drawn) - drawn
    rows, images = [], []
    for i, times in enumerate(drawn):
        of_image = np.flatnonzero(columns.image == i)
        for copy in range(times):
            rows.append(of_image)
            images.append(np.full(len(of_image), new[i] + copy))
    rows = np.concatenate(rows)
    others = [column[rows] for column in columns[1:]]
    return type(columns)(np.concatenate(images), *others)


def test_a_class_whose_objects_are_not_drawn_is_left_out_of_the_means():
    truth = Truth(
        image=np.array([0, 1, 1]),
        labels=np.array([0, 0, 1]),
        xywh=np.array([[0.0, 0, 9, 9], [0, 0, 9, 9], [20, 20, 9, 9]]),
        areas=np.full(3, 81.0),
        crowd=np.zeros(3, bool),
    )
    guesses = Guesses(np.array([0]), np.array([0]), np.array([[0.0, 0, 9, 9]]), np.array([0.5]))
    weights = np.array([[1, 1], [2, 0], [0, 2], [0, 0]], np.int32)
    found = weighted(match(truth, guesses), truth.image, truth.labels, 2, weights)
    half = 51 / 101  # the recalls 0, 0.01, .., 0.5
    assert found.classes == pytest.approx(np.array([[half, 0], [1, -1], [0, 0], [-1, -1]]))
    assert found.measures[:, 0] == pytest.approx([half / 2, 1, 0, -1])
    assert found.measures[:, 5] == pytest.approx([-1] * 4)  # nothing is large
    assert found.measures[:, 8] == pytest.approx([0.25, 1, 0, -1])  # average recall


def test_every_recall_of_a_hundredth_is_reached_as_in_pycocotools():
    """right / objects meets every k / n: the comparison is the one of floats that COCO makes, to the ulp."""
    recalls = np.linspace(0, 1, 101)
    for objects in range(1, 301):
        right = np.arange(1, objects + 1)
        counted = 2 * right  # a precision of one half at each
        expected = 0.5 * (np.searchsorted(right / objects, recalls) < objects).mean()
        assert area_under(right[None], counted[None], np.array([objects]))[0] == pytest.approx(expected, abs=1e-12)
