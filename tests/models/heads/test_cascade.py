"""A cascade of box heads: what each stage learns, and what it makes of the boxes."""

import pytest
import torch
from helpers.inputs import features_for, target
from helpers.two_stage import LEVELS, faster_rcnn, lively

from detector.ops.boxes import decode_deltas, pairwise_iou

IOUS = (0.5, 0.6, 0.7)
SIZES = [(96, 128), (70, 100)]


def cascade(num_classes=3, **options):
    return faster_rcnn(num_classes, cascade_ious=IOUS, cls_agnostic_bbox_reg=True, **options)


def test_stages_learn_from_the_boxes_of_the_one_before():
    head = lively(cascade())
    truth = [target([[10, 10, 60, 60], [70, 20, 110, 90]], [2, 0]), target([])]
    features, seen = features_for(LEVELS, 96, 128), []
    inner = head.losses

    def losses(logits, deltas, samples, stage):
        seen.append((samples, deltas.detach()))
        return inner(logits, deltas, samples, stage)

    head.losses = losses
    values = head.loss(features, truth, SIZES)
    regional = [f"loss_{name}_{k}" for k in range(3) for name in ("classifier", "box_reg")]
    assert list(values) == ["loss_objectness", "loss_rpn_box_reg", *regional]
    sum(values.values()).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in head.parameters())
    for k, (samples, _) in enumerate(seen):
        for i in range(2):
            boxes, labels = samples.boxes[samples.image == i], samples.labels[samples.image == i]
            iou = pairwise_iou(torch.cat([truth[i]["boxes"], torch.full((1, 4), -1.0)]), boxes)[:-1]
            best = iou.amax(0) if len(iou) else torch.zeros(len(boxes))
            assert torch.equal(labels < 3, best >= IOUS[k])
        positive = samples.labels < 3
        weights = [w * (k + 1) for w in (10, 10, 5, 5)]
        learned = decode_deltas(samples.boxes[positive], samples.deltas[positive], weights)
        assert (pairwise_iou(truth[0]["boxes"], learned).amax(0) > 0.999).all()
        if k:
            before, deltas = seen[k - 1]
            moved = decode_deltas(before.boxes, deltas[:, 0], [w * k for w in (10, 10, 5, 5)])
            limits = torch.tensor([(w, h, w, h) for h, w in SIZES])[before.image]
            moved = torch.minimum(moved.clamp(min=0), limits)
            moved = moved[((moved[:, 2:] - moved[:, :2]) > 0).all(1)]
            assert len(samples.boxes) == len(moved)
            order = lambda x: x[x[:, 0].argsort(stable=True)].sort(0).values  # noqa: E731
            torch.testing.assert_close(order(samples.boxes), order(moved))


def test_features_get_a_share_of_each_stages_gradient():
    """With the later stages' losses left out, the features' gradient is a third of that of the one stage alone."""
    torch.manual_seed(1)
    many = lively(cascade())
    one = faster_rcnn(3, cls_agnostic_bbox_reg=True)
    one.load_state_dict({k: v for k, v in many.state_dict().items() if k in one.state_dict()})
    gradients = []
    for head, name in ((one, "loss_classifier"), (many, "loss_classifier_0")):
        features = {k: v.requires_grad_() for k, v in features_for(LEVELS, 96, 128, images=1).items()}
        with torch.no_grad():
            for i, x in enumerate(features.values()):
                x.copy_(torch.randn(x.shape, generator=torch.Generator().manual_seed(i)))
        torch.manual_seed(3)
        loss = head.loss(features, [target([[10, 10, 60, 60]], [1])], SIZES[:1])[name]
        gradients.append(torch.autograd.grad(loss, features["p2"])[0])
    assert gradients[0].abs().sum() > 0
    torch.testing.assert_close(gradients[1] * 3, gradients[0])


def test_prediction_averages_scores_and_takes_the_last_boxes():
    head = lively(cascade(score_thresh=0.0, nms=1.0, detections_per_img=10**6, rpn_options={"post_nms_top_n_test": 7}))
    features = features_for(LEVELS, 96, 128, images=1)
    (proposals,) = head.rpn.predict(features, SIZES[:1]).boxes
    boxes, scores, image = proposals, torch.zeros(len(proposals), 4), torch.zeros(len(proposals), dtype=torch.long)
    for k, box_head in enumerate(head.box_heads):
        logits, deltas = box_head(head.pooler(features, boxes, image))
        scores = scores + logits.softmax(-1) / 3
        boxes = decode_deltas(boxes, deltas[:, 0], [w * (k + 1) for w in (10, 10, 5, 5)])
        boxes = torch.minimum(boxes.clamp(min=0), torch.tensor([128.0, 96, 128, 96]))
    (got,) = head.predict(features, SIZES[:1])
    whole = ((boxes[:, 2:] - boxes[:, :2]) >= 0.01).all(1)
    want = scores[whole, :3].flatten().sort(descending=True)
    torch.testing.assert_close(got["scores"], want.values, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(got["boxes"], boxes[whole][want.indices // 3], rtol=1e-5, atol=1e-4)
    assert torch.equal(got["labels"], want.indices % 3)


def test_an_image_without_boxes_trains_all_stages():
    head = cascade()
    losses = head.loss(features_for(LEVELS, 96, 128), [target([]), target([], ignore=[[0, 0, 50, 50]])], SIZES)
    sum(losses.values()).backward()
    assert all(losses[f"loss_box_reg_{k}"] == 0 for k in range(3))
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in head.parameters())


def test_a_cascade_has_one_box_a_region():
    with pytest.raises(ValueError, match="set CLS_AGNOSTIC_BBOX_REG True"):
        faster_rcnn(3, cascade_ious=IOUS)
