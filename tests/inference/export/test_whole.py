"""The graph of a whole detector finds what the detector finds, in torch itself."""

import pytest
import torch
from helpers.exporting import CASCADE, assert_same, pictures, small
from torch.utils._python_dispatch import TorchDispatchMode

from detector.errors import UserError
from detector.inference.export import Network, Whole
from detector.inference.export.whole import normalize, raw, rule_of, second_stage, select, select_raw
from detector.models.build import build_detector
from detector.models.heads import HEADS
from detector.models.heads.base import Head
from detector.ops import arrays

KINDS = {
    "fcos": ("fcos", []),
    "fcos joint": (
        "fcos",
        [
            *("MODEL.FCOS.TH_WITH_CENTERNESS", "True", "MODEL.FCOS.INFERENCE_TH", "0.39"),
            *("TEST.DETECTIONS_PER_IMG", "3000", "MODEL.FCOS.NMS_TH", "0.9"),
        ],
    ),
    "fcos padded strides": ("fcos", ["MODEL.FCOS.PADDED_STRIDES", "True", "MODEL.FCOS.NORM_REG_TARGETS", "True"]),
    "fcos few candidates": ("fcos", ["MODEL.FCOS.PRE_NMS_TOP_N", "20"]),
    "refinedet": ("refinedet", []),
    "refinedet clipped": ("refinedet", ["MODEL.REFINEDET.CLIP_ANCHORS", "True"]),
    "refinedet few candidates": ("refinedet", ["MODEL.REFINEDET.PRE_NMS_TOP_N", "30"]),
    "refinedet certain": ("refinedet", ["MODEL.REFINEDET.OBJECTNESS_THRESH", "0.6"]),
    "faster_rcnn": ("faster_rcnn", []),
    "faster_rcnn agnostic": ("faster_rcnn", ["MODEL.CLS_AGNOSTIC_BBOX_REG", "True"]),
    "faster_rcnn few proposals": ("faster_rcnn", ["MODEL.RPN.PRE_NMS_TOP_N_TEST", "50"]),
    "faster_rcnn not aligned": ("faster_rcnn", ["MODEL.ROI_BOX_HEAD.POOLER_ALIGNED", "False"]),
    "cascade": ("faster_rcnn", CASCADE),
}


def test_every_head_is_among_the_kinds():
    assert {head for head, _ in KINDS.values()} == set(HEADS)


class Ranked(TorchDispatchMode):
    """The axes along which something is ranked, counted from the last one."""

    def __init__(self):
        super().__init__()
        self.axes = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func._schema.name in ("aten::topk", "aten::sort"):
            at = 2 if func._schema.name == "aten::topk" else 1
            axis = (kwargs or {}).get("dim", args[at] if len(args) > at else -1)
            self.axes.append((axis + args[0].ndim) % args[0].ndim - args[0].ndim)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("kind", ["fcos", "refinedet", "faster_rcnn", "cascade"])
def test_what_is_ranked_lies_along_the_last_axis(kind):
    """Along another one OpenVINO takes up to a hundred times as long."""
    head, opts = KINDS[kind]
    model, _ = small(head, *opts)
    images, sizes = pictures(2, 128, 128)
    with torch.no_grad(), Ranked() as ranked:
        Whole(model)(images, torch.tensor(sizes))
    assert {*ranked.axes} == {-1}


@pytest.mark.parametrize("kind", KINDS)
def test_whole_finds_what_the_detector_finds(kind):
    head, opts = KINDS[kind]
    model, _ = small(head, *opts)
    whole = Whole(model)
    found = 0
    for number, height, width in ((1, 128, 192), (3, 160, 129)):
        images, sizes = pictures(number, height, width)
        with torch.no_grad():
            want = model(images, sizes)
            got = whole(images, torch.tensor(sizes))
        assert got.boxes.shape[1] == model.head.detections_per_img
        assert_same(got, want, boxes=1e-3, scores=1e-5)
        found += sum(len(one["scores"]) for one in want)
    assert found > 100


@pytest.mark.parametrize("kind", [kind for kind, (head, _) in KINDS.items() if head != "faster_rcnn"])
def test_the_network_alone_leaves_nothing_but_the_selection(kind):
    head, opts = KINDS[kind]
    model, cfg = small(head, *opts)
    with torch.device("meta"):
        selecting = build_detector(cfg).head
    for number, height, width in ((1, 128, 192), (3, 160, 130)):
        images, sizes = pictures(number, height, width)
        grids = [(-(-height // stride), -(-width // stride)) for stride in model.head.strides.values()]
        with torch.no_grad():
            want = model(images, sizes)
            outputs = Network(model)(images, torch.tensor(sizes))
            got = select_raw(selecting, outputs, grids, sizes)
        assert sum(len(one["scores"]) for one in want) > 20
        for one, other in zip(got, want, strict=True):
            assert all(torch.equal(one[key], other[key]) for key in other)


@pytest.mark.parametrize("kind", [kind for kind, (head, _) in KINDS.items() if head == "faster_rcnn"])
def test_the_networks_of_two_stages_leave_nothing_but_the_selection(kind):
    head, opts = KINDS[kind]
    model, _ = small(head, *opts)
    second, rule = second_stage(model.head), rule_of(model.head)

    def roi_heads(given):
        with torch.no_grad():
            return [x.numpy() for x in second(*(torch.from_numpy(given[name]) for name in second.inputs))]

    for number, height, width in ((1, 128, 192), (3, 160, 130)):
        images, sizes = pictures(number, height, width)
        with torch.no_grad():
            want = model(images, sizes)
            outputs = [x.numpy() for x in Network(model)(images, torch.tensor(sizes))]
        for one, found in zip(want, arrays.select(rule, outputs, (height, width), sizes, roi_heads), strict=True):
            entries = [torch.from_numpy(x)[None] for x in found]
            assert len(one["scores"]) > 20
            assert_same([*entries, torch.tensor([len(found[1])])], [one], boxes=1e-3, scores=1e-5)


@pytest.mark.parametrize(
    ("head", "key"),
    [
        ("fcos", "MODEL.FCOS.INFERENCE_TH"),
        ("refinedet", "MODEL.REFINEDET.SCORE_THRESH"),
        ("faster_rcnn", "MODEL.ROI_HEADS.SCORE_THRESH"),
    ],
)
def test_nothing_to_find(head, key):
    model, _ = small(head, key, "0.9999999")
    images, sizes = pictures(2, 128, 128)
    with torch.no_grad():
        assert not any(len(one["scores"]) for one in model(images, sizes))
        got = Whole(model)(images, torch.tensor(sizes))
    assert got.counts.tolist() == [0, 0]
    assert not got.scores.any()


@pytest.mark.parametrize("backbone", ["resnet10", "resnet50_caffe"])  # RGB, BGR
def test_pixels_are_normalised_alike(backbone):
    model, _ = small("fcos", backbone=backbone)
    images, sizes = pictures(3, 40, 50)
    assert torch.equal(normalize(model, images, torch.tensor(sizes)), model.normalize(images, sizes))


def test_a_head_that_says_nothing_is_named():
    class Other(Head):
        pass

    with pytest.raises(UserError, match="a head Other cannot be exported"):
        select(Other(), {}, torch.zeros(1, 2))
    with pytest.raises(UserError, match=r"a head Other cannot be split: .*; export it whole"):
        raw(Other(), {})
    assert second_stage(Other()) is None


def test_soft_suppression_is_named():
    model, _ = small("faster_rcnn", "MODEL.ROI_HEADS.NMS_METHOD", "soft_linear")
    with pytest.raises(
        UserError, match=r"NMS_METHOD soft_linear is no part of a graph: write hard, or export with --split"
    ):
        Whole(model)(*(torch.as_tensor(x) for x in pictures(1, 128, 128)))
