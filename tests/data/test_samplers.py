from itertools import islice, pairwise

import numpy as np
import pytest

from detector.data.samplers import Draw, TrainBatches, eval_batches


def ratios(n, seed=0):
    return np.random.default_rng(seed).choice([0.6, 0.75, 1.0, 1.5], n)


def items(batches):
    return [[draw.item for draw in batch] for batch in batches]


@pytest.mark.parametrize("n", [1, 2, 3, 7, 16, 17, 101])
@pytest.mark.parametrize("size", [1, 2, 4, 5, 16, 40])
@pytest.mark.parametrize("grouped", [True, False])
def test_each_epoch_shows_every_image_in_full_batches(n, size, grouped):
    aspect = ratios(n)
    sampler = TrainBatches(n, size, 3, aspect if grouped else None)
    assert sampler.batches_per_epoch == -(-n // size)
    stream = iter(sampler)
    for _ in range(3):
        epoch = items(islice(stream, sampler.batches_per_epoch))
        assert {len(batch) for batch in epoch} == {size}
        counts = np.bincount(np.concatenate(epoch), minlength=n)
        assert counts.min() >= 1
        assert counts.sum() - n < size
        if grouped:
            assert sum(len(set((aspect[batch] < 1).tolist())) > 1 for batch in epoch) <= 1


def test_draws_carry_step_and_slot():
    first, second = islice(TrainBatches(4, 2, start_step=6), 2)
    assert [(d.step, d.slot) for d in first + second] == [(6, 0), (6, 1), (7, 0), (7, 1)]
    assert isinstance(first[0], Draw)
    assert type(first[0].item) is int


def test_a_later_start_continues_the_same_stream():
    whole = list(TrainBatches(23, 4, 1, ratios(23), stop_step=40))
    assert len(whole) == 40
    for start in (0, 1, 5, 6, 7, 39, 40):
        rest = TrainBatches(23, 4, 1, ratios(23), start_step=start, stop_step=40)
        assert list(rest) == whole[start:]
        assert len(rest) == 40 - start


def test_a_start_far_away_is_quick():
    batch = next(iter(TrainBatches(5, 2, start_step=10**12)))
    assert batch[0].step == 10**12


def test_seeds_and_epochs_differ():
    first = items(islice(TrainBatches(64, 4, 0), 32))
    assert first == items(islice(TrainBatches(64, 4, 0), 32))
    assert first != items(islice(TrainBatches(64, 4, 1), 32))
    assert first[:16] != first[16:]


def test_the_forms_are_mixed_over_the_epoch():
    aspect = np.repeat([0.5, 2.0], 200)
    epoch = [aspect[batch[0]] for batch in items(islice(TrainBatches(400, 4, 0, aspect), 100))]
    changes = sum(a != b for a, b in pairwise(epoch))
    assert 30 < changes < 70


def test_endless_batches_have_no_length():
    with pytest.raises(TypeError, match="no end"):
        len(TrainBatches(3, 2))


def test_evaluation_shows_each_image_once_with_others_of_its_size():
    wide, tall, square = ((64, 96),), ((96, 64),), ((64, 64),)
    sizes = [wide, tall, square, tall, wide, tall]
    assert eval_batches(sizes, 2) == [[1, 3], [0, 4], [5], [2]]
    assert eval_batches(sizes, 9) == [[1, 3, 5], [0, 4], [2]]
    views = [((64, 64), (96, 96)), ((64, 64), (96, 128)), ((64, 64), (96, 96))]
    assert eval_batches(views, 2) == [[0, 2], [1]]


def test_empty_batches_are_refused():
    with pytest.raises(ValueError, match="at least one image"):
        TrainBatches(0, 2)
    with pytest.raises(ValueError, match="at least one image"):
        TrainBatches(2, 0)
    with pytest.raises(ValueError, match="at least one image"):
        eval_batches([((32, 32),)], 0)


def test_chance_is_made_of_seed_step_and_slot():
    draw = Draw(item=5, step=3, slot=1)
    rng, number = draw.chance(seed=2)
    assert rng.random(4).tolist() == np.random.default_rng([2, 3, 1]).random(4).tolist()
    assert (number, number) == (draw.chance(2)[1], Draw(0, 3, 1).chance(2)[1])  # whatever the image
    places = [(seed, step, slot) for seed in range(3) for step in range(40) for slot in range(8)]
    numbers = {Draw(0, step, slot).chance(seed)[1] for seed, step, slot in places}
    assert len(numbers) == len(places)
    assert all(0 < number < 2**63 for number in numbers)


@pytest.mark.parametrize(("images", "batch", "world"), [(10, 4, 2), (7, 5, 2), (9, 4, 4)])
def test_processes_share_every_batch(images, batch, world):
    """Slot s is that of process s modulo their number, and keeps its number, which seeds its augmentation."""
    whole = list(TrainBatches(images, batch, seed=3, stop_step=6))
    shares = [list(TrainBatches(images, batch, seed=3, stop_step=6, rank=rank, world=world)) for rank in range(world)]
    for step, draws in enumerate(whole):
        for rank, share in enumerate(shares):
            assert share[step] == [draw for draw in draws if draw.slot % world == rank]


def test_more_processes_than_images_a_step_are_refused():
    with pytest.raises(ValueError, match="3 processes share a batch of 2"):
        TrainBatches(10, 2, rank=0, world=3)
