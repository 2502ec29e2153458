"""On how many images a difference rests."""

import math

import numpy as np
import pytest
from helpers.matched import scene

from detector.evaluation.evidence import added, differing, evidence, flipped, least_p
from detector.evaluation.matching import AREAS, Guesses, Truth, match
from detector.evaluation.report import MEASURES

COLUMN = {name: place for place, name in enumerate(MEASURES)}


def of_scene(truth, guesses, classes=5, images=25):
    return evidence(match(truth, guesses), truth.image, truth.labels, classes, images)


@pytest.mark.parametrize("seed", range(3))
def test_images_that_hold_what_is_to_be_found(seed):
    truth, guesses = scene(seed)
    found = of_scene(truth, guesses).holding
    for name, measure in MEASURES.items():
        low, high = AREAS[measure.area]
        counts = ~truth.crowd & (truth.areas >= low) & (truth.areas <= high)
        assert found[COLUMN[name]] == len({*truth.image[counts].tolist()})
    for k in range(5):
        assert found[12 + k] == len({*truth.image[~truth.crowd & (truth.labels == k)].tolist()})


def test_images_on_which_two_differ():
    """Another score, a worse box, one detection more or less: each is a difference of its image and class alone."""
    truth, guesses = scene(0)
    number = len(guesses.scores)
    guesses = guesses._replace(scores=np.random.default_rng(1).permutation(number) / number)  # without ties
    first = of_scene(truth, guesses)
    assert not differing(first, first).any()
    order = np.random.default_rng(0).permutation(number)
    assert not differing(first, of_scene(truth, Guesses(*(column[order] for column in guesses)))).any()
    place = int(np.flatnonzero(guesses.image == 7)[0])
    changed = np.arange(number) == place
    fewer = Guesses(*(column[~changed] for column in guesses))
    scores = np.where(changed, guesses.scores / 2, guesses.scores)
    for other in (fewer, guesses._replace(scores=scores)):
        one = differing(first, of_scene(truth, other))
        assert one[COLUMN["AP"]] == 1
        assert one[12:].tolist() == (np.arange(5) == guesses.labels[place]).tolist()
    half = guesses.image < 12
    fewer = Guesses(*(column[~half] for column in guesses))
    assert differing(first, of_scene(truth, fewer))[COLUMN["AP"]] == len({*guesses.image[half].tolist()})


def test_boxes_that_differ_and_find_the_same_are_alike():
    place = np.arange(3)
    truth = Truth(place, place * 0, np.tile([0.0, 0, 50, 50], (3, 1)), np.full(3, 2500.0), np.zeros(3, bool))
    guesses = Guesses(*truth[:3], np.full(3, 0.5))
    first = of_scene(truth, guesses, 1, 3)
    for by, images in ((0.1, 0), (1.0, 1)):  # an IoU of 0.996, and of 0.92: not for 0.95
        moved = guesses._replace(xywh=guesses.xywh + by * (place == 1)[:, None])
        assert differing(first, of_scene(truth, moved, 1, 3))[COLUMN["AP"]] == images


def test_trainings_in_another_order_are_alike():
    truth, guesses = scene(0)
    one, other = of_scene(truth, guesses), of_scene(truth, guesses._replace(scores=guesses.scores / 2))
    assert not differing(added([one, other]), added([other, one])).any()
    assert differing(added([one, other]), added([one, one]))[0] > 20


def test_nothing_found_and_nothing_to_find():
    truth, guesses = scene(0)
    none = Guesses(*(column[:0] for column in guesses))
    empty = of_scene(truth, none)
    assert not differing(empty, empty).any()
    assert differing(empty, of_scene(truth, guesses))[0] == len({*guesses.image.tolist()})
    nothing = Truth(*(column[:0] for column in truth))
    assert not of_scene(nothing, none).holding.any()


def test_least_p():
    assert [least_p(k) for k in (0, 1, 2, 5, 6)] == [1, 1, 0.5, 0.0625, 0.03125]
    assert 0 <= least_p(100_000) < 1e-9


def sizes(many, few, small=0):
    """On what two classes rest, each in images of its own; the second also in some where its object is small."""
    image, labels = np.arange(many + few + small), np.r_[np.zeros(many, int), np.ones(few + small, int)]
    areas = np.r_[np.full(many + few, 2500.0), np.full(small, 100.0)]
    number = len(image)
    truth = Truth(image, labels, np.tile([0.0, 0, 50, 50], (number, 1)), areas, np.zeros(number, bool))
    return of_scene(truth, Guesses(*(column[:0] for column in truth[:3]), np.empty(0)), 2, number)


@pytest.mark.parametrize("common", [-0.001, 0, 0.001])
def test_few_images_do_not_decide_whatever_the_others_say_a_little_of(common):
    found = flipped(sizes(40, 2, 1), np.tile([common, 0.5], (12, 1)))
    assert found[COLUMN["APm"]] == 0.5  # two alike
    assert found[COLUMN["AP"]] == 0.25  # three
    assert found[COLUMN["APs"]] == 1


def test_many_images_decide_unless_few_could_undo_it():
    """Class 1 has 0.2 from two images: with random signs it is -0.2 in a quarter, 0 in half."""
    gaps = np.array([[common, 0.2] for common in (0.3, 0.1, -0.3, -0.21, -0.1, 0.3, *[0.3] * 6)])
    gaps[5, 1] = np.nan
    basis = sizes(40, 2)
    basis = basis._replace(held=np.repeat(basis.held[:1], 4, axis=0))
    assert flipped(basis, gaps)[:6].tolist() == [0, 0.5, 0, 0, 0.5, 0]


def test_random_signs_are_those_of_all():
    """Twelve classes of two images each: what all signs say, to the third digit."""
    labels, image = np.repeat(np.arange(12), 2), np.arange(24)
    truth = Truth(image, labels, np.tile([0.0, 0, 50, 50], (24, 1)), np.full(24, 2500.0), np.zeros(24, bool))
    basis = of_scene(truth, Guesses(*(column[:0] for column in truth[:3]), np.empty(0)), 12, 24)
    alike = flipped(basis, np.ones((12, 12)))
    assert alike[0] == 0  # 2 of 2^24
    mixed = np.tile(np.r_[np.ones(7), -np.ones(5)], (12, 1))  # 4 of 24 signs more than half
    exact = sum(math.comb(24, k) for k in range(25) if abs(2 * k - 24) >= 4) / 2**24
    assert flipped(basis, mixed)[0] == pytest.approx(exact, abs=0.03)


def test_nothing_differs():
    assert flipped(sizes(40, 2), np.zeros((12, 2))).tolist() == [1] * 12
