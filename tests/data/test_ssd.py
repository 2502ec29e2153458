"""SSD's augmentation: boxes follow the pixels, minima hold, draws stay within their bounds."""

import colorsys

import cv2
import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from detector.data import ssd
from detector.data.loader import build_train_dataset, train_loader
from detector.data.pipeline import build_transforms
from detector.data.ssd import ANY_INTERPOLATION, Expand, MinIoUCrop, PhotometricDistort, crop
from detector.data.transforms import Compose, HorizontalFlip, Resize, Sample, Warp
from detector.models.backbones import BACKBONES
from detector.models.build import pixel_statistics

RNG = np.random.default_rng(0)
GREY = (124.0, 116.0, 104.0)
GROUND, COLOURS = (90, 90, 90), ((250, 20, 20), (20, 250, 20), (20, 20, 250))


def sample(boxes=(), ignore=(), labels=None):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    labels = np.arange(len(boxes)) if labels is None else np.array(labels)
    return Sample(boxes, labels, np.array(ignore, np.float32).reshape(-1, 4))


def scene(rng, height=120, width=160):
    """Two boxes and a crowd apart from each other, each painted in a colour of its own."""
    places = [(5, 8, 60, 70), (80, 10, 150, 55), (70, 70, 155, 115)]
    rects = []
    for x1, y1, x2, y2 in places:
        x, y = rng.integers(x1, x2 - 20), rng.integers(y1, y2 - 20)
        rects.append([x, y, rng.integers(x + 12, x2 + 1), rng.integers(y + 12, y2 + 1)])
    image = np.full((height, width, 3), GROUND, np.uint8)
    for (x1, y1, x2, y2), colour in zip(rects, COLOURS):
        image[y1:y2, x1:x2] = colour
    return image, sample(rects[:2], rects[2:])


def painted(image, colour):
    """The box around the pixels that are more of a colour than of the ground; None without any."""
    distance = np.abs(image.astype(int) - colour).sum(2)
    ys, xs = np.nonzero(distance < np.abs(np.array(colour) - GROUND).sum() / 2)
    return None if not len(xs) else np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])


def coordinates(height, width):
    """A picture whose pixels tell where they are: red is x, green is y."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x, y, 0 * x], 2).astype(np.uint8)


def part_of(cropped):
    """The part that was cut out of `coordinates`."""
    return [*map(int, cropped[0, 0, :2]), int(cropped[-1, -1, 0]) + 1, int(cropped[-1, -1, 1]) + 1]


@pytest.mark.parametrize("last", [Warp(200), Warp(97, ANY_INTERPOLATION), Resize((100, 140), 400)])
def test_boxes_and_crowds_follow_the_pixels(last):
    kept = cut = 0
    for seed in range(150):
        rng = np.random.default_rng(seed)
        image, truth = scene(rng)
        steps = Compose([Expand(GROUND), MinIoUCrop(), last, HorizontalFlip(0.5)])
        out, after = steps(image, truth, rng)
        scale = max(out.shape[0] / 120, out.shape[1] / 160, 1)
        assert 1 <= len(after.boxes) <= 2
        for box, label in zip(after.boxes, after.labels):
            found = painted(out, COLOURS[label])
            if found is None:  # a sliver narrower than the pixels that the interpolation leaves
                assert (box[2:] - box[:2]).min() < 2.5
                continue
            np.testing.assert_allclose(box, found, atol=1.5 * scale)
            kept += 1
        for box in after.ignore:
            found = painted(out, COLOURS[2])
            assert found is not None or (box[2:] - box[:2]).min() < 2.5
            if found is not None:
                np.testing.assert_allclose(box, found, atol=1.5 * scale)
        if not len(after.ignore):
            assert painted(out, COLOURS[2]) is None
            cut += 1
    assert kept > 150
    assert cut > 5


@pytest.mark.parametrize(("least", "found"), [(0.1, 150), (0.5, 150), (0.9, 15)])  # 50 trials rarely reach 0.9
def test_the_minimum_iou_holds_for_the_pixels_that_are_cut_out(least, found):
    truth = sample([[20, 10, 160, 110], [100, 60, 140, 100], [5, 80, 30, 118]])
    image, whole, ious = coordinates(120, 180), 0, []
    rng = np.random.default_rng(0)
    for _ in range(400):
        out, after = MinIoUCrop(min_ious=(least,))(image, truth, rng)
        if out is image:
            whole += 1
            continue
        part = part_of(out)
        ious.append(box_iou(torch.tensor([part], dtype=torch.float32), torch.from_numpy(truth.boxes)).max().item())
        x1, y1, x2, y2 = part
        centres = (truth.boxes[:, :2] + truth.boxes[:, 2:]) / 2
        inside = ((centres >= (x1, y1)) & (centres <= (x2, y2))).all(1)
        assert after.labels.tolist() == np.flatnonzero(inside).tolist() != []
        clipped = np.clip(truth.boxes[inside] - [x1, y1, x1, y1], 0, [x2 - x1, y2 - y1] * 2)
        np.testing.assert_array_equal(after.boxes, clipped)
        assert 0.3 * 180 * 0.5**0.5 - 1 <= x2 - x1 <= 180
        assert 0.3 * 120 * 0.5**0.5 - 1 <= y2 - y1 <= 120
        assert 0.48 <= (x2 - x1) / 180 / ((y2 - y1) / 120) <= 2.08
    assert min(ious) >= least - 1e-6
    assert found < len(ious) < 250
    assert len(ious) + whole == 400


def test_every_minimum_and_the_whole_are_drawn_alike():
    """A box that fills the picture: nearly every minimum finds a part, so the whole is one in seven."""
    rng, image = np.random.default_rng(0), coordinates(100, 100)
    shares = []
    for _ in range(1400):
        out, _ = MinIoUCrop()(image, sample([[0, 0, 100, 100]]), rng)
        shares.append(out.shape[0] * out.shape[1] / 1e4)
    assert 150 < sum(share == 1 for share in shares) < 270
    assert sum(0.9 <= share < 1 for share in shares) > 200  # those of 0.9, and some of the others
    assert min(shares) < 0.2


def test_pictures_without_boxes_or_without_a_fitting_part_stay_whole():
    image, rng = coordinates(100, 100), np.random.default_rng(0)
    crowd = sample((), [[0, 0, 50, 50]])
    for _ in range(20):
        assert MinIoUCrop()(image, crowd, rng) == (image, crowd)
        tiny = sample([[50, 50, 52, 52]])
        assert MinIoUCrop(min_ious=(0.1, 0.5))(image, tiny, rng) == (image, tiny)


def test_a_part_by_hand():
    image = coordinates(100, 200)
    truth = sample(
        [[0, 0, 100, 40], [60, 20, 90, 90], [90, 10, 130, 30], [100, 50, 140, 60]],
        [[0, 0, 60, 100], [40, 40, 70, 200], [100, 0, 200, 20]],
    )
    out, after = crop(image, truth, np.array([50, 10, 120, 80]))
    assert part_of(out) == [50, 10, 120, 80]
    assert out.flags.c_contiguous
    # the centre of the first lies on the edge and counts, that of the last likewise
    assert after.labels.tolist() == [0, 1, 2, 3]
    assert after.boxes.tolist() == [[0, 0, 50, 30], [10, 10, 40, 70], [40, 0, 70, 20], [50, 40, 70, 50]]
    assert after.ignore.tolist() == [[0, 0, 10, 70], [0, 30, 20, 70], [50, 0, 70, 10]]
    _, after = crop(image, truth, np.array([121, 31, 199, 99]))
    assert (after.labels.tolist(), after.ignore.tolist()) == ([], [])
    assert after.boxes.shape == (0, 4)


def test_the_canvas_is_filled_and_the_picture_whole_on_it():
    rng, ratios, places = np.random.default_rng(0), [], []
    image = coordinates(40, 60)
    image[..., 2] = 255
    for _ in range(400):
        out, after = Expand((1.4, 2, 3.6))(image, sample([[0, 0, 60, 40]], [[1, 2, 3, 4]]), rng)
        if out is image:
            continue
        x1, y1, x2, y2 = after.boxes[0].astype(int).tolist()
        np.testing.assert_array_equal(out[y1:y2, x1:x2], image)
        assert (after.ignore == [[x1 + 1, y1 + 2, x1 + 3, y1 + 4]]).all()
        rest = np.ones(out.shape[:2], bool)
        rest[y1:y2, x1:x2] = False
        assert (out[rest] == (1, 2, 4)).all()
        ratios.append(out.shape[1] / 60)
        assert abs(out.shape[0] / 40 - ratios[-1]) < 0.03
        if out.shape[1] > 100:
            places.append(x1 / (out.shape[1] - 60))
    assert 160 < len(ratios) < 240
    assert 0.98 <= min(ratios) < 1.1
    assert 3.9 < max(ratios) <= 4
    assert abs(np.mean(ratios) - 2.5) < 0.2
    assert min(places) < 0.1
    assert max(places) > 0.9


def test_a_picture_too_large_for_its_canvas_is_shrunk(monkeypatch):
    monkeypatch.setattr(ssd, "MAX_CANVAS", 10_000)
    rng = np.random.default_rng(0)
    image, truth = scene(rng)
    for _ in range(40):
        out, after = Expand(GROUND, prob=1)(image, truth, rng)
        assert out.shape[0] * out.shape[1] <= 10_000
        for box, colour in zip((*after.boxes, *after.ignore), COLOURS):
            np.testing.assert_allclose(box, painted(out, colour), atol=1)


def test_brightness_and_contrast_by_hand():
    grey, rng = np.full((4, 5, 3), 100, np.uint8), np.random.default_rng(0)
    only = {"prob": 1, "saturation": (1, 1), "hue": 0}
    lights = {int(PhotometricDistort(contrast=(1, 1), **only)(grey, sample(), rng)[0][0, 0, 0]) for _ in range(500)}
    assert 68 <= min(lights) <= 70
    assert 130 <= max(lights) <= 132
    contrasts = {int(PhotometricDistort(brightness=0, **only)(grey, sample(), rng)[0][0, 0, 0]) for _ in range(500)}
    assert 50 <= min(contrasts) <= 52
    assert 148 <= max(contrasts) <= 150
    white = np.full((2, 2, 3), 250, np.uint8)
    for _ in range(50):
        out, _ = PhotometricDistort(contrast=(1.5, 1.5), **only)(white, sample(), rng)
        assert (out == 255).all()  # nothing wraps around


def test_hue_and_saturation_by_hand():
    colour, rng = np.full((2, 2, 3), (200, 80, 60), np.uint8), np.random.default_rng(0)
    hue, saturation, value = colorsys.rgb_to_hsv(200 / 255, 80 / 255, 60 / 255)
    only = {"prob": 1, "brightness": 0, "contrast": (1, 1)}
    turns, factors = [], []
    for _ in range(300):
        out, _ = PhotometricDistort(saturation=(1, 1), **only)(colour, sample(), rng)
        turned = colorsys.rgb_to_hsv(*(out[0, 0] / 255.0))
        turns.append((turned[0] - hue + 0.5) % 1 - 0.5)
        np.testing.assert_allclose(turned[1:], (saturation, value), atol=0.02)
        out, _ = PhotometricDistort(hue=0, **only)(colour, sample(), rng)
        greyer = colorsys.rgb_to_hsv(*(out[0, 0] / 255.0))
        factors.append(greyer[1] / saturation)
        assert abs((greyer[0] - hue + 0.5) % 1 - 0.5) < 0.02
        assert greyer[2] == pytest.approx(value, abs=0.01)
    assert -0.11 < min(turns) < -0.08  # 18 steps of two degrees are a tenth of the circle
    assert 0.08 < max(turns) < 0.11
    assert 0.48 < min(factors) < 0.53
    assert max(factors) <= 1 / saturation + 0.02


def test_each_change_has_its_probability():
    image, rng = coordinates(10, 10) + np.array([60, 20, 90], np.uint8), np.random.default_rng(0)
    same = sum(np.array_equal(PhotometricDistort()(image, sample(), rng)[0], image) for _ in range(800))
    assert 25 < same < 85  # 1 of 16 has no change; some changes are none by chance
    assert PhotometricDistort(prob=0)(image, sample(), rng)[0] is image
    assert len({PhotometricDistort()(image, sample(), rng)[0].tobytes() for _ in range(100)}) > 70


def test_contrast_comes_first_or_last():
    """Where a value was clipped, the order shows: 200 * 1.5 -> 255 -> hue turned, or turned and clipped thereafter."""
    image = np.full((1, 1, 3), (200, 60, 60), np.uint8)
    fixed = PhotometricDistort(prob=1, brightness=0, contrast=(1.5, 1.5), saturation=(0.5, 0.5), hue=0)
    rng = np.random.default_rng(0)
    seen = [tuple(fixed(image, sample(), rng)[0][0, 0].tolist()) for _ in range(200)]
    assert len(set(seen)) == 2
    assert 70 < seen.count(seen[0]) < 130


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1), (3, 2000)])
def test_degenerate_pictures(size):
    h, w = size
    steps = Compose(
        [PhotometricDistort(), Expand(GROUND), MinIoUCrop(), Warp(32, ANY_INTERPOLATION), HorizontalFlip(0.5)]
    )
    for seed in range(40):
        image = np.zeros((h, w, 3), np.uint8)
        out, after = steps(
            image, sample([[0, 0, w, h], [0, 0, w / 9, h / 9]], [[0, 0, w, h]]), np.random.default_rng(seed)
        )
        assert out.shape == (32, 32, 3)
        assert len(after.boxes) == len(after.labels) >= 1
        for some in (after.boxes, after.ignore):
            assert some.dtype == np.float32
            assert (some[:, 2:] > some[:, :2]).all()
            assert (some >= 0).all()
            assert (some <= 32).all()
        out, after = steps(image, sample(), np.random.default_rng(seed))
        assert (out.shape, after.boxes.shape) == ((32, 32, 3), (0, 4))


def test_warp_by_hand():
    image, out = Warp(100)(np.zeros((50, 200, 3), np.uint8), sample([[20, 10, 40, 20]], [[0, 0, 200, 50]]), RNG)
    assert image.shape == (100, 100, 3)
    assert out.boxes.tolist() == [[10, 20, 20, 40]]
    assert out.ignore.tolist() == [[0, 0, 100, 100]]
    with pytest.raises(ValueError, match="at least 1 pixel"):
        Warp(0)


def test_warp_draws_its_interpolation():
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    rng = np.random.default_rng(0)
    seen = {Warp(50, ANY_INTERPOLATION)(image, sample(), rng)[0].tobytes() for _ in range(100)}
    assert seen == {cv2.resize(image, (50, 50), interpolation=how).tobytes() for how in ANY_INTERPOLATION}
    assert len(seen) == 5


def kinds(compose):
    return [type(step).__name__ for step in compose.transforms]


def test_pipelines_follow_the_config(cfg):
    assert kinds(build_transforms(cfg, train=True)) == ["Resize", "HorizontalFlip"]
    cfg.INPUT.AUGMENTATION = "ssd"
    ours = ["PhotometricDistort", "Expand", "MinIoUCrop"]
    with pytest.raises(ValueError, match=r"INPUT\.AUGMENTATION ssd needs the fill colour"):
        build_transforms(cfg, train=True)
    assert kinds(build_transforms(cfg, True, GREY)) == [*ours, "Resize", "HorizontalFlip"]
    assert kinds(build_transforms(cfg, train=False)) == ["Resize"]
    cfg.INPUT.SQUARE_SIZE = 64
    steps = build_transforms(cfg, True, GREY)
    assert kinds(steps) == [*ours, "Warp", "HorizontalFlip"]
    assert steps.transforms[3].interpolations == ANY_INTERPOLATION
    image, rng = coordinates(50, 70), np.random.default_rng(0)
    assert {steps(image, sample([[9, 9, 30, 40]]), rng)[0].shape for _ in range(9)} == {(64, 64, 3)}
    test = build_transforms(cfg, train=False)
    assert test.transforms[0].interpolations == (cv2.INTER_LINEAR,)
    assert test(image, sample(), rng)[0].shape == (64, 64, 3)
    cfg.INPUT.AUGMENTATION = "flip"
    assert kinds(build_transforms(cfg, train=True)) == ["Warp", "HorizontalFlip"]


@pytest.mark.parametrize(("name", "mean"), [("resnet50", [124, 116, 104]), ("resnet50_caffe", [123, 116, 103])])
def test_the_canvas_has_the_mean_of_the_backbone_in_rgb(cfg, name, mean):
    cfg.MODEL.BACKBONE.NAME, cfg.INPUT.AUGMENTATION = name, "ssd"
    fill = build_transforms(cfg, True, pixel_statistics(cfg).rgb_mean()).transforms[1].fill
    assert fill.tolist() == mean
    pixels = BACKBONES[name].weights.pixels
    entering = fill[::-1] if pixels.order == "bgr" else fill
    assert np.abs(entering - np.array(pixels.mean)).max() <= 0.5  # so that it is zero for the network
    cfg.INPUT.PIXEL_MEAN, cfg.INPUT.PIXEL_STD = (10.0, 20.0, 30.0), (1.0, 1.0, 1.0)
    fill = build_transforms(cfg, True, pixel_statistics(cfg).rgb_mean()).transforms[1].fill
    assert fill.tolist() == ([30, 20, 10] if pixels.order == "bgr" else [10, 20, 30])


def test_batches_do_not_depend_on_workers_or_the_place_of_resuming(coco, cfg):
    cfg.DATASETS.TRAIN = (coco.dataset([(40, 60), (60, 40), (50, 50), (45, 70)], [[[5, 6, 20, 30]]] * 4),)
    cfg.INPUT.AUGMENTATION, cfg.INPUT.SQUARE_SIZE = "ssd", 64
    dataset = build_train_dataset(cfg, GREY)
    assert tuple(dataset.transforms.transforms[1].fill) == GREY
    state = torch.get_rng_state()
    alone = list(train_loader(cfg, dataset, stop_step=8))
    cfg.DATALOADER.NUM_WORKERS = 2
    resumed = list(train_loader(cfg, dataset, start_step=4, stop_step=8))
    assert torch.equal(torch.get_rng_state(), state)
    for a, b in zip(alone[4:], resumed, strict=True):
        assert torch.equal(a.images, b.images)
        assert all(torch.equal(x["boxes"], y["boxes"]) for x, y in zip(a.targets, b.targets))
    assert len({batch.images.numpy().tobytes() for batch in alone}) == 8
