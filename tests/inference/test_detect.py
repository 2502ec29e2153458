"""Detections of pictures that are seen in several views, with every head."""

import numpy as np
import pytest
import torch
from helpers.inputs import target
from torch import nn
from torch.utils.data import DataLoader

from detector.config import load_config
from detector.data.loader import BatchLoader, _Parcel, collate
from detector.data.pipeline import at_sizes, build_transforms
from detector.data.transforms import Sample
from detector.inference import detect as module
from detector.inference.augmented import build_augmentation, mirrored
from detector.inference.detect import detect, detect_all, detect_views
from detector.inference.prepare import prepare_for_inference
from detector.models.build import build_detector, resolve_parts
from detector.models.winograd import WinogradConv2d
from detector.ops.select import suppress
from detector.structures import Detection

SMALL = [
    *("MODEL.BACKBONE.NAME", "resnet10", "MODEL.BACKBONE.NORM", "bn", "MODEL.BACKBONE.FREEZE_CONV_BODY_AT", "0"),
    *("MODEL.NUM_CLASSES", "3", "MODEL.DEVICE", "cpu", "INPUT.MIN_SIZE_TEST", "64", "INPUT.MAX_SIZE_TEST", "128"),
]
HEADS = {
    "fcos": ("MODEL.NECK.OUT_CHANNELS", "32", "MODEL.FCOS.PRIOR_PROB", "0.3"),
    "faster_rcnn": ("MODEL.NECK.OUT_CHANNELS", "32", "MODEL.RPN.POST_NMS_TOP_N_TEST", "60"),
    "cascade": (
        *("MODEL.NECK.OUT_CHANNELS", "32", "MODEL.RPN.POST_NMS_TOP_N_TEST", "60"),
        *("MODEL.ROI_HEADS.CASCADE_IOUS", "(0.5, 0.6)", "MODEL.CLS_AGNOSTIC_BBOX_REG", "True"),
    ),
    "refinedet": ("MODEL.REFINEDET.TCB_CHANNELS", "32", "INPUT.SQUARE_SIZE", "64"),
}
VIEWS = ("H_FLIP", "True", "SCALES", "(96, 80)", "SCALE_H_FLIP", "True")
PLAIN = ("SCALES", "64", "MAX_SIZE", "128")  # the size of the test itself, which is no further view


def config(head, *aug, opts=()):
    name = "faster_rcnn" if head == "cascade" else head
    pairs = [w for i, w in enumerate(aug) for w in ((f"TEST.BBOX_AUG.{w}",) if i % 2 == 0 else (w,))]
    on = ("TEST.BBOX_AUG.ENABLED", "True") if aug else ()
    return resolve_parts(load_config(None, ["MODEL.HEAD.NAME", name, *SMALL, *HEADS[head], *on, *pairs, *opts]))


def lively(cfg):
    """A model that finds many boxes, of scores that do not tie."""
    torch.manual_seed(1)
    model = build_detector(cfg).eval()
    for name, layer in model.head.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear) and not name.endswith("centerness"):
            nn.init.normal_(layer.weight, std=layer.weight[0].numel() ** -0.5)
    return model


def pictures(*sizes):
    chance = np.random.default_rng(4)
    return [np.ascontiguousarray(chance.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in sizes]


def batches(cfg, images):
    """One for each size that the config names, by the transforms of a test."""
    nothing = Sample(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros((0, 4), np.float32))
    made = []
    for one in at_sizes(cfg):
        transform = build_transforms(one, train=False)
        resized = [transform(image, nothing, np.random.default_rng(0))[0] for image in images]
        items = [
            (torch.from_numpy(r).permute(2, 0, 1), {**target(), "original": image.shape[:2]})
            for r, image in zip(resized, images, strict=True)
        ]
        made.append(collate(items, cfg.DATALOADER.SIZE_DIVISIBILITY))
    return made


def turned(images):
    return [np.ascontiguousarray(image[:, ::-1]) for image in images]


def same(got, want):
    return all(
        torch.equal(a[key], b[key]) for a, b in zip(got, want, strict=True) for key in ("boxes", "labels", "scores")
    )


IMAGES = pictures((60, 90), (70, 61))


@pytest.mark.parametrize("head", HEADS)
def test_a_view_is_a_test_at_that_size_and_the_best_of_all_stay(head):
    """Each view by itself, of a picture that is mirrored before it is resized, and one NMS of them all."""
    cfg = config(head, *VIEWS)
    model = lively(cfg)
    got = detect_views(model, iter(batches(cfg, IMAGES)), "off", build_augmentation(cfg))
    views = []
    for side in (64, 96, 80):
        keys = ("INPUT.SQUARE_SIZE", side) if head == "refinedet" else ("INPUT.MIN_SIZE_TEST", side)
        limit = () if head == "refinedet" or side == 64 else ("INPUT.MAX_SIZE_TEST", "4000")
        alone = config(head, opts=(*keys, *limit))
        views.append(detect(model, *batches(alone, IMAGES)))
        back = detect(model, *batches(alone, turned(IMAGES)))
        views.append([mirrored(one, image.shape[:2]) for one, image in zip(back, IMAGES, strict=True)])
    iou = {"fcos": 0.6, "refinedet": 0.45}.get(head, 0.5)
    want = []
    for found in zip(*views, strict=True):
        assert all(len(view["scores"]) > 3 for view in found)
        want.append(suppress(*(torch.cat([v[k] for v in found]) for k in ("boxes", "scores", "labels")), iou, 100))
    assert same(got, want)


@pytest.mark.parametrize("merge", ["nms", "wbf"])
@pytest.mark.parametrize("head", HEADS)
def test_one_view_is_the_plain_result_bit_for_bit(head, merge):
    cfg = config(head, *PLAIN, "MERGE", merge)
    model = lively(cfg)
    (first, second), plain = batches(cfg, IMAGES), batches(config(head), IMAGES)[0]
    assert torch.equal(first.images, second.images)
    got = detect_views(model, [first, second], "off", build_augmentation(cfg))
    assert same(got, detect(model, plain))
    assert all(len(found["scores"]) > 3 for found in got)


@pytest.mark.parametrize("merge", ["nms", "wbf"])
@pytest.mark.parametrize("head", HEADS)
def test_a_mirrored_picture_gives_mirrored_detections(head, merge):
    cfg = config(head, *VIEWS, "MERGE", merge)
    model, augmentation = lively(cfg), build_augmentation(cfg)
    got = detect_views(model, batches(cfg, IMAGES), "off", augmentation)
    other = detect_views(model, batches(cfg, turned(IMAGES)), "off", augmentation)
    plain = detect(model, batches(config(head), turned(IMAGES))[0])
    for a, b, c, image in zip(got, other, plain, IMAGES, strict=True):
        back = mirrored(b, image.shape[:2])
        assert len(a["scores"]) > 10
        assert torch.equal(a["labels"], b["labels"])
        torch.testing.assert_close(back["scores"], a["scores"], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(back["boxes"], a["boxes"], rtol=0, atol=1e-3)
        assert not torch.equal(c["scores"], a["scores"][: len(c["scores"])])  # a plain view is not so


@pytest.mark.parametrize("precision", ["off", "bf16"])
def test_prepared_models_are_seen_in_the_same_way(precision):
    cfg = config("fcos", *VIEWS[:2], opts=("MODEL.NECK.OUT_CHANNELS", "256"))
    model = prepare_for_inference(lively(cfg), precision)
    assert any(isinstance(m, WinogradConv2d) for m in model.modules()) == (precision == "off")
    parts = batches(cfg, IMAGES)
    got = detect_views(model, parts, precision, build_augmentation(cfg))
    plain = detect(model, parts[0], precision)
    for a, b in zip(got, plain, strict=True):
        assert a["boxes"].dtype == a["scores"].dtype == torch.float32
        assert a["scores"][0] >= b["scores"][0]
        assert len(a["scores"]) == 100


class Counting(nn.Module):
    """Finds one box, of its own in each image, and notes the images' sizes and whether they are mirrored."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(1))
        self.calls = []

    def forward(self, images, sizes):
        self.calls.append([(size, bool(i[0, 0, 0] != 9)) for i, size in zip(images, sizes, strict=True)])
        one = {"labels": torch.zeros(1).long(), "scores": torch.full((1,), 1 - 0.1 * len(self.calls))}
        return [{**one, "boxes": torch.tensor([[0.0, 0, w / 2, h]])} for h, w in sizes]


def marked(size):
    image = np.zeros((*size, 3), np.uint8)
    image[:, : size[1] // 2] = 9
    return image


def test_a_size_that_a_picture_was_seen_in_does_not_count_twice():
    """The long picture is bound by its longer side, in 96 as in 64; the other one is new in each."""
    cfg = config("fcos", "SCALES", "(96, 64)", "MAX_SIZE", "128", "MERGE", "wbf", "SCALE_H_FLIP", "True")
    model = Counting()
    images = [marked((20, 80)), marked((40, 60))]
    found = detect_views(model, batches(cfg, images), "off", build_augmentation(cfg))
    assert model.calls == [
        [((32, 128), False), ((64, 96), False)],
        [((32, 128), False), ((85, 127), False)],
        [((32, 128), True), ((85, 127), True)],
        [((32, 128), True), ((64, 96), True)],  # plain, at 64, nobody is new
    ]
    first, second = found  # of two views each half of the picture: 0.9, 0.7; of four: 0.9, 0.8, 0.7, 0.6
    assert first["boxes"].tolist() == [[0, 0, 40, 20], [40, 0, 80, 20]]
    assert first["scores"].tolist() == pytest.approx([0.45, 0.35])
    assert second["scores"].tolist() == pytest.approx([(0.9 + 0.8) / 4, (0.7 + 0.6) / 4])


@pytest.mark.parametrize(("aug", "views"), [((), 1), (("H_FLIP", "True"), 2), (("SCALES", "(96, 80)"), 3)])
def test_all_batches_come_in_all_their_sizes(monkeypatch, aug, views):
    cfg = config("fcos", *aug)
    model, augmentation = Counting().train(), build_augmentation(cfg)
    groups = [batches(cfg, [marked((40, 60))]), batches(cfg, [marked((40, 50)), marked((40, 54))])]
    parcels = [_Parcel(batch) for group in groups for batch in group]
    loader = BatchLoader(DataLoader(parcels, batch_size=None), 0)
    ticks = []
    monkeypatch.setattr(module, "progress", lambda items, **words: ticks.append(len(items)) or items)
    found = list(detect_all(model, loader, "off", augmentation))
    assert ticks == [len(parcels)]
    assert [len(detections) for detections, _ in found] == [1, 2]
    assert [[t["original"] for t in targets] for _, targets in found] == [[(40, 60)], [(40, 50), (40, 54)]]
    assert len(model.calls) == 2 * views
    assert model.training


def test_views_that_do_not_fit_the_keys_are_a_mistake():
    cfg = config("fcos", "SCALES", "(96, 80)")
    with pytest.raises(ValueError, match="zip"):
        detect_views(Counting(), batches(cfg, IMAGES)[:2], "off", build_augmentation(cfg))
    with pytest.raises(ValueError, match="unpack"):
        detect_views(Counting(), batches(cfg, IMAGES), "off", None)


def test_detections_are_in_pixels_of_the_original():
    (found,) = detect_views(Counting(), batches(config("fcos"), [marked((40, 60))]), "off", None)
    assert found == Detection(boxes=found["boxes"], labels=found["labels"], scores=found["scores"])
    assert found["boxes"].tolist() == [[0, 0, 30, 40]]
