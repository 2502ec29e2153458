import numpy as np
import pytest

from detector.data.pipeline import build_transforms
from detector.data.transforms import MIN_SIDE, Compose, HorizontalFlip, Resize, Sample, resized


def sample(boxes, ignore=()):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    return Sample(boxes, np.arange(len(boxes)), np.array(ignore, np.float32).reshape(-1, 4))


def noise(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("size", "min_size", "max_size", "expected"),
    [
        ((480, 640), 800, 1333, (800, 1066)),
        ((640, 480), 800, 1333, (1066, 800)),
        ((427, 640), 800, 1333, (800, 1199)),
        ((360, 640), 800, 1333, (750, 1333)),
        ((500, 500), 800, 1333, (800, 800)),
        ((800, 1066), 800, 1333, (800, 1066)),
        ((1, 1), 800, 1333, (800, 800)),
        ((3, 12000), 800, 1333, (1, 1333)),
        ((12000, 3), 800, 1333, (1333, 1)),
        ((33, 5000), 800, 1333, (9, 1333)),
        ((100, 100), 80, 60, (60, 60)),
    ],
)
def test_size_rule(size, min_size, max_size, expected):
    assert resized(size, min_size, max_size) == expected


def test_size_rule_equals_maskrcnn_benchmark_where_its_rounding_keeps_the_limit():
    def peer(h, w, size, max_size):
        if max(h, w) / min(h, w) * size > max_size:
            size = round(max_size * min(h, w) / max(h, w))
        if min(h, w) == size:
            return h, w
        return (int(size * h / w), size) if w < h else (size, int(size * w / h))

    for h, w in np.random.default_rng(0).integers(150, 1000, (2000, 2)).tolist():
        expected = peer(h, w, 800, 1333)
        if max(expected) <= 1333:
            assert resized((h, w), 800, 1333) == expected


@pytest.mark.parametrize("size", [(1, 1), (3, 1200), (1200, 3), (48, 64)])
def test_resize_scales_boxes_and_crowds_with_the_picture(size):
    h, w = size
    image, out = Resize((96,), 128)(noise(h, w), sample([[0, 0, w, h]], [[0, 0, w / 2, h]]), RNG)
    new_h, new_w = image.shape[:2]
    assert image.dtype == np.uint8
    assert max(image.shape[:2]) <= 128
    np.testing.assert_allclose(out.boxes, [[0, 0, new_w, new_h]], rtol=1e-6)
    np.testing.assert_allclose(out.ignore, [[0, 0, new_w / 2, new_h]], rtol=1e-6)
    assert out.boxes.dtype == np.float32


def test_resize_keeps_a_picture_that_fits():
    image = noise(96, 128)
    same, _ = Resize((96,), 128)(image, sample([]), RNG)
    np.testing.assert_array_equal(same, image)


def test_shrinking_averages_areas():
    image = noise(96, 128)
    small, _ = Resize((48,), 64)(image, sample([]), RNG)
    blocks = image.reshape(48, 2, 64, 2, 3).mean((1, 3))
    assert np.abs(small - blocks).max() <= 0.5


def test_flip_by_hand():
    image = noise(4, 10)
    flipped, out = HorizontalFlip(1.0)(image, sample([[1, 2, 4, 3]], [[0, 0, 10, 4]]), RNG)
    np.testing.assert_array_equal(flipped, image[:, ::-1])
    assert out.boxes.tolist() == [[6, 2, 9, 3]]
    assert out.ignore.tolist() == [[0, 0, 10, 4]]


def test_flip_twice_is_the_identity():
    image, before = noise(5, 9), sample([[1.25, 2, 4.5, 3], [0, 0, 9, 5]], [[2, 1, 3, 4]])
    flip = HorizontalFlip(1.0)
    again, after = flip(*flip(image, before, RNG), RNG)
    np.testing.assert_array_equal(again, image)
    np.testing.assert_array_equal(after.boxes, before.boxes)
    np.testing.assert_array_equal(after.ignore, before.ignore)


def test_flip_probability():
    image, rng = noise(2, 2), np.random.default_rng(0)
    assert not any((HorizontalFlip(0.0)(image, sample([]), rng)[0] != image).any() for _ in range(20))
    turned = sum((HorizontalFlip(0.3)(image, sample([]), rng)[0] != image).any() for _ in range(1000))
    assert 240 < turned < 360


def test_boxes_keep_a_side_inside_the_picture():
    steps = Compose([Resize((10,), 40), HorizontalFlip(1.0)])
    boxes = [[0, 0, 1e-4, 1e-4], [3999.9998, 999.9999, 4000, 1000], [5, 5, 5, 5]]
    image, out = steps(noise(1000, 4000), sample(boxes, boxes), RNG)
    assert image.shape == (10, 40, 3)
    for some in (out.boxes, out.ignore):
        assert (some[:, 2:] - some[:, :2] >= 0.9 * MIN_SIDE).all()
        assert (some >= 0).all()
        assert (some[:, [2, 0]] <= 40).all()
        assert (some[:, [3, 1]] <= 10).all()


def test_train_sizes_are_drawn_from_list_or_range(cfg):
    cfg.INPUT.HORIZONTAL_FLIP_PROB_TRAIN = 0.0
    image, rng = noise(50, 50), np.random.default_rng(0)
    steps = build_transforms(cfg, train=True)
    assert {steps(image, sample([]), rng)[0].shape[0] for _ in range(60)} == {40, 48, 56}
    cfg.INPUT.MIN_SIZE_RANGE_TRAIN = (41, 44)
    steps = build_transforms(cfg, train=True)
    assert {steps(image, sample([]), rng)[0].shape[0] for _ in range(80)} == {41, 42, 43, 44}
    steps = build_transforms(cfg, train=False)
    assert {steps(image, sample([]), rng)[0].shape for _ in range(5)} == {(48, 48, 3)}


def test_impossible_settings_are_refused(cfg):
    with pytest.raises(ValueError, match="at least 1 pixel"):
        Resize((0,), 100)
    with pytest.raises(ValueError, match=r"within 0\.\.1, not 1\.5"):
        HorizontalFlip(1.5)
    cfg.INPUT.MIN_SIZE_RANGE_TRAIN = (50, 40)
    with pytest.raises(ValueError, match="at least 1 pixel"):
        build_transforms(cfg, train=True)


def test_masks_are_scaled_by_the_nearest_pixel_and_mirrored():
    mask = np.zeros((4, 6), np.uint8)
    mask[1:3, 0:2] = 1
    start = sample([])._replace(mask=mask)
    _, doubled = Resize((8,), 99)(noise(4, 6), start, RNG)
    assert np.array_equal(doubled.mask, mask.repeat(2, 0).repeat(2, 1))
    _, halved = Resize((2,), 99)(noise(8, 12), start._replace(mask=doubled.mask.repeat(1, 0)), RNG)
    assert halved.mask.tolist() == [[1, 0, 0], [0, 0, 0]]  # the pixels at rows 2 and 6, columns 2, 6 and 10
    _, mirrored = Compose([HorizontalFlip(1.0)])(noise(4, 6), start, RNG)
    assert np.array_equal(mirrored.mask, mask[:, ::-1])
    assert Compose([HorizontalFlip(1.0)])(noise(4, 6), sample([]), RNG)[1].mask is None
