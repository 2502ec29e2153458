"""FCOS against numbers of the official implementation, and its behaviour at the edges."""

import numpy as np
import pytest
import torch
from helpers.golden import check_samples, forward_weight, load
from helpers.inputs import features_for, target
from torchvision.ops import generalized_box_iou_loss

from detector.models.heads.fcos import FCOS
from detector.ops.anchors import grid_points
from detector.ops.boxes import boxes_to_distances, distances_to_boxes
from detector.ops.losses import centerness_targets
from detector.structures import Level

STRIDES = (8, 16, 32, 64, 128)
LEVELS = {f"p{i + 3}": Level(64, stride) for i, stride in enumerate(STRIDES)}
SETTINGS = {
    "plain": {},
    "center": {"center_sampling_radius": 1.5},
    "norm": {"norm_reg_targets": True},
    "imprv": {"center_sampling_radius": 1.5, "norm_reg_targets": True},
}


def fcos(num_classes=80, channels=64, **options):
    levels = {name: Level(channels, level.stride) for name, level in LEVELS.items()}
    return FCOS(levels, num_classes, **options)


def grid(height, width):
    sizes = [(-(-height // s), -(-width // s)) for s in STRIDES]
    return [grid_points(h, w, s) for (h, w), s in zip(sizes, STRIDES)]


def split(x, points):
    return list(x.split([len(p) for p in points], dim=1))


@pytest.mark.parametrize("setting", SETTINGS)
def test_targets_equal_the_official_ones(golden_heads, setting):
    facts, arrays = load(golden_heads, "fcos_targets")
    base = {"norm": "plain", "imprv": "center"}.get(setting, setting)
    for image in facts["images"]:
        tag = image["tag"]
        points = grid(image["H"], image["W"])
        head = fcos(**SETTINGS[setting])
        truth = target(arrays[f"{tag}_boxes"], arrays[f"{tag}_labels"].long() - 1)
        match = head.assign(points, [truth])[0]
        labels = torch.where(match >= 0, truth["labels"][match.clamp(min=0)] + 1, 0)
        modern = f"{tag}_{base}_labels_no_plus1_area"
        assert torch.equal(labels, arrays.get(modern, arrays[f"{tag}_{base}_labels"]).long()), tag
        location = (match >= 0).nonzero()[:, 0]
        assert torch.equal(location, arrays[f"{tag}_{base}_pos_idx"].long())
        distances = boxes_to_distances(torch.cat(points)[location], truth["boxes"][match[location]])
        stride = torch.cat([torch.full((len(p), 1), float(s)) for p, s in zip(points, STRIDES)])[location]
        want = arrays.get(f"{tag}_{setting}_pos_reg_no_plus1_area")
        if setting in ("norm", "imprv"):
            modern = arrays.get(f"{tag}_{base}_pos_reg_no_plus1_area")
            want = arrays[f"{tag}_{setting}_pos_reg"] if modern is None else modern / stride
            distances = distances / stride
        elif want is None:
            want = arrays[f"{tag}_{setting}_pos_reg"]
        torch.testing.assert_close(distances, want, rtol=1e-5, atol=1e-5)
        if f"{tag}_{base}_pos_reg_no_plus1_area" not in arrays:
            torch.testing.assert_close(
                centerness_targets(distances), arrays[f"{tag}_{base}_pos_centerness"], rtol=1e-5, atol=1e-5
            )


class Fixed(FCOS):
    """A head whose outputs are given, so that only the loss and the decoding are at work."""

    def fix(self, points, logits, distances, centerness):
        self.outputs = points, split(logits, points), split(distances, points), split(centerness, points)
        return self

    def forward(self, features):
        return self.outputs


def test_losses_and_gradients_equal_the_official_ones(golden_heads):
    facts, arrays = load(golden_heads, "fcos_losses")
    checked = 0
    for case in facts["cases"]:
        tag, points = case["tag"], grid(case["H"], case["W"])
        truths = [target(arrays[f"{tag}_boxes{i}"], arrays[f"{tag}_labels{i}"].long() - 1) for i in range(case["N"])]
        for want in case["cases"]:
            logits = (arrays[f"{tag}_cls_x256"].float() / 256).requires_grad_()
            raw = (arrays[f"{tag}_reg_x16"].float() / 16).requires_grad_()
            centerness = arrays[f"{tag}_ctr"].clone().requires_grad_()
            head = Fixed(
                LEVELS,
                case["num_classes"],
                iou_loss_type=want["iou_loss_type"],
                center_sampling_radius=want["center_sampling_radius"],
                norm_reg_targets=want["norm_reg_targets"],
            ).fix(points, logits, raw, centerness)
            modern = head.assign(points, truths), {**want, **want["no_plus1_area"]}
            for match, numbers in (modern, (official_match(head, points, truths), want)):
                head.assign = lambda *given, match=match: match
                losses = head.loss({}, truths, [])
                for key in ("loss_cls", "loss_reg", "loss_centerness"):
                    assert losses[key].item() == pytest.approx(numbers[key], rel=1e-4, abs=1e-7), (tag, want, key)
                grads = torch.autograd.grad(sum(losses.values()), (logits, raw, centerness))
                exact = spelled_out(head, points, truths, logits, raw, centerness)
                for name, grad, formula in zip(("cls", "reg", "ctr"), grads, exact):
                    torch.testing.assert_close(grad, formula.float(), rtol=1e-3, atol=1e-7)
                    if numbers is want:
                        stored = want["grad"][name]
                        if name == "reg" and head.norm_reg_targets:  # theirs is of distances in strides
                            grad = grad * torch.cat([torch.full((len(p), 1), s) for p, s in zip(points, STRIDES)])
                        assert grad.abs().sum().item() == pytest.approx(stored["l1"], rel=1e-3, abs=1e-7)
                        assert grad.sum().item() == pytest.approx(stored["sum"], rel=1e-3, abs=1e-3 * stored["l1"])
            checked += 1
    assert checked >= 24


def official_match(head, points, truths):
    """`assign`, but of several boxes a location gets the smallest by (w + 1) * (h + 1), as the official code has it."""
    matches = []
    for truth in truths:
        match, smallest = torch.full((sum(map(len, points)),), -1), torch.inf
        for i, box in enumerate(truth["boxes"]):
            inside, area = head.assign(points, [target(box)])[0] >= 0, (box[2:] - box[:2] + 1).prod()
            taken = inside & (area < smallest)
            match, smallest = torch.where(taken, i, match), torch.where(taken, area, smallest)
        matches.append(match)
    return torch.stack(matches)


def spelled_out(head, points, truths, *outputs):
    """The gradients of the official losses' formulas, in float64, for the boxes that the head gives the locations."""
    logits, raw, centerness = (x.detach().double().requires_grad_() for x in outputs)
    stride = torch.cat([torch.full((len(p), 1), float(s)) for p, s in zip(points, STRIDES)])
    points, match = torch.cat(points), head.assign(points, truths)
    place = match >= 0
    classes, wanted, unit = torch.zeros_like(logits), [], []
    for i, truth in enumerate(truths):
        classes[i, place[i], truth["labels"][match[i][place[i]]]] = 1
        wanted.append(boxes_to_distances(points[place[i]], truth["boxes"][match[i][place[i]]]))
        unit.append(stride[place[i]])
    number = place.sum().clamp(min=1)
    hit = torch.where(classes == 1, logits, -logits).sigmoid()
    loss = (torch.where(classes == 1, 0.25, 0.75) * (1 - hit) ** 2 * -hit.log()).sum() / number
    unit = torch.cat(unit).double() if head.norm_reg_targets else 1
    want, got = torch.cat(wanted).double() / unit, raw[place] / unit
    (left, top, right, bottom), (low, high) = want.T, (torch.minimum(want, got), torch.maximum(want, got))
    quality = torch.minimum(left, right) * torch.minimum(top, bottom)
    quality = (quality / torch.maximum(left, right) / torch.maximum(top, bottom)).sqrt()
    inter, around, *areas = ((x[:, 0] + x[:, 2]) * (x[:, 1] + x[:, 3]) for x in (low, high, want, got))
    union = areas[0] + areas[1] - inter
    iou, around = (inter + 1) / (union + 1), around + 1e-7
    each = {"iou": -iou.log(), "linear_iou": 1 - iou, "giou": 1 - iou + (around - union) / around}[head.iou_loss_type]
    loss = loss + (quality * each).sum() / quality.sum().clamp(min=1e-9)
    loss = (
        loss
        + torch.nn.functional.binary_cross_entropy_with_logits(centerness[place], quality, reduction="sum") / number
    )
    return torch.autograd.grad(loss, (logits, raw, centerness))


def test_detections_equal_the_official_ones(golden_heads):
    facts, arrays = load(golden_heads, "fcos_postprocess")
    for case in facts["cases"]:
        tag, points = case["tag"], grid(case["H"], case["W"])
        head = fcos(case["num_classes"])
        outputs = [arrays[f"{tag}_{k}"] for k in ("cls_x256", "reg_x16", "ctr")]
        outputs = [split(x.float() / scale, points) for x, scale in zip(outputs, (256, 16, 1))]
        for i, got in enumerate(head.decode(points, *outputs, [tuple(s) for s in case["image_sizes_hw"]])):
            want = {k: arrays[f"{tag}_{i}_modern_{k}"] for k in ("boxes", "scores", "labels")}
            torch.testing.assert_close(got["scores"], want["scores"], rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(got["boxes"], want["boxes"], rtol=1e-4, atol=1e-4)
            assert torch.equal(got["labels"] + 1, want["labels"].long())


def test_forward_equals_the_official_head(golden_heads):
    facts, _ = load(golden_heads, "fcos_head_forward")
    rng = np.random.RandomState(250)
    features = {
        f"p{i + 3}": torch.from_numpy(rng.standard_normal((1, 256, h, w)).astype(np.float32))
        for i, (h, w) in enumerate(facts["feature_sizes"])
    }
    for mode in facts["modes"]:
        head = fcos(
            80, 256, norm_reg_targets=mode["norm_reg_targets"], centerness_on_reg=mode["centerness_on_reg"]
        ).train(mode["training"])
        assert {k: list(v.shape) for k, v in head.state_dict().items()} == dict(facts["state_dict"])
        head.load_state_dict({k: forward_weight(k, tuple(s)) for k, s in facts["state_dict"]})
        with torch.no_grad():
            _, logits, distances, centerness = head(features)
        if mode["mode"] == "norm_train":  # the official head gives strides in training and pixels at test
            distances = [d / s for d, s in zip(distances, STRIDES)]
        outputs = {"logits": logits, "bbox_reg": distances, "centerness": [c[..., None] for c in centerness]}
        for name, levels in outputs.items():
            for got, want in zip(levels, mode["outputs"][name]):
                check_samples(got.transpose(1, 2).unflatten(2, want["shape"][2:]), want)


@pytest.mark.parametrize("options", [{}, {"norm_reg_targets": True, "centerness_on_reg": True, "norm": "none"}])
def test_images_without_boxes_give_zeros_that_reach_every_parameter(options):
    head = fcos(3, num_convs=1, **options)
    losses = head.loss(features_for(LEVELS, 64, 96), [target(), target()], [(64, 96)] * 2)
    assert losses["loss_reg"].item() == losses["loss_centerness"].item() == 0
    sum(losses.values()).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in head.parameters())


def test_a_crowd_region_takes_its_locations_out_of_the_loss():
    head = fcos(3, num_convs=1)
    features = features_for(LEVELS, 64, 96, images=1)
    points, logits, *_ = head(features)
    alone = head.loss(features, [target()], [(64, 96)])["loss_cls"]
    crowd = head.loss(features, [target(ignore=[[0, 0, 48, 64]])], [(64, 96)])["loss_cls"]
    outside = torch.cat([p[:, 0] > 48 for p in points])  # locations on the region's side are negatives, as in a box
    beyond = torch.cat([p[:, 1] >= 64 for p in points])
    kept = torch.cat(logits, dim=1)[0][outside | beyond | torch.cat([p[:, 0] == 48 for p in points])]
    want = (0.75 * kept.sigmoid() ** 2 * torch.nn.functional.softplus(kept)).sum()
    torch.testing.assert_close(crowd, want)
    assert crowd < alone


def test_loss_does_not_depend_on_the_order_of_boxes():
    head, features = fcos(5, num_convs=1), features_for(LEVELS, 128, 128, images=1)
    boxes = torch.rand(12, 4) * 60
    boxes[:, 2:] += boxes[:, :2] + 4
    labels = torch.randint(5, (12,))
    order = torch.randperm(12)
    one = head.loss(features, [target(boxes, labels)], [(128, 128)])
    two = head.loss(features, [target(boxes[order], labels[order])], [(128, 128)])
    for key in one:
        torch.testing.assert_close(one[key], two[key])


def test_levels_and_ranges_must_fit():
    with pytest.raises(ValueError, match=r"SIZES_OF_INTEREST .* parts 3 ranges, but the neck has 5 levels"):
        fcos(3, sizes_of_interest=(64, 128))


def test_half_precision_features_give_float32_outputs():
    head = fcos(3, num_convs=1)
    with torch.autocast("cpu", torch.bfloat16):
        _, *outputs = head(features_for(LEVELS, 64, 64))
    assert {x.dtype for level in outputs for x in level} == {torch.float32}


def test_a_largest_distance_on_the_border_of_two_ranges_belongs_to_both_levels_or_to_none():
    truth = target([[0, 0, 128, 128]], [0])
    points = [torch.tensor([[64.0, 64.0]]) for _ in STRIDES]  # 64 from all sides
    assert fcos().assign(points, [truth])[0].tolist() == [0, 0, -1, -1, -1]
    assert fcos(open_ranges=True).assign(points, [truth])[0].tolist() == [-1] * 5


def test_locations_may_lie_in_the_corner_of_their_cells_and_follow_the_padded_side():
    features = features_for(LEVELS, 480, 640, images=1)
    points = fcos(point_offset=0.0, padded_strides=True).points(features)
    assert [p[1, 0].item() for p in points] == [8, 16, 32, 64, 128]
    assert [p[-1, 1].item() for p in points] == [59 * 8, 29 * 16, 14 * 32, 7 * 60, 3 * 120]
    assert fcos().points(features)[3][0].tolist() == [32, 32]


def test_without_scales_and_weights_the_loss_is_the_plain_mean():
    head = fcos(3, num_convs=1, level_scales=False, iou_loss_type="plain_giou", centerness_weights_reg=False)
    assert not [key for key in head.state_dict() if "scale" in key]
    features, truth = features_for(LEVELS, 64, 96, images=1), target([[10, 8, 60, 50]], [1])
    points, _, distances, _ = head(features)
    place = head.assign(points, [truth])[0] >= 0
    boxes = distances_to_boxes(torch.cat(points), torch.cat(distances, 1)[0])[place]
    want = generalized_box_iou_loss(boxes, truth["boxes"].expand(len(boxes), 4), reduction="mean")
    torch.testing.assert_close(head.loss(features, [truth], [(64, 96)])["loss_reg"], want)
    assert len(boxes) > 10


def test_the_threshold_may_be_for_the_final_score():
    outputs = [
        [torch.zeros(1, 2)],
        [torch.tensor([[[0.0], [3.0]]])],
        [torch.ones(1, 2, 4)],
        [torch.tensor([[-2.5, 2]])],
    ]
    outputs = [outputs[0][0].new_tensor([[4.0, 4], [99, 99]]), *outputs[1:]]
    class_score, quality = outputs[1][0].sigmoid()[0, :, 0], outputs[3][0].sigmoid()[0]
    final = (class_score * quality).sqrt()
    for options, kept in (({}, 2), ({"th_with_centerness": True}, 1)):
        head = fcos(1, inference_th=0.3, **options)
        found = head.decode([outputs[0]], *outputs[1:], [(128, 128)])[0]
        torch.testing.assert_close(found["scores"], final.flip(0)[:kept])
    assert class_score[0] > 0.3 > final[0]
