"""The selection of all images at once finds what that of one image finds."""

import pytest
import torch

from detector.ops.flat import Flat, _apart, limits_of, padded, suppress_flat, with_nobody
from detector.ops.select import suppress

NUMBERS = (7, 0, 120, 1)  # candidates of each image


def candidates(groups, numbers=NUMBERS, seed=0):
    """Overlapping boxes of some images in a row, in no order."""
    generator = torch.Generator().manual_seed(seed)
    number = sum(numbers)
    corner = torch.rand(number, 2, generator=generator) * 300
    boxes = torch.cat([corner, corner + 20 + torch.rand(number, 2, generator=generator) * 150], dim=1)
    image = torch.arange(len(numbers)).repeat_interleave(torch.tensor(numbers))
    mixed = torch.randperm(number, generator=generator)
    labels = torch.randint(groups, (number,), generator=generator)
    return Flat(boxes, torch.randn(number, generator=generator), labels, image[mixed])


@pytest.mark.parametrize(("groups", "limit"), [(1, 5), (3, 100), (80, 20)])
def test_suppression_of_all_images_is_that_of_each(groups, limit):
    found = candidates(groups)
    got = padded(suppress_flat(found, len(NUMBERS), groups, 0.5, limit), len(NUMBERS), limit)
    assert got.boxes.shape == (len(NUMBERS), limit, 4)
    for i in range(len(NUMBERS)):
        mine = found.take((found.image == i).nonzero()[:, 0])
        want = suppress(mine.boxes, mine.scores, mine.labels, 0.5, limit)
        number = len(want["scores"])
        assert got.counts[i] == number
        for entry, key in ((got.boxes, "boxes"), (got.scores, "scores"), (got.labels, "labels")):
            assert torch.equal(entry[i, :number], want[key])
            assert not entry[i, number:].any()


def test_groups_far_from_the_origin_keep_their_digits():
    """Of 16 pictures of 1333 x 1333 pixels and 90 classes the last."""
    boxes = torch.cat([torch.rand(500, 4) * 600, torch.tensor([[0.0, 0, 1333, 1333]])])
    boxes[:, 2:] += 600
    number = len(boxes)
    moved = _apart(Flat(boxes, torch.zeros(number), torch.full((number,), 89), torch.full((number,), 15)), 90)
    lost = (moved[:, 2:] - moved[:, :2]) - (boxes[:, 2:] - boxes[:, :2])
    assert moved.min() > 40_000
    assert lost.abs().max() < 0.008


def test_nothing_is_somebody_of_nobody():
    nothing = candidates(3, (0, 0))
    assert with_nobody(nothing, 2).image.tolist() == [2]
    kept = suppress_flat(nothing, 2, 3, 0.5, 10)
    assert kept.image.tolist() == [2]
    found = padded(kept, 2, 10)
    assert found.counts.tolist() == [0, 0]
    assert found.scores.shape == (2, 10)
    assert not found.scores.any()


def test_more_candidates_than_the_limit_are_cut():
    found = Flat(torch.rand(5, 4), torch.arange(5.0, 0, -1), torch.arange(5), torch.tensor([0, 1, 0, 0, 1]))
    got = padded(found, 2, 2)
    assert got.scores.tolist() == [[5, 3], [4, 1]]
    assert got.labels.tolist() == [[0, 2], [1, 4]]
    assert got.counts.tolist() == [2, 2]


def test_limits_are_width_and_height_of_the_image():
    limits = limits_of(torch.tensor([[30, 40], [50, 60]]), torch.tensor([1, 0, 2]))
    assert limits.tolist() == [[60, 50, 60, 50], [40, 30, 40, 30], [60, 50, 60, 50]]
