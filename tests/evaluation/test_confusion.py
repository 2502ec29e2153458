"""Which class is taken for which: by hand, and as a slow count of other code has it."""

import numpy as np
import pytest

from detector.evaluation.base import Found
from detector.evaluation.confusion import confuse, confusion_of, mistakes, most_confused, shares
from detector.evaluation.matching import Guesses, Truth


def truth_of(*rows):
    """image, label, x, y, w, h, crowd."""
    table = np.array(rows, np.float64).reshape(-1, 7)
    return Truth(
        table[:, 0].astype(int), table[:, 1].astype(int), table[:, 2:6], table[:, 4] * table[:, 5],
        table[:, 6].astype(bool),
    )  # fmt: skip


def guesses_of(*rows):
    """image, label, x, y, w, h, score."""
    table = np.array(rows, np.float64).reshape(-1, 7)
    return Guesses(table[:, 0].astype(int), table[:, 1].astype(int), table[:, 2:6], table[:, 6])


def test_right_taken_for_another_missed_and_false():
    truth = truth_of((0, 0, 0, 0, 10, 10, 0), (0, 1, 50, 0, 10, 10, 0), (1, 1, 0, 0, 10, 10, 0), (2, 0, 0, 0, 9, 9, 0))
    guesses = guesses_of(
        (0, 0, 0, 0, 10, 10, 0.9), (0, 0, 50, 0, 10, 10, 0.8), (1, 1, 80, 0, 10, 10, 0.7), (3, 1, 0, 0, 10, 10, 0.6)
    )
    found = confuse(truth, guesses, 2)
    # truth 0: one right, one missed; truth 1: one taken for 0, one missed; two detections of 1 are false alarms
    assert found.matrix.tolist() == [[1, 0, 1], [1, 0, 1], [0, 2, 0]]
    assert found.left_out == 0


def test_the_higher_score_comes_first_whatever_class_and_iou():
    truth = truth_of((0, 0, 0, 0, 10, 10, 0))
    better, surer = (0, 0, 0, 0, 10, 9, 0.3), (0, 1, 0, 0, 10, 8, 0.9)
    assert confuse(truth, guesses_of(better, surer), 2).matrix.tolist() == [[0, 1, 0], [0, 0, 0], [1, 0, 0]]


def test_a_detection_takes_the_largest_iou_that_is_left():
    near, far = (0, 1, 0, 1, 10, 10, 0), (0, 0, 0, 3, 10, 10, 0)
    for truth in (truth_of(near, far), truth_of(far, near)):
        one, two = (0, 0, 0, 0, 10, 10, 0.9), (0, 0, 0, 1, 10, 10, 0.8)
        assert confuse(truth, guesses_of(one), 2).matrix.tolist() == [[0, 0, 1], [1, 0, 0], [0, 0, 0]]
        assert confuse(truth, guesses_of(one, two), 2).matrix.tolist() == [[1, 0, 0], [1, 0, 0], [0, 0, 0]]


def test_each_has_one_partner_at_most():
    """Both of one box would take the first object; the second of them takes what is left, the last finds nothing."""
    truth = truth_of((0, 0, 0, 0, 10, 10, 0), (0, 1, 0, 3, 10, 10, 0))
    guesses = guesses_of((0, 0, 0, 0, 10, 10, 0.5), (0, 1, 0, 1, 10, 10, 0.9), (0, 1, 0, 1, 10, 10, 0.8))
    assert confuse(truth, guesses, 2).matrix.tolist() == [[0, 1, 0], [0, 1, 0], [1, 0, 0]]


def test_of_equal_scores_the_iou_counts_then_the_same_class_then_the_file():
    truth = truth_of((0, 1, 0, 0, 10, 10, 0))
    box = (0, 0, 10, 10)
    assert confuse(truth, guesses_of((0, 1, 0, 0, 10, 9, 0.5), (0, 0, *box, 0.5)), 3).matrix[1].tolist() == [1, 0, 0, 0]
    both = guesses_of((0, 0, *box, 0.5), (0, 1, *box, 0.5))  # one box of two classes, as detectors give it
    assert confuse(truth, both, 3).matrix[1].tolist() == [0, 1, 0, 0]
    equal = guesses_of((0, 2, *box, 0.5), (0, 0, *box, 0.5))
    assert confuse(truth, equal, 3).matrix[1].tolist() == [0, 0, 1, 0]
    two = truth_of((0, 0, *box, 0), (0, 1, *box, 0))
    assert confuse(two, guesses_of((0, 2, *box, 0.5)), 3).matrix[:2].tolist() == [[0, 0, 1, 0], [0, 0, 0, 1]]
    assert confuse(two, guesses_of((0, 1, *box, 0.5)), 3).matrix[:2].tolist() == [[0, 0, 0, 1], [0, 1, 0, 0]]


def test_the_iou_itself_is_enough():
    truth = truth_of((0, 0, 0, 0, 10, 10, 0))
    half = guesses_of((0, 0, 0, 0, 10, 5, 0.9))
    assert confuse(truth, half, 1, 0.5).matrix.tolist() == [[1, 0], [0, 0]]
    assert confuse(truth, half, 1, 0.55).matrix.tolist() == [[0, 1], [1, 0]]


def test_crowds_are_neither_missed_nor_partners_and_spare_their_own_class():
    truth = truth_of((0, 0, 0, 0, 100, 100, 1), (0, 0, 0, 0, 10, 10, 0))
    inside = guesses_of(
        (0, 0, 0, 0, 10, 10, 0.9), (0, 0, 50, 50, 10, 10, 0.8), (0, 0, 60, 50, 10, 10, 0.8),
        (0, 1, 50, 50, 10, 10, 0.7),
        (0, 0, 96, 0, 10, 10, 0.6),  # 4 of 10 columns lie in it
    )  # fmt: skip
    found = confuse(truth, inside, 2)
    assert found.matrix.tolist() == [[1, 0, 0], [0, 0, 0], [1, 1, 0]]
    assert found.left_out == 2


@pytest.mark.parametrize("what", ["objects", "detections", "both"])
def test_nothing_at_all(what):
    truth = truth_of() if what != "detections" else truth_of((0, 0, 0, 0, 10, 10, 0))
    guesses = guesses_of() if what != "objects" else guesses_of((0, 0, 0, 0, 10, 10, 0.5))
    want = {"objects": [[0, 0], [1, 0]], "detections": [[0, 1], [0, 0]], "both": [[0, 0], [0, 0]]}[what]
    assert confuse(truth, guesses, 1).matrix.tolist() == want


def oracle(truth, guesses, classes, iou):
    """The same, pair by pair in plain Python."""

    def area(box):
        return box[2] * box[3]

    def common(a, b):
        w = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
        h = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
        return max(w, 0) * max(h, 0)

    objects = [*zip(*(column.tolist() for column in truth))]
    found = [*zip(*(column.tolist() for column in guesses))]
    matrix, left = [[0] * (classes + 1) for _ in range(classes + 1)], 0
    free_objects = [i for i, one in enumerate(objects) if not one[4]]
    free_found = [*range(len(found))]
    while True:
        best = None
        for d in free_found:
            for o in free_objects:
                if found[d][0] != objects[o][0]:
                    continue
                inter = common(found[d][2], objects[o][2])
                union = area(found[d][2]) + area(objects[o][2]) - inter
                share = inter / union if union > 0 else 0
                key = (found[d][3], share, found[d][1] == objects[o][1], -d, -o)
                if share >= iou and (best is None or key > best[0]):
                    best = key, d, o
        if best is None:
            break
        _, d, o = best
        free_found.remove(d)
        free_objects.remove(o)
        matrix[objects[o][1]][found[d][1]] += 1
    for o in free_objects:
        matrix[objects[o][1]][classes] += 1
    for d in free_found:
        image, label, box, _ = found[d]
        crowds = [one for one in objects if one[4] and one[0] == image and one[1] == label]
        if any(area(box) and common(box, one[2]) / area(box) >= iou for one in crowds):
            left += 1
        else:
            matrix[classes][label] += 1
    return matrix, left


def test_detections_of_lower_scores_change_nothing_for_the_others():
    rng = np.random.default_rng(0)
    truth = truth_of(*np.c_[np.zeros((20, 1)), rng.integers(0, 3, 20), rng.integers(0, 9, (20, 4)) + 1, np.zeros(20)])
    scores = rng.permutation(40) / 40
    rows = np.c_[np.zeros((40, 1)), rng.integers(0, 3, 40), rng.integers(0, 9, (40, 4)) + 1, scores]
    before = np.zeros((4, 4), int)
    for lowest in np.arange(1, 0, -0.1):
        after = confuse(truth, guesses_of(*rows[scores >= lowest]), 3).matrix
        assert (after[:3, :3] >= before[:3, :3]).all()
        assert (after[3] >= before[3]).all()
        assert (after[:3, 3] <= before[:3, 3]).all() or not before.any()
        before = after


@pytest.mark.parametrize("seed", range(6))
def test_random_scenes_are_counted_alike(seed):
    """Small whole numbers: many equal overlaps, scores and boxes."""
    rng = np.random.default_rng(seed)
    rows, found = 30, 60
    boxes = [np.c_[rng.integers(0, 8, (n, 2)), rng.integers(0 if n > 40 else 4, 9, (n, 2))] for n in (rows, found)]
    truth = truth_of(*np.c_[rng.integers(0, 4, rows), rng.integers(0, 3, rows), boxes[0], rng.random(rows) < 0.2])
    scores = rng.choice([0.2, 0.4, 0.6], found)
    guesses = guesses_of(*np.c_[rng.integers(0, 5, found), rng.integers(0, 3, found), boxes[1], scores])
    for iou in (0.5, 0.75):
        matrix, left = oracle(truth, guesses, 3, iou)
        got = confuse(truth, guesses, 3, iou)
        assert got.matrix.tolist() == matrix
        assert got.left_out == left
        assert got.matrix[:-1].sum() == (~truth.crowd).sum()
        assert got.matrix[:, :-1].sum() + left == found


class Index:
    """What is read of the annotations of two images."""

    classes = ("a", "b")
    labels = np.array([0, 1, 1])
    boxes_xywh = np.array([[0.0, 0, 10, 10], [30, 0, 10, 10], [0, 0, 10, 10]])
    areas = np.full(3, 100.0)
    crowd = np.array([False, False, False])
    difficult = np.array([False, True, False])

    def image_of(self):
        return np.array([0, 0, 1])


def test_every_class_has_a_threshold_of_its_own_which_is_kept_itself():
    found = Found(
        np.array([0, 0, 1, 1]), np.array([[0.0, 0, 10, 10], [30, 0, 10, 10], [0, 0, 10, 10], [50, 0, 10, 10]]),
        np.array([0, 1, 1, 0]), np.array([0.5, 0.9, 0.7, 0.49]),
    )  # fmt: skip
    assert confusion_of(Index(), found, np.array([0.5, 0.7])).matrix.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 0]]
    assert confusion_of(Index(), found, np.array([0.5, 0.71])).matrix.tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 0]]
    assert confusion_of(Index(), found, np.array([0.4, 0.7])).matrix.tolist() == [[1, 0, 0], [0, 1, 0], [1, 0, 0]]
    assert confusion_of(Index(), found, np.array([0.5, 0.7])).left_out == 1  # in the difficult object


MATRIX = np.array([[6, 3, 0, 1], [1, 4, 1, 2], [0, 0, 0, 0], [2, 1, 0, 0]])


def test_mistakes_are_listed_by_number_then_share():
    assert [one[:3] for one in mistakes(MATRIX)] == [(0, 1, 3), (1, 0, 1), (1, 2, 1)]
    assert [one.share for one in mistakes(MATRIX)] == [0.3, 1 / 8, 1 / 8]
    assert mistakes(np.diag([3, 2, 0])) == []
    more = MATRIX.copy()
    more[2, 0] = 1  # all of the objects of that class
    assert [one[:2] for one in mistakes(more)] == [(0, 1), (2, 0), (1, 0), (1, 2)]


def test_shares_are_of_the_truth_and_in_the_last_row_of_the_detections():
    nan = np.nan
    want = [[0.6, 0.3, 0, 0.1], [1 / 8, 4 / 8, 1 / 8, 2 / 8], [nan] * 4, [2 / 9, 1 / 8, 0, nan]]
    np.testing.assert_allclose(shares(MATRIX), want, atol=1e-15)


def test_the_most_confused_classes_stand_in_their_order():
    assert most_confused(MATRIX, 2) == [0, 1]
    assert most_confused(MATRIX, 5) == [0, 1, 2]
    assert most_confused(np.diag([9, 9, 9, 0]) + np.eye(4, k=2, dtype=int), 2) == [0, 2]
