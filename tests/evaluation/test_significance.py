"""Intervals by the bootstrap, and Holm's correction."""

import math

import numpy as np
import pytest
from helpers.matched import scene

from detector.evaluation.matching import Guesses, Truth, match
from detector.evaluation.report import MEASURES
from detector.evaluation.significance import (
    Judged,
    Resampled,
    bootstrap_weights,
    difference,
    differences,
    holm,
    jackknife_weights,
    less,
    resample,
    spread,
)


def judged(truth, guesses, images, classes=1):
    return Judged(match(truth, guesses), truth.image, truth.labels, classes, images)


def hits(found):
    """A detector that finds the one object of each image where `found` says so."""
    number = len(found)
    ones = np.arange(number), np.zeros(number, np.int64), np.tile([0.0, 0, 50, 50], (number, 1))
    truth = Truth(*ones, np.full(number, 2500.0), np.zeros(number, bool))
    return judged(truth, Guesses(*(column[found] for column in ones), np.full(found.sum(), 0.5)), number)


def test_400_images_of_one_box_have_the_exact_standard_error():
    rng = np.random.default_rng(0)
    first, second = rng.random(400) < 0.6, rng.random(400) < 0.7
    exact = (second.astype(float) - first).std() / math.sqrt(400)
    found = differences(hits(second), hits(first), 10_000)[0]["AR100"]
    assert exact == pytest.approx(0.03356, abs=1e-5)
    assert found.se == pytest.approx(exact, rel=0.03)
    assert found.value == pytest.approx(second.mean() - first.mean())
    assert found.interval[0] == pytest.approx(found.value - 1.96 * exact, abs=0.006)
    assert found.bca == pytest.approx(found.interval, abs=0.006)
    assert not found.tie
    assert found.p < 0.02


def test_a_detector_ties_with_itself_and_order_turns_the_sign():
    truth, guesses = scene(0)
    worse = guesses._replace(xywh=guesses.xywh + 3)
    one, other = (judged(truth, some, 25, 5) for some in (guesses, worse))
    same, classes = differences(one, one, 100)
    assert list(same) == list(MEASURES)
    assert len(classes) == 5
    assert same["AP"] == (0, 0, (0, 0), same["AP"].bca, 1)
    assert same["AP"].tie
    assert math.isnan(classes[4].value)  # it has no object
    ahead, behind = (differences(*pair, 100)[0]["AP"] for pair in ((one, other), (other, one)))
    assert ahead.value == -behind.value > 0
    assert ahead.interval == pytest.approx([-v for v in behind.interval[::-1]])
    assert ahead.se == pytest.approx(behind.se)


def test_other_objects_are_refused():
    truth, guesses = scene(0)
    other, found = scene(1)
    with pytest.raises(ValueError, match="tested on different images or objects"):
        differences(judged(truth, guesses, 25, 5), judged(other, found, 25, 5), 10)


def test_weights_are_drawn_with_replacement_and_depend_on_the_seed_alone():
    chunks = bootstrap_weights(30, 120, 7)
    assert iter(chunks) is chunks  # one at a time: of many images all of them take gigabytes
    weights = np.concatenate([*chunks])
    assert weights.shape == (120, 30)
    assert (weights.sum(1) == 30).all()
    assert weights.var() == pytest.approx(1 - 1 / 30, rel=0.1)
    assert np.array_equal(weights, np.concatenate([*bootstrap_weights(30, 120, 7)]))
    assert not np.array_equal(weights, np.concatenate([*bootstrap_weights(30, 120, 8)]))


def test_the_jackknife_leaves_out_every_image_once():
    assert np.array_equal(jackknife_weights(5), 1 - np.eye(5, dtype=np.int32))
    many = jackknife_weights(501)
    assert many.shape == (200, 501)
    assert ((1 - many).sum(0) == 1).all()


def test_bca_by_hand():
    """Replicates spread evenly over 0..1, so that each bound is the share at which it is read off."""
    even = np.linspace(0, 1, 100_001)
    biased = difference(0.6, even, np.array([1.0, 2, 3]))  # z0 = 0.25335, a = 0
    assert biased.bca == pytest.approx((0.07308, 0.99318), abs=1e-4)
    skewed = difference(0.5, even, np.array([0.0, 0, 0, 3]))  # z0 = 0, a = -10.125 / (6 * 6.75 ** 1.5)
    assert skewed.bca == pytest.approx((0.00786, 0.95042), abs=1e-4)
    assert skewed.interval == pytest.approx((0.025, 0.975))
    assert difference(0.5, even, np.array([1.0, 1])).bca == pytest.approx((0.025, 0.975), abs=1e-4)


def test_holm():
    assert holm([0.01, 0.04, 0.03, math.nan]) == pytest.approx([0.03, 0.06, 0.06, math.nan], nan_ok=True)
    assert holm([0.5, 0.9]) == [1.0, 1.0]


def in_images(k, first, second, images=60):
    """Two detectors that find the object that the first k of the images hold, where they are said to."""
    ones = np.arange(k), np.zeros(k, np.int64), np.tile([0.0, 0, 50, 50], (k, 1))
    truth = Truth(*ones, np.full(k, 2500.0), np.zeros(k, bool))
    pair = []
    for found in (first, second):
        guesses = Guesses(*(column[found] for column in ones), np.full(found.sum(), 0.5))
        pair.append(judged(truth, guesses, images))
    return differences(*pair, 200)


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_few_images_tell_nothing(k):
    """The object of each image is found by one of the two alone: no signs of so few differences are rare."""
    measures, (of_class,) = in_images(k, np.ones(k, bool), np.zeros(k, bool))
    for found in (measures["AP"], measures["APm"], measures["AR1"], of_class):
        assert found.value == pytest.approx(1)
        assert found.p == 2 / 2**k
        assert found.tie
        assert np.isnan([found.se, *found.interval, *found.bca]).all()


def test_false_detections_do_not_make_up_for_few_objects():
    """Two images hold an object, found by one detector alone; the other has a false one on each of 60 images."""
    ones = np.arange(60), np.zeros(60, np.int64), np.tile([0.0, 0, 50, 50], (60, 1))
    truth = Truth(*(column[:2] for column in ones), np.full(2, 2500.0), np.zeros(2, bool))
    wrong = Guesses(*ones[:2], ones[2] + 50, np.full(60, 0.5))
    right = Guesses(*truth[:3], np.full(2, 0.5))
    found = differences(judged(truth, right, 60), judged(truth, wrong, 60), 100)[0]["AP"]
    assert (found.value, found.p, found.tie) == (pytest.approx(1), 0.5, True)


def test_six_images_tell_two_apart():
    measures, (of_class,) = in_images(6, np.ones(6, bool), np.zeros(6, bool))
    for found in (measures["AP"], of_class):
        assert (found.p, found.tie) == (2 / 64, False)
        assert found.interval == pytest.approx((1, 1))


def two_classes(common, rare, holding=2):
    """Two detectors on 60 images that hold a common object each, the first ones a rare one too; what they find."""
    image, labels = np.r_[np.arange(60), np.arange(holding)], np.r_[np.zeros(60, int), np.ones(holding, int)]
    xywh = np.tile([0.0, 0, 50, 50], (len(image), 1))
    truth = Truth(image, labels, xywh, np.full(len(image), 2500.0), np.zeros(len(image), bool))
    pair = []
    for both in zip(common, rare, strict=True):
        found = np.concatenate(both)
        guesses = Guesses(image[found], labels[found], xywh[found], np.full(found.sum(), 0.5))
        pair.append(judged(truth, guesses, 60, 2))
    return differences(*pair, 500)


def test_a_class_of_two_images_does_not_decide_on_the_mean_over_classes():
    """The detectors differ on 20 images, 10 for either; what makes the difference of 50 points is two of them."""
    common = np.arange(60) < 30, (np.arange(60) >= 10) & (np.arange(60) < 40)
    measures, classes = two_classes(common, (np.ones(2, bool), np.zeros(2, bool)))
    assert measures["AR100"].value == pytest.approx(0.5)
    assert measures["AR100"].p == pytest.approx(0.5, abs=0.03)
    for name in ("AP", "AP50", "AR100"):
        assert measures[name].tie
    assert classes[1].tie


def test_a_class_of_many_images_decides():
    common = np.arange(60) < 30, (np.arange(60) >= 10) & (np.arange(60) < 40)
    rare = np.ones(12, bool), np.zeros(12, bool)
    measures, classes = two_classes(common, rare, 12)
    assert not measures["AP"].tie
    assert measures["AP"].p < 0.01
    assert not classes[1].tie


def test_a_difference_of_the_common_class_is_not_hidden_by_a_rare_one():
    """The rare class is equal: its two images say nothing for or against."""
    common = np.arange(60) < 50, np.arange(60) < 20
    measures, _ = two_classes(common, (np.ones(2, bool), np.ones(2, bool)))
    assert not measures["AR100"].tie
    assert measures["AR100"].p < 0.01


def test_two_that_differ_on_few_of_many_images_are_not_told_apart():
    """Of 60 images one of the two finds 4 more: without that rule p would be about 0.04."""
    first, second = np.arange(60) < 30, np.arange(60) < 26
    found = in_images(60, first, second)[0]["AR100"]
    assert found.p == 2 / 2**4
    assert found.tie
    assert found.interval[0] == 0 < found.value < found.interval[1]
    assert found.se > 0
    behind = in_images(60, second, first)[0]["AR100"]
    assert behind.tie
    assert behind.interval[1] == 0


@pytest.mark.filterwarnings("error")
def test_one_image_alone_warns_of_nothing():
    found = in_images(1, np.ones(1, bool), np.zeros(1, bool), images=1)[0]["AP"]
    assert (found.value, found.p, found.tie) == (pytest.approx(1), 1, True)
    assert math.isnan(found.interval[0])
    assert np.isnan(difference(0.5, np.array([0.4, 0.5, 0.6]), np.empty(0)).bca).all()


def test_rounding_is_no_difference():
    exact = np.full(50, 0.1 + 0.2)
    gap = less(Resampled(exact, exact[None], exact[None]), Resampled(exact * 0 + 0.3, exact[None], exact[None]))
    assert not gap.value.any()
    found = difference(0.3, exact, exact)
    assert found.se == 0
    assert found.interval == (0.3, 0.3)


def of_rare_classes(rng, chance, classes=40, objects=3, images=100):
    """A detector that finds each object of many rare classes with a chance, and as many times something else."""
    labels = np.repeat(np.arange(classes), objects)
    image = np.concatenate([rng.choice(images, objects, replace=False) for _ in range(classes)])
    box = np.tile([0.0, 0, 50, 50], (len(labels), 1))
    truth = Truth(image, labels, box, np.full(len(labels), 2500.0), np.zeros(len(labels), bool))
    right = rng.random(len(labels)) < chance
    guesses = Guesses(image, labels, np.where(right, 0, 200)[:, None] + box, rng.random(len(labels)))
    return judged(truth, guesses, images, classes)


def test_replicates_that_lack_rare_classes_do_not_move_an_interval():
    one = resample(of_rare_classes(np.random.default_rng(3), 0.3), 400)
    found = spread(one)[0]
    low, high = np.quantile(one.drawn[:, 0], (0.025, 0.975))
    bias = one.drawn[:, 0].mean() - found.value
    assert bias > 0.02
    assert found.interval == pytest.approx((low - bias, high - bias))
    assert found.interval[0] < found.value < found.interval[1]


def test_intervals_end_at_what_is_possible():
    drawn, left = np.linspace(-0.1, 0.3, 50), np.linspace(0, 0.1, 50)
    assert difference(0.02, drawn, left).interval[0] < -0.1
    assert difference(0.02, drawn, left, 0.0).interval[0] == 0
    assert difference(0.98, drawn + 0.9, left).interval[1] == 1
    one = Resampled(np.array([0.02]), drawn[:, None], left[:, None])
    assert spread(one)[0].interval[0] == 0  # of a measure
    assert spread(one._replace(least=np.zeros(1)))[0].interval[0] < -0.1  # of a difference


def test_p_is_that_of_the_interval():
    """The replicates of a difference are on the other side of 0 more often once their bias is taken off."""
    drawn = np.random.default_rng(0).normal(0.03, 0.01, 5_000)
    as_they_are, less_the_bias = (difference(value, drawn, drawn[:50]) for value in (drawn.mean(), 0.015))
    assert as_they_are.p < 0.01
    assert not as_they_are.tie
    assert 0.1 < less_the_bias.p < 0.17  # 1.5 standard errors
    assert less_the_bias.tie


@pytest.mark.slow
def test_intervals_of_many_rare_classes_cover_the_truth():
    """120 simulated sets of 40 classes with 3 objects each; the truth is the mean of AP over 2,000 of them."""
    rng = np.random.default_rng(7)
    truth = np.mean([resample(of_rare_classes(rng, 0.3), 2).value[0] for _ in range(2_000)])
    found = [spread(resample(of_rare_classes(rng, 0.3), 200, trial))[0] for trial in range(120)]
    assert 105 <= sum(one.interval[0] <= truth <= one.interval[1] for one in found) <= 119


@pytest.mark.slow
def test_intervals_cover_the_truth_as_often_as_they_say():
    """1000 simulated pairs of models of known hit rates on 200 images: 95 % intervals of AR100, give or take 2 %."""
    rng, covered, corrected = np.random.default_rng(5), 0, 0
    for trial in range(1000):
        common = rng.random(200)  # hard images are hard for both
        first = 0.5 * common + 0.5 * rng.random(200) < 0.55
        second = 0.5 * common + 0.5 * rng.random(200) < 0.5
        truth = (1 - 2 * 0.45**2) - 0.5  # of the sum of two uniforms
        found = differences(hits(first), hits(second), 500, trial)[0]["AR100"]
        covered += found.interval[0] <= truth <= found.interval[1]
        corrected += found.bca[0] <= truth <= found.bca[1]
    assert 930 <= covered <= 970
    assert 930 <= corrected <= 970


def test_nothing_drawn_has_no_interval():
    found = difference(math.nan, np.array([0.1, 0.2]), np.array([0.1]))
    assert math.isnan(found.se)
    assert found.tie
