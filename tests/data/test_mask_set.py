"""Data sets of pictures with masks: what is looked at, and what a batch holds."""

import logging

import cv2
import numpy as np
import pytest
import torch
from helpers.salient import scene, tiny_salient

from detector.data.dataset import RecordError
from detector.data.loader import train_loader
from detector.data.mask_set import build_mask_tests, build_mask_train, mask_test_loader
from detector.data.samplers import Draw
from detector.errors import UserError
from detector.models.build import resolve_parts


@pytest.fixture
def cfg(tmp_path):
    return lambda *opts: resolve_parts(tiny_salient(tmp_path, *opts))


def test_masks_travel_with_the_pictures_of_a_batch(cfg):
    one = cfg("INPUT.SQUARE_SIZE", 0, "INPUT.MIN_SIZE_TRAIN", 24, "INPUT.MAX_SIZE_TRAIN", 48)
    dataset = build_mask_train(one)
    batch = next(iter(train_loader(one, dataset, 0, 1)))
    assert (batch.images.shape, batch.sizes) == ((2, 3, 32, 64), [(24, 36)] * 2)
    for image, target in zip(batch.images, batch.targets):
        mask = target["mask"]
        assert (mask.shape, mask.dtype, target["original"]) == ((24, 36), torch.uint8, (24, 36))
        assert target["draw"] > 0
        light = image[:, :24, :36].float().mean(0)
        assert light[mask == 1].mean() > 200 > 110 > light[mask == 0].mean()


@pytest.mark.parametrize("size", [("INPUT.SQUARE_SIZE", 17), ("INPUT.SQUARE_SIZE", 0, "INPUT.MIN_SIZE_TRAIN", 53)])
def test_pictures_are_mirrored_and_scaled_with_their_masks(cfg, size):
    dataset = build_mask_train(cfg(*size, "INPUT.MAX_SIZE_TRAIN", 90, "INPUT.HORIZONTAL_FLIP_PROB_TRAIN", 0.5))
    seen = {}
    for step in range(8):
        image, target = dataset[Draw(0, step, 0)]
        assert image.shape[1:] == target["mask"].shape
        assert set(target["mask"].unique().tolist()) == {0, 1}
        light = image.float().mean(0) > 165
        assert (light == (target["mask"] == 1)).float().mean() > 0.93
        seen[target["mask"].numpy().tobytes()] = target["mask"]
    first, second = seen.values()  # as it is, and mirrored
    assert torch.equal(first, second.flip(1)) or (first != second.flip(1)).float().mean() < 0.03
    again = dataset[Draw(0, 7, 0)][1]["mask"]
    assert torch.equal(again, target["mask"])


def test_tests_keep_the_masks_of_the_files(cfg):
    one = cfg("INPUT.SQUARE_SIZE", 64)
    (dataset,) = build_mask_tests(one).values()
    found = {}
    for batch in mask_test_loader(one, dataset):
        assert batch.images.shape[2:] == (64, 64)
        found |= {target["image_id"]: target for target in batch.targets}
    assert [*found] == ["a0", "a1", "a2"]
    for i, target in enumerate(found.values()):
        assert np.array_equal(target["mask"].numpy(), scene(i)[1] // 255)


def test_several_sets_are_one_and_names_stay_apart(cfg, tmp_path):
    one = cfg("DATASETS.TRAIN", f"[saliency:{tmp_path}/train, saliency:{tmp_path}/val]")
    dataset = build_mask_train(one)
    assert (dataset.name, len(dataset), len({*dataset.image_ids})) == ("train+val", 8, 8)
    assert [*build_mask_tests(cfg("DATASETS.TEST", f"[saliency:{tmp_path}/val, saliency:{tmp_path}/val]"))] == [
        "val",
        "val_2",
    ]


def spoil(folder):
    """A picture without mask, a mask of another size, one with colours: three of five."""
    masks = folder / "train" / "ground_truth_mask"
    (masks / "a0.png").unlink()
    cv2.imwrite(str(masks / "a1.png"), np.zeros((9, 9), np.uint8))
    cv2.imwrite(str(masks / "a2.png"), np.full((24, 36, 3), (9, 0, 0), np.uint8))


def test_what_cannot_be_used_stops_before_the_first_step_or_is_left_out(cfg, tmp_path, caplog):
    cfg()
    spoil(tmp_path)
    with pytest.raises(UserError, match="3 of 5 pictures cannot be used") as told:
        build_mask_train(cfg())
    said = str(told.value)
    assert f"images/a0.jpg: it has no mask, which is expected at {tmp_path}/train/ground_truth_mask/a0.png" in said
    assert "a1.png: the mask is 9 wide and 9 high, its picture 36 wide and 24 high" in said
    assert "a2.png: the mask has colours" in said
    assert said.endswith("Mend them, or write DATALOADER.BROKEN skip to do without them")
    with caplog.at_level(logging.WARNING, "detector"):
        dataset = build_mask_train(cfg("DATALOADER.BROKEN", "skip"))
    assert dataset.image_ids == ["a3", "a4"]
    assert "3 of 5 pictures cannot be used" in caplog.text


@pytest.mark.parametrize("broken", ["stop", "skip"])
def test_skip_is_no_remedy_where_nothing_would_be_left(cfg, tmp_path, broken):
    cfg()
    for path in (tmp_path / "train" / "ground_truth_mask").iterdir():
        cv2.imwrite(str(path), cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) // 255)
    with pytest.raises(UserError, match="5 of 5 pictures cannot be used") as told:
        build_mask_train(cfg("DATALOADER.BROKEN", broken))
    assert str(told.value).endswith("Mend them: without them nothing is left, whatever DATALOADER.BROKEN says")


def test_a_file_that_goes_bad_meanwhile_is_named_with_its_record(cfg, tmp_path):
    dataset = build_mask_train(cfg())
    (tmp_path / "train" / "ground_truth_mask" / "a3.png").unlink()
    with pytest.raises(RecordError, match=r"a3\.png: there is no such mask.*\(train, picture 'a3'\)"):
        dataset[3]


@pytest.mark.parametrize(
    "opts", [("INPUT.AUGMENTATION", "ssd"), ("DATALOADER.REPEAT_THRESHOLD", "0.1"), ("DISTILL.TEACHER", "run")]
)
def test_keys_of_boxes_that_would_change_the_training_are_refused(cfg, opts):
    with pytest.raises(UserError, match=f"{opts[0]}.*MODEL.TASK saliency has none: write"):
        build_mask_train(cfg(*opts))
