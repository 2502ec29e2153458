"""How many processes read pictures, and whether their batches fit into the shared memory."""

import os
import warnings

import pytest

from detector.data import capacity
from detector.data.capacity import check_shared_memory, free_shared_memory, usable_workers, workers_text
from detector.data.image_folder import FolderLoader
from detector.data.loader import (
    build_test_datasets,
    build_train_dataset,
    check_memory,
    largest_batch,
    test_loader,
    train_loader,
    view_loader,
)
from detector.data.workers import PREFETCH
from detector.errors import UserError

test_loader.__test__ = False  # a function of the library, no test
KEY = "DATALOADER.NUM_WORKERS"


def cores(monkeypatch, number):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(number)), raising=False)


def test_no_more_workers_than_cores(monkeypatch):
    cores(monkeypatch, 2)
    assert [usable_workers(n) for n in (0, 1, 2, 4)] == [0, 1, 2, 2]
    assert [workers_text(n) for n in (0, 2, 4)] == ["0", "2", "2 (of 4: 2 cores)"]
    cores(monkeypatch, 1)
    assert workers_text(4) == "1 (of 4: 1 core)"
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    assert usable_workers(4) == 3


def test_both_loaders_start_that_many_and_torch_has_nothing_to_warn_of(monkeypatch, coco, cfg):
    cfg.DATASETS.TEST, cfg.DATALOADER.NUM_WORKERS = (coco.dataset([(40, 60)]),), 999
    (dataset,) = build_test_datasets(cfg).values()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaders = [test_loader(cfg, dataset).loader, FolderLoader([], [[0]], 999, False).loader]
    assert {one.num_workers for one in loaders} == {capacity.usable_cores()}
    assert {one.prefetch_factor for one in loaders} == {PREFETCH}


def test_too_little_shared_memory_names_numbers_and_remedies(monkeypatch):
    cores(monkeypatch, 8)
    mib = 2**20
    check_shared_memory(4, 10 * mib, 4 * PREFETCH * 10 * mib, KEY)  # it is just enough
    with pytest.raises(UserError) as error:
        check_shared_memory(4, 10 * mib, 4 * PREFETCH * 10 * mib - 1, KEY)
    text = str(error.value)
    assert "4 workers may have ready, 4 of 10 MiB each, take 160 MiB, and /dev/shm has 160 MiB free" in text
    assert "write DATALOADER.NUM_WORKERS 3 or DATALOADER.NUM_WORKERS 0" in text
    assert "docker run --shm-size=1g" in text
    with pytest.raises(UserError, match=r"has 39 MiB free.*: write --workers 0, so that") as error:
        check_shared_memory(4, 300 * mib, 39 * mib, "--workers")
    assert "--shm-size=10g" in str(error.value)
    check_shared_memory(0, 10 * mib, 0, KEY)
    cores(monkeypatch, 1)  # fewer are started
    check_shared_memory(4, 10 * mib, PREFETCH * 10 * mib, KEY)


def test_the_system_is_asked_on_linux_alone(monkeypatch, tmp_path):
    monkeypatch.setattr(capacity.sys, "platform", "linux")
    monkeypatch.setattr(capacity, "SHARED", tmp_path)
    state = os.statvfs(tmp_path)
    assert 0 <= free_shared_memory() <= state.f_blocks * state.f_frsize
    monkeypatch.setattr(capacity, "free_shared_memory", lambda: 5)
    with pytest.raises(UserError):
        check_shared_memory(1, 9, key=KEY)
    monkeypatch.undo()
    monkeypatch.setattr(capacity.sys, "platform", "win32")
    assert free_shared_memory() is None
    check_shared_memory(4, 2**60, key=KEY)


@pytest.mark.parametrize("square", [0, 64])
@pytest.mark.parametrize("train", [True, False])
def test_no_batch_is_larger_than_what_is_counted_with(coco, cfg, train, square):
    entry = coco.dataset([(40, 60), (45, 60), (30, 64), (20, 100)] * 2)
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = (entry,)
    cfg.INPUT.SQUARE_SIZE = square
    if train:
        dataset = build_train_dataset(cfg)
        sizes = [batch.images.numel() for batch in train_loader(cfg, dataset, stop_step=40)]
    else:
        (dataset,) = build_test_datasets(cfg).values()
        sizes = [batch.images.numel() for batch in test_loader(cfg, dataset)]
    assert max(sizes) == largest_batch(cfg, dataset, train)


@pytest.mark.parametrize("square", [0, 50])
def test_further_sizes_of_a_test_count(coco, cfg, square):
    cfg.DATASETS.TEST = (coco.dataset([(40, 60), (45, 60), (30, 64), (20, 100)] * 2),)
    cfg.INPUT.SQUARE_SIZE = square
    cfg.TEST.BBOX_AUG.SCALES, cfg.TEST.BBOX_AUG.MAX_SIZE = (30, 90), 150
    (dataset,) = build_test_datasets(cfg).values()
    plain = largest_batch(cfg, dataset, False)
    cfg.TEST.BBOX_AUG.ENABLED = True
    sizes = [batch.images.numel() for batch in view_loader(cfg, dataset)]
    assert max(sizes) == largest_batch(cfg, dataset, False) > plain


def test_the_largest_batch_follows_the_keys(coco, cfg):
    cfg.DATASETS.TRAIN = (coco.dataset([(40, 60), (60, 40)]),)
    dataset = build_train_dataset(cfg)
    assert largest_batch(cfg, dataset, True) == 2 * 3 * 64 * 96  # 56 x 84
    cfg.DATALOADER.ASPECT_RATIO_GROUPING = False  # wide and tall ones meet
    assert largest_batch(cfg, dataset, True) == 2 * 3 * 96 * 96
    cfg.INPUT.MIN_SIZE_RANGE_TRAIN = (30, 70)  # 67 x 100, by MAX_SIZE_TRAIN
    cfg.DATALOADER.ASPECT_RATIO_GROUPING = True
    assert largest_batch(cfg, dataset, True) == 2 * 3 * 96 * 128
    cfg.INPUT.AUGMENTATION = "ssd"
    assert largest_batch(cfg, dataset, True) == 2 * 3 * 128 * 128


def test_a_training_counts_what_waits_while_it_evaluates(coco, cfg, monkeypatch):
    cores(monkeypatch, 2)
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = (coco.dataset([(40, 60)]),)
    cfg.DATALOADER.NUM_WORKERS = 2
    train, tests = build_train_dataset(cfg), list(build_test_datasets(cfg).values())
    batches = [largest_batch(cfg, train, True), largest_batch(cfg, tests[0], False)]
    for data, size in (((train, []), batches[0]), ((None, tests * 2), batches[1]), ((train, tests), sum(batches))):
        check_memory(cfg, *data, free=2 * PREFETCH * size)
        with pytest.raises(UserError, match=r"DATALOADER\.NUM_WORKERS"):
            check_memory(cfg, *data, free=2 * PREFETCH * size - 1)
