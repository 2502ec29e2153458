import traceback

import pytest
import torch

from detector.data import loader
from detector.data.loader import (
    batches_per_epoch,
    build_test_datasets,
    build_train_dataset,
    collate,
    test_loader,
    train_loader,
    view_loader,
)
from detector.structures import Target

test_loader.__test__ = False  # a function of the library, no test


def target(**values):
    empty = torch.zeros(0, 4)
    return Target(
        boxes=empty, labels=torch.zeros(0).long(), ignore=empty, image_id=1, original=(1, 1), draw=0, **values
    )


def assert_same(a, b):
    assert torch.equal(a.images, b.images)
    assert a.sizes == b.sizes
    for one, other in zip(a.targets, b.targets, strict=True):
        assert one["image_id"] == other["image_id"]
        assert one["original"] == other["original"]
        for key in ("boxes", "labels", "ignore"):
            assert torch.equal(one[key], other[key])


@pytest.fixture
def sizes():
    return [(40, 60), (60, 40), (50, 50), (45, 70), (70, 45), (30, 64), (64, 30)]


def test_collate_pads_right_and_bottom():
    items = [(torch.full((3, 5, 9), 7, dtype=torch.uint8), target()), (torch.ones(3, 8, 4).byte(), target())]
    batch = collate(items, divisibility=4)
    assert batch.images.shape == (2, 3, 8, 12)
    assert batch.images.dtype == torch.uint8
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert batch.sizes == [(5, 9), (8, 4)]
    assert batch.images[0, :, :5, :9].eq(7).all()
    assert batch.images.sum() == 7 * 3 * 45 + 3 * 32
    assert collate(items).images.shape == (2, 3, 8, 9)


@pytest.mark.parametrize("workers", [0, 2])
def test_evaluation_shows_every_image_once(coco, cfg, sizes, workers):
    cfg.DATASETS.TEST = (coco.dataset(sizes),)
    cfg.DATALOADER.NUM_WORKERS = workers
    (dataset,) = build_test_datasets(cfg).values()
    batches = test_loader(cfg, dataset)
    assert len(batches) == 5
    for _ in range(2):
        seen = [t["image_id"] for batch in batches for t in batch.targets]
        assert sorted(seen) == [1, 2, 3, 4, 5, 6, 7]
    batch = next(iter(batches))
    assert all(side % 32 == 0 for side in batch.images.shape[2:])
    assert isinstance(batch.sizes[0], tuple)
    for batch in batches:  # each is padded no further than it would be alone
        assert {tuple(-(-side // 32) * 32 for side in size) for size in batch.sizes} == {batch.images.shape[2:]}


@pytest.mark.parametrize(("square", "keys"), [(0, ("MIN_SIZE_TEST", "MAX_SIZE_TEST")), (64, ("SQUARE_SIZE",))])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_batch_comes_in_every_size_as_a_test_of_that_size_has_it(coco, cfg, sizes, workers, square, keys):
    cfg.DATASETS.TEST, cfg.DATALOADER.NUM_WORKERS, cfg.INPUT.SQUARE_SIZE = (coco.dataset(sizes),), workers, square
    cfg.TEST.BBOX_AUG.SCALES, cfg.TEST.BBOX_AUG.MAX_SIZE = (30, 90), 120
    (dataset,) = build_test_datasets(cfg).values()
    alone = [list(test_loader(cfg, dataset))]
    for scale in (30, 90):
        other = cfg.clone()
        for key, value in zip(keys, (scale, 120), strict=False):
            other.INPUT[key] = value
        alone.append(list(test_loader(other, *build_test_datasets(other).values())))
    cfg.TEST.BBOX_AUG.ENABLED = True
    cfg.freeze()
    loader = view_loader(cfg, dataset)
    found = list(loader)
    assert len(loader) == len(found) == (12 if square else 15)
    assert [len({b.images.shape[2:] for b in found[k::3]}) for k in range(3)] == ([1] * 3 if square else [5, 3, 5])
    for k, batches in enumerate(alone):
        want = {image["image_id"]: (x, size) for b in batches for x, size, image in zip(b.images, b.sizes, b.targets)}
        for batch in found[k::3]:
            for x, size, target in zip(batch.images, batch.sizes, batch.targets):
                assert size == want[target["image_id"]][1]
                assert torch.equal(x, want[target["image_id"]][0])


def test_a_broken_picture_is_named_in_whatever_size(coco, cfg, sizes):
    cfg.DATASETS.TEST = (coco.dataset(sizes),)
    cfg.TEST.BBOX_AUG.ENABLED, cfg.TEST.BBOX_AUG.SCALES = True, (30,)
    (dataset,) = build_test_datasets(cfg).values()
    (coco.images / "4.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"4\.png"):
        list(view_loader(cfg, dataset))


def test_batches_do_not_depend_on_workers_or_global_chance(coco, cfg, sizes):
    cfg.DATASETS.TRAIN = (coco.dataset(sizes),)
    dataset = build_train_dataset(cfg)
    alone = list(train_loader(cfg, dataset, stop_step=6))
    torch.manual_seed(99)
    state = torch.get_rng_state()
    cfg.DATALOADER.NUM_WORKERS = 2
    shared = list(train_loader(cfg, dataset, stop_step=6))
    assert torch.equal(torch.get_rng_state(), state)
    assert len(alone) == len(shared) == 6
    for a, b in zip(alone, shared, strict=True):
        assert_same(a, b)
    assert len({batch.sizes[0] for batch in alone}) > 2


def test_a_resumed_stream_equals_the_uninterrupted_one(coco, cfg, sizes):
    cfg.DATASETS.TRAIN = (coco.dataset(sizes),)
    dataset = build_train_dataset(cfg)
    whole = list(train_loader(cfg, dataset, stop_step=10))
    rest = list(train_loader(cfg, dataset, start_step=5, stop_step=10))
    for a, b in zip(whole[5:], rest, strict=True):
        assert_same(a, b)


def test_training_has_no_end_by_default(coco, cfg):
    cfg.DATASETS.TRAIN = (coco.dataset([(30, 30)]),)
    stream = iter(train_loader(cfg, build_train_dataset(cfg)))
    assert [len(next(stream).targets) for _ in range(5)] == [2] * 5


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unreadable_picture_is_one_short_error(coco, cfg, sizes, workers):
    cfg.DATASETS.TRAIN = (coco.dataset(sizes),)
    cfg.DATALOADER.NUM_WORKERS = workers
    dataset = build_train_dataset(cfg)
    data = (coco.images / "4.png").read_bytes()
    (coco.images / "4.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=r"4\.png: the picture file is cut short") as caught:
        list(train_loader(cfg, dataset, stop_step=8))
    message, report = str(caught.value), "".join(traceback.format_exception(caught.value))
    del caught  # a cycle through this frame: the garbage collector would keep the workers waiting for seconds
    assert "images[3], id 4 of" in message
    assert "\n" not in message
    assert "worker" not in message
    assert "During handling" not in report


def test_mistakes_in_code_keep_their_traceback(coco, cfg, monkeypatch):
    cfg.DATASETS.TRAIN = (coco.dataset([(30, 30)]),)
    dataset = build_train_dataset(cfg)
    dataset.transforms = lambda image, sample, rng: image.reshape(7)
    with pytest.raises(ValueError, match="reshape") as caught:
        next(iter(train_loader(cfg, dataset)))
    assert "image.reshape(7)" in "".join(traceback.format_exception(caught.value))


def test_class_count_has_to_agree(coco, cfg):
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = (coco.dataset([(30, 30)]),)
    cfg.MODEL.NUM_CLASSES = 80
    for build in (build_train_dataset, build_test_datasets):
        with pytest.raises(ValueError, match=r"train\.json lists 2 classes \(cat, dog\).*write MODEL\.NUM_CLASSES 2"):
            build(cfg)


def test_an_open_class_count_is_the_datas_affair(coco, cfg):
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = (coco.dataset([(30, 30)]),)
    cfg.MODEL.NUM_CLASSES = 0
    dataset = build_train_dataset(cfg)
    assert dataset.classes == ["cat", "dog"]
    (tests,) = build_test_datasets(cfg, dataset).values()
    assert tests.classes == dataset.classes


def test_an_epoch_shows_every_image(coco, cfg, sizes):
    cfg.DATASETS.TRAIN = (coco.dataset(sizes),)
    dataset = build_train_dataset(cfg)
    number = batches_per_epoch(cfg, dataset)
    assert number == 4  # of seven images, two a step
    seen = [t["image_id"] for batch in train_loader(cfg, dataset, stop_step=number) for t in batch.targets]
    assert set(seen) == {1, 2, 3, 4, 5, 6, 7}


def test_what_images_are_padded_to_may_not_stay_open(coco, cfg):
    cfg.DATASETS.TRAIN = (coco.dataset([(30, 30)]),)
    cfg.DATALOADER.SIZE_DIVISIBILITY = 0
    with pytest.raises(ValueError, match=r"DATALOADER\.SIZE_DIVISIBILITY 0 leaves it to the head: .*resolve_parts"):
        train_loader(cfg, build_train_dataset(cfg))


def test_train_and_test_have_to_list_the_same_classes(coco, cfg):
    cfg.DATASETS.TRAIN = (coco.dataset([(30, 30)], name="a.json"),)
    turned = [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}]
    cfg.DATASETS.TEST = (coco.dataset([(30, 30)], name="b.json", categories=turned),)
    train = build_train_dataset(cfg)
    assert list(build_test_datasets(cfg)) == ["b"]
    with pytest.raises(ValueError, match=r"a\.json and .*b\.json .*label 0: id 1 'cat' against id 1 'dog'"):
        build_test_datasets(cfg, train)
    cfg.DATASETS.TRAIN += cfg.DATASETS.TEST
    with pytest.raises(ValueError, match=r"a\.json and .*b\.json"):
        build_train_dataset(cfg)


def test_several_training_sets_are_joined(coco, cfg):
    one, two = coco.dataset([(30, 30)], name="a.json"), coco.dataset([(30, 30)] * 3, name="b.json")
    cfg.DATASETS.TRAIN = (one, two)
    dataset = build_train_dataset(cfg)
    assert (len(dataset), dataset.name) == (4, "a+b")
    seen = [t["image_id"] for batch in train_loader(cfg, dataset, stop_step=2) for t in batch.targets]
    assert sorted(seen) == [1, 1, 2, 3]


def test_test_sets_get_unique_names(coco, cfg):
    entry = coco.dataset([(30, 30)], name="val.json")
    cfg.DATASETS.TEST = (entry, entry)
    datasets = build_test_datasets(cfg)
    assert list(datasets) == ["val", "val_2"]
    assert [dataset.name for dataset in datasets.values()] == ["val", "val_2"]


def test_nothing_to_train_on_is_an_error(coco, cfg):
    cfg.DATASETS.TRAIN = (coco.dataset([(30, 30)], [[]]),)
    with pytest.raises(ValueError, match=r"train\.json: there are no annotations to train on"):
        build_train_dataset(cfg)
    cfg.DATASETS.TEST = cfg.DATASETS.TRAIN
    assert len(build_test_datasets(cfg)["train"]) == 1
    cfg.DATASETS.TRAIN = ()
    with pytest.raises(ValueError, match=r"DATASETS\.TRAIN is empty"):
        build_train_dataset(cfg)


def test_images_without_boxes_are_used_on_request(coco, cfg):
    cfg.DATASETS.TRAIN = (coco.dataset([(30, 30)] * 3, [[[1, 1, 5, 5]], [], []]),)
    assert len(build_train_dataset(cfg)) == 1
    cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS = False
    dataset = build_train_dataset(cfg)
    assert len(dataset) == 3
    batch = next(iter(train_loader(cfg, dataset)))
    assert {len(t["boxes"]) for t in batch.targets} <= {0, 1}


def test_pinning_keeps_sizes_as_they_are(monkeypatch):
    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: pinned.append(self.clone()) or pinned[-1])
    batch = collate([(torch.ones(3, 4, 4).byte(), target())])
    from torch.utils.data._utils.pin_memory import pin_memory

    out = pin_memory(loader._Parcel(batch))
    tensors = [out.batch.images, *(out.batch.targets[0][key] for key in ("boxes", "labels", "ignore"))]
    assert {id(x) for x in pinned} == {id(x) for x in tensors}
    torch.testing.assert_close(out.batch.targets[0]["boxes"], batch.targets[0]["boxes"])
    assert out.batch.targets[0].keys() == batch.targets[0].keys()
    assert out.batch.sizes == [(4, 4)]
    assert isinstance(out.batch.sizes[0], tuple)
    assert isinstance(out.batch.targets[0]["original"], tuple)
