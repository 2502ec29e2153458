"""What Faster R-CNN samples depends on the number that its targets carry, and on the global state without one."""

import pytest
import torch
from helpers.inputs import features_for, target
from helpers.two_stage import LEVELS, faster_rcnn, lively


def losses(draws, seed):
    """Losses of a small head on two images after the global state was seeded."""
    torch.manual_seed(0)
    head = lively(faster_rcnn(batch_size_per_image=8, rpn_options={"batch_size_per_image": 16}))
    features = features_for(LEVELS, 128, 160)
    boxes = [[10, 10, 60, 70], [40, 30, 110, 90]]
    targets = [{**target(boxes, [0, 3]), **({} if draw is None else {"draw": draw})} for draw in draws]
    torch.manual_seed(seed)
    with torch.no_grad():
        found = head.loss(features, targets, [(128, 160)] * 2)
    return {name: value.item() for name, value in found.items()}


def test_a_draw_decides_whatever_the_global_state():
    assert losses((7, 8), seed=1) == losses((7, 8), seed=2)


@pytest.mark.parametrize("draws", [(8, 7), (7, 9), (9, 8)])
def test_another_draw_gives_another_sample(draws):
    assert losses(draws, seed=1) != losses((7, 8), seed=1)


def test_rpn_and_regions_are_drawn_apart():
    both, other = losses((7, 8), 1), losses((1007, 1008), 1)
    assert all(both[name] != other[name] for name in ("loss_objectness", "loss_classifier"))


@pytest.mark.parametrize("draw", [None, 0])
def test_without_a_draw_the_global_state_counts(draw):
    assert losses((draw, draw), seed=1) == losses((draw, draw), seed=1)
    assert losses((draw, draw), seed=1) != losses((draw, draw), seed=2)


def test_a_draw_leaves_the_global_state_alone():
    torch.manual_seed(5)
    want = torch.rand(3)
    losses((7, 8), seed=5)
    assert torch.equal(torch.rand(3), want)
