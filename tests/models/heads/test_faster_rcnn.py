"""Faster R-CNN against numbers of the official implementations, and its behaviour at the edges."""

import numpy as np
import pytest
import torch
from helpers.golden import background_last, check_samples, forward_weight, load
from helpers.inputs import features_for, target
from helpers.two_stage import LEVELS, faster_rcnn, lively, torchvision_state

from detector.models.heads.faster_rcnn import Pooler, Samples, map_levels
from detector.ops.boxes import pairwise_iou
from detector.structures import Level

# ---------------------------------------------------------------------------- stored numbers


@pytest.fixture(scope="module")
def golden(golden_heads):
    return load(golden_heads, "frcnn_roi")


@pytest.mark.parametrize("image", ["one", "twenty"])
def test_targets_equal_torchvisions(golden, image):
    _, arrays = golden
    truth = target(arrays[f"{image}_gt_boxes"], arrays[f"{image}_gt_labels"].long() - 1)
    proposals = arrays[f"{image}_proposals"]
    head, seen = faster_rcnn(20), {}
    chosen = arrays[f"{image}_tv_sampled"].long()

    def sample(match, generator):
        seen["match"] = match
        return chosen[match[chosen] >= 0], chosen[match[chosen] < 0]

    head.sample = sample
    boxes, labels, wanted, _ = head.training_samples([proposals[: -len(truth["boxes"])]], [truth])
    got = torch.where(seen["match"] >= 0, truth["labels"][seen["match"].clamp(min=0)] + 1, 0)
    assert torch.equal(got, arrays[f"{image}_tv_labels"].long())
    positive = seen["match"] >= 0
    assert torch.equal(seen["match"][positive], arrays[f"{image}_tv_matched_idx"].long()[positive])
    reference = arrays[f"{image}_tv_reg_targets_sampled"][arrays[f"{image}_tv_labels"][chosen] > 0]
    torch.testing.assert_close(wanted[labels < 20], reference, rtol=1e-4, atol=1e-4)
    assert len(boxes) == len(chosen)
    assert (wanted[labels == 20] == 0).all()


def sampled(arrays, head):
    """What `training_samples` gives for the two stored images, in the stored order."""
    parts = []
    for image in ("one", "twenty"):
        chosen = arrays[f"{image}_tv_sampled"].long()
        labels = arrays[f"{image}_tv_labels"].long()[chosen] - 1
        wanted = arrays[f"{image}_tv_reg_targets_sampled"]
        parts.append((arrays[f"{image}_proposals"][chosen], torch.where(labels < 0, 20, labels), wanted))
    boxes, labels, wanted = (torch.cat(x) for x in zip(*parts))
    return Samples(boxes, labels, wanted, torch.zeros_like(labels))


@pytest.mark.parametrize(("beta", "name"), [(1.0, "beta_1"), (1 / 9, "beta_1_9"), (0.0, "beta_0_l1")])
def test_losses_equal_torchvisions(golden, beta, name):
    facts, arrays = golden
    logits = background_last(arrays["class_logits"])
    deltas = arrays["box_regression"].unflatten(1, (21, 4))[:, 1:]
    for options in ({"smooth_l1_beta": beta}, *([{"bbox_reg_loss_type": "l1"}] if beta == 0 else [])):
        head = faster_rcnn(20, **options)
        losses = head.losses(logits, deltas, sampled(arrays, head))
        assert losses["loss_classifier"].item() == pytest.approx(facts["losses"]["tv"]["cls"], rel=1e-4)
        want = facts["losses"]["tv_targets_box_loss_by_beta"][name]
        assert losses["loss_box_reg"].item() == pytest.approx(want, rel=1e-4)


# maskrcnn-benchmark's boxes include their last pixel, so they end one later in our terms.
@pytest.mark.parametrize(("peer", "last"), [("tv", 0), ("mrb", 1)])
def test_detections_and_levels_equal_the_official_ones(golden, peer, last):
    facts, arrays = golden
    end = torch.tensor([0, 0, last, last])
    logits = background_last(arrays["pp_class_logits"])
    deltas = arrays["pp_box_regression"].unflatten(1, (21, 4))[:, 1:]
    got = faster_rcnn(20).decode(logits.softmax(-1), deltas, arrays["pp_proposals"] + end, tuple(facts["image_hw"]))
    torch.testing.assert_close(got["boxes"] - end, arrays[f"pp_{peer}_boxes"], rtol=0, atol=1e-2)
    torch.testing.assert_close(got["scores"], arrays[f"pp_{peer}_scores"], rtol=1e-4, atol=1e-4)
    assert torch.equal(got["labels"] + 1, arrays[f"pp_{peer}_labels"].long())
    assert torch.equal(map_levels(arrays["lvl_boxes"] + end, 2, 5) - 2, arrays[f"lvl_{peer}"].long())


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("ratio", [0, 2])
def test_roi_align_equals_the_official_ones(golden, aligned, ratio):
    _, arrays = golden
    pooler = Pooler({"p3": Level(4, 8)}, 7, ratio, aligned=aligned)
    rois = arrays["ra_rois"]
    regions = pooler({"p3": arrays["ra_x"]}, rois[:, 1:], rois[:, 0].long())
    want = arrays[f"ra_{'aligned' if aligned else 'legacy'}_sr{ratio}"]
    torch.testing.assert_close(regions, want, rtol=1e-4, atol=1e-4)


def test_pooling_over_levels_equals_torchvisions(golden):
    _, arrays = golden
    features = {}
    for i, (h, w) in enumerate([(64, 80), (32, 40), (16, 20), (8, 10)]):
        x = np.round(np.random.RandomState(307 + i).standard_normal((2, 3, h, w)) * 64) / 64
        features[f"p{i + 2}"] = torch.from_numpy(x.astype(np.float32))
    boxes = [arrays["pool_boxes0"], arrays["pool_boxes1"]]
    image = torch.arange(2).repeat_interleave(torch.tensor([len(b) for b in boxes]))
    regions = Pooler(LEVELS, 7, 2, aligned=False)(features, torch.cat(boxes), image)
    torch.testing.assert_close(regions, arrays["pool_tv"], rtol=1e-4, atol=1e-4)


def test_box_head_equals_torchvisions(golden_heads):
    facts, _ = load(golden_heads, "frcnn_modules_forward")
    module = next(m for m in facts["modules"] if m["name"].startswith("tv_TwoMLPHead"))
    head = faster_rcnn(20, box_options={"mlp_head_dim": 64})
    state = {f"roi_heads.{key}": forward_weight(key, shape) for key, shape in module["state_dict"]}
    head.load_state_dict(torchvision_state(state), strict=False)
    x = torch.from_numpy(np.random.RandomState(311).standard_normal((6, 16, 7, 7)).astype(np.float32))
    with torch.no_grad():
        logits, deltas = head.box_heads[0](x)
    check_samples(torch.cat([logits[:, -1:], logits[:, :-1]], dim=1), module["class_logits"])
    boxes = module["bbox_deltas"]  # the first four of 84 are the background's, which we do not have
    keep = [i for i, place in enumerate(boxes["idx"]) if place % 84 >= 4]
    flat = deltas.flatten(1)[[boxes["idx"][i] // 84 for i in keep], [boxes["idx"][i] % 84 - 4 for i in keep]]
    torch.testing.assert_close(flat, torch.tensor(boxes["val"])[keep], rtol=1e-3, atol=5e-3)


# ---------------------------------------------------------------------------- edges


def truths(kind, height, width):
    """Boxes of two images."""
    some = [[4, 4, 40, 50], [30, 20, 90, 60]]
    tiny = torch.rand(500, 2) * torch.tensor([width - 6.0, height - 6.0])
    return {
        "empty": ([], []),
        "one empty": (some, []),
        "huge": ([[0, 0, width, height]], some),
        "tiny": (torch.cat([tiny, tiny + 3], dim=1), some),
    }[kind]


@pytest.mark.parametrize("size", [(128, 192), (101, 135)])
@pytest.mark.parametrize("kind", ["empty", "one empty", "huge", "tiny"])
def test_any_boxes_and_sizes_train(kind, size):
    head = faster_rcnn(3)
    boxes = truths(kind, *size)
    targets = [target(b, torch.randint(3, (len(b),)), ignore=[[50, 50, 90, 100]]) for b in boxes]
    losses = head.loss(features_for(LEVELS, *size), targets, [size, (size[0] - 9, size[1] - 30)])
    sum(losses.values()).backward()
    assert all(torch.isfinite(v) for v in losses.values())
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in head.parameters())
    assert (losses["loss_box_reg"].item() > 0) is (kind != "empty")
    assert (losses["loss_rpn_box_reg"].item() > 0) is (kind != "empty")


def test_no_surviving_proposal_gives_no_detection_and_zero_losses():
    head = faster_rcnn(3, rpn_options={"min_size": 1e4})
    features, sizes = features_for(LEVELS, 64, 96), [(64, 96)] * 2
    assert [len(d["scores"]) for d in head.predict(features, sizes)] == [0, 0]
    losses = head.loss(features, [target([]), target([])], sizes)
    assert losses["loss_classifier"].item() == losses["loss_box_reg"].item() == 0
    sum(losses.values()).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in head.parameters())


def test_detections_of_an_image_do_not_depend_on_its_batch():
    head = lively(faster_rcnn(5)).double()  # products of other sizes are rounded otherwise
    features = {k: v.double() for k, v in features_for(LEVELS, 96, 128).items()}
    sizes = [(96, 128), (70, 100)]
    both = head.predict(features, sizes)
    for i in range(2):
        alone = head.predict({k: v[i : i + 1] for k, v in features.items()}, sizes[i : i + 1])[0]
        assert len(alone["scores"]) > 20
        for key in ("boxes", "scores", "labels"):
            torch.testing.assert_close(both[i][key], alone[key])
        limit = torch.tensor(sizes[i])[[1, 0, 1, 0]]
        assert (alone["boxes"] >= 0).all()
        assert (alone["boxes"] <= limit).all()
        assert (alone["scores"].diff() <= 0).all()


def test_losses_do_not_depend_on_the_mode_or_prediction_on_the_phase():
    head = lively(faster_rcnn(5, rpn_options={"post_nms_top_n_train": 40, "post_nms_top_n_test": 20}))
    features, sizes = features_for(LEVELS, 96, 128, images=1), [(96, 128)]
    assert [len(head.rpn.predict(features, sizes).boxes[0])] == [20]
    assert [len(head.rpn.loss(features, [target([])], sizes)[1].boxes[0])] == [40]
    results = []
    for mode in (True, False):
        torch.manual_seed(1)
        results.append(head.train(mode).loss(features, [target([[10, 10, 60, 60]], [2])], sizes))
    assert results[0] == results[1]


@pytest.mark.parametrize("method", ["soft_linear", "soft_gaussian"])
def test_soft_nms_keeps_what_hard_nms_drops(method):
    hard, soft = (faster_rcnn(5, nms_method=m, detections_per_img=5000) for m in ("hard", method))
    lively(hard)
    soft.load_state_dict(hard.state_dict())
    features, sizes = features_for(LEVELS, 96, 128, images=1), [(96, 128)]
    (first,), (second,) = hard.predict(features, sizes), soft.predict(features, sizes)
    assert second["scores"][0] == first["scores"][0]
    assert torch.equal(second["boxes"][0], first["boxes"][0])
    assert (second["scores"].diff() <= 0).all()
    assert second["scores"].min() < 0.05  # decayed below what a candidate had to exceed
    same = [d["boxes"][d["labels"] == first["labels"][0]] for d in (first, second)]
    overlaps = [pairwise_iou(boxes[:1], boxes[1:]).max() for boxes in same]
    assert overlaps[0] <= 0.5 < overlaps[1]


@pytest.mark.parametrize("loss", ["smooth_l1", "l1", "giou"])
@pytest.mark.parametrize("agnostic", [False, True])
def test_options_of_the_regression_train(loss, agnostic):
    head = faster_rcnn(3, cls_agnostic_bbox_reg=agnostic, bbox_reg_loss_type=loss)
    assert head.box_heads[0].deltas.out_features == (4 if agnostic else 12)
    names = ["cls_logits"] if agnostic else ["cls_logits", "deltas"]
    assert list(head.classifier) == [f"box_heads.0.{name}" for name in names]
    features, boxes = features_for(LEVELS, 96, 128), target([[10, 10, 60, 60], [70, 20, 110, 90]], [2, 0])
    optimizer = torch.optim.SGD(head.parameters(), lr=0.02)
    values = []
    for _ in range(6):
        losses = head.loss(features, [boxes, target([])], [(96, 128)] * 2)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        values.append(sum(losses.values()).item())
    assert values[-1] < values[0]
    assert all(p.grad is not None for p in head.parameters())
    assert len(head.predict(features, [(96, 128)] * 2)) == 2


def test_one_box_for_all_classes_equals_the_same_box_for_each():
    one, each = faster_rcnn(3, cls_agnostic_bbox_reg=True), faster_rcnn(3)
    state = lively(one).state_dict()
    for leaf, times in (("weight", (3, 1)), ("bias", (3,))):
        state[f"box_heads.0.deltas.{leaf}"] = state[f"box_heads.0.deltas.{leaf}"].repeat(times)
    each.load_state_dict(state)
    features = features_for(LEVELS, 96, 128)
    for a, b in zip(*(head.predict(features, [(96, 128)] * 2) for head in (one, each))):
        assert len(a["scores"]) > 10
        for key in ("boxes", "scores", "labels"):
            torch.testing.assert_close(a[key], b[key])


def test_proposals_in_a_crowd_are_not_trained():
    head = faster_rcnn(3)
    proposals = torch.tensor([[0.0, 0, 20, 20], [60, 60, 90, 90], [55, 10, 70, 20]])
    truth = target([[0, 0, 20, 18]], [1], ignore=[[50, 50, 100, 100]])
    boxes, labels, *_ = head.training_samples([proposals], [truth])
    assert sorted(map(tuple, boxes.tolist())) == [(0, 0, 20, 18), (0, 0, 20, 20), (55, 10, 70, 20)]
    assert sorted(labels.tolist()) == [1, 1, 3]


def test_half_precision_trains_and_predicts_in_float32():
    head, features, sizes = lively(faster_rcnn(3)), features_for(LEVELS, 96, 128), [(96, 128)] * 2
    with torch.autocast("cpu", torch.bfloat16):
        half = {k: v.bfloat16() for k, v in features.items()}
        losses = head.loss(half, [target([[10, 10, 60, 60]], [2]), target([])], sizes)
        detections = head.predict(half, sizes)
    sum(losses.values()).backward()
    assert {v.dtype for v in losses.values()} == {torch.float32}
    assert {d[k].dtype for d in detections for k in ("boxes", "scores")} == {torch.float32}
    assert all(torch.isfinite(p.grad).all() for p in head.parameters())


def test_levels_losses_and_thresholds_must_fit():
    with pytest.raises(ValueError, match=r"pooled from levels of strides 4, 8, \.\. 32"):
        Pooler({"p6": Level(8, 64)})
    with pytest.raises(ValueError, match=r"pooled from levels of strides 4, 8, \.\. 32"):
        Pooler({"p2": Level(8, 4), "p4": Level(8, 16)})
    with pytest.raises(ValueError, match="'iou'; choose one of smooth_l1, l1, giou"):
        faster_rcnn(3, bbox_reg_loss_type="iou")
    with pytest.raises(ValueError, match=r"BG_IOU_THRESHOLD 0\.6 is above FG_IOU_THRESHOLD 0\.5"):
        faster_rcnn(3, bg_iou_threshold=0.6)


def test_a_side_of_exactly_112_pixels_stays_on_its_level():
    sides = torch.tensor([111.9, 112, 224, 448, 5000, 1])
    boxes = torch.stack([0 * sides, 0 * sides, sides, sides], dim=1)
    assert map_levels(boxes, 2, 5).tolist() == [2, 3, 4, 5, 5, 2]
