"""What of a mask file is salient, and what no mask is."""

import cv2
import numpy as np
import pytest
from helpers.salient import scene

from detector.data.masks import look_at_pair, read_mask
from detector.errors import MissingFileError, UserError


def saved(path, pixels):
    assert cv2.imwrite(str(path), np.array(pixels))
    return path


def test_what_is_above_128_is_salient_and_nothing_else(tmp_path):
    levels = np.array([[0, 1, 127], [128, 129, 255]], np.uint8)
    found = read_mask(saved(tmp_path / "m.png", levels), (2, 3))
    assert found.dtype == np.uint8
    assert found.tolist() == [[0, 0, 0], [0, 1, 1]]


@pytest.mark.parametrize("channels", [3, 4])
def test_equal_channels_are_grey_and_alpha_does_not_count(tmp_path, channels):
    _, mask = scene(0)
    pixels = np.repeat(mask[..., None], channels, axis=2)
    pixels[..., 3:] = 7
    assert np.array_equal(read_mask(saved(tmp_path / "m.png", pixels), mask.shape), mask // 255)


@pytest.mark.parametrize(
    ("pixels", "said"),
    [
        (np.full((4, 5, 3), (0, 0, 255), np.uint8), "the mask has colours; write one of grey levels"),
        (np.full((4, 5), 40000, np.uint16), "the mask has 16 bits a level"),
        (np.eye(4, 5, dtype=np.uint8), "levels 0 and 1, and only what is above 128 is salient: multiply it by 255"),
        (np.zeros((5, 4), np.uint8), "the mask is 4 wide and 5 high, its picture 5 wide and 4 high; scale or turn"),
    ],
)
def test_no_masks_are_named_with_the_remedy(tmp_path, pixels, said):
    path = saved(tmp_path / "m.png", pixels)
    with pytest.raises(UserError, match=said) as told:
        read_mask(path, (4, 5))
    assert str(told.value).startswith(f"{path}: ")
    assert "\n" not in str(told.value)


def test_a_dark_mask_is_one_without_objects(tmp_path):
    assert not read_mask(saved(tmp_path / "m.png", np.zeros((4, 5), np.uint8)), (4, 5)).any()
    assert not read_mask(saved(tmp_path / "m.png", np.full((4, 5), 2, np.uint8)), (4, 5)).any()


def test_missing_empty_and_damaged_masks_are_named(tmp_path):
    with pytest.raises(MissingFileError, match=r"m\.png: there is no such mask"):
        read_mask(tmp_path / "m.png", (4, 5))
    for content in (b"", b"no picture", b"version https://git-lfs.github.com/spec/v1"):
        (tmp_path / "m.png").write_bytes(content)
        with pytest.raises(UserError, match=r"m\.png: .*(fetch it again|git lfs pull)"):
            read_mask(tmp_path / "m.png", (4, 5))


def test_a_pair_is_looked_at_before_the_training(tmp_path):
    image, mask = scene(0)
    picture, path = saved(tmp_path / "a.jpg", image), saved(tmp_path / "a.png", mask)
    assert look_at_pair(picture, path) == ((24, 36), "")
    assert look_at_pair(picture, saved(tmp_path / "b.png", mask.T))[1].startswith(f"{tmp_path}/b.png: the mask is 24")
    path.write_bytes(path.read_bytes()[:-20])
    assert "cut short" in look_at_pair(picture, path)[1]
    picture.write_bytes(b"")
    assert look_at_pair(picture, path) == (None, f"{picture}: it is no picture, or a damaged one: fetch it again")
    assert look_at_pair(tmp_path / "c.jpg", path)[1].startswith(f"{tmp_path}/c.jpg: it cannot be opened")


@pytest.mark.parametrize(
    ("pixels", "said"),
    [
        (scene(0)[1] // 255, "the mask has the levels 0 and 1"),
        (scene(0)[1].astype(np.uint16) * 257, "the mask has 16 bits a level"),
    ],
)
def test_grey_masks_that_training_would_refuse_are_found_before_it(tmp_path, pixels, said):
    picture = saved(tmp_path / "a.jpg", scene(0)[0])
    size, fault = look_at_pair(picture, saved(tmp_path / "a.png", pixels))
    assert size == (24, 36)
    assert fault.startswith(f"{tmp_path}/a.png: {said}")


def test_coloured_masks_are_found_before_the_training(tmp_path):
    image, mask = scene(0)
    picture = saved(tmp_path / "a.jpg", image)
    path = saved(tmp_path / "a.png", np.stack([mask, mask, 255 - mask], axis=2))
    assert "the mask has colours" in look_at_pair(picture, path)[1]
    assert look_at_pair(picture, saved(tmp_path / "b.jpg", mask)) == ((24, 36), "")
