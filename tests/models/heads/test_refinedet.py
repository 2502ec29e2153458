"""RefineDet's behaviour at the edges, hand-worked losses, and learning."""

import math

import pytest
import torch
from helpers.inputs import features_for, target
from helpers.refinement import LEVELS, lively, refinedet

from detector.models.heads.refinedet import Outputs
from detector.models.norm import norm_factory
from detector.ops.boxes import pairwise_iou
from detector.structures import Level

# ---------------------------------------------------------------------------- outputs


def test_outputs_and_anchors_are_level_by_level_row_by_row():
    head = refinedet(4)
    features = features_for(LEVELS, 64, 96)
    anchors, outputs = head.anchors(features), head(features)
    assert len(anchors) == 3 * (8 * 12 + 4 * 6 + 2 * 3 + 1 * 2)
    assert [x.shape for x in outputs] == [(2, len(anchors), k) for k in (2, 4, 5, 4)]
    centres = (anchors[:, :2] + anchors[:, 2:]) / 2
    torch.testing.assert_close(centres[:9:3], torch.tensor([[4.0, 4], [12, 4], [20, 4]]))
    sides = (anchors[:3, 2:] - anchors[:3, :2]).tolist()
    root = math.sqrt(2)
    for side, want in zip(sides, ([32, 32], [32 * root, 32 / root], [32 / root, 32 * root])):
        assert side == pytest.approx(want)
    assert centres[-1].tolist() == [96, 32]

    # A bump in one cell of one level moves only the outputs of the cells around it, three anchors a cell.
    features["c3"][0, :, 5, 7] += 1
    changed = (head(features).arm_logits != outputs.arm_logits).any(-1)
    assert not changed[1].any()
    cells = changed[0].nonzero()[:, 0].div(3, rounding_mode="floor").unique()
    assert cells.tolist() == [row * 12 + column for row in (4, 5, 6) for column in (6, 7, 8)]


def test_a_finer_block_sees_all_coarser_ones():
    head, features = refinedet(), features_for(LEVELS, 128, 128, 1)
    before = head(features)
    features["c6"] = features["c6"] + 1
    after = head(features)
    changed = (before.odm_logits != after.odm_logits).any(-1)[0]
    assert changed[: 3 * 256].float().mean() > 0.9
    assert torch.equal(before.arm_logits[:, : 3 * 256], after.arm_logits[:, : 3 * 256])


@pytest.mark.parametrize("size", [(128, 192), (101, 135), (65, 64), (8, 200)])
@pytest.mark.parametrize("kind", ["empty", "one empty", "huge", "tiny", "twins"])
def test_any_boxes_and_sizes_train(kind, size):
    height, width = size
    some = [[0, 0, 7, 6], [3, 2, min(90, width), min(60, height)]]
    corner = torch.rand(500, 2) * torch.tensor([width - 4.0, height - 4.0])
    boxes = {
        "empty": ([], []),
        "one empty": (some, []),
        "huge": ([[0, 0, width, height]], some),
        "tiny": (torch.cat([corner, corner + 3], dim=1), some),
        "twins": (some * 20, some),
    }[kind]
    head = refinedet(3)
    targets = [target(b, torch.randint(3, (len(b),)), ignore=[[50, 50, 90, 100]]) for b in boxes]
    losses = head.loss(features_for(LEVELS, height, width), targets, [size, (max(1, height - 9), width - 30)])
    sum(losses.values()).backward()
    assert list(losses) == ["loss_arm_cls", "loss_arm_reg", "loss_odm_cls", "loss_odm_reg"]
    assert all(torch.isfinite(v) for v in losses.values())
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in head.parameters())
    assert all((v.item() > 0) is (kind != "empty") for v in losses.values())
    assert len(head.predict(features_for(LEVELS, height, width), [size, size])) == 2


# ---------------------------------------------------------------------------- hand-worked losses


def flat_outputs(number, classes=2):
    """All logits and deltas zero, of one image."""
    return Outputs(*(torch.zeros(1, number, k, requires_grad=True) for k in (2, 4, classes + 1, 4)))


def test_losses_of_a_box_that_one_anchor_covers_exactly():
    head = refinedet(2)
    anchors = torch.tensor([[0.0, 0, 32, 32], [100, 0, 132, 32], [200, 0, 232, 32], [300, 0, 332, 32], [0, 64, 32, 96]])
    outputs = flat_outputs(5)
    losses = head.losses(anchors, outputs, [target([[0, 0, 32, 32]], [1])])
    # One positive and three of the four background anchors, each at ln(number of classes), over one positive.
    assert losses["loss_arm_cls"].item() == pytest.approx(4 * math.log(2))
    assert losses["loss_odm_cls"].item() == pytest.approx(4 * math.log(3))
    assert losses["loss_arm_reg"].item() == losses["loss_odm_reg"].item() == 0
    sum(losses.values()).backward()
    assert outputs.arm_logits.grad[0, 0].tolist() == [-0.5, 0.5]  # towards the object, away from the background
    torch.testing.assert_close(outputs.odm_logits.grad[0, 0], torch.tensor([1 / 3, -2 / 3, 1 / 3]))
    torch.testing.assert_close(outputs.odm_logits.grad[0, 1], torch.tensor([1 / 3, 1 / 3, -2 / 3]))


def test_the_odm_regresses_from_what_the_arm_refined():
    head = refinedet(1)
    anchors = torch.tensor([[0.0, 0, 32, 32]])
    arm_deltas = torch.tensor([[[10.0 * 0.5, 0, 0, 0]]], requires_grad=True)  # half a width to the right: 16 pixels
    outputs = flat_outputs(1, classes=1)._replace(arm_deltas=arm_deltas)
    losses = head.losses(anchors, outputs, [target([[16, 0, 48, 32]])])
    assert losses["loss_odm_reg"].item() == 0
    assert losses["loss_arm_reg"].item() == 0
    losses = head.losses(anchors, outputs, [target([[8, 0, 40, 32]])])
    assert losses["loss_odm_reg"].item() == pytest.approx(2.5 - 0.5)  # a quarter of a width is 2.5 deltas: |x| - 0.5
    assert losses["loss_arm_reg"].item() == pytest.approx(2.5 - 0.5)
    losses["loss_odm_reg"].backward()
    assert arm_deltas.grad is None  # nothing flows back through the refined anchors


def test_anchors_that_are_surely_background_are_no_negatives_of_the_odm_but_stay_positive():
    head = refinedet(1)
    anchors = torch.tensor([[0.0, 0, 32, 32], [100, 0, 132, 32], [200, 0, 232, 32]])
    sure = math.log(0.0099 / 0.9901)
    arm_logits = torch.tensor([[[sure, 0], [sure, 0], [sure + 0.02, 0]]], requires_grad=True)
    outputs = flat_outputs(3, classes=1)._replace(arm_logits=arm_logits)
    losses = head.losses(anchors, outputs, [target([[0, 0, 32, 32]])])
    losses["loss_odm_cls"].backward()
    assert outputs.odm_logits.grad.abs().sum(-1).gt(0).tolist() == [[True, False, True]]
    assert losses["loss_odm_cls"].item() == pytest.approx(2 * math.log(2))
    losses["loss_arm_cls"].backward()
    assert arm_logits.grad.abs().sum(-1).gt(0).tolist() == [[True, True, True]]


def test_hard_negatives_are_counted_by_image_and_losses_by_batch():
    head = refinedet(1, neg_pos_ratio=1)
    anchors = torch.tensor([[0.0, 0, 32, 32], [100, 0, 132, 32], [200, 0, 232, 32]])
    outputs = Outputs(*(x.expand(3, -1, -1).clone() for x in flat_outputs(3, classes=1)))
    logits = torch.zeros(3, 3, 2)
    logits[0, 2, 0] = 1  # the harder of the two
    logits.requires_grad_()
    targets = [target([[0, 0, 32, 32]]), target([]), target([[0, 0, 32, 32], [100, 0, 132, 32]])]
    losses = head.losses(anchors, outputs._replace(odm_logits=logits), targets)
    losses["loss_odm_cls"].backward()
    trained = logits.grad.abs().sum(-1) > 0
    assert trained.tolist() == [[True, False, True], [False] * 3, [True] * 3]
    want = math.log(1 + math.e) + 4 * math.log(2)
    assert losses["loss_odm_cls"].item() == pytest.approx(want / 3)


def test_anchors_in_a_crowd_are_not_trained():
    head = refinedet(1)
    anchors = torch.tensor([[0.0, 0, 32, 32], [100, 0, 132, 32], [200, 0, 232, 32]])
    outputs = flat_outputs(3, classes=1)
    truth = target([[0, 0, 32, 32]], ignore=[[0, 0, 132, 40]])
    sum(head.losses(anchors, outputs, [truth]).values()).backward()
    for logits in (outputs.arm_logits, outputs.odm_logits):
        assert logits.grad.abs().sum(-1).gt(0).tolist() == [[True, False, True]]


def test_between_the_thresholds_nothing_is_trained():
    head = refinedet(1, fg_iou_threshold=0.7, bg_iou_threshold=0.3)
    anchors = torch.tensor([[0.0, 0, 32, 32], [0, 0, 32, 16], [0, 0, 32, 8], [0, 0, 32, 24]])
    match = head.assign(anchors[None], [target([[0, 0, 32, 32]])])
    assert match.tolist() == [[0, -2, -1, 0]]


# ---------------------------------------------------------------------------- detections


def test_detections_of_an_image_do_not_depend_on_its_batch():
    head = lively(refinedet(5)).eval()
    features, sizes = features_for(LEVELS, 128, 192), [(128, 192), (100, 150)]
    both = head.predict(features, sizes)
    for i in range(2):
        alone = head.predict({k: v[i : i + 1] for k, v in features.items()}, sizes[i : i + 1])[0]
        assert len(alone["scores"]) > 20
        for key in ("boxes", "scores", "labels"):
            torch.testing.assert_close(both[i][key], alone[key])
        assert (alone["boxes"] >= 0).all()
        assert (alone["boxes"] <= torch.tensor(sizes[i])[[1, 0, 1, 0]]).all()
        assert (alone["boxes"][:, 2:] > alone["boxes"][:, :2]).all()
        assert (alone["scores"].diff() <= 0).all()


def test_a_shift_by_the_coarsest_stride_shifts_anchors_and_outputs():
    head = lively(refinedet(3))
    picture = {
        name: torch.zeros(1, level.channels, 512 // level.stride, 512 // level.stride) for name, level in LEVELS.items()
    }
    moved = {name: x.clone() for name, x in picture.items()}
    for name, level in LEVELS.items():
        at, step = 192 // level.stride, 64 // level.stride
        patch = torch.randn(level.channels, max(1, step), max(1, step))
        picture[name][0, :, at : at + patch.shape[1], at : at + patch.shape[2]] = patch
        moved[name][0, :, at : at + patch.shape[1], at + step : at + step + patch.shape[2]] = patch
    here, there = (head.predict(x, [(512, 512)])[0] for x in (picture, moved))
    sure = here["scores"] > 0.75
    iou = pairwise_iou(here["boxes"][sure] + torch.tensor([64.0, 0, 64, 0]), there["boxes"]).amax(1)
    inner = (here["boxes"][sure][:, 0] > 0) & (here["boxes"][sure][:, 2] < 448)
    assert inner.sum() > 3
    assert (iou[inner] > 0.999).all()


def test_nothing_is_found_where_everything_is_surely_background():
    head = lively(refinedet(3))
    for layer in head.arm_cls:
        torch.nn.init.zeros_(layer.weight)
        layer.bias.data[1::2] = 6  # background, by e ** 6 to 1
    assert [len(d["scores"]) for d in head.predict(features_for(LEVELS, 64, 64), [(64, 64)] * 2)] == [0, 0]


def test_losses_do_not_depend_on_the_mode():
    head, features = lively(refinedet(5)), features_for(LEVELS, 96, 128, images=1)
    results = [
        head.train(mode).loss(features, [target([[10, 10, 60, 60]], [2])], [(96, 128)]) for mode in (True, False)
    ]
    assert results[0] == results[1]


def test_half_precision_trains_and_predicts_in_float32():
    head, features, sizes = lively(refinedet(3)), features_for(LEVELS, 96, 128), [(96, 128)] * 2
    with torch.autocast("cpu", torch.bfloat16):
        half = {k: v.bfloat16() for k, v in features.items()}
        losses = head.loss(half, [target([[10, 10, 60, 60]], [2]), target([])], sizes)
        detections = head.predict(half, sizes)
    sum(losses.values()).backward()
    assert {v.dtype for v in losses.values()} == {torch.float32}
    assert {d[k].dtype for d in detections for k in ("boxes", "scores")} == {torch.float32}
    assert all(torch.isfinite(p.grad).all() for p in head.parameters())


# ---------------------------------------------------------------------------- parts


@pytest.mark.parametrize("norm", ["bn", "gn"])
def test_the_recipe_with_norms_and_bottlenecks(norm):
    head = refinedet(3, norm=norm_factory(norm), predictor_bottleneck=True)
    assert {len(inter) for inter in (head.arm_inter, head.odm_inter)} == {4}
    assert {layer.in_channels for layer in (*head.arm_cls, *head.odm_reg)} == {1024}
    assert [block.conv2.weight.shape for block in head.odm_inter] == [(256, 256, 3, 3)] * 4
    for tcb in head.tcbs:
        assert tcb.conv1[0].bias is None
        assert len(tcb.conv1) == 2
        assert (tcb.up is None) == (tcb is head.tcbs[-1])
    losses = head.loss(features_for(LEVELS, 64, 96), [target([[4, 4, 40, 50]], [1]), target([])], [(64, 96)] * 2)
    sum(losses.values()).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in head.parameters())


def test_weights_start_as_caffes():
    head = refinedet(4)
    for layer in (head.arm_reg[0], head.odm_cls[1], head.tcbs[0].conv1[0], head.tcbs[0].up[0]):
        bound = math.sqrt(3 / layer.weight[0].numel())
        assert 0.9 * bound < layer.weight.abs().max() <= bound
        assert (layer.bias == 0).all()


def test_levels_thresholds_and_norms_must_fit():
    with pytest.raises(ValueError, match="levels that halve from one to the next"):
        refinedet(levels={"c3": Level(8, 8), "c5": Level(8, 32)})
    with pytest.raises(ValueError, match=r"BG_IOU_THRESHOLD 0\.6 is above FG_IOU_THRESHOLD 0\.5"):
        refinedet(bg_iou_threshold=0.6)
    with pytest.raises(ValueError, match=r"PREDICTOR_BOTTLENECK needs a MODEL\.REFINEDET\.NORM"):
        refinedet(predictor_bottleneck=True)
