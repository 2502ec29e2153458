import torch

from detector.ops.boxes import boxes_to_distances, clip_boxes, distances_to_boxes, rescale_boxes


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
