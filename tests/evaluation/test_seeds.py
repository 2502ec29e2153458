"""What several trainings say: seeds paired and not, both sources of chance, and their distribution functions."""

import math

import numpy as np
import pytest

from detector.evaluation.matching import Guesses, Truth, match
from detector.evaluation.seeds import (
    Pairing,
    Training,
    combine,
    of_arm,
    of_pair,
    of_seeds,
    pair,
    sign_flip,
    t_quantile,
    together,
    unpaired,
)
from detector.evaluation.significance import Difference, Judged, Resampled, bootstrap_weights, resample

T2 = 4.302653  # Student's t that 0.975 lie below, by degrees of freedom
NONE = (math.nan, math.nan)


def test_student_t():
    for freedom, value in (
        (1, 12.7062),
        (2, 4.3027),
        (3, 3.1824),
        (4, 2.7764),
        (5, 2.5706),
        (10, 2.2281),
        (29, 2.0452),
    ):
        assert t_quantile(0.975, freedom) == pytest.approx(value, abs=1e-4)
    assert t_quantile(0.95, 7) == pytest.approx(1.8946, abs=1e-4)
    assert t_quantile(0.975, 5_000) == pytest.approx(1.95996, abs=1e-3)


def test_seeds_by_hand():
    found = of_seeds([0.01, 0.02, 0.03])
    assert found.mean == pytest.approx(0.02)
    assert found.se == pytest.approx(0.01 / math.sqrt(3))
    assert found.interval == pytest.approx(
        (0.02 - 4.3027 * 0.01 / math.sqrt(3), 0.02 + 4.3027 * 0.01 / math.sqrt(3)), 1e-4
    )
    assert found.p == 2 / 8  # all signs alike: the least that three seeds can reach
    with pytest.raises(ValueError, match="1 seed has no spread"):
        of_seeds([0.1])


def test_sign_flips():
    assert sign_flip(np.array([1.0, 2, 3, 4, 5, 6])) == 2 / 64
    assert sign_flip(np.array([1.0, -1])) == 1
    assert sign_flip(np.array([3.0, -1])) == 1  # |3 - 1| or more: all four
    assert sign_flip(np.array([3.0, 1, 1])) == 0.25
    many = np.random.default_rng(0).normal(0.4, 1, 40)
    assert sign_flip(many) == pytest.approx(
        2 * (1 - 0.5 * (1 + math.erf(many.sum() / math.sqrt(2 * (many**2).sum())))), abs=0.01
    )


def test_two_sources_of_chance():
    assert together(0.03, 0.04) == pytest.approx(0.05)


def of_images(se, value=0.0):
    return Difference(value, se, (value - 2 * se, value + 2 * se), (value - 1, value + 1), 0.5)


def training(seed, value, drawn=(0.0, 1.0)):
    """A run of one measure; its replicates lie about its value."""
    columns = value + np.array(drawn)[:, None] - np.mean(drawn)
    return Training(seed, Resampled(np.array([value]), columns, np.array([[value - 1], [value + 1]])))


def test_both_sources_by_hand():
    """Se 0.03 of 101 images and 0.04 of three seeds: f = 0.05^4 / (0.03^4 / 100 + 0.04^4 / 2) = 4.8522, taken as 4."""
    seeds = of_seeds(np.array([-1, 0, 1]) * 0.04 * math.sqrt(3) + 0.1)
    assert seeds.se == pytest.approx(0.04)
    found = combine(of_images(0.03), 101, seeds)
    assert (found.value, found.se) == pytest.approx((0.1, 0.05))
    assert found.interval == pytest.approx((0.1 - 2.776445 * 0.05, 0.1 + 2.776445 * 0.05), abs=1e-6)
    assert found.p == pytest.approx(0.116117, abs=1e-6)  # of t = 2 with 4 degrees
    assert found.tie
    assert found.images.se == 0.03
    assert np.isnan(found.bca).all()


def test_freedom_is_that_of_the_source_that_counts():
    for scale in np.linspace(0.01, 1, 50):
        three = of_seeds(np.array([0.0, 0.1, 0.3]) * scale)
        alone = combine(of_images(0.0), 101, three)
        assert alone.interval == pytest.approx(three.interval)  # 2 degrees, also where the formula says 1.9999999
    still = combine(of_images(0.01), 31, of_seeds([0.1, 0.1, 0.1]))
    assert still.interval == pytest.approx((0.1 - 2.042272 * 0.01, 0.1 + 2.042272 * 0.01))  # 30 degrees
    assert not still.tie


def test_no_chance_at_all():
    assert combine(of_images(0.0), 10, of_seeds([0.0, 0.0])).p == 1
    ahead = combine(of_images(0.0), 10, of_seeds([0.2, 0.2]))
    assert (ahead.p, ahead.interval, ahead.tie) == (0, (0.2, 0.2), False)


def judged_runs(k, found, images):
    """Trainings that find the objects, of the first k of the images, that `found` says, a row for each training."""
    place, runs = np.arange(k), []
    truth = Truth(place, place * 0, np.tile([0.0, 0, 50, 50], (k, 1)), np.full(k, 2500.0), np.zeros(k, bool))
    for seed, hits in enumerate(found):
        guesses = Guesses(*(column[hits] for column in truth[:3]), np.full(hits.sum(), 0.5))
        runs.append(Training(seed, resample(Judged(match(truth, guesses), truth.image, truth.labels, 1, images), 100)))
    return runs


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("number", [100, 999, 1000])
def test_verdict_interval_and_p_of_images_say_the_same(number, sign):
    """Whatever the share of the replicates beyond 0; of 25 in 1000 the percentiles alone would not hold 0."""
    told = set()
    for beyond in range(number // 20):
        drawn = sign * np.r_[np.linspace(-0.02, -0.01, beyond), np.linspace(0.01, 0.03, number - beyond)]
        value, nothing = np.array([sign * 0.015]), np.zeros((number, 1))
        first = Training(0, Resampled(value, drawn[:, None], np.zeros((2, 1))))
        (found,) = of_pair(pair([first], [Training(0, Resampled(value * 0, nothing, np.zeros((2, 1))))]), 60)
        holds = found.interval[0] <= 0 <= found.interval[1]
        assert found.tie == holds == (found.p >= 0.05), beyond
        assert found.p == pytest.approx(2 * (beyond + 1) / (number + 1))
        told.add(found.tie)
    assert told == {True, False}


@pytest.mark.parametrize("sign", [1, -1])
def test_an_interval_that_is_shown_as_reaching_0_is_a_tie(sign):
    """0.03 points are shown as 0.0, and 0.07 as 0.1."""
    for near, tie in ((0.0003, True), (0.0007, False)):
        ends = sorted((sign * near, sign * 0.02))
        images = Difference(sign * 0.01, 0.005, tuple(ends), NONE, 0.04)
        seeds = of_seeds(np.array([-1, 0, 1]) * 0.001 + sign * (near + T2 * 0.001 / math.sqrt(3)))
        for found in (combine(images, 60, None, 0.0), combine(of_images(0.0), 60, seeds, 0.0)):
            assert (found.tie, found.p >= 0.05) == (tie, tie)
            assert (0 in found.interval) == tie
    (alone,) = of_arm([training(0, 0.01)], 60)  # a measure is no difference
    assert alone.interval == alone.images.interval


@pytest.mark.parametrize("images", [1, 60])
def test_seeds_do_not_make_up_for_few_images(images):
    """One image holds the object, found by all trainings of one arm: no interval, nothing told."""
    first, second = judged_runs(1, np.ones((3, 1), bool), images), judged_runs(1, np.zeros((3, 1), bool), images)
    for found in of_pair(pair(first, second), images):
        if not math.isnan(found.value):
            assert (found.value, found.p, found.tie) == (pytest.approx(1), 1, True)
            assert np.isnan([found.se, *found.interval]).all()
            assert found.seeds.number == 3
    assert math.isnan(of_arm(first, images)[0].interval[0])
    assert math.isnan(of_pair(Pairing(first, second, paired=False), images)[0].interval[0])


def test_seeds_that_differ_on_few_images_alone_tie():
    first, second = np.arange(60) < 31, np.arange(60) < 26
    alike, other = judged_runs(60, np.stack([first] * 3), 60), judged_runs(60, np.stack([second] * 3), 60)
    found = of_pair(pair(alike, other), 60)[8]  # AR100
    assert found.p == 2 / 2**5
    assert found.tie
    assert found.interval[0] == 0 < found.interval[1]
    found = of_pair(pair(other, alike), 60)[8]
    assert found.interval[1] == 0
    more = judged_runs(60, np.stack([np.arange(60) < 45] * 3), 60)
    assert not of_pair(pair(more, other), 60)[8].tie


def test_one_image_has_no_freedom():
    found = combine(of_images(0.01), 1, of_seeds([0.1, 0.2, 0.3]))
    assert found.p == pytest.approx(0.5)  # of the images alone; the seeds say 0.074
    assert math.isnan(found.interval[0])


def test_freedom_is_that_of_the_images_that_hold_the_class():
    rng = np.random.default_rng(0)
    runs = [judged_runs(8, rng.random((2, 8)) < share, 60) for share in (0.9, 0.3)]
    found = of_pair(pair(*runs), 60)[12]
    assert found == combine(found.images, 8, found.seeds, 2 / 2**8)
    assert found != combine(found.images, 60, found.seeds, 2 / 2**8)


def test_gaps_equal_but_for_rounding_have_no_spread():
    """0.1 + 0.2 - 0.3 is 6e-17: no difference, and none that chance could not explain."""
    found = of_seeds([0.1 + 0.2, 0.3, 0.3])
    assert (found.sd, found.interval) == (0, (found.mean, found.mean))
    arms = [training(0, 0.1 + 0.2), training(1, 0.1 + 0.2)], [training(0, 0.3), training(1, 0.3)]
    for chosen in (pair(*arms), Pairing(*arms, paired=False)):
        (both,) = of_pair(chosen, 1)
        assert (both.value, both.p, both.tie) == (0, 1, True)


def test_one_training_is_as_the_images_say():
    (found,) = of_pair(pair([training(3, 0.5)], [training(4, 0.4, (0.0, 3.0))]), 10)
    assert found.seeds is None
    assert found[:5] == found.images
    assert found.value == pytest.approx(0.1)


def test_seeds_are_paired_whatever_their_order():
    first = [training(2, 0.6), training(0, 0.5), training(7, 0.9)]
    second = [training(0, 0.4), training(2, 0.47), training(5, 0.1)]
    chosen = pair(first, second)
    assert chosen.paired
    assert [[one.seed for one in arm] for arm in chosen[:2]] == [[0, 2], [0, 2]]
    (found,) = of_pair(chosen, 10)
    assert found.value == pytest.approx(0.115)  # of 0.10 and 0.13
    assert found.seeds.sd == pytest.approx(0.03 / math.sqrt(2))
    assert found.seeds.number == 2
    assert found.seeds.p == 0.5


def test_replicates_are_those_of_the_mean_over_seeds():
    """Two runs whose replicates move against each other: their mean stands still."""
    arm = [training(0, 0.5, (0.0, 0.2)), training(1, 0.5, (0.2, 0.0))]
    (found,) = of_arm(arm, 10)
    assert found.images.se == pytest.approx(0, abs=1e-12)
    (other,) = of_arm([training(0, 0.5, (0.0, 0.2)), training(1, 0.5, (0.0, 0.2))], 10)
    assert other.images.se == pytest.approx(0.2 / math.sqrt(2))
    assert other.value == 0.5


def test_without_a_common_seed_arms_are_not_paired():
    """By hand: variances 0.02 / 2 and 0.01 / 3 of the means; f = s^4 / (a^4 / 1 + b^4 / 2) = 1.6842."""
    first, second = np.array([0.5, 0.7]), np.array([0.1, 0.2, 0.3])
    found = unpaired(first, second)
    assert found.mean == pytest.approx(0.4)
    assert found.se == pytest.approx(math.sqrt(0.02 / 2 + 0.01 / 3))
    assert found.freedom == pytest.approx((0.01 + 0.01 / 3) ** 2 / (0.01**2 + (0.01 / 3) ** 2 / 2))
    assert math.isnan(found.p)
    chosen = pair([training(i, v) for i, v in enumerate(first)], [training(9 + i, v) for i, v in enumerate(second)])
    assert not chosen.paired
    (both,) = of_pair(chosen, 10)
    assert both.seeds.se == found.se
    lonely = pair([training(0, 0.5)], [training(1, 0.4), training(2, 0.3)])
    assert of_pair(lonely, 10)[0].seeds is None
    assert of_pair(lonely, 10)[0].value == pytest.approx(0.15)


def test_nothing_to_find_has_no_seeds():
    (found,) = of_arm([training(0, math.nan), training(1, math.nan)], 10)
    assert found.seeds is None
    assert math.isnan(found.value)
    assert found.tie


def simulated(seeds, sd, trials):
    """How often 95 % intervals hold a difference of 0.05, of arms with known chance on 200 images.

    sd: of one seed; of an arm on an image; of a seed on an image.
    """
    rng, covered = np.random.default_rng(3), 0
    weights = [np.concatenate([*bootstrap_weights(200, 200, k)]) / 200 for k in range(50)]
    for trial in range(trials):
        common, arms = rng.normal(0, 0.3, 200), []
        for mean in (0.5, 0.45):
            of_image = mean + common + rng.normal(0, sd[1], 200)
            runs = []
            for seed in range(seeds):
                each = of_image + rng.normal(0, sd[0]) + rng.normal(0, sd[2], 200)
                drawn = weights[trial % 50] @ each
                runs.append(Training(seed, Resampled(each.mean(keepdims=True), drawn[:, None], np.zeros((2, 1)))))
            arms.append(runs)
        low, high = of_pair(pair(*arms), 200)[0].interval
        covered += low <= 0.05 <= high
    return covered / trials


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 6])
@pytest.mark.parametrize(
    "sd",
    [(0.001, 0.2, 0.0), (0.02, 0.2, 0.0), (0.02, 0.03, 0.0), (0.02, 0.2, 0.2)],
    ids=["images", "both", "seeds", "all"],
)
def test_intervals_cover_the_truth_as_often_as_they_say(seeds, sd):
    """4000 simulations each."""
    assert 0.93 <= simulated(seeds, sd, 4000) <= 0.97


@pytest.mark.slow
def test_intervals_are_wide_where_seeds_differ_image_by_image_alone():
    """That is in both sources: 98.6 of 100 hold the truth, not 95."""
    assert 0.97 <= simulated(3, (0.0, 0.0, 0.3), 4000) <= 0.995


@pytest.mark.slow
def test_two_seeds_are_few():
    """Where seeds are what counts, their spread is told by one number: 88 of 100, not 95, and a report says so."""
    assert 0.85 <= simulated(2, (0.02, 0.03, 0.0), 4000) <= 0.90
