import math

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from detector.ops.boxes import (
    MAX_LOG_SCALE,
    box_areas,
    boxes_to_distances,
    clip_boxes,
    decode_deltas,
    distances_to_boxes,
    encode_deltas,
    intersections,
    paired_iou,
    pairwise_iou,
    rescale_boxes,
)


def test_distances_and_boxes_are_inverse():
    points = torch.tensor([[10.0, 20.0], [0.0, 0.0]])
    boxes = torch.tensor([[4.0, 5.0, 30.0, 50.0], [-1.0, -2.0, 3.0, 4.0]])
    distances = boxes_to_distances(points, boxes)
    assert distances.tolist() == [[6, 15, 20, 30], [1, 2, 3, 4]]
    assert torch.equal(distances_to_boxes(points, distances), boxes)


def test_clip_limits_x_by_width_and_y_by_height():
    assert clip_boxes(torch.tensor([[-5.0, -6.0, 70.0, 80.0]]), (40, 60)).tolist() == [[0, 0, 60, 40]]


def test_rescale_has_a_factor_per_axis():
    boxes = rescale_boxes(torch.tensor([[10.0, 10.0, 20.0, 20.0]]), size=(100, 200), original=(50, 400))
    assert boxes.tolist() == [[20, 5, 40, 10]]


def random_boxes(number, dtype=torch.float64):
    corner = torch.rand(number, 2, dtype=dtype) * 200
    return torch.cat([corner, corner + 1 + torch.rand(number, 2, dtype=dtype) * 100], dim=1)


@pytest.mark.parametrize("weights", [(1, 1, 1, 1), (10, 10, 5, 5)])
def test_deltas_equal_the_official_ones(golden_heads, weights):
    arrays = {k: torch.from_numpy(v) for k, v in np.load(golden_heads / "frcnn_boxcoder.npz").items()}
    name = "w1" if weights[0] == 1 else "w10_10_5_5"
    got = encode_deltas(arrays["anchors"], arrays["gt"], weights)
    torch.testing.assert_close(got, arrays[f"tv_encode_{name}"], rtol=1e-4, atol=1e-4)
    got = decode_deltas(arrays["anchors"], arrays["rel"], weights)
    torch.testing.assert_close(got, arrays[f"tv_decode_{name}"], rtol=1e-4, atol=1e-3)


def test_deltas_of_several_classes_and_iou_equal_the_official_ones(golden_heads):
    arrays = {k: torch.from_numpy(v) for k, v in np.load(golden_heads / "frcnn_boxcoder.npz").items()}
    multi = arrays["rel_multi"].unflatten(1, (-1, 4))
    got = decode_deltas(arrays["anchors"][:50, None], multi, (10, 10, 5, 5)).flatten(1)
    torch.testing.assert_close(got, arrays["tv_decode_multi"], rtol=1e-4, atol=1e-3)
    iou = pairwise_iou(arrays["gt"][:40], arrays["anchors"][:60])
    torch.testing.assert_close(iou, arrays["tv_iou"], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("weights", [(1, 1, 1, 1), (10, 10, 5, 5)])
def test_boxes_that_include_their_last_pixel_are_coded_as_ours_that_end_behind_it(golden_heads, weights):
    arrays = {k: torch.from_numpy(v) for k, v in np.load(golden_heads / "frcnn_boxcoder.npz").items()}
    name, end = "w1" if weights[0] == 1 else "w10_10_5_5", torch.tensor([0, 0, 1, 1])
    anchors, truth = arrays["anchors"] + end, arrays["gt"] + end
    got = encode_deltas(anchors, truth, weights)
    torch.testing.assert_close(got, arrays[f"mrb_encode_{name}"], rtol=1e-4, atol=1e-4)
    got = decode_deltas(anchors, arrays["rel"], weights) - end
    torch.testing.assert_close(got, arrays[f"mrb_decode_{name}"], rtol=1e-4, atol=1e-3)
    iou = pairwise_iou(truth[:40], anchors[:60])
    torch.testing.assert_close(iou, arrays["mrb_iou"], rtol=1e-4, atol=1e-6)


def test_encoding_and_decoding_are_inverse():
    references, boxes = random_boxes(50), random_boxes(50)
    deltas = encode_deltas(references, boxes, (10, 10, 5, 5))
    torch.testing.assert_close(decode_deltas(references, deltas, (10, 10, 5, 5)), boxes)
    torch.testing.assert_close(encode_deltas(boxes, boxes), torch.zeros_like(boxes))


def test_deltas_by_hand():
    reference, box = torch.tensor([0.0, 0, 10, 20]), torch.tensor([5.0, 0, 25, 10])
    want = torch.tensor([1.0, -0.25, math.log(2), math.log(0.5)])
    torch.testing.assert_close(encode_deltas(reference, box), want)


def test_scales_are_limited_above_only():
    grown = decode_deltas(torch.tensor([0.0, 0, 16, 16]), torch.tensor([0.0, 0, 50, -50]))
    assert grown[2] - grown[0] == pytest.approx(1000)
    assert grown[3] - grown[1] == pytest.approx(0)
    assert pytest.approx(math.log(62.5)) == MAX_LOG_SCALE


def test_iou_equals_torchvisions_to_the_last_bit():
    boxes, others = random_boxes(30, torch.float32), random_boxes(70, torch.float32)
    assert torch.equal(pairwise_iou(boxes, others), box_iou(boxes, others))
    want = [[25.0, 0.0], [0.0, 4.0]]
    found = intersections(
        torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 30]]), torch.tensor([[5.0, 5, 15, 15], [22, 22, 24, 24]])
    )
    assert found.tolist() == want
    assert box_areas(boxes).shape == (30,)


def test_paired_iou_is_the_diagonal_of_all_pairs():
    corners = torch.rand(2, 40, 2, generator=torch.Generator().manual_seed(1)) * 30
    first, second = torch.cat([corners, corners + 5 + corners.flip(1)], dim=2)
    assert torch.equal(paired_iou(first, second), pairwise_iou(first, second).diag())
    assert paired_iou(first[:0], second[:0]).shape == (0,)
