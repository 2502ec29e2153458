"""The generated set of salient objects."""

import numpy as np
import pytest

from detector.data import mask_shapes, shapes
from detector.data.images import read_rgb
from detector.data.mask_folders import find_masks
from detector.data.mask_shapes import draw_salient, generate_mask_shapes
from detector.data.masks import read_mask


def test_it_is_an_ordinary_folder_with_two_lists_and_the_same_for_equal_seeds(tmp_path, monkeypatch):
    monkeypatch.setattr(mask_shapes, "generate_mask_shapes", lambda folder: generate_mask_shapes(folder, 3, 2))
    train, val, every = (find_masks(f"saliency:shapes{part}", tmp_path) for part in (":train", ":val", ""))
    assert (train.name, val.name) == ("saliency_shapes_train", "saliency_shapes_val")
    assert [*every.pairs] == [*train.pairs, *val.pairs]
    assert [len(one.pairs) for one in (train, val, every)] == [3, 2, 5]
    generate_mask_shapes(tmp_path / "again", 3, 2)
    for one in every.pairs.values():
        for path in (one.picture, one.mask):
            assert path.read_bytes() == (tmp_path / "again" / path.parent.name / path.name).read_bytes()
    for pair in train.pairs.values():
        image = read_rgb(pair.picture)
        mask = read_mask(pair.mask, image.shape[:2])
        assert 0.03 < mask.mean() < 0.7


@pytest.mark.parametrize(
    ("module", "ensure", "number"), [(mask_shapes, "ensure_mask_shapes", 240), (shapes, "ensure_shapes", 700)]
)
def test_what_is_generated_is_said_once(module, ensure, number, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(module, ensure.replace("ensure", "generate"), lambda folder: folder.mkdir())
    caplog.set_level("INFO", "detector")
    for _ in range(2):
        getattr(module, ensure)(tmp_path / "made")
    assert caplog.messages == [f"{number} pictures were generated in {tmp_path / 'made'}"]


def test_objects_are_vivid_on_pale_ground_and_brightness_says_nothing():
    brighter = []
    for i in range(12):
        image, mask = draw_salient(np.random.default_rng(i))
        assert set(np.unique(mask)) == {0, 255}
        spread = np.ptp(image.astype(int), axis=2)
        assert np.median(spread[mask > 0]) > 2 * np.median(spread[mask == 0])
        brighter.append(image[mask > 0].mean() > image[mask == 0].mean())
    assert {*brighter} == {True, False}
