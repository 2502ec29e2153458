"""Kinds of errors by hand, what repairs gain by evaluating a mended file, and by the article's own program."""

from fractions import Fraction

import numpy as np
import pytest
from helpers.errors import erring, said_by_tidecv
from helpers.matched import scene

from detector.evaluation import errors, precision
from detector.evaluation.errors import (
    BOTH,
    CLASSIFICATION,
    DUPLICATE,
    EMPTY,
    KINDS,
    LOCALISATION,
    MISSED,
    find_errors,
)
from detector.evaluation.matching import Guesses, Truth, match
from detector.evaluation.precision import accumulate

TIDECV = {  # what tidecv 1.0.1 says of `erring(seed)`
    0: {
        "ap50": 23.660387269,
        "numbers": [54, 151, 37, 136, 124, 41],
        "alone": [
            *(3.125798983, 11.774258389, 0.637858574, 2.070003453, 4.71251786, 8.752067121),
            *(40.943573127, 12.452352192),
        ],
        "in_turn": [3.125798983, 14.08236708, 2.060838365, 6.845273293, 22.255037979, 27.97029703],
    },
    1: {
        "ap50": 28.489585913,
        "numbers": [58, 116, 37, 171, 112, 39],
        "alone": [
            *(3.206778515, 7.638960644, 2.244381026, 2.7237878, 6.762940796, 9.417664067),
            *(41.80744379, 11.634062423),
        ],
        "in_turn": [3.206778515, 9.391779712, 4.239988457, 7.606562739, 21.075205655, 25.99009901],
    },
    2: {
        "ap50": 26.249629534,
        "numbers": [52, 127, 27, 153, 140, 39],
        "alone": [
            *(2.123486296, 9.466831265, 0.649443023, 2.628599652, 6.856466835, 8.157835774),
            *(40.582053635, 11.862933603),
        ],
        "in_turn": [2.123486296, 10.634419993, 1.397330079, 6.752514672, 26.604995664, 26.237623762],
    },
}


def made(objects, detections, crowds=(), classes=2):
    """Errors of one image. objects: (label, box); detections: (label, box, score); crowds: places of objects."""
    labels, boxes = zip(*objects) if objects else ((), ())
    xywh = np.array(boxes, float).reshape(-1, 4)
    crowd = np.isin(np.arange(len(objects)), crowds)
    truth = Truth(np.zeros(len(objects), int), np.array(labels, int), xywh, xywh[:, 2:].prod(1), crowd)
    labels, boxes, scores = zip(*detections) if detections else ((), (), ())
    boxes = np.array(boxes, float).reshape(-1, 4)
    guesses = Guesses(np.zeros(len(labels), int), np.array(labels, int), boxes, np.array(scores, float))
    found = match(truth, guesses)
    return find_errors(truth, guesses, found, classes), np.argsort(found.source)


def box(x, y=0, height=10):
    """10 wide and high at x; moved down by 1 it overlaps the one at y = 0 by 9 / 11, by 4 by 6 / 14."""
    return (x, y, 10, height)


def points(*steps):
    """AP from (number of the 101 recalls, precision)."""
    return float(sum(Fraction(number) * Fraction(value) for number, value in steps) / 101)


def test_one_of_each_kind_and_what_each_costs():
    objects = [(0, box(0)), (1, box(50)), (0, box(100)), (1, box(150)), (0, box(200)), (1, box(250))]
    detections = [
        (1, box(250), 0.95),  # right
        (0, box(0), 0.9),  # right
        (0, box(0, 1), 0.8),  # again
        (0, box(50), 0.7),  # the second object, of the other class
        (0, box(100, 4), 0.6),  # the third, badly
        (0, box(150, 4), 0.5),  # the fourth, badly and of the other class
        (0, box(300), 0.4),  # nothing
        (0, box(200), 0.3),  # right
    ]
    found, place = made(objects, detections)
    assert found.kind[place].tolist() == [-1, -1, DUPLICATE, CLASSIFICATION, LOCALISATION, BOTH, EMPTY, -1]
    assert found.object[place].tolist() == [-1, -1, -1, 1, 2, -1, -1, -1]
    assert np.flatnonzero(found.finds[place]).tolist() == [3, 4]
    assert np.flatnonzero(found.missed).tolist() == [3]
    assert found.objects.tolist() == [3, 3]
    # the eight rows: each kind, all wrong detections, all objects that were not found
    assert found.numbers.tolist() == [[1, 0], [1, 0], [1, 0], [1, 0], [1, 0], [0, 1], [5, 0], [1, 2]]
    # in the order of scores, class 0 is right, wrong five times, right, of three objects; class 1 finds one of three
    first, second = points((34, 1), (33, Fraction(2, 7))), points((34, 1))
    assert found.ap50.tolist() == pytest.approx([first, second])
    fewer = points((34, 1), (33, Fraction(2, 6)))
    after = {
        CLASSIFICATION: (fewer, points((67, 1))),
        LOCALISATION: (points((34, 1), (33, Fraction(2, 4)), (34, Fraction(3, 7))), second),
        BOTH: (fewer, second),
        DUPLICATE: (fewer, second),
        EMPTY: (fewer, second),
        MISSED: (first, points((51, 1))),
        6: (points((67, 1)), second),
        7: (points((51, 1), (50, Fraction(2, 7))), 1),
    }
    assert found.alone.tolist() == [pytest.approx(after[which]) for which in range(8)]
    turns = [
        (fewer, points((67, 1))),
        (points((34, 1), (33, Fraction(2, 3)), (34, Fraction(3, 6))), points((67, 1))),
        (points((34, 1), (33, Fraction(2, 3)), (34, Fraction(3, 5))), points((67, 1))),
        (points((67, 1), (34, Fraction(3, 4))), points((67, 1))),
        (1, points((67, 1))),
        (1, 1),
    ]
    assert found.in_turn.tolist() == [pytest.approx(turn) for turn in turns]
    assert found.costs()[6].tolist() == pytest.approx([points((67, 1)) - first, 0])
    assert found.mean(found.ap50) == pytest.approx((first + second) / 2)


@pytest.mark.parametrize(
    ("objects", "kind"),
    [
        ([(0, box(0, 4)), (1, box(0))], LOCALISATION),  # the overlap with its own class counts first
        ([(0, box(0, 0, 1)), (1, box(0))], LOCALISATION),  # an overlap of 0.1 is enough
        ([(0, box(50)), (1, box(0))], CLASSIFICATION),
        ([(1, box(0, 0, 5))], CLASSIFICATION),  # as is one of 0.5
        ([(1, box(0, 0, 4.9))], BOTH),
        ([(1, box(0, 0, 1.1))], BOTH),
        ([(1, box(0, 0, 1))], EMPTY),  # with an object of another class, 0.1 is background
        ([(0, box(0, 0, 0.9))], EMPTY),
        ([(0, box(0, 9.5)), (1, box(0, 6))], BOTH),
        ([], EMPTY),
    ],
)
def test_the_first_kind_that_fits(objects, kind):
    found, place = made(objects, [(0, box(0), 0.9)])
    assert found.kind[place].tolist() == [kind]


@pytest.mark.parametrize(
    ("other", "kind"),
    [
        (box(0, 0, 5), DUPLICATE),  # an overlap of 0.5 would have been right, so the box is not at fault
        (box(0, 0, 4.9), LOCALISATION),
        (box(0, 1), DUPLICATE),
    ],
)
def test_an_object_that_was_found_already(other, kind):
    found, place = made([(0, box(0))], [(0, box(0), 0.9), (0, other, 0.8)])
    assert found.kind[place].tolist() == [-1, kind]
    assert not found.finds.any()
    assert found.alone[kind].tolist()[0] == pytest.approx(1)


def test_another_class_counts_before_a_duplicate():
    found, place = made([(0, box(0)), (1, box(0, 2))], [(0, box(0), 0.9), (0, box(0, 1), 0.8)])
    assert found.kind[place].tolist() == [-1, CLASSIFICATION]
    assert found.object[place].tolist() == [-1, 1]


def test_of_several_that_would_find_an_object_the_best_scored_does():
    objects = [(0, box(0)), (0, box(50))]
    detections = [(1, box(0), 0.5), (0, box(0, 4), 0.7), (0, box(0, 5), 0.9), (0, box(50, 5), 0.6), (1, box(50), 0.8)]
    found, place = made(objects, detections)
    assert found.kind[place].tolist() == [CLASSIFICATION, LOCALISATION, LOCALISATION, LOCALISATION, CLASSIFICATION]
    assert found.object[place].tolist() == [0, 0, 0, 1, 1]
    assert np.flatnonzero(found.finds[place]).tolist() == [2, 4]
    assert not found.missed.any()
    # after better boxes: right, and nothing else of that class; after better classes: wrong, right, wrong, wrong
    assert found.alone[LOCALISATION].tolist()[0] == pytest.approx(points((51, 1)))
    assert found.alone[CLASSIFICATION].tolist()[0] == pytest.approx(points((51, Fraction(1, 2))))


def test_of_equal_scores_the_first_finds_it_and_the_largest_overlap_is_meant():
    objects = [(0, box(0, 6)), (0, box(0, 5))]
    found, place = made(objects, [(0, box(0), 0.5), (0, box(0), 0.5)])
    assert found.object[place].tolist() == [1, 1]
    assert found.finds[place].tolist() == [True, False]
    assert found.missed.tolist() == [True, False]
    found, _ = made([(0, box(0, 5)), (0, box(0, -5))], [(0, box(0), 0.5)])  # of equal overlaps the first
    assert found.object.tolist() == [0]


def test_crowds_are_no_objects_and_what_lies_in_them_is_no_error():
    objects = [(0, (0, 0, 100, 100)), (0, box(200)), (1, (300, 0, 40, 40))]
    detections = [(0, box(20, 20), 0.9), (0, box(200, 4), 0.8), (1, box(20, 20), 0.7), (0, (300, 0, 40, 40), 0.6)]
    found, place = made(objects, detections, crowds=(0, 2))
    # a box in a crowd of another class is background, also where it is the crowd's own
    assert found.kind[place].tolist() == [-1, LOCALISATION, EMPTY, EMPTY]
    assert found.objects.tolist() == [1, 0]
    assert not found.missed.any()
    assert found.numbers[-1].tolist() == [1, 0]
    assert np.isnan(found.ap50[1])


@pytest.mark.parametrize("kept", [True, False])
def test_a_class_without_objects_left_is_whole_if_nothing_is_wrong_in_it(kept):
    found, _ = made([(0, box(0)), (1, box(50))], [(0, box(0), 0.9)] + [(1, box(200), 0.8)] * kept)
    whole, after = pytest.approx([1, 0]), pytest.approx([1, 0 if kept else 1])
    assert found.ap50.tolist() == whole
    assert found.alone[MISSED].tolist() == after
    assert found.alone[-1].tolist() == after
    assert found.in_turn[-1].tolist() == pytest.approx([1, 1])


def test_nothing_found_and_nothing_to_find():
    found, _ = made([(0, box(0)), (0, box(50))], [])
    assert found.numbers.sum(1).tolist() == [0, 0, 0, 0, 0, 2, 0, 2]
    assert found.mean(found.costs()).tolist() == [0, 0, 0, 0, 0, 1, 0, 1]
    found, _ = made([], [(0, box(0), 0.9), (1, box(0), 0.8)])
    assert found.numbers.sum(1).tolist() == [0, 0, 0, 0, 2, 0, 2, 0]
    assert np.isnan(found.ap50).all()
    assert np.isnan(found.mean(found.costs())).all()
    found, _ = made([], [])
    assert not found.numbers.any()


def of_coco(truth, guesses, classes):
    """AP50 of each class by COCO's evaluation; -1 where it has no object."""
    return accumulate(match(truth, guesses), truth.labels, classes).precision[0, :, :, 0].mean(0)


@pytest.mark.parametrize("seed", range(3))
def test_as_it_is_it_is_cocos(seed, monkeypatch):
    """Also with ties of scores, crowds, areas, more than a hundred detections and a class without objects."""
    truth, guesses = scene(seed)
    matching = match(truth, guesses)
    found = find_errors(truth, guesses, matching, 5)
    assert np.nan_to_num(found.ap50, nan=-1) == pytest.approx(of_coco(truth, guesses, 5), abs=1e-12)
    assert np.isnan(found.ap50[4])
    wrong = matching.wrong()[0]
    assert ((found.kind >= 0) == wrong).all()
    assert found.numbers[:5].sum() == found.numbers[6].sum() == wrong.sum()
    assert set(found.kind[wrong]) == {*range(5)}
    assert np.nanmin(found.costs()) >= 0
    assert found.in_turn[-1, :4].tolist() == pytest.approx([1] * 4, abs=1e-12)
    assert np.nanmin(np.diff(np.concatenate([found.ap50[None], found.in_turn]), axis=0)) >= 0
    monkeypatch.setattr(errors, "_PAIRS", 7)
    for one, other in zip(found, find_errors(truth, guesses, matching, 5), strict=True):
        np.testing.assert_array_equal(one, other)


def mended(truth, guesses, matching, found, kinds):
    """The objects and detections after the repair of some kinds."""
    changed = np.isin(found.kind, kinds)
    labels, xywh, kept = guesses.labels.copy(), guesses.xywh.copy(), np.ones(len(guesses.labels), bool)
    for k in np.flatnonzero(changed):
        row, object_ = matching.source[k], found.object[k]
        if not found.finds[k]:
            kept[row] = False
        elif found.kind[k] == CLASSIFICATION:
            labels[row] = truth.labels[object_]
        else:
            xywh[row] = truth.xywh[object_]
    left = ~(found.missed & (MISSED in kinds))
    return Truth(*(column[left] for column in truth)), Guesses(
        *(column[kept] for column in guesses._replace(labels=labels, xywh=xywh))
    )


@pytest.mark.parametrize("seed", range(5))
def test_a_repair_gains_what_coco_gives_a_mended_file(seed):
    """With crowds, ties of scores, and a class that has detections only."""
    truth, guesses = erring(seed)
    truth = truth._replace(crowd=np.arange(len(truth.labels)) % 9 == 0)
    labels = np.where(np.arange(len(guesses.labels)) % 11 == 0, 4, guesses.labels)
    guesses = guesses._replace(scores=np.round(guesses.scores, 1), labels=labels)
    matching = match(truth, guesses)
    found = find_errors(truth, guesses, matching, 5)
    assert (matching.ignored[0, 0]).any()
    for kinds, got in [
        *(((which,), found.alone[which]) for which in range(6)),
        *((range(which + 1), found.in_turn[which]) for which in range(6)),
    ]:
        want = of_coco(*mended(truth, guesses, matching, found, kinds), 5)
        assert got[:4].tolist() == pytest.approx(want[:4].tolist(), abs=1e-12)
    # all right ones first; nothing else to be found
    wrong = np.isin(np.arange(len(guesses.scores)), matching.source[found.kind >= 0])
    behind = guesses._replace(scores=np.where(wrong, guesses.scores - 2, guesses.scores))
    assert found.alone[6, :4].tolist() == pytest.approx(of_coco(truth, behind, 5)[:4].tolist(), abs=1e-12)
    taken = np.isin(np.arange(len(truth.labels)), matching.object[0, 0, matching.right()[0]]) | truth.crowd
    fewer = Truth(*(column[taken] for column in truth))
    assert found.alone[7, :4].tolist() == pytest.approx(of_coco(fewer, guesses, 5)[:4].tolist(), abs=1e-12)


@pytest.fixture
def plain_recalls(monkeypatch):
    """Recalls of k / 100, as tidecv has them; some of COCO's are larger by the last bit."""
    monkeypatch.setattr(precision, "RECALLS", np.arange(101) / 100)


def ours(truth, guesses):
    found = find_errors(truth, guesses, match(truth, guesses), 4)
    turns = found.mean(np.concatenate([found.ap50[None], found.in_turn]))
    return {
        "ap50": 100 * found.mean(found.ap50),
        "numbers": found.numbers[:6].sum(1).tolist(),
        "alone": (100 * found.mean(found.costs())).tolist(),
        "in_turn": (100 * np.diff(turns)).tolist(),
    }


@pytest.mark.usefixtures("plain_recalls")
@pytest.mark.parametrize("seed", TIDECV)
def test_the_numbers_of_tidecv(seed):
    got = ours(*erring(seed))
    assert got == {name: pytest.approx(value, abs=1e-8) for name, value in TIDECV[seed].items()}
    assert got["numbers"] == TIDECV[seed]["numbers"]


@pytest.mark.usefixtures("plain_recalls")
def test_tidecv_itself_says_the_same():
    pytest.importorskip("tidecv")
    for seed in range(12):
        truth, guesses = erring(seed)
        want = said_by_tidecv(truth, guesses, 30)
        assert ours(truth, guesses) == {name: pytest.approx(value, abs=1e-10) for name, value in want.items()}
        if seed in TIDECV:
            assert TIDECV[seed] == {name: pytest.approx(value, abs=1e-8) for name, value in want.items()}


def test_kinds_have_their_places():
    names = [KINDS[k] for k in (CLASSIFICATION, LOCALISATION, BOTH, DUPLICATE, EMPTY, MISSED)]
    assert names == ["classification", "localisation", "both", "duplicate", "background", "missed"]
