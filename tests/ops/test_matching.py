import torch

from detector.ops.anchors import grid_points
from detector.ops.matching import BACKGROUND, IGNORED, match_points

EVERYWHERE = torch.tensor([-1.0, torch.inf])
NONE = torch.zeros(0, 4)


def match(points, boxes, ignore=NONE, radius=0.0, stride=8, bounds=EVERYWHERE):
    points = torch.as_tensor(points, dtype=torch.float32)
    strides = torch.full((len(points),), float(stride))
    ranges = torch.as_tensor(bounds, dtype=torch.float32).expand(len(points), 2)
    return match_points(points, strides, ranges, torch.as_tensor(boxes, dtype=torch.float32), ignore, radius).tolist()


def test_grid_points_lie_at_cell_centres_row_by_row():
    assert grid_points(2, 3, 8).tolist() == [[4, 4], [12, 4], [20, 4], [4, 12], [12, 12], [20, 12]]


def test_smallest_box_wins_and_the_first_of_equals():
    boxes = [[0, 0, 100, 100], [10, 10, 30, 30], [40, 40, 60, 60], [10, 10, 30, 30]]
    assert match([[20, 20], [50, 50], [80, 80], [200, 200]], boxes) == [1, 2, 0, BACKGROUND]


def test_a_location_on_a_side_is_outside():
    assert match([[10, 20], [10.5, 20]], [[10, 10, 30, 30]]) == [BACKGROUND, 0]


def test_ranges_are_closed_at_both_ends():
    box, point = [[0, 0, 64, 64]], [[32, 0.001]]  # farthest side: 63.999 ... the exact bound comes from the next line
    assert match(point, box, bounds=(-1, 63)) == [BACKGROUND]
    exact = [[0, 0, 96, 40]], [[32, 20]]  # farthest side: 64
    assert match(exact[1], exact[0], bounds=(-1, 64)) == [0]
    assert match(exact[1], exact[0], bounds=(64, 128)) == [0]


def test_center_sampling_is_cut_at_the_box():
    wide = [[0, 0, 100, 10]]  # centre (50, 5), reach 12 pixels
    assert match([[50, 5], [61, 5], [63, 5], [50, 11]], wide, radius=1.5) == [0, 0, BACKGROUND, BACKGROUND]


def test_crowds_are_ignored_where_nothing_matches():
    crowd = torch.tensor([[0.0, 0, 50, 50]])
    assert match([[20, 20], [40, 40], [90, 90]], [[10, 10, 30, 30]], crowd) == [0, IGNORED, BACKGROUND]


def test_no_box_is_background_everywhere():
    assert match([[1, 1], [2, 2]], NONE) == [BACKGROUND, BACKGROUND]
