"""Layers are left out by what was measured, and by nothing else."""

import pytest
import torch

from detector.inference.export.choose import MOST, choose, difference

ERRORS = {"a": 0.1, "b": 0.9, "c": 0.5, "d": 0.2}


def trials(costs):
    """A stand-in for an evaluation, which keeps what it was asked; costs: of each group in int8."""
    asked = []

    def lost(left_out):
        asked.append(tuple(left_out))
        return sum(cost for group, cost in costs.items() if group not in left_out)

    return lost, asked


def test_nothing_is_left_out_and_no_error_measured_where_the_aim_is_met():
    lost, asked = trials({"a": 0.005})
    choice = choose([*ERRORS], lost, lambda: pytest.fail("not needed"), 0.005)
    assert (choice.left_out, choice.lost, choice.reached) == ([], 0.005, True)
    assert asked == [()]


def test_the_worst_are_left_out_one_by_one_until_the_aim_is_met():
    lost, asked = trials({"a": 0.001, "b": 0.004, "c": 0.003, "d": 0.002})
    choice = choose([*ERRORS], lost, lambda: ERRORS, 0.0035)
    assert asked == [(), ("b",), ("b", "c")]
    assert [(one.layers, one.error) for one in choice.left_out] == [("b", 0.9), ("c", 0.5)]
    assert [one.lost for one in choice.left_out] == pytest.approx([0.01, 0.006])  # before each was left out
    assert choice.reached
    assert choice.lost == pytest.approx(0.003)


def test_without_hope_the_least_loss_counts_and_something_stays_in_int8():
    costs = {(): 0.05, ("b",): 0.04, ("b", "c"): 0.03, ("b", "c", "d"): 0.06}
    asked = []
    choice = choose([*ERRORS], lambda left: asked.append(tuple(left)) or costs[tuple(left)], lambda: ERRORS, 0.005)
    assert asked == [*costs]
    assert [one.layers for one in choice.left_out] == ["b", "c"]
    assert (choice.lost, choice.reached) == (0.03, False)
    many = {str(i): 1.0 for i in range(30)}
    choice = choose([*many], lambda left: 1 - len(left) / 100, lambda: many, 0.0)
    assert len(choice.left_out) == MOST


def found(boxes, labels, scores):
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "scores": torch.tensor(scores, dtype=torch.float32),
    }


NOTHING = found([], [], [])
ONE = found([[0, 0, 10, 10]], [1], [0.8])


@pytest.mark.parametrize(
    ("other", "value"),
    [
        (ONE, 0.0),
        (NOTHING, 1.0),
        (found([[0, 0, 10, 10]], [0], [0.8]), 1.0),  # of another label
        (found([[20, 20, 30, 30]], [1], [0.8]), 1.0),  # elsewhere
        (found([[0, 0, 10, 5]], [1], [0.8]), 0.5),  # half of the box
        (found([[0, 0, 10, 10]], [1], [0.6]), 0.25),  # 0.2 of 0.8
        (found([[0, 0, 10, 10]], [1], [1.0]), 0.25),
        (found([[0, 0, 10, 5], [0, 0, 10, 10]], [1, 1], [0.9, 0.8]), 0.0),  # the one that overlaps most
        (found([[5, 5, 5, 5]], [1], [0.8]), 1.0),  # of no area
    ],
)
def test_the_difference_of_detections(other, value):
    assert difference([ONE], [other]) == pytest.approx(value, abs=1e-6)


def test_pictures_count_by_the_scores_in_them():
    weak = found([[0, 0, 10, 10]], [1], [0.2])
    assert difference([ONE, weak], [ONE, NOTHING]) == pytest.approx(0.2, abs=1e-6)
    assert difference([NOTHING], [ONE]) == difference([], []) == 0.0
