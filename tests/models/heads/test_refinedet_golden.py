"""RefineDet against numbers of the official Caffe code and of its PyTorch port."""

import numpy as np
import pytest
import torch
from helpers.golden import background_last, load
from helpers.inputs import target
from helpers.refinement import anchors_for, refinedet, stored_outputs

from detector.models.necks.extra import L2Norm
from detector.ops.boxes import decode_deltas, encode_deltas, pairwise_iou
from detector.ops.matching import match_bipartite

WEIGHTS = (10, 10, 5, 5)

# ---------------------------------------------------------------------------- anchors and coding


def test_anchors_are_the_official_priors(golden_heads):
    facts, arrays = load(golden_heads, "refinedet_priors")
    for size, count in facts["count"].items():
        anchors = anchors_for(int(size)) / int(size)
        assert len(anchors) == count
        torch.testing.assert_close(anchors, arrays[f"caffe_corner_{size}"], rtol=0, atol=1e-6)


def test_clipped_anchors_are_the_ports_priors(golden_heads):
    facts, arrays = load(golden_heads, "refinedet_priors")
    for size in facts["count"]:
        anchors = anchors_for(int(size), clip_anchors=True) / int(size)
        centred = torch.cat([(anchors[:, :2] + anchors[:, 2:]) / 2, anchors[:, 2:] - anchors[:, :2]], dim=1)
        torch.testing.assert_close(centred, arrays[f"priors_{size}_clip"], rtol=0, atol=1e-6)


def test_coding_equals_caffes(golden_heads):
    facts, arrays = load(golden_heads, "refinedet_codec")
    x, y, w, h = arrays["priors"].unbind(1)
    corners = torch.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], dim=1)
    encoded = encode_deltas(corners, arrays["boxes"], WEIGHTS)
    torch.testing.assert_close(encoded, arrays["encoded_caffe"], rtol=1e-5, atol=1e-5)
    decoded = decode_deltas(corners, arrays["rel"], WEIGHTS)
    torch.testing.assert_close(decoded, arrays["decoded_caffe"], rtol=1e-5, atol=1e-5)
    for name, scale in facts["l2_scales"].items():
        norm = L2Norm(len(arrays[f"l2_{name}_weight"]), scale)
        assert (norm.weight == scale).all()
        norm.load_state_dict({"weight": arrays[f"l2_{name}_weight"]})
        torch.testing.assert_close(norm(arrays[f"l2_{name}_x"]), arrays[f"l2_{name}_y_caffe"], rtol=1e-5, atol=1e-5)


# ---------------------------------------------------------------------------- matching


def test_matches_are_caffes(golden_heads):
    facts, arrays = load(golden_heads, "refinedet_match")
    exact = 0
    for case in facts["cases"]:
        prefix, size = case["prefix"], case["size"]
        anchors = anchors_for(size)
        deltas = arrays[f"{prefix}arm_loc"] if f"{prefix}arm_loc" in arrays else arrays[f"{prefix}arm_loc_x64"] / 64
        refined = decode_deltas(anchors, deltas.float(), WEIGHTS)
        boxes = arrays[f"{prefix}targets"][:, :4] * size
        for stage, candidates in (("prior", anchors), ("refined", refined)):
            match = match_bipartite(candidates, boxes, boxes[:0], case["threshold"], case["threshold"])
            want = arrays[f"{prefix}caffe_{stage}_match_idx"].long()
            if case["tie_sensitive"] and not torch.equal(match, want):
                check_equally_good(match, want, pairwise_iou(boxes, candidates))
                continue
            assert torch.equal(match, want), case
            positive = match >= 0
            deltas = encode_deltas(candidates[positive], boxes[match[positive]], WEIGHTS)
            torch.testing.assert_close(deltas, arrays[f"{prefix}caffe_{stage}_pos_loc_t"], rtol=1e-4, atol=1e-4)
            exact += 1
    assert exact >= len(facts["cases"])


def check_equally_good(match, want, iou):
    """Every box has as many candidates, of the same overlaps: only ties were decided otherwise."""
    for box in range(len(iou)):
        mine, theirs = (iou[box][m == box].sort().values for m in (match, want))
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-6)


# ---------------------------------------------------------------------------- losses


def loss_cases(golden_heads):
    facts, arrays = load(golden_heads, "refinedet_losses")
    for case in facts["cases"]:
        tag, size = case["tag"], case["size"]
        truths = [arrays[f"{tag}_targets{i}"] for i in range(case["batch"])]
        targets = [target(truth[:, :4] * size, truth[:, 4]) for truth in truths]
        head = refinedet(case["num_classes"] - 1, objectness_thresh=case["theta"], neg_pos_ratio=case["neg_pos_ratio"])
        yield case, arrays, head, targets


def test_losses_are_caffes(golden_heads):
    names = {"arm_cls": "arm_conf", "arm_reg": "arm_loc", "odm_cls": "odm_conf", "odm_reg": "odm_loc"}
    for case, arrays, head, targets in loss_cases(golden_heads):
        ours, _ = stored_outputs(arrays, case["tag"])
        losses = head.losses(anchors_for(case["size"]), ours, targets)
        for name, theirs in names.items():
            assert losses[f"loss_{name}"].item() == pytest.approx(case["caffe"][theirs], rel=1e-4), (case["tag"], name)


def test_gradients_are_those_of_caffes_samples(golden_heads):
    for case, arrays, head, targets in loss_cases(golden_heads):
        tag, size = case["tag"], case["size"]
        ours, stored = stored_outputs(arrays, tag)
        ours = type(ours)(*(x.clone().requires_grad_() for x in ours))
        anchors = anchors_for(size)
        sum(head.losses(anchors, ours, targets).values()).backward()
        priors = np.broadcast_to(anchors.double().numpy(), stored.arm_deltas.shape)
        refined = decode(priors, stored.arm_deltas.double().numpy())
        branches = (
            ("arm", priors, ours.arm_logits, ours.arm_deltas, stored.arm_logits, stored.arm_deltas),
            ("odm", refined, ours.odm_logits, ours.odm_deltas, stored.odm_logits, stored.odm_deltas),
        )
        for name, references, our_logits, our_deltas, logits, deltas in branches:
            match = arrays[f"{tag}_caffe_{name}_match_idx"].numpy().astype(int)
            bits = np.unpackbits(arrays[f"{tag}_caffe_{name}_neg"].numpy())
            negative = bits[: match.size].reshape(match.shape).astype(bool)
            positive = match >= 0
            number = max(positive.sum(), 1)
            truths = [t["boxes"].double().numpy()[m] for t, m in zip(targets, match)]  # of background: any
            classes = np.stack([t["labels"].numpy()[m] + 1 for t, m in zip(targets, match)])
            classes = np.where(positive, np.minimum(classes, logits.shape[-1] - 1), 0)

            error = deltas.double().numpy() - encode(references, np.stack(truths))
            want = np.where(positive[..., None], np.clip(error, -1, 1), 0) / number
            np.testing.assert_allclose(our_deltas.grad.numpy(), want, rtol=0, atol=2e-4 / number)

            chances = logits.double().softmax(-1).numpy() - np.eye(logits.shape[-1])[classes]
            want = np.where((positive | negative)[..., None], chances, 0) / number
            want = background_last(torch.from_numpy(want)).numpy()
            np.testing.assert_allclose(our_logits.grad.numpy(), want, rtol=0, atol=1e-5 / number)


def decode(boxes, deltas):
    """SSD's decoding with variances 0.1 and 0.2, written out."""
    size = boxes[..., 2:] - boxes[..., :2]
    centre = (boxes[..., :2] + boxes[..., 2:]) / 2 + 0.1 * deltas[..., :2] * size
    size = size * np.exp(0.2 * deltas[..., 2:])
    return np.concatenate([centre - size / 2, centre + size / 2], axis=-1)


def encode(boxes, wanted):
    size, target_size = boxes[..., 2:] - boxes[..., :2], wanted[..., 2:] - wanted[..., :2]
    shift = (wanted[..., :2] + wanted[..., 2:] - boxes[..., :2] - boxes[..., 2:]) / 2 / size
    return np.concatenate([shift / 0.1, np.log(target_size / size) / 0.2], axis=-1)


# ---------------------------------------------------------------------------- detections


@pytest.mark.parametrize(("source", "clip"), [("caffe", False), ("pytorch_top500", True)])
def test_detections_are_the_official_ones(golden_heads, source, clip):
    facts, arrays = load(golden_heads, "refinedet_detect")
    params = facts["params"]
    for case in facts["cases"]:
        size, tag = case["size"], case["tag"]
        head = refinedet(
            case["num_classes"] - 1,
            objectness_thresh=params["objectness_thre"],
            score_thresh=params["conf_thresh"],
            pre_nms_top_n=params["top_k"],
            nms=params["nms_thresh"],
            detections_per_img=params["keep_top_k"],
            clip_anchors=clip,
        )
        outputs, _ = stored_outputs(arrays, tag)
        for image in range(case["batch"]):
            of_image = type(outputs)(*(x[image] for x in outputs))
            got = head.decode(anchors_for(size, clip_anchors=clip), of_image, (size, size))
            rows = arrays[f"{tag}_{source}"]
            rows = rows[rows[:, 0] == image]
            boxes = rows[:, 3:].clamp(0, 1)
            inside = ((boxes[:, 2:] - boxes[:, :2]) * size).amin(1) >= 0.01
            want = torch.cat([rows[:, 1:3], boxes], dim=1)[inside]
            found = torch.cat([got["labels"][:, None] + 1, got["scores"][:, None], got["boxes"] / size], dim=1)
            assert len(found) == len(want), tag
            distance = torch.cdist(found, want, p=float("inf"))
            assert distance.amin(0).max() < 1e-4, tag
            assert distance.amin(1).max() < 1e-4, tag
            assert (got["scores"].diff() <= 0).all()
