"""Views of pictures: mirrored and at other sizes, their detections brought back and merged."""

import pytest
import torch
from helpers.inputs import target

from detector.config import load_config
from detector.data.loader import collate
from detector.inference.augmented import Augmentation, build_augmentation, mirrored, mirrored_batch
from detector.ops.fusion import fuse_boxes
from detector.structures import Detection

AUG = "TEST.BBOX_AUG."
ON = (f"{AUG}ENABLED", "True", f"{AUG}H_FLIP", "True")


def detection(*rows):
    """Detections of (x1, y1, x2, y2, label, score)."""
    table = torch.tensor(rows, dtype=torch.float32).reshape(-1, 6)
    return Detection(boxes=table[:, :4], labels=table[:, 4].long(), scores=table[:, 5])


def rows(found):
    columns = torch.cat([found["boxes"], found["labels"][:, None], found["scores"][:, None]], dim=1)
    return [tuple(round(v, 4) for v in row) for row in columns.tolist()]


def same(got, want):
    return all(torch.equal(got[key], want[key]) for key in ("boxes", "labels", "scores"))


def by(merge, views, **options):
    (found,) = Augmentation((True,), merge, **{"iou": 0.5, "limit": 100, **options}).merged([views])
    return found


# ---------------------------------------------------------------------------- what is merged

A = detection((0, 0, 10, 10, 1, 0.8), (40, 40, 60, 60, 0, 0.3))
B = detection((1, 0, 11, 10, 1, 0.9), (0, 0, 10, 10, 0, 0.7), (40, 40, 60, 60, 0, 0.1))


def test_the_best_of_each_class_stay():
    assert rows(by("nms", [A, B])) == [(1, 0, 11, 10, 1, 0.9), (0, 0, 10, 10, 0, 0.7), (40, 40, 60, 60, 0, 0.3)]


def test_the_mean_of_each_class_counts_by_how_many_views_saw_it():
    first, second, third = rows(by("wbf", [A, B]))
    assert first == (round(0.9 / 1.7, 4), 0, round(10 + 0.9 / 1.7, 4), 10, 1, 0.85)
    assert (second, third) == ((0, 0, 10, 10, 0, 0.35), (40, 40, 60, 60, 0, 0.2))


@pytest.mark.parametrize("merge", ["nms", "wbf"])
def test_a_single_view_is_handed_on_as_it_is(merge):
    overlapping = detection((0, 0, 10, 10, 0, 0.5), (0, 0, 10, 11, 0, 0.6))
    augmentation = Augmentation((False, False), merge, 0.5, limit=1, least=0.55)
    first, second, third = augmentation.merged([[overlapping], [A, B], [detection()]])
    assert same(first, overlapping)
    assert len(second["scores"]) == 1
    assert len(third["scores"]) == 0


@pytest.mark.parametrize("merge", ["nms", "wbf"])
def test_images_do_not_meet_and_keep_their_order(merge):
    augmentation = Augmentation((True,), merge, 0.5, limit=100)
    views = [[A, B], [detection(), detection()], [B], [B, A], [detection(), A]]
    together = augmentation.merged(views)
    apart = [augmentation.merged([one])[0] for one in views]
    assert [len(found["scores"]) for found in together] == [3, 0, 3, 3, 2]
    assert all(map(same, together, apart))


@pytest.mark.parametrize(("merge", "wanted"), [("nms", [0.9, 0.7]), ("wbf", [0.85, 0.35])])
def test_the_best_stay_up_to_the_limit(merge, wanted):
    assert by(merge, [A, B], limit=2)["scores"].tolist() == pytest.approx(wanted)


def test_fused_scores_have_to_exceed_what_the_head_demands():
    assert by("wbf", [A, B], least=0.2)["scores"].tolist() == pytest.approx([0.85, 0.35])  # 0.2 does not
    assert len(by("wbf", [A, B], least=0.19)["scores"]) == 3


def test_labels_do_not_mix_with_images():
    """Of many classes and images, each image as if it were alone."""
    chance = torch.Generator().manual_seed(3)
    views = []
    for _ in range(4):
        corner, side = torch.rand(40, 2, generator=chance) * 20, 10 + torch.rand(40, 2, generator=chance) * 10
        boxes, labels = torch.cat([corner, corner + side], 1), torch.randint(7, (40,), generator=chance)
        views.append(Detection(boxes=boxes, labels=labels, scores=torch.rand(40, generator=chance)))
    both = Augmentation((True,), "wbf", 0.55, 100).merged([views[:2], views[2:]])
    for found, pair in zip(both, (views[:2], views[2:]), strict=True):
        boxes, scores, labels = (torch.cat([v[key] for v in pair]) for key in ("boxes", "scores", "labels"))
        want = fuse_boxes(boxes, scores, labels, torch.full((80,), 2), 0.55)
        assert same(found, Detection(boxes=want[0], scores=want[1], labels=want[2]))
        assert len(found["labels"].unique()) == 7


# ---------------------------------------------------------------------------- mirrors


def test_only_the_picture_is_mirrored_not_its_padding():
    pictures = [
        torch.randint(1, 255, (3, 5, 9), dtype=torch.uint8),
        torch.randint(1, 255, (3, 8, 4), dtype=torch.uint8),
    ]
    batch = collate([(picture, target()) for picture in pictures], 8)
    before = batch.images.clone()
    other = mirrored_batch(batch)
    assert torch.equal(batch.images, before)
    assert other.images.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(other.images, collate([(picture.flip(-1), target()) for picture in pictures], 8).images)
    assert (other.images != before).any()
    assert torch.equal(mirrored_batch(other).images, before)


def test_boxes_are_mirrored_and_back():
    found = detection((10, 5, 30, 20, 2, 0.5), (0, 0, 100, 80, 0, 0.25))
    once = mirrored(found, (80, 100))
    assert rows(once) == [(70, 5, 90, 20, 2, 0.5), (0, 0, 100, 80, 0, 0.25)]
    assert same(mirrored(once, (80, 100)), found)
    assert rows(found)[0] == (10, 5, 30, 20, 2, 0.5)


# ---------------------------------------------------------------------------- from the config


def test_it_is_off_by_default_and_where_there_is_only_the_plain_view():
    assert build_augmentation(load_config(None)) is None
    assert build_augmentation(load_config(None, [f"{AUG}ENABLED", "True"])) is None
    assert build_augmentation(load_config(None, [f"{AUG}H_FLIP", "True", f"{AUG}SCALES", "600"])) is None


@pytest.mark.parametrize(
    ("opts", "mirrors"),
    [
        ((f"{AUG}H_FLIP", "True"), (True,)),
        ((f"{AUG}SCALES", "(600, 1000)"), (False, False, False)),
        ((f"{AUG}SCALES", "(600, 1000)", f"{AUG}H_FLIP", "True"), (True, False, False)),
        ((f"{AUG}SCALES", "600", f"{AUG}SCALE_H_FLIP", "True"), (False, True)),
    ],
)
def test_views_are_those_of_the_keys(opts, mirrors):
    cfg = load_config(None, [f"{AUG}ENABLED", "True", *opts, "TEST.DETECTIONS_PER_IMG", "7"])
    found = build_augmentation(cfg)
    assert (found.mirrored, found.merge, found.limit) == (mirrors, "nms", 7)
    assert f"{len(mirrors) + sum(mirrors)} views of a picture" in found.text()


FASTER = ("MODEL.HEAD.NAME", "faster_rcnn")


@pytest.mark.parametrize(
    ("opts", "iou", "least"),
    [
        (("MODEL.FCOS.NMS_TH", "0.65", "MODEL.FCOS.INFERENCE_TH", "0.2"), 0.65, 0.0),
        (("MODEL.FCOS.INFERENCE_TH", "0.2", "MODEL.FCOS.TH_WITH_CENTERNESS", "True"), 0.6, 0.2),
        ((*FASTER, "MODEL.ROI_HEADS.NMS", "0.4", "MODEL.ROI_HEADS.SCORE_THRESH", "0.1"), 0.4, 0.1),
        ((*FASTER, "MODEL.ROI_HEADS.NMS_METHOD", "soft_linear"), 0.5, 0.001),
        (("MODEL.HEAD.NAME", "refinedet", "MODEL.REFINEDET.SCORE_THRESH", "0.02"), 0.45, 0.02),
    ],
)
def test_overlap_and_least_score_are_the_heads_own(opts, iou, least):
    found = build_augmentation(load_config(None, [*ON, *opts]))
    assert (found.iou, found.least) == (iou, least)
    fusing = build_augmentation(load_config(None, [*ON, *opts, f"{AUG}MERGE", "wbf"]))
    assert (fusing.iou, fusing.least) == (pytest.approx(max(0.55, iou + 0.05)), least)
    told = build_augmentation(load_config(None, [*ON, *opts, f"{AUG}MERGE_IOU", "0.3", f"{AUG}MERGE", "wbf"]))
    assert (told.iou, told.least, told.merge) == (0.3, least, "wbf")
