"""Every match is pycocotools'."""

import numpy as np
import pytest
from helpers.matched import evaluated, scene

from detector.evaluation import matching
from detector.evaluation.matching import AREAS, IOUS, Guesses, Truth, match
from detector.evaluation.precision import accumulate


def check_equal(found, evaluation):
    """Every outcome in every range of areas is that of `evalImgs`; returns how many there are."""
    place = np.full(found.source.max() + 1, -1)
    place[found.source] = np.arange(len(found.source))
    count, images = 0, len(evaluation.params.imgIds)
    seen = np.zeros(len(found.source), bool)
    for i, one in enumerate(evaluation.evalImgs):
        if one is None or not one["dtIds"]:
            continue
        area = i // images % len(AREAS)
        here = place[np.array(one["dtIds"]) - 1]
        assert (here >= 0).all()
        assert np.array_equal(found.rank[here], np.arange(len(here)))
        assert np.array_equal(found.object[area][:, here] + 1, one["dtMatches"])
        assert np.array_equal(found.ignored[area][:, here], one["dtIgnore"])
        seen[here] = True
        count += one["dtMatches"].size
    assert seen.all()
    return count


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("pairs", [50, 1 << 21])
def test_every_outcome_is_pycocotools(seed, pairs, monkeypatch):
    monkeypatch.setattr(matching, "_PAIRS", pairs)
    truth, guesses = scene(seed)
    found, evaluation = match(truth, guesses), evaluated(truth, guesses, 25, 5)
    assert check_equal(found, evaluation) == len(found.source) * len(IOUS) * len(AREAS)
    assert len(found.source) < len(guesses.scores)  # some were beyond a hundred
    assert found.right().any()
    assert (found.ignored[0] & (found.object[0] >= 0)).any()
    numbers = accumulate(found, truth.labels, 5)
    assert np.array_equal(numbers.precision, evaluation.eval["precision"][..., -1])
    assert np.array_equal(numbers.recall, evaluation.eval["recall"])
    assert (numbers.precision[:, :, 4] == -1).all()  # the class without objects


@pytest.mark.slow
def test_many_classes():
    truth, guesses = scene(9, images=60, objects=900, detections=4000, classes=1203)
    found, evaluation = match(truth, guesses), evaluated(truth, guesses, 60, 1203)
    check_equal(found, evaluation)
    numbers = accumulate(found, truth.labels, 1203)
    assert np.array_equal(numbers.precision, evaluation.eval["precision"][..., -1])
    assert np.array_equal(numbers.recall, evaluation.eval["recall"])


def test_by_hand():
    """Two objects and a crowd in an image; another class; another image without objects."""
    truth = Truth(
        image=np.array([0, 0, 0, 0]),
        labels=np.array([0, 0, 0, 1]),
        xywh=np.array([[0.0, 0, 10, 10], [0, 5, 10, 10], [50, 50, 40, 40], [0, 0, 10, 10]]),
        areas=np.array([100.0, 100, 1600, 100]),
        crowd=np.array([False, False, True, False]),
    )
    guesses = Guesses(
        image=np.array([0, 0, 0, 0, 0, 1]),
        labels=np.array([0, 0, 0, 0, 0, 0]),
        xywh=np.array(
            [[0.0, 1, 10, 10], [0, 0, 10, 10], [50, 50, 10, 10], [60, 60, 10, 10], [0, 0, 9, 9], [0, 0, 5, 5]]
        ),
        scores=np.array([0.5, 0.9, 0.8, 0.7, 0.4, 0.95]),
    )
    found = match(truth, guesses)
    assert found.source.tolist() == [5, 1, 2, 3, 0, 4]
    assert found.rank.tolist() == [0, 0, 1, 2, 3, 4]
    half, three_quarters = found.object[0, 0].tolist(), found.object[0, 5].tolist()
    # the second best takes the first object whole; the crowd takes two; the first object is gone, and with the second
    # the overlap is 6 of 14 rows
    assert half == [-1, 0, 2, 2, -1, -1]
    assert three_quarters == half
    assert found.ignored[0, 0].tolist() == [False, False, True, True, False, False]
    assert found.right()[0].tolist() == [False, True, False, False, False, False]
    assert found.wrong()[0].tolist() == [True, False, False, False, True, True]
    assert found.counts.tolist()[0] == [True, True, False, True]
    assert found.ignored[3, 0].all()  # none of them is large
    assert found.counts.tolist()[3] == [False] * 4


@pytest.mark.parametrize(("objects", "detections"), [(0, 5), (5, 0), (0, 0)])
def test_nothing_to_match(objects, detections):
    rng = np.random.default_rng(0)

    def some(number):
        return np.zeros(number, np.int64), np.zeros(number, np.int64), rng.uniform(1, 20, (number, 4))

    truth = Truth(*some(objects), np.full(objects, 9.0), np.zeros(objects, bool))
    found = match(truth, Guesses(*some(detections), rng.random(detections)))
    assert found.object.shape == found.ignored.shape == (4, 10, detections)
    assert not found.right().any()
    numbers = accumulate(found, truth.labels, 2)
    assert set(numbers.precision[..., 0, 0].ravel()) == ({0.0} if objects else {-1.0})
    assert set(numbers.recall[:, 0, 0].ravel()) == ({0.0} if objects else {-1.0})
    assert (numbers.precision[:, :, 1] == -1).all()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("far", [[0, 0, 1e200, 1e200], [1e308, 0, 1e308, 10], [-1e308, -1e308, 1.7e308, 1.7e308]])
@pytest.mark.parametrize("crowd", [False, True])
def test_boxes_beyond_all_numbers_are_wrong_and_warn_of_nothing(far, crowd):
    boxes = np.array([[0.0, 0, 10, 10], far])
    one, two = np.zeros(1, np.int64), np.zeros(2, np.int64)
    truth = Truth(two, two, boxes, np.full(2, 100.0), np.array([False, crowd]))
    found = match(truth, Guesses(np.r_[one, one], two, boxes, np.array([0.5, 0.9])))
    place = found.source.tolist().index(0)
    assert (found.object[0, :, place] == 0).all()
    assert (found.object[0, :, 1 - place] == -1).all()
