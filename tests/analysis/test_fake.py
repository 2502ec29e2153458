"""What values would decide is assumed, and consistent."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torchvision.ops import nms

from detector.analysis.fake import MINED, POSITIVE, Assumed, fake_tensors
from detector.ops.matching import BACKGROUND, mine_hard_negatives, sample_balanced


@pytest.fixture
def assumed():
    with FakeTensorMode(), Assumed(images=2):
        yield


def test_positives_and_background_are_all(assumed):
    match = torch.empty(1600, dtype=torch.int64)
    positives, background = (match >= 0).nonzero(), (match == BACKGROUND).nonzero()
    assert len(positives) == 1600 * POSITIVE
    assert len(positives) + len(background) == 1600
    rows = torch.empty(2, 1600, dtype=torch.int64)
    image, place = (rows > BACKGROUND).nonzero(as_tuple=True)
    assert len(image) == len(place) == 2 * len(positives) == sum(len(m[m > BACKGROUND]) for m in rows)


def test_samples_have_the_number_that_is_fixed(assumed):
    positives, background = sample_balanced(torch.empty(16000, dtype=torch.int64), 512, 0.25)
    assert (len(positives), len(positives) + len(background)) == (128, 512)


def test_comparisons_of_numbers_hold_everywhere_and_those_of_images_for_one(assumed):
    x, image = torch.empty(100, 4), torch.empty(100, dtype=torch.int64)
    assert len(x[(x > 0).all(1)]) == 100
    assert len(x[(image == 1) & (x > 0).all(1)]) == 50
    assert len(x[~(image == 1)]) == 50
    x[image == 1] = 0.0
    assert len(nms(x, x[:, 0], 0.5)) == 100
    assert bool((x > 0).any())


def test_hard_negatives_are_three_for_a_positive(assumed):
    positive = torch.empty(2, 1600, dtype=torch.int64) > BACKGROUND
    chosen = positive | mine_hard_negatives(torch.empty(2, 1600), positive, ~positive, 3.0)
    assert len(torch.empty(2, 1600, 21)[chosen]) == 2 * 1600 * MINED


def test_a_loop_over_what_is_left_ends(assumed):
    left, rounds = torch.empty(8, dtype=torch.int64), 0
    while len(left):
        left = left[~(left == torch.arange(len(left)))]
        rounds += 1
    assert rounds == 4


def test_modules_get_tensors_without_memory():
    with torch.device("meta"):
        module = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8))
        module[0].weight.requires_grad_(False)
        module.to(memory_format=torch.channels_last)
    with FakeTensorMode():
        fake_tensors(module)
        out = module(torch.empty(2, 3, 8, 8))
        out.sum().backward()
    assert (out.shape, out.device.type) == ((2, 8, 6, 6), "cpu")
    assert [p.requires_grad for p in module.parameters()] == [False, True, True, True]
    assert module[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert module[1].weight.grad is not None
