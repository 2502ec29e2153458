"""Images with rare classes come more often: the factors of LVIS, and epochs of one length that keep to them."""

import logging
from itertools import islice

import numpy as np
import pytest

from detector.config import load_config
from detector.data.loader import batches_per_epoch, build_train_dataset, repeats_of, train_loader
from detector.data.repeats import Repeats, repeat_factors
from detector.data.samplers import TrainBatches


def pairs(*images):
    """pairs((0, 0, 1), (), ..): the image and class of every box, given the classes in each image."""
    return (
        np.array([i for i, some in enumerate(images) for _ in some], np.int64),
        np.array([c for some in images for c in some], np.int64),
        len(images),
    )


def test_factors_by_hand():
    # class 0 in 4 of 8 images, class 1 in 1, class 3 in 2 (and twice in one of them), class 2 nowhere
    images = (0,), (0, 0, 0), (0, 1), (0, 3), (3, 3), (), (), ()
    found = repeat_factors(0.5, *pairs(*images))
    rare, seldom = np.sqrt(0.5 / (1 / 8)), np.sqrt(0.5 / (2 / 8))  # 2 and 1.414
    assert found.tolist() == pytest.approx([1, 1, rare, seldom, seldom, 1, 1, 1])
    assert repeat_factors(0.1, *pairs(*images)).tolist() == [1] * 8
    assert repeat_factors(0.5, *pairs((), ())).tolist() == [1, 1]


@pytest.mark.parametrize(
    "factors",
    [
        [1, 1, 1],
        [1, 2, 3.0],
        [1.4, 1.4],
        [1.1, 1.6],
        [1, 1.2],
        [1.25, 1, 2.5, 1.25],
        [1.9],
        [1 / 3 + 1] * 31,
        [1.001] * 7,
    ],
)
def test_every_epoch_has_as_many_entries_and_images_keep_to_their_factors(factors):
    factors = np.array(factors, float)
    repeats = Repeats.of(factors)
    assert abs(repeats.draws - factors.sum()) <= 0.5
    epochs = 4000
    counts = np.zeros((epochs, len(factors)), int)
    for epoch in range(epochs):
        entries = repeats.entries(np.random.default_rng([7, epoch]))
        assert len(entries) == repeats.draws
        counts[epoch] = np.bincount(entries, minlength=len(factors))
    assert (counts >= np.floor(factors)).all()
    fractions = factors % 1
    scale = (repeats.draws - np.floor(factors).sum()) / max(fractions.sum(), 1e-9)
    wanted = np.floor(factors) + fractions * scale
    # a mean of numbers that differ by at most one has a deviation below 0.5 / sqrt(epochs) = 0.008
    assert counts.mean(0) == pytest.approx(wanted, abs=0.03)


def test_images_of_one_fraction_do_not_exclude_each_other():
    """Without an order of chance before, the second of two neighbours would come only where the first does not."""
    repeats = Repeats.of(np.full(8, 1.5))
    both = [np.bincount(repeats.entries(np.random.default_rng([0, e])))[:2].tolist() == [2, 2] for e in range(500)]
    assert 0.12 < np.mean(both) < 0.32  # 3 of 14


@pytest.fixture
def sampler():
    """sampler(**options): batches of 23 images, three of them rare."""
    aspect = np.random.default_rng(0).choice([0.6, 1.5], 23)
    factors = np.ones(23)
    factors[[3, 11, 19]] = 4.5, 2.0, 2.25

    def build(size=4, **options):
        return TrainBatches(23, size, 5, aspect, repeats=Repeats.of(factors), **options)

    return build


def test_epochs_count_the_repeated_entries(sampler):
    batches = sampler()
    assert (batches.draws, batches.batches_per_epoch) == (29, 8)  # 20 + 8.75, by four
    for number in range(3):
        rows = list(islice(sampler(start_step=8 * number), 8))
        counts = np.bincount([draw.item for row in rows for draw in row], minlength=23)
        assert counts.min() >= 1
        assert counts.sum() == 32
        assert counts[3] >= 4
        mixed = [len({bool(batches.tall[draw.item]) for draw in row}) > 1 for row in rows]
        assert sum(mixed) <= 1
    assert rows != list(islice(sampler(), 8))


def test_any_step_can_be_resumed(sampler):
    whole = list(sampler(stop_step=40))
    for start in (0, 1, 7, 8, 9, 25, 39):
        assert list(sampler(start_step=start, stop_step=40)) == whole[start:]


def test_processes_share_the_repeated_batches(sampler):
    whole = list(sampler(stop_step=20))
    shares = [list(sampler(stop_step=20, rank=rank, world=2)) for rank in range(2)]
    for row, *parts in zip(whole, *shares, strict=True):
        assert parts == [row[0::2], row[1::2]]


def test_a_repeated_image_is_augmented_anew(sampler):
    rows = islice(sampler(), 8)
    chances = [draw.chance(5)[1] for row in rows for draw in row if draw.item == 3]
    assert len(chances) >= 4
    assert len(set(chances)) == len(chances)


def test_without_repeats_the_batches_are_what_they_were():
    """The order that seed 3 had before there were repeats."""
    rows = [[draw.item for draw in row] for row in TrainBatches(7, 2, 3, stop_step=6)]
    rng = np.random.default_rng([3, 0])
    order = rng.permutation(7)
    wanted = rng.permutation(np.append(order, order[0]).reshape(-1, 2)).tolist()
    assert rows[:4] == wanted
    assert Repeats.of(np.ones(7)).draws == 7


def write(coco, name, *images):
    """An annotation file of 20 x 30 pictures that hold objects of the given categories; 0: a crowd of 2."""
    records = []
    for i, classes in enumerate(images):
        coco.picture(f"{i + 1}.png", 20, 30, seed=i)
        records += [
            {"image_id": i + 1, "bbox": [2, 3, 10, 8], "category_id": c or 2, "iscrowd": int(not c)} for c in classes
        ]
    pictures = [{"id": i + 1, "file_name": f"{i + 1}.png", "height": 20, "width": 30} for i in range(len(images))]
    return f"{coco.images}:{coco.annotate(records, pictures, name=name)}"


def test_shares_are_those_of_all_parts_and_of_trained_boxes(coco, cfg):
    first = write(coco, "first.json", (1,), (1, 2), (1, 0), ())  # the fourth has no box and is left out
    second = write(coco, "second.json", (1,), (1,), (1, 1), (1,), (1, 2))
    cfg.DATASETS.TRAIN, cfg.DATALOADER.REPEAT_THRESHOLD = (first, second), 1.0
    found = repeats_of(cfg, build_train_dataset(cfg))
    twice = np.sqrt(8 / 2)  # category 2 is in two of eight images; the crowd is no box
    assert found.factors.tolist() == pytest.approx([1, twice, 1, 1, 1, 1, 1, twice])
    cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS = False
    with_empty = repeats_of(cfg, build_train_dataset(cfg)).factors
    assert with_empty[[1, 3]].tolist() == pytest.approx([np.sqrt(9 / 2), 1])
    cfg.DATALOADER.REPEAT_THRESHOLD = 0.0
    assert repeats_of(cfg, build_train_dataset(cfg)) is None


def test_images_left_out_have_no_share(coco, cfg):
    cfg.DATASETS.TRAIN, cfg.DATALOADER.REPEAT_THRESHOLD = (write(coco, "a.json", (2,), (1,), (1, 2), (1,)),), 1.0
    rest = build_train_dataset(cfg).without([0])  # as one that cannot be read
    assert repeats_of(cfg, rest).factors.tolist() == pytest.approx([1, np.sqrt(3), 1])


def test_the_loader_repeats_and_the_epoch_is_longer(coco, cfg, caplog):
    cfg.DATASETS.TRAIN = (write(coco, "a.json", *[(1,)] * 7, (2,)),)
    dataset = build_train_dataset(cfg)
    assert batches_per_epoch(cfg, dataset) == 4
    cfg.DATALOADER.REPEAT_THRESHOLD = 0.5
    with caplog.at_level(logging.INFO, "detector"):
        assert batches_per_epoch(cfg, dataset) == 5  # of 9 entries
    assert "DATALOADER.REPEAT_THRESHOLD 0.5: factors from 1 to 2, an epoch of 9 entries instead of 8" in caplog.messages
    seen = [t["image_id"] for batch in train_loader(cfg, dataset, stop_step=5) for t in batch.targets]
    assert seen.count(8) >= 2
    assert set(seen) == set(range(1, 9))
    assert "does nothing" not in caplog.text
    cfg.DATALOADER.REPEAT_THRESHOLD = 0.1  # below both shares, 7/8 and 1/8
    assert batches_per_epoch(cfg, dataset) == 4
    assert "DATALOADER.REPEAT_THRESHOLD 0.1 does nothing here" in caplog.text


def test_the_threshold_is_a_share():
    with pytest.raises(ValueError, match=r"DATALOADER\.REPEAT_THRESHOLD: 1\.5 is not allowed; allowed: 0 to 1"):
        load_config(None, ["DATALOADER.REPEAT_THRESHOLD", "1.5"])
