"""What a head can reach at best, held against computations of their own for boxes of every kind."""

import json
import math
from itertools import product

import cv2
import numpy as np
import pytest
import torch
from helpers import ROOT

from detector.analysis import reach as module
from detector.analysis.perfect import APART, BETWEEN, HIDDEN, LEARNED, UNKNOWN, WEAK, Outcome, perfect
from detector.analysis.reach import reach
from detector.config import load_config
from detector.data.catalog import load_dataset
from detector.data.index import load_index
from detector.data.loader import build_test_datasets
from detector.models.build import build_detector
from detector.models.heads import HEADS
from detector.models.heads.base import Head

SMALL = ["MODEL.BACKBONE.NAME", "resnet10", "INPUT.MIN_SIZE_TEST", "256", "INPUT.MAX_SIZE_TEST", "512"]
OF_HEAD = {
    "fcos": ["MODEL.FCOS.CENTER_SAMPLING_RADIUS", "0.0"],
    "faster_rcnn": ["MODEL.ROI_BOX_HEAD.MLP_HEAD_DIM", "16"],
    "refinedet": ["MODEL.REFINEDET.TCB_CHANNELS", "16", "INPUT.SQUARE_SIZE", "256"],
}


def config(head="fcos", *opts):
    """A config of whose test resize pictures of 256 x 256 keep their size."""
    base = ROOT / "configs" / "base" / f"{head}.yaml"
    return load_config(base, [*SMALL, *OF_HEAD[head], "MODEL.NUM_CLASSES", "0", *map(str, opts)])


@pytest.fixture
def index_of(tmp_path):
    """index_of([(x, y, w, h), ..], ..): the index of pictures with these boxes; a fifth number is the category."""

    def build(*images, size=(256, 256), crowds=()):
        pictures = [{"id": i, "file_name": f"{i}.png", "height": size[0], "width": size[1]} for i in range(len(images))]
        rows = [(i, *(*box, 1)[:5]) for i, boxes in enumerate(images) for box in boxes]
        records = [
            {"id": k, "image_id": i, "bbox": box, "category_id": c, "iscrowd": int(k in crowds)}
            for k, (i, *box, c) in enumerate(rows)
        ]
        path = tmp_path / "set.json"
        kinds = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
        path.write_text(json.dumps({"images": pictures, "annotations": records, "categories": kinds}))
        return load_index(path)

    return build


def iou(a, b):
    """Of two boxes, corners."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    common = max(width, 0) * max(height, 0)
    return common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common)


def corners(boxes):
    return [(x, y, x + w, y + h) for x, y, w, h, *_ in boxes]


TINY = (1, 1, 2, 2)
THIN = (20, 26, 200, 4)  # holds locations of stride 8 alone, which regress up to 64 pixels
LARGE, INNER = (100, 100, 16, 16), (101, 101, 14, 14)  # around the same four locations
GOOD = (150, 60, 60, 60)
BOXES = [GOOD, TINY, THIN, LARGE, INNER]


def fcos_by_hand(boxes, side=256, radius=0.0, bounds=(64, 128, 256, 512)):
    """The fates of boxes, location by location."""
    strides = (8, 16, 32, 64, 128)
    lows, highs = (-1, *bounds), (*bounds, math.inf)
    inside, allowed, answered = set(), set(), set()
    for stride, low, high in zip(strides, lows, highs, strict=True):
        cells = range(-(-side // stride))
        for i, j in product(cells, cells):
            x, y = (j + 0.5) * stride, (i + 0.5) * stride
            mine = []
            for k, (left, top, right, bottom) in enumerate(corners(boxes)):
                distances = (x - left, y - top, right - x, bottom - y)
                near = abs(x - (left + right) / 2) < radius * stride and abs(y - (top + bottom) / 2) < radius * stride
                if min(distances) <= 0 or (radius and not near):
                    continue
                inside.add(k)
                if low <= max(distances) <= high:
                    allowed.add(k)
                    mine.append(((right - left) * (bottom - top), k))
            if mine:
                answered.add(min(mine)[1])
    fates = []
    for k in range(len(boxes)):
        fates.append(LEARNED if k in answered else HIDDEN if k in allowed else BETWEEN if k in inside else APART)
    return fates


@pytest.mark.parametrize("radius", [0.0, 1.5, 0.25])
def test_fates_of_fcos_by_hand(index_of, radius):
    rng = np.random.default_rng(1)
    many = [(*rng.uniform(0, 200, 2), *rng.uniform(2, 55, 2)) for _ in range(60)]
    found = reach(config("fcos", "MODEL.FCOS.CENTER_SAMPLING_RADIUS", radius), index_of(BOXES, many))
    assert found.fates.tolist() == fcos_by_hand(BOXES, radius=radius) + fcos_by_hand(many, radius=radius)
    if not radius:
        assert found.fates[:5].tolist() == [LEARNED, APART, BETWEEN, HIDDEN, LEARNED]
        assert {*found.fates.tolist()} == {LEARNED, APART, BETWEEN, HIDDEN}
        assert found.of(APART, BETWEEN)[:2].tolist() == [1, 2]
    assert np.isnan(found.fits).all()
    assert found.threshold is None


def rpn_anchors(side=256):
    for stride, size in zip((4, 8, 16, 32, 64), (32, 64, 128, 256, 512), strict=True):
        for i, j, ratio in product(range(-(-side // stride)), range(-(-side // stride)), (0.5, 1.0, 2.0)):
            width, height = size / math.sqrt(ratio), size * math.sqrt(ratio)
            yield (j * stride - width / 2, i * stride - height / 2, j * stride + width / 2, i * stride + height / 2)


def refinedet_anchors(side=256):
    for stride in (8, 16, 32, 64):
        for i, j, ratio in product(range(-(-side // stride)), range(-(-side // stride)), (1.0, 0.5, 2.0)):
            width, height = 4 * stride / math.sqrt(ratio), 4 * stride * math.sqrt(ratio)
            x, y = (j + 0.5) * stride, (i + 0.5) * stride
            yield (x - width / 2, y - height / 2, x + width / 2, y + height / 2)


def table(anchors, boxes):
    """[M, P] IoUs in double precision."""
    a, b = np.array(list(anchors)), np.array(corners(boxes))[:, None]
    sides = np.minimum(a[:, 2:], b[..., 2:]) - np.maximum(a[:, :2], b[..., :2])
    common = np.clip(sides, 0, None).prod(-1)
    return common / ((a[:, 2:] - a[:, :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - common)


def fates_by_hand(overlaps, owners, threshold):
    """owners: anchor -> box. Returns fates and fits."""
    fates, fits = [], []
    for k in range(len(overlaps)):
        mine = [overlaps[k, anchor] for anchor, box in owners.items() if box == k]
        fits.append(max(mine, default=overlaps[k].max()))
        lost = HIDDEN if fits[-1] > 0 else APART
        fates.append(lost if not mine else LEARNED if fits[-1] >= threshold else WEAK)
    return fates, fits


def test_fates_of_the_rpn_by_hand(index_of):
    # a box within a box: the nearest anchor of the inner one overlaps the outer one more
    outer, inner = (64 - 16, 64 - 16, 32, 32), (64 - 15, 64 - 15, 30, 30)
    wide = (0, 120, 256, 8)
    boxes = [GOOD, outer, inner, wide, TINY]
    overlaps = table(rpn_anchors(), boxes)
    owners = {}
    for anchor in np.flatnonzero(overlaps.max(0) >= 0.7).tolist():
        owners[anchor] = int(overlaps[:, anchor].argmax())
    for row in overlaps:
        for anchor in np.flatnonzero(row >= row.max() - 1e-6).tolist():
            owners[anchor] = int(overlaps[:, anchor].argmax())
    fates, fits = fates_by_hand(overlaps, owners, 0.7)
    found = reach(config("faster_rcnn"), index_of(boxes))
    assert found.fates.tolist() == fates == [LEARNED, LEARNED, HIDDEN, WEAK, WEAK]
    assert found.fits.tolist() == pytest.approx(fits, abs=1e-5)
    assert found.threshold == 0.7


def test_fates_of_refinedet_by_hand(index_of):
    boxes = [GOOD, (64, 64, 128, 128), (66, 66, 124, 124), (0, 120, 256, 8), TINY, (150, 61, 60, 60)]
    overlaps = table(refinedet_anchors(), boxes)
    owners, rest = {}, overlaps.copy()
    for anchor in np.flatnonzero(overlaps.max(0) >= 0.5).tolist():
        owners[anchor] = int(overlaps[:, anchor].argmax())
    while rest.max() > 1e-6:
        box, anchor = np.unravel_index(rest.argmax(), rest.shape)
        owners[int(anchor)] = int(box)
        rest[box], rest[:, anchor] = 0, 0
    fates, fits = fates_by_hand(overlaps, owners, 0.5)
    found = reach(config("refinedet"), index_of(boxes))
    assert found.fates.tolist() == fates
    assert {WEAK, LEARNED} == set(fates)
    assert found.fits.tolist() == pytest.approx(fits, abs=1e-5)


def test_a_box_that_no_anchor_touches_is_apart(index_of):
    found = reach(config("refinedet", "MODEL.REFINEDET.ANCHOR_SCALE", "0.1"), index_of([(5.5, 9, 1, 1), GOOD]))
    assert found.fates.tolist() == [APART, WEAK]
    assert found.fits[0] == 0


def grid(number, step=25, side=20):
    """Boxes far from each other."""
    columns = 256 // step
    return [(step * (k % columns) + 2.0, step * (k // columns) + 2.0, side, side) for k in range(number)]


@pytest.mark.parametrize(("head", "share"), [("fcos", 0.25), ("faster_rcnn", 0.25), ("refinedet", 0.25)])
def test_more_objects_than_are_kept_are_not_found(index_of, head, share):
    boxes = grid(80)
    cfg = config(head, "TEST.DETECTIONS_PER_IMG", "20", "MODEL.RPN.POST_NMS_TOP_N_TEST", "1000")
    found = reach(cfg, index_of(boxes, grid(20), []))
    assert found.crowded.tolist() == [0]
    assert found.objects.tolist() == [80]
    assert found.limits["TEST.DETECTIONS_PER_IMG"] == 20
    assert found.found[:, :80].mean(1).tolist() == [share, share]
    assert found.recall == {0.5: 0.4, 0.75: 0.4}


def test_proposals_are_a_limit_of_their_own(index_of):
    cfg = config("faster_rcnn", "MODEL.RPN.POST_NMS_TOP_N_TEST", "30", "TEST.DETECTIONS_PER_IMG", "60")
    found = reach(cfg, index_of(grid(40), grid(20)))
    assert found.limits == {"TEST.DETECTIONS_PER_IMG": 60, "MODEL.RPN.POST_NMS_TOP_N_TEST": 30}
    assert found.crowded.tolist() == [0]
    assert found.found[0].sum() == 30 + 20


@pytest.mark.parametrize(("head", "nms"), [("fcos", 0.6), ("faster_rcnn", 0.5), ("refinedet", 0.45)])
def test_suppression_takes_near_boxes_of_one_class(index_of, head, nms):
    """Two boxes of an IoU between the threshold and 0.75, of one class and of two."""
    first, second = (40, 40, 80, 80), (40 + 16, 40, 80, 80)
    assert nms < iou(*corners([first, second])) < 0.7
    found = reach(config(head), index_of([first, second], [first, (*second, 2)]))
    assert set(found.fates.tolist()) <= {LEARNED, WEAK}
    assert found.found[0].all()
    assert found.found[1].tolist() in ([True, False, True, True], [False, True, True, True])


def test_the_rpns_suppression_knows_no_classes(index_of):
    """Above its threshold of 0.7 the boxes of two classes exclude each other, if anchors of one level answer."""
    first, second = (64, 64, 64, 64), (64 + 8, 64, 64, 64)
    assert 0.75 < iou(*corners([first, second])) < 0.8
    cfg = config("faster_rcnn")
    found = reach(cfg, index_of([first, (*second, 2)]))
    assert found.found[0].sum() == 1
    found = reach(config("faster_rcnn", "MODEL.RPN.NMS_THRESH", "0.8"), index_of([first, (*second, 2)]))
    assert found.found.all()


def test_what_deltas_cannot_code_is_not_found(index_of):
    """Anchors of one pixel grow to 62.5 at most."""
    sizes = "(1.0, 1.0, 1.0, 1.0, 1.0)"
    found = reach(
        config("faster_rcnn", "MODEL.RPN.ANCHOR_SIZES", sizes), index_of([(20, 20, 200, 200), (30, 30, 60, 60)])
    )
    assert found.found.tolist() == [[False, True], [False, True]]
    assert found.fates.tolist() == [WEAK, WEAK]


def test_a_threshold_for_the_score_with_centerness_counts(index_of):
    """A box whose one location lies near its corner."""
    cfg = ["MODEL.FCOS.TH_WITH_CENTERNESS", "True", "MODEL.FCOS.INFERENCE_TH"]
    boxes = [(0, 0, 11.5, 11.5), GOOD]  # its location at 4, 4: centerness 4 / 7.5, whose root is 0.73
    assert reach(config("fcos", *cfg, "0.72"), index_of(boxes)).found[0].tolist() == [True, True]
    assert reach(config("fcos", *cfg, "0.74"), index_of(boxes)).found[0].tolist() == [False, True]


@pytest.mark.parametrize("head", ["fcos", "faster_rcnn", "refinedet"])
def test_crowds_and_images_without_boxes_do_no_harm(index_of, head):
    found = reach(config(head), index_of([], [GOOD, (0, 0, 200, 200)], [], crowds=(1,)))
    assert (found.rows.tolist(), found.fates.tolist()) == ([0], [LEARNED])
    assert found.recall == {0.5: 1.0, 0.75: 1.0}
    nothing = reach(config(head), index_of([], []))
    assert nothing.recall == {}
    assert nothing.found.shape == (2, 0)


def test_small_boxes_are_those_below_a_cell_after_the_resize(index_of):
    boxes = [(10, 10, 15.9, 40), (10, 60, 16.1, 40), (60, 60, 40, 7)]  # halved, against cells of 8
    index = index_of(boxes, [], [(0, 0, 31, 99)], size=(512, 512))
    found = reach(config(), index)
    assert (found.stride, found.small.tolist()) == (8, [0, 2])
    assert found.sides.tolist() == pytest.approx([15.9 / 2, 3.5])
    assert found.sizes.tolist() == [[256, 256]] * 3
    assert reach(config(), index, cells=2).small.tolist() == [0, 1, 2, 3]
    assert reach(config(), index, most=1).small.tolist() == [0, 2]
    assert reach(config("faster_rcnn"), index).small.tolist() == [2]  # cells of 4


def test_of_a_large_set_images_are_taken_evenly(index_of):
    index = index_of(*[[GOOD] * (k % 3) for k in range(10)])
    found = reach(config(), index, most=4)
    assert found.images.tolist() == [0, 2, 5, 7]
    owner = np.repeat(np.arange(10), np.diff(index.offsets))
    assert owner[found.rows].tolist() == [2, 2, 5, 5, 7]
    assert len(found.fates) == found.found.shape[1] == 5


@pytest.fixture
def pictures(tmp_path):
    """The entry of three pictures of odd sizes, with boxes at their edges, a crowd and an object of a pixel."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    images, records = [], []
    for i, (height, width) in enumerate([(97, 131), (300, 210), (50, 377)]):
        cv2.imwrite(str(folder / f"{i}.png"), np.zeros((height, width, 3), np.uint8))
        images.append({"id": i, "file_name": f"{i}.png", "height": height, "width": width})
        for box in [(0, 0, width, height), (width - 1, 3.3, 1, 1), (5.5, 6.25, 30.1, 20), (2, 2, 9, 9)]:
            records.append(
                {"id": len(records), "image_id": i, "bbox": box, "category_id": 1, "iscrowd": int(box[0] == 2)}
            )
    path = tmp_path / "pictures.json"
    kinds = [{"id": 1, "name": "cat"}]
    path.write_text(json.dumps({"images": images, "annotations": records, "categories": kinds}))
    return f"{folder}:{path}"


@pytest.mark.parametrize(
    ("head", "opts"),
    [
        ("fcos", ()),
        ("refinedet", ()),
        ("faster_rcnn", ("DATALOADER.SIZE_DIVISIBILITY", 1)),
        ("fcos", ("INPUT.SQUARE_SIZE", 96)),
    ],
)
def test_targets_and_maps_are_those_of_the_network(pictures, monkeypatch, head, opts):
    """Bit by bit those of a test, and of the shapes that its pictures have."""
    cfg = config(head, *opts, "DATASETS.TEST", (pictures,), "MODEL.NUM_CLASSES", 1)
    seen = {}

    def noted(head, features, target, size):
        seen[target["image_id"]] = features, target, size
        return perfect(head, features, target, size)

    monkeypatch.setattr(module, "perfect", noted)
    reach(cfg, load_dataset(pictures, ".").index)
    (dataset,) = build_test_datasets(cfg).values()
    model = build_detector(cfg).eval()
    step = module._with_classes(cfg, 1).DATALOADER.SIZE_DIVISIBILITY
    for image, target in (dataset[i] for i in range(3)):
        features, ours, size = seen[target["image_id"]]
        assert size == image.shape[1:]
        assert ours["original"] == target["original"]
        for key in ("boxes", "labels", "ignore"):
            assert torch.equal(ours[key], target[key])
        padded = torch.zeros(1, 3, *(-(-side // step) * step for side in size))
        with torch.no_grad():
            maps = model.neck(model.backbone(padded))
        assert {name: x.shape[-2:] for name, x in features.items()} == {name: x.shape[-2:] for name, x in maps.items()}


def test_a_plugins_head_says_at_least_whom_it_answers_for(index_of, monkeypatch):
    class Odd(Head):
        def answered(self, features, targets):
            return [torch.arange(0, len(t["boxes"]), 2) for t in targets]

    monkeypatch.setitem(HEADS, "odd", lambda cfg, levels: Odd())
    found = reach(config("fcos", "MODEL.HEAD.NAME", "odd", "MODEL.NECK.NAME", "fpn"), index_of([GOOD, TINY], [GOOD]))
    assert found.fates.tolist() == [LEARNED, UNKNOWN, LEARNED]
    assert (found.found, found.recall, found.threshold) == (None, {}, None)


def test_difficult_objects_are_boxes_where_they_are_trained_on(index_of):
    index = index_of([GOOD, TINY])
    index.difficult[1] = True
    assert reach(config(), index).rows.tolist() == [0]
    assert reach(config(), index, difficult=True).rows.tolist() == [0, 1]


@pytest.mark.parametrize("head", ["fcos", "faster_rcnn", "refinedet"])
def test_what_training_answers_for_is_what_is_said(index_of, head):
    """Of FCOS and RefineDet, whose `answered` is what the loss uses."""
    rng = np.random.default_rng(3)
    boxes = [(*rng.uniform(0, 180, 2), *rng.uniform(3, 70, 2)) for _ in range(50)]
    found = reach(config(head), index_of(boxes))
    model = build_detector(module._with_classes(config(head), 2))
    maps = model.neck(model.backbone(torch.zeros(1, 3, 256, 256)))
    target = {
        "boxes": torch.tensor(corners(boxes), dtype=torch.float32),
        "labels": torch.zeros(50, dtype=torch.int64),
        "ignore": torch.empty(0, 4),
    }
    outcome = perfect(model.head, maps, target, (256, 256))
    assert isinstance(outcome, Outcome)
    assert outcome.fates.tolist() == found.fates.tolist()
    if head != "faster_rcnn":
        (answered,) = model.head.answered(maps, [target])
        assert np.flatnonzero(np.isin(found.fates, (LEARNED, WEAK))).tolist() == answered.tolist()


def test_coco_tiny_is_nearly_all_in_reach(coco_tiny):
    index = load_index(coco_tiny / "annotations" / "instances_val2017.json")
    cfg = load_config(ROOT / "configs" / "base" / "fcos_improved.yaml")
    found = reach(cfg, index, most=10)
    assert len(found.images) == 10
    assert found.recall[0.5] > 0.9


def test_what_fits_best_comes_first_among_the_candidates(index_of):
    """Of two a class, although the first box has many anchors, which would otherwise fill them."""
    boxes = [(80 - 64, 80 - 64, 128, 128), (176 - 30, 176 - 30, 60, 62)]
    found = reach(config("refinedet", "MODEL.REFINEDET.PRE_NMS_TOP_N", "2"), index_of(boxes))
    assert found.found.all()


def test_sides_are_scaled_each_by_its_own(index_of):
    index = index_of([(0, 0, 40, 9), (0, 0, 14, 40)], size=(256, 512))
    assert reach(config("refinedet"), index).small.tolist() == [1]  # 20 x 9, 7 x 40
