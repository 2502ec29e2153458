"""What NumPy selects is what the heads select in torch."""

import numpy as np
import pytest
import torch
from helpers.fresh import fresh

from detector.inference.export.whole import raw, rule_of, second_stage, select_raw
from detector.models.heads.box_head import BoxHead
from detector.models.heads.faster_rcnn import FasterRCNN, Pooler
from detector.models.heads.fcos import FCOS
from detector.models.heads.refinedet import RefineDet
from detector.models.heads.rpn import RPN
from detector.ops.arrays import CHUNK, best, select, sigmoid, softmax, suppress, suppress_softly
from detector.ops.select import keep_best
from detector.ops.select import suppress_softly as suppress_softly_in_torch
from detector.structures import Level

STRIDES = (8, 16, 32)
CLASSES = 5
LEVELS = {f"p{i + 3}": Level(64, stride) for i, stride in enumerate(STRIDES)}


def crowd(rng, number, classes, ties):
    """Overlapping boxes; with ties many scores are equal."""
    corner = rng.random((number, 2)) * 100
    boxes = np.concatenate([corner, corner + 5 + rng.random((number, 2)) * 60], axis=1).astype(np.float32)
    scores = rng.random(number).astype(np.float32)
    return boxes, np.round(scores, 1) if ties else scores, rng.integers(0, classes, number)


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.0, 0.999])
@pytest.mark.parametrize("ties", [False, True])
def test_suppression(ties, threshold):
    for seed in range(50):
        rng = np.random.default_rng(seed)
        number, classes, limit = int(rng.integers(0, 150)), int(rng.integers(1, 8)), int(rng.integers(1, 120))
        boxes, scores, labels = crowd(rng, number, classes, ties)
        want = keep_best(*(torch.from_numpy(x) for x in (boxes, scores, labels)), threshold, limit)
        assert suppress(boxes, scores, labels, threshold, limit).tolist() == want.tolist()


@pytest.mark.parametrize("classes", [1, 2, 40])
def test_suppression_of_more_than_a_chunk(classes):
    """Of which a class may fill several, or several classes one."""
    boxes, scores, labels = crowd(np.random.default_rng(classes), 5 * CHUNK + 7, classes, ties=True)
    for limit in (1, 30, 10_000):
        want = keep_best(*(torch.from_numpy(x) for x in (boxes, scores, labels)), 0.5, limit)
        assert suppress(boxes, scores, labels, 0.5, limit).tolist() == want.tolist()


@pytest.mark.parametrize("method", ["soft_linear", "soft_gaussian"])
def test_soft_suppression(method):
    total = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        boxes, scores, labels = crowd(rng, int(rng.integers(0, 90)), int(rng.integers(1, 5)), ties=False)
        rule = {"method": method, "nms": 0.3, "sigma": 0.4, "min_score": 0.2, "limit": int(rng.integers(1, 60))}
        some = (torch.from_numpy(x) for x in (boxes, scores, labels))
        want = suppress_softly_in_torch(*some, *(rule[key] for key in ("method", "nms", "sigma", "min_score", "limit")))
        kept, lowered = suppress_softly(rule, boxes, scores, labels)
        assert (kept.dtype, lowered.dtype) == (np.int64, np.float32)
        np.testing.assert_array_equal(boxes[kept], want["boxes"])
        np.testing.assert_array_equal(labels[kept], want["labels"])
        np.testing.assert_allclose(lowered, want["scores"], rtol=1e-5)
        total += len(kept)
    assert total > 300


def test_boxes_without_area_stay():
    """Their overlap is none, 0 / 0, as in torch; equal boxes of two classes stay too."""
    boxes = np.array([[5, 5, 5, 5]] * 3 + [[0, 0, 9, 9]] * 3, np.float32)
    scores, labels = np.array([1, 2, 3, 4, 5, 6], np.float32), np.array([0, 0, 0, 0, 1, 0])
    kept = suppress(boxes, scores, labels, 0.5, 10).tolist()
    assert kept == [5, 4, 2, 1, 0]
    assert kept == keep_best(*(torch.from_numpy(x) for x in (boxes, scores, labels)), 0.5, 10).tolist()


@pytest.mark.parametrize("number", [0, 1, 4, 5, 6, 50])
def test_best(number):
    scores = np.random.default_rng(0).random(number).astype(np.float32)
    assert best(scores, 5).tolist() == np.argsort(-scores)[:5].tolist()


def outputs_of(kind, number, places, spread, seed):
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape):
        return torch.randn(number, places, *shape, generator=generator)

    if kind == "fcos":
        return [noise(CLASSES) * spread - 3, noise(4).exp() * 20, noise()]
    return [noise(2) * spread, noise(4), noise(CLASSES + 1) * spread, noise(4)]


def head_of(kind, **options):
    with torch.device("meta"):
        if kind == "fcos":
            return FCOS(LEVELS, CLASSES, num_convs=1, sizes_of_interest=(64, 128), **options)
        return RefineDet(LEVELS, CLASSES, **options)


CASES = {
    "fcos": ("fcos", {}, 1.5),
    "fcos few": ("fcos", {"pre_nms_top_n": 7, "detections_per_img": 9}, 1.5),
    "fcos joint": ("fcos", {"th_with_centerness": True, "inference_th": 0.3, "nms_th": 0.4}, 1.5),
    "fcos other points": ("fcos", {"padded_strides": True, "point_offset": 0.0}, 1.5),
    "fcos all": ("fcos", {"inference_th": 0.0}, 1.0),
    "fcos nothing": ("fcos", {"inference_th": 0.9999}, 1.0),
    "refinedet": ("refinedet", {}, 2.0),
    "refinedet few": ("refinedet", {"pre_nms_top_n": 3, "detections_per_img": 9}, 2.0),
    "refinedet clipped": ("refinedet", {"clip_anchors": True, "anchor_scale": 30.0}, 2.0),
    "refinedet ratios": ("refinedet", {"aspect_ratios": (1.0, 3.0), "objectness_thresh": 0.6, "nms": 0.3}, 2.0),
    "refinedet nothing": ("refinedet", {"score_thresh": 0.9999}, 1.0),
    "refinedet surely nothing": ("refinedet", {"objectness_thresh": 1.1}, 1.0),
}


@pytest.mark.parametrize("name", CASES)
def test_selection(name):
    kind, options, spread = CASES[name]
    head = head_of(kind, **options)
    for seed in range(6):
        height, width = ((64, 96), (70, 41), (33, 130))[seed % 3]
        grids = [(-(-height // stride), -(-width // stride)) for stride in STRIDES]
        places = sum(h * w for h, w in grids) * (1 if kind == "fcos" else len(head.aspect_ratios))
        sizes = [(height, width), (height - 9, width - 20), (1, 1)][: 1 + seed % 3]
        outputs = outputs_of(kind, len(sizes), places, spread, seed)
        wanted = select_raw(head, outputs, grids, sizes)
        got = select(rule_of(head), [x.numpy() for x in outputs], (height, width), sizes)
        assert len(got) == len(sizes)
        for (boxes, scores, labels), want in zip(got, wanted, strict=True):
            assert (boxes.dtype, scores.dtype, labels.dtype) == (np.float32, np.float32, np.int64)
            np.testing.assert_allclose(scores, want["scores"], rtol=1e-5, atol=1e-7)
            np.testing.assert_array_equal(labels, want["labels"])
            np.testing.assert_allclose(boxes, want["boxes"], rtol=1e-4, atol=1e-3)
        number = sum(len(want["scores"]) for want in wanted)
        assert number == 0 if "nothing" in name else number > 0


TWO = {f"p{i + 2}": Level(8, 4 * 2**i) for i in range(5)}
AGNOSTIC = {"cls_agnostic_bbox_reg": True}
THREE = {**AGNOSTIC, "cascade_ious": (0.5, 0.6, 0.7)}
TWICE = {
    "plain": ({}, {}),
    "agnostic": ({}, AGNOSTIC),
    "few": ({"pre_nms_top_n_test": 20, "post_nms_top_n_test": 15}, {"detections_per_img": 9, "nms": 0.2}),
    "other anchors": ({"legacy_anchors": True, "padded_strides": True, "min_size": 30.0, "nms_thresh": 0.4}, {}),
    "three ratios of one": ({"aspect_ratios": (1.0,), "anchor_sizes": (16, 24, 32, 40, 48)}, {}),
    "cascade": ({}, THREE),
    "linear": ({}, {"nms_method": "soft_linear", "nms": 0.3, "soft_nms_min_score": 0.06}),
    "gaussian": ({}, {"nms_method": "soft_gaussian", "soft_nms_sigma": 0.2}),
    "gaussian cascade": ({}, {**THREE, "nms_method": "soft_gaussian"}),
    "nothing": ({}, {"score_thresh": 0.9999}),
    "nothing proposed": ({"min_size": 1e6}, {}),
}


def two_stages(rpn, options):
    """A head that is sure of much."""
    torch.manual_seed(0)
    stages = len(options.get("cascade_ious", (0,)))
    narrow = {"num_fc": 1, "mlp_head_dim": 16, "cls_agnostic": options.get("cls_agnostic_bbox_reg", False)}
    boxes = [BoxHead(8, 7, CLASSES, **narrow) for _ in range(stages)]
    made = FasterRCNN(CLASSES, RPN(TWO, **rpn), Pooler(TWO), boxes, **options).eval()
    for name, parameter in made.named_parameters():
        if "cls_logits.weight" in name or "deltas.weight" in name or "objectness.weight" in name:
            torch.nn.init.normal_(parameter, std=1.0 if "cls" in name else 0.3)
    return made


@pytest.mark.parametrize("name", TWICE)
@torch.no_grad()
def test_selection_of_two_stages(name):
    head = two_stages(*TWICE[name])
    rule, second, given = rule_of(head), second_stage(head), {}
    for seed, sizes in enumerate(([(64, 96)], [(70, 41), (61, 21)], [(33, 130), (20, 20), (1, 1)])):
        height, width = sizes[0]
        generator = torch.Generator().manual_seed(seed)
        features = {
            key: torch.randn(len(sizes), 8, -(-height // level.stride), -(-width // level.stride), generator=generator)
            for key, level in TWO.items()
        }
        want = head.predict(features, sizes)

        def roi_heads(asked):
            given.update(asked)
            assert [*asked] == second.inputs
            return [x.numpy() for x in second(*(torch.from_numpy(asked[key]) for key in second.inputs))]

        outputs = raw(head, features)
        assert outputs._fields == ("p2", "p3", "p4", "p5", "objectness", "deltas")
        got = select(rule, [x.numpy() for x in outputs], (height, width), sizes, roi_heads)
        for (boxes, scores, labels), one in zip(got, want, strict=True):
            assert (boxes.dtype, scores.dtype, labels.dtype) == (np.float32, np.float32, np.int64)
            np.testing.assert_allclose(scores, one["scores"], rtol=1e-4, atol=1e-6)
            np.testing.assert_array_equal(labels, one["labels"])
            np.testing.assert_allclose(boxes, one["boxes"], rtol=1e-4, atol=2e-3)
        number = sum(len(one["scores"]) for one in want)
        assert number == 0 if "nothing" in name else number > 5
        assert ("sizes" in given) == ("cascade" in name)


def test_two_stages_need_the_second():
    rule = rule_of(two_stages({}, {}))
    with pytest.raises(ValueError, match="a selection of kind 'faster_rcnn' needs roi_heads, which runs the second"):
        select(rule, [], (64, 64), [(64, 64)])


def test_any_number_is_a_score():
    x = np.array([-1000, -100, 0, 100, 1000], np.float32)
    np.testing.assert_allclose(sigmoid(x), torch.from_numpy(x).sigmoid(), atol=1e-7)
    np.testing.assert_allclose(softmax(x[None]), torch.from_numpy(x[None]).softmax(-1), atol=1e-7)


def test_an_unknown_kind_is_named():
    with pytest.raises(ValueError, match=r"kind 'other' is unknown; known: fcos, refinedet, faster_rcnn"):
        select({"kind": "other", "strides": [8]}, [], (8, 8), [])


def test_it_needs_numpy_alone():
    code = (
        "import sys\nfor name in ('torch', 'torchvision', 'cv2', 'yacs', 'msgspec'): sys.modules[name] = None\n"
        "from detector.ops.arrays import suppress\nimport numpy as np\n"
        "print(suppress(np.array([[0, 0, 1, 1.]]), np.ones(1), np.zeros(1, int), 0.5, 1))"
    )
    said = fresh("-c", code, torch=False)
    assert said.stdout == "[0]\n", said.stderr
