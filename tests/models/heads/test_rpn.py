"""The RPN against numbers of the official implementation, and its behaviour at the edges."""

import numpy as np
import pytest
import torch
from helpers.golden import check_samples, forward_weight, load
from helpers.inputs import features_for, target
from helpers.two_stage import LEVELS, rpn

from detector.models.heads.rpn import RPN
from detector.ops.boxes import encode_deltas
from detector.ops.matching import BACKGROUND, IGNORED
from detector.structures import Level

GRIDS = ((64, 80), (32, 40), (16, 20), (8, 10), (4, 5))
PER_LEVEL = [3 * h * w for h, w in GRIDS]


@pytest.fixture(scope="module")
def golden(golden_heads):
    facts, arrays = load(golden_heads, "frcnn_rpn")
    return facts, arrays, load(golden_heads, "frcnn_anchors")[1]


@pytest.mark.parametrize(("rounded", "name"), [(True, "tv_anchors"), (False, "d2_anchors_offset0")])
def test_anchors_equal_torchvisions_and_detectron2s(golden, rounded, name):
    got = rpn(anchors_rounded=rounded).anchors(features_for(LEVELS, 256, 320))
    assert [len(level) for level in got] == PER_LEVEL
    torch.testing.assert_close(torch.cat(got), golden[2][name], rtol=0, atol=1e-4)
    padded = rpn(anchors_rounded=rounded, padded_strides=True).anchors(features_for(LEVELS, 256, 320))
    assert torch.equal(torch.cat(padded), torch.cat(got))


def test_legacy_anchors_equal_the_official_ones(golden):
    got = torch.cat(rpn(legacy_anchors=True).anchors(features_for(LEVELS, 256, 320)))
    torch.testing.assert_close(got, golden[2]["mrb_anchors"] + torch.tensor([0, 0, 1, 1]), rtol=0, atol=1e-4)
    with pytest.raises(ValueError, match="two ways of rounding"):
        rpn(legacy_anchors=True, anchors_rounded=True)


def test_padded_strides_follow_the_padded_side(golden_heads):
    facts, _ = load(golden_heads, "frcnn_anchors")
    features = features_for(LEVELS, 800, 1088, images=1)
    anchors = rpn(padded_strides=True).anchors(features)[-1].reshape(*features["p6"].shape[-2:], 3, 4)
    steps = anchors[1, 0, 0, 1] - anchors[0, 0, 0, 1], anchors[0, 1, 0, 0] - anchors[0, 0, 0, 0]
    assert [s.item() for s in steps] == facts["tv_p6_stride_800x1088"] != [64, 64]


@pytest.mark.parametrize("image", ["one", "twenty", "tiny"])
def test_targets_equal_torchvisions(golden, image):
    _, arrays, anchors = golden
    truth = target(arrays[f"{image}_boxes"])
    match = rpn().assign(anchors["tv_anchors"], [truth])[0]
    labels = torch.where(match >= 0, 1, torch.where(match == IGNORED, -1, 0))
    assert torch.equal(labels, arrays[f"{image}_tv_labels"].long())
    positive = match >= 0
    deltas = encode_deltas(anchors["tv_anchors"][positive], truth["boxes"][match[positive]])
    torch.testing.assert_close(deltas, arrays[f"{image}_tv_pos_reg"], rtol=1e-4, atol=1e-4)


def test_losses_equal_torchvisions(golden):
    facts, arrays, anchors = golden
    head, images = rpn(), facts["losses"]["images"]
    chosen = iter([[arrays[f"tv_sampled_{kind}_{image}"].long() for kind in ("pos", "neg")] for image in images])
    head.sample = lambda match, generator: next(chosen)
    truths = [target(arrays[f"{image}_boxes"]) for image in images]
    match = head.assign(anchors["tv_anchors"], truths)
    deltas = arrays["loss_deltas_x64"].float() / 64
    losses = head.losses(anchors["tv_anchors"], arrays["loss_objectness"], deltas, match, truths)
    assert losses["loss_objectness"].item() == pytest.approx(facts["losses"]["tv"]["objectness"], rel=1e-4)
    assert losses["loss_rpn_box_reg"].item() == pytest.approx(facts["losses"]["tv"]["box"], rel=1e-4)


@pytest.mark.parametrize("case", ["p300", "p1000"])
def test_proposals_equal_torchvisions(golden, case):
    facts, arrays, anchors = golden
    numbers = facts["proposal_cases"][case]
    head = rpn(pre_nms_top_n_test=numbers["pre_nms_top_n"], post_nms_top_n_test=numbers["post_nms_top_n"])
    outputs = arrays["loss_objectness"], arrays["loss_deltas_x64"].float() / 64
    levels = [list(x.split(PER_LEVEL, dim=1)) for x in outputs]
    got = head.select(list(anchors["tv_anchors"].split(PER_LEVEL)), *levels, [(256, 320), (240, 290)], "test")
    for i in range(2):
        want, scores = arrays[f"prop_{case}_tv_{i}_boxes"], arrays[f"prop_{case}_tv_{i}_scores"]
        torch.testing.assert_close(got.scores[i], scores, rtol=1e-4, atol=1e-4)
        # Logits that differ may have the same float32 score; ours are in order of the logits.
        place = torch.cdist(got.boxes[i], want).argmin(1)
        assert torch.equal(scores[place], scores)
        assert place.unique().numel() == len(want) == numbers["tv"][i]
        torch.testing.assert_close(got.boxes[i], want[place], rtol=0, atol=1e-2)


@pytest.mark.parametrize("case", ["p300", "p1000"])
def test_proposals_with_legacy_anchors_equal_the_official_ones(golden, case):
    facts, arrays, anchors = golden
    numbers, end = facts["proposal_cases"][case], torch.tensor([0, 0, 1, 1])
    limits = {"pre_nms_top_n_test": numbers["pre_nms_top_n"], "post_nms_top_n_test": numbers["post_nms_top_n"]}
    head = rpn(legacy_anchors=True, min_size=0.0, **limits)
    outputs = arrays["loss_objectness"], arrays["loss_deltas_x64"].float() / 64
    levels = [list(x.split(PER_LEVEL, dim=1)) for x in outputs]
    boxes = list((anchors["mrb_anchors"] + end).split(PER_LEVEL))
    got = head.select(boxes, *levels, [(256, 320), (240, 290)], "test")
    for i in range(2):
        want = arrays[f"prop_{case}_mrb_{i}_boxes"] + end
        # A box beyond the image is clipped to a strip of one pixel there, to nothing here.
        want = want[(want[:, 2:] - want[:, :2] > 1.001).all(1)]
        assert len(want) > 0.9 * numbers["post_nms_top_n"]
        distance = torch.cdist(want.double(), got.boxes[i].double()).amin(1)
        assert distance.max() < 1e-2


def test_forward_equals_torchvisions_head(golden_heads):
    facts, _ = load(golden_heads, "frcnn_modules_forward")
    module = next(m for m in facts["modules"] if m["name"].startswith("tv_RPNHead"))
    head = rpn(strides=(32, 64), anchor_sizes=(32, 64))
    names = {"conv.0.0": "convs.0", "cls_logits": "objectness", "bbox_pred": "deltas"}
    state = {}
    for key, shape in module["state_dict"]:
        stem, _, kind = key.rpartition(".")
        state[f"{names[stem]}.{kind}"] = forward_weight(key, shape)
    head.load_state_dict(state)
    rng = np.random.RandomState(310)
    sizes = ((1, 16, 8, 10), (1, 16, 4, 5))
    maps = [torch.from_numpy(rng.standard_normal(s).astype(np.float32)) for s in sizes]
    with torch.no_grad():
        objectness, deltas = head({"p2": maps[0], "p3": maps[1]})
    for level, (_, _, h, w) in enumerate(sizes):
        logits = objectness[level].reshape(1, h, w, 3).permute(0, 3, 1, 2)
        boxes = deltas[level].reshape(1, h, w, 12).permute(0, 3, 1, 2)
        check_samples(logits, module["logits"][level])
        check_samples(boxes, module["bbox"][level])


def test_images_without_boxes_give_zeros_that_reach_every_parameter():
    head = rpn(num_convs=2)
    losses, proposals = head.loss(features_for(LEVELS, 64, 96), [target([]), target([])], [(64, 96)] * 2)
    assert losses["loss_rpn_box_reg"].item() == 0 < losses["loss_objectness"].item()
    sum(losses.values()).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in head.parameters())
    assert not any(p.requires_grad for p in proposals.boxes)


def test_anchors_in_a_crowd_are_not_trained():
    head, features = rpn(), features_for(LEVELS, 128, 128, images=1)
    anchors = torch.cat(head.anchors(features))
    match = head.assign(anchors, [target([[10, 10, 50, 60]], ignore=[[0, 64, 128, 128]])])[0]
    inside = (anchors[:, 0] >= 0) & (anchors[:, 1] >= 64) & (anchors[:, 2] <= 128) & (anchors[:, 3] <= 128)
    assert inside.any()
    assert (match[inside] == IGNORED).all()
    far = anchors[:, 3] < 0
    assert (match[far] == BACKGROUND).all()
    assert (match >= 0).any()


def test_proposals_lie_inside_their_image_best_first_and_on_many_levels():
    head, sizes = rpn(), [(128, 192), (100, 90)]
    for layer in (head.objectness, head.deltas):
        torch.nn.init.normal_(layer.weight, std=0.3)
    proposals = head.predict(features_for(LEVELS, 128, 192), sizes)
    for boxes, scores, (height, width) in zip(*proposals, sizes):
        assert len(boxes) > 50
        assert (boxes >= 0).all()
        assert (boxes <= torch.tensor([width, height, width, height])).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        assert (scores.diff() <= 0).all()


def test_no_proposal_survives_where_all_are_too_small():
    head = rpn(min_size=1000.0)
    assert [len(b) for b in head.predict(features_for(LEVELS, 64, 64), [(64, 64), (64, 60)]).boxes] == [0, 0]


def test_half_precision_features_give_float32_outputs():
    with torch.autocast("cpu", torch.bfloat16):
        outputs = rpn()(features_for(LEVELS, 64, 64))
    assert {x.dtype for level in outputs for x in level} == {torch.float32}


def test_levels_sizes_and_thresholds_must_fit():
    with pytest.raises(ValueError, match=r"ANCHOR_SIZES \(32, 64\) .* the neck has 5 \(p2, p3, p4, p5, p6\)"):
        rpn(anchor_sizes=(32, 64))
    with pytest.raises(ValueError, match=r"BG_IOU_THRESHOLD 0\.8 is above FG_IOU_THRESHOLD 0\.7"):
        rpn(bg_iou_threshold=0.8)
    with pytest.raises(ValueError, match="levels of one width"):
        RPN({"p2": Level(8, 4), "p3": Level(16, 8)}, anchor_sizes=(32, 64))
