import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from detector.data.catalog import load_dataset
from detector.data.dataset import CocoDetection, JoinedDataset, RecordError
from detector.data.samplers import Draw
from detector.data.transforms import Compose, HorizontalFlip, Resize

PLAIN = Compose([])


def build(entry, transforms=PLAIN, **options):
    return CocoDetection(load_dataset(entry, "."), transforms, **options)


def annotated(coco):
    """Two pictures, the first with a crowd, a flat box and two good boxes."""
    coco.picture("a.png", 60, 80, seed=1)
    coco.picture("b.png", 50, 40, seed=2)
    images = [
        {"id": "first", "file_name": "a.png", "height": 60, "width": 80},
        {"id": "second", "file_name": "b.png", "height": 50, "width": 40},
    ]
    boxes = [
        {"image_id": "first", "category_id": 2, "bbox": [1, 2, 10, 20]},
        {"image_id": "first", "category_id": 1, "bbox": [0, 0, 60, 50], "iscrowd": 1},
        {"image_id": "first", "category_id": 1, "bbox": [5, 5, 0, 5]},
        {"image_id": "first", "category_id": 1, "bbox": [70, 50, 20, 20]},
        {"image_id": "second", "category_id": 1, "bbox": [3, 3, 4, 4], "iscrowd": 1},
    ]
    return f"{coco.images}:{coco.annotate(boxes, images)}"


def test_items_by_hand(coco):
    dataset = build(annotated(coco))
    image, target = dataset[0]
    assert (image.dtype, image.shape) == (torch.uint8, (3, 60, 80))
    assert torch.equal(image, torch.from_numpy(coco.picture("a.png", 60, 80, seed=1)).permute(2, 0, 1))
    assert target["boxes"].tolist() == [[1, 2, 11, 22], [70, 50, 80, 60]]
    assert target["labels"].tolist() == [1, 0]
    assert target["ignore"].tolist() == [[0, 0, 60, 50]]
    assert (target["image_id"], target["original"]) == ("first", (60, 80))
    assert (target["boxes"].dtype, target["labels"].dtype) == (torch.float32, torch.int64)
    _, target = dataset[1]
    assert target["boxes"].shape == (0, 4)
    assert target["ignore"].tolist() == [[3, 3, 7, 7]]
    assert dataset.image_ids == ["first", "second"]
    assert dataset.aspect_ratios.tolist() == [80 / 60, 0.8]
    assert (dataset.name, dataset.classes, dataset.category_ids) == ("train", ["cat", "dog"], [1, 2])


def test_targets_follow_the_transforms(coco):
    image, target = build(annotated(coco), Compose([Resize((120,), 999), HorizontalFlip(1.0)]))[0]
    assert image.shape == (3, 120, 160)
    assert target["boxes"].tolist() == [[138, 4, 158, 44], [0, 100, 20, 120]]
    assert target["ignore"].tolist() == [[40, 0, 160, 100]]
    assert target["original"] == (60, 80)


def test_images_without_a_box_are_dropped_and_counted(coco, caplog):
    with caplog.at_level(logging.INFO, "detector"):
        dataset = build(annotated(coco), drop_empty=True)
    assert dataset.image_ids == ["first"]
    assert "1 of 2 images has no box" in caplog.messages[-1]
    assert dataset[0][1]["image_id"] == "first"
    with pytest.raises(IndexError):
        dataset[1]
    entry = coco.dataset([(20, 20)], [[[1, 1, 0, 4]]])
    with pytest.raises(ValueError, match=r"train\.json: no image has a box to train on \(1 annotation\)"):
        build(entry, drop_empty=True)


def test_nothing_is_said_where_all_images_have_boxes(coco, caplog):
    entry = coco.dataset([(20, 20)], [[[1, 1, 4, 4]]])
    with caplog.at_level(logging.INFO, "detector"):
        assert len(build(entry, drop_empty=True)) == 1
    assert not [one for one in caplog.messages if "have no box" in one]


def test_chance_depends_on_seed_step_and_slot_alone(coco):
    entry = coco.dataset([(40, 60)] * 3)
    steps = Compose([Resize(range(30, 90), 200), HorizontalFlip(0.5)])
    dataset = build(entry, steps, seed=5)
    state = torch.get_rng_state(), np.random.get_state()[1].copy()
    first, target = dataset[Draw(1, 7, 3)]
    again, same = build(entry, steps, seed=5)[Draw(1, 7, 3)]
    assert torch.equal(first, again)
    assert torch.equal(target["boxes"], same["boxes"])
    shapes = {tuple(dataset[Draw(1, step, slot)][0].shape) for step in range(6) for slot in range(4)}
    assert len(shapes) > 10
    assert build(entry, steps, seed=6)[Draw(1, 7, 3)][0].shape != first.shape
    assert torch.equal(torch.get_rng_state(), state[0])
    assert (np.random.get_state()[1] == state[1]).all()


def test_unreadable_pictures_name_file_and_record(coco):
    dataset = build(coco.dataset([(20, 30), (40, 30)]))
    path = coco.images / "2.png"
    record = r"2\.png: .* \(images\[1\], id 2 of .*train\.json\)"
    coco.picture("2.png", 30, 40)
    with pytest.raises(RecordError, match=record):
        dataset[1]
    path.write_bytes(b"")
    with pytest.raises(RecordError, match=record):
        dataset[1]
    path.unlink()
    with pytest.raises(RecordError, match=record):
        dataset[1]


def test_joined_datasets(coco, tmp_path):
    first = build(coco.dataset([(20, 30), (40, 30)], name="one.json"))
    second = build(coco.dataset([(20, 30), (40, 30), (25, 35)], name="two.json"))
    joined = JoinedDataset([first, second])
    assert (len(joined), joined.name, joined.classes) == (5, "one+two", ["cat", "dog"])
    assert joined.aspect_ratios.tolist() == [1.5, 0.75, 1.5, 0.75, 1.4]
    assert [joined[i][0].shape[1:] for i in range(5)] == [(20, 30), (40, 30), (20, 30), (40, 30), (25, 35)]
    assert joined[Draw(4, 0, 0)][1]["image_id"] == 3
    assert joined[-1][1]["image_id"] == 3
    with pytest.raises(IndexError):
        joined[5]
    other = build(coco.dataset([(20, 30)], name="other.json", categories=[{"id": 1, "name": "dog"}]))
    with pytest.raises(ValueError, match=r"one\.json and .*other\.json list different categories"):
        JoinedDataset([first, other])


def test_coco_excerpt(coco_tiny):
    entry = f"{coco_tiny / 'val2017'}:{coco_tiny / 'annotations' / 'instances_val2017.json'}"
    dataset = build(entry, Compose([Resize((100,), 200)]))
    assert len(dataset.classes) == 80
    assert {path.name for path in Path(dataset.folder).iterdir()} >= set(dataset.index.file_names.tolist())
    for i in range(0, len(dataset), max(len(dataset) // 8, 1)):
        image, target = dataset[i]
        assert min(image.shape[1:]) == 100 or max(image.shape[1:]) == 200
        boxes = target["boxes"]
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        assert (boxes >= 0).all()
        assert (boxes[:, 2] <= image.shape[2]).all()
        assert (boxes[:, 3] <= image.shape[1]).all()
        assert len(target["labels"]) == len(boxes)
