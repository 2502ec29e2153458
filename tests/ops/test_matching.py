import os
import subprocess
import sys

import pytest
import torch
from torchvision.models.detection._utils import Matcher
from torchvision.ops import box_iou

from detector.ops import matching
from detector.ops.anchors import grid_points
from detector.ops.matching import (
    BACKGROUND,
    IGNORED,
    match_bipartite,
    match_boxes,
    match_points,
    mine_hard_negatives,
    sample_balanced,
)

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


def smallest_box(points, strides, ranges, boxes, ignore, radius, open_ranges):
    """The definition, a location and a box at a time."""
    found = []
    for (x, y), stride, (low, high) in zip(points.tolist(), strides.tolist(), ranges.tolist()):
        best = None
        for number, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
            largest = max(x - x1, y - y1, x2 - x, y2 - y)
            reach = radius * stride or torch.inf
            across, down = (x1 + x2) / 2, (y1 + y2) / 2
            inside = x1 < x < x2 and y1 < y < y2 and abs(x - across) < reach and abs(y - down) < reach
            if inside and (low < largest < high or (not open_ranges and largest in (low, high))):
                area = (x2 - x1) * (y2 - y1)
                best = min(best or (area, number), (area, number))
        crowd = any(x1 < x < x2 and y1 < y < y2 for x1, y1, x2, y2 in ignore.tolist())
        found.append(best[1] if best else IGNORED if crowd else BACKGROUND)
    return found


@pytest.mark.parametrize("pairs", [2**18, 100, 1])
@pytest.mark.parametrize("radius", [0.0, 1.5])
@pytest.mark.parametrize("open_ranges", [False, True])
def test_locations_match_by_the_definition_in_chunks_of_any_size(monkeypatch, pairs, radius, open_ranges):
    monkeypatch.setattr(matching, "MAX_POINT_PAIRS", pairs)
    # Whole pixels: many areas tie, and distances that equal a bound.
    points = torch.cat([grid_points(22, 22, 8), grid_points(11, 11, 16)])
    strides = torch.tensor([8.0, 16.0]).repeat_interleave(torch.tensor([484, 121]))
    ranges = torch.tensor([[-1.0, 24], [24, torch.inf]]).repeat_interleave(torch.tensor([484, 121]), dim=0)
    boxes, crowds = boxes_on_a_grid(25), boxes_on_a_grid(4)
    for m, g in ((25, 4), (25, 0), (3, 4), (0, 4), (0, 0)):
        given = (points, strides, ranges, boxes[:m], crowds[:g], radius)
        got = match_points(*given, open_ranges=open_ranges)
        assert got.dtype == torch.int64
        assert got.tolist() == smallest_box(*given, open_ranges)
        if m and g:
            assert {int(one) for one in got.unique()} > {IGNORED, BACKGROUND, 0}
            assert (matching.match_points(*given, open_ranges=not open_ranges) != got).any()  # so the bounds are met
    assert match_points(points[:0], strides[:0], ranges[:0], boxes, crowds, radius).tolist() == []


def boxes_on_a_grid(number, step=4):
    """Boxes with many equal overlaps."""
    corner = torch.randint(40, (number, 2)) * step
    return torch.cat([corner, corner + step * torch.randint(1, 12, (number, 2))], dim=1).float()


@pytest.mark.parametrize("pairs", [2**21, 700, 1])
@pytest.mark.parametrize("low_quality", [False, True])
def test_boxes_match_as_in_torchvision_with_all_ties_in_chunks_of_any_size(monkeypatch, low_quality, pairs):
    monkeypatch.setattr(matching, "MAX_PAIRS", pairs)
    for number in (1, 2, 30, 300):
        boxes, candidates = boxes_on_a_grid(number), boxes_on_a_grid(600)
        want = Matcher(0.7, 0.3, allow_low_quality_matches=low_quality)(box_iou(boxes, candidates))
        assert torch.equal(match_boxes(candidates, boxes, NONE, 0.7, 0.3, low_quality=low_quality), want)


def test_a_low_quality_match_answers_for_the_candidates_own_best_box():
    # The second box has its best candidate in the first one, which overlaps the first box more.
    boxes = torch.tensor([[0.0, 0, 10, 10], [6, 0, 16, 10]])
    candidates = torch.tensor([[1.0, 0, 11, 10], [40, 40, 50, 50]])
    assert match_boxes(candidates, boxes, NONE, 0.99, 0.3).tolist() == [IGNORED, BACKGROUND]
    assert match_boxes(candidates, boxes, NONE, 0.99, 0.3, low_quality=True).tolist() == [0, BACKGROUND]


def test_thresholds_are_closed_below():
    box, candidates = (
        torch.tensor([[0.0, 0, 10, 10]]),
        torch.tensor([[0.0, 0, 10, 5], [0, 0, 10, 2.5], [0, 0, 10, 2.4]]),
    )
    assert match_boxes(candidates, box, NONE, 0.5, 0.25).tolist() == [0, IGNORED, BACKGROUND]


def test_a_box_that_nothing_touches_makes_nothing_positive():
    candidates = torch.tensor([[0.0, 0, 10, 10], [20, 0, 30, 10]])
    far = torch.tensor([[100.0, 100, 110, 110]])
    assert match_boxes(candidates, far, NONE, 0.7, 0.3, low_quality=True).tolist() == [BACKGROUND, BACKGROUND]


def test_half_in_a_crowd_is_ignored_unless_positive():
    crowd = torch.tensor([[0.0, 0, 50, 50], [200, 200, 210, 210]])
    candidates = torch.tensor([[40.0, 0, 60, 10], [41, 0, 61, 10], [10, 10, 30, 30], [200, 200, 205, 205]])
    box = torch.tensor([[10.0, 10, 30, 30]])
    assert match_boxes(candidates, box, crowd, 0.5, 0.5).tolist() == [IGNORED, BACKGROUND, 0, IGNORED]
    assert match_boxes(candidates, NONE, crowd, 0.5, 0.5).tolist() == [IGNORED, BACKGROUND, IGNORED, IGNORED]


def test_nothing_to_match():
    boxes = boxes_on_a_grid(5)
    assert match_boxes(boxes, NONE, NONE, 0.7, 0.3, low_quality=True).tolist() == [BACKGROUND] * 5
    assert match_boxes(NONE, boxes, boxes, 0.7, 0.3, low_quality=True).tolist() == []


def test_matching_does_not_depend_on_the_order_of_boxes():
    corner = torch.rand(330, 2) * 100
    boxes = torch.cat([corner, corner + 5 + torch.rand(330, 2) * 50], dim=1)
    boxes, candidates = boxes[:30], boxes[30:]
    order = torch.randperm(30)
    one = match_boxes(candidates, boxes, NONE, 0.5, 0.4, low_quality=True)
    two = match_boxes(candidates, boxes[order], NONE, 0.5, 0.4, low_quality=True)
    assert torch.equal(torch.where(two >= 0, order[two.clamp(min=0)], two), one)


LIMITED = """
import re, resource, sys, torch
from detector.ops.boxes import pairwise_iou
from detector.ops.matching import match_boxes
torch.manual_seed(0)
torch.set_num_threads(1)  # stacks and heaps of other threads would count, and come when they like
def boxes(n, size):
    corner = torch.rand(n, 2) * 1000
    return torch.cat([corner, corner + 1 + torch.rand(n, 2) * size], dim=1)
few, many, anchors = boxes(1, 9.), boxes(500, 9.), boxes(250_000, 100.)
match_boxes(anchors, few, few, .7, .3, low_quality=True)
used = int(re.search(r"VmData:\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (used + int(sys.argv[1]) * 2**20,) * 2)
match = match_boxes(anchors, many, many[:50], .7, .3, low_quality=True)
print(int((match >= 0).sum()))
pairwise_iou(many, anchors)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of memory are Linux's")
def test_memory_of_many_boxes_and_anchors_is_bounded():
    """With 80 MiB left, 500 boxes match 250,000 anchors; one dense float32 matrix of them would be 477 MiB."""
    # glibc moves its threshold with what is freed, and then keeps large blocks on a heap that fragments by chance.
    env = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    run = subprocess.run([sys.executable, "-c", LIMITED, "80"], capture_output=True, text=True, env=env)
    assert run.stdout, run.stderr
    assert int(run.stdout) >= 250
    assert "tried to allocate 500000000 bytes" in run.stderr  # so the limit does bind


LIMITED_POINTS = """
import re, resource, sys, torch
from detector.ops.anchors import grid_points
from detector.ops.matching import match_points
torch.manual_seed(0)
torch.set_num_threads(1)
def boxes(n):
    corner = torch.rand(n, 2) * 1000
    return torch.cat([corner, corner + 1 + torch.rand(n, 2) * 100], dim=1)
few, many = boxes(1), boxes(1000)
points = grid_points(140, 160, 8)
rest = torch.full((22400,), 8.), torch.tensor([[-1., torch.inf]]).expand(22400, 2)
match_points(points, *rest, few, few, 1.5)
used = int(re.search(r"VmData:\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (used + int(sys.argv[1]) * 2**20,) * 2)
match = match_points(points, *rest, many, many[::2], 1.5)
print(len(match[match >= 0].unique()))
points[:, None] - many[None, :, :2]
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of memory are Linux's")
def test_memory_of_many_boxes_and_locations_is_bounded():
    """With 80 MiB left, 22,400 locations match 1,000 boxes; one dense float32 matrix of them would be 85 MiB."""
    env = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    run = subprocess.run([sys.executable, "-c", LIMITED_POINTS, "80"], capture_output=True, text=True, env=env)
    assert run.stdout, run.stderr
    assert int(run.stdout) > 500
    assert "tried to allocate 179200000 bytes" in run.stderr  # so the limit does bind


def test_samples_are_balanced_and_filled_up_with_background():
    match = torch.tensor([3, BACKGROUND, IGNORED, 0, BACKGROUND, 1, BACKGROUND, IGNORED])
    for number, fraction, counts in (
        (4, 0.5, (2, 2)),
        (4, 0.25, (1, 3)),
        (8, 0.5, (3, 3)),
        (2, 0.0, (0, 2)),
        (4, 1.0, (3, 1)),
    ):
        positives, background = sample_balanced(match, number, fraction)
        assert (len(positives), len(background)) == counts
        assert len(set(positives.tolist())) == counts[0]
        assert (match[positives] >= 0).all()
        assert (match[background] == BACKGROUND).all()
    assert [len(x) for x in sample_balanced(match[:0], 4, 0.5)] == [0, 0]


def test_samples_are_random_and_follow_the_seed():
    match = torch.cat([torch.zeros(50, dtype=torch.int64), torch.full((50,), BACKGROUND)])
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(torch.cat(sample_balanced(match, 20, 0.5)).tolist())
    assert drawn[0] == drawn[1] != drawn[2]


# ---------------------------------------------------------------------------- bipartite matching, hard negatives


def bipartite(candidates, boxes, ignore=(), high=0.5, low=0.5):
    tensors = (torch.tensor(x, dtype=torch.float32).reshape(-1, 4) for x in (candidates, boxes, ignore))
    return match_bipartite(*tensors, high, low).tolist()


def greedy(candidates, boxes, high):
    """The definition: the largest pair of all, again and again; then whatever overlaps enough."""
    iou = box_iou(candidates, boxes)
    match = torch.full((len(candidates),), BACKGROUND)
    free = iou.clone()
    for _ in range(len(boxes)):
        if free.max() <= 1e-6:
            break
        place = int(free.argmax())
        candidate, box = divmod(place, len(boxes))
        match[candidate] = box
        free[candidate] = -1
        free[:, box] = -1
    best, which = iou.max(dim=1)
    return torch.where((match == BACKGROUND) & (best >= high), which, match)


@pytest.mark.parametrize("seed", range(20))
def test_bipartite_matching_is_greedy(seed):
    generator = torch.Generator().manual_seed(seed)
    # Corners on a coarse grid: many overlaps tie.
    corners = torch.randint(0, 6, (60, 2), generator=generator).float()
    candidates = torch.cat([corners, corners + torch.randint(1, 5, (60, 2), generator=generator)], dim=1)
    boxes = candidates[torch.randint(0, 60, (25,), generator=generator)] + torch.tensor([0.0, 0, 1, 0])
    got = match_bipartite(candidates, boxes, NONE, 0.5, 0.5)
    assert torch.equal(got, greedy(candidates, boxes, 0.5))
    assert len(got[got >= 0].unique()) >= min(25, len(got[got >= 0]))


def test_every_box_gets_a_candidate_of_its_own():
    # Both boxes are nearest to the first candidate. The larger overlap has it, the other box gets its second choice.
    candidates = [[0, 0, 10, 10], [12, 0, 22, 10], [90, 90, 99, 99]]
    boxes = [[0, 0, 13, 10], [0, 0, 10, 9]]
    assert bipartite(candidates, boxes) == [1, 0, BACKGROUND]
    assert match_boxes(torch.tensor(candidates).float(), torch.tensor(boxes).float(), NONE, 0.5, 0.5).tolist() == [
        *(1, BACKGROUND, BACKGROUND)
    ]


def test_a_box_that_touches_nothing_is_nobodys():
    assert bipartite([[0, 0, 10, 10]], [[20, 20, 30, 30]]) == [BACKGROUND]
    assert bipartite([[0, 0, 10, 10]], [[0, 0, 9, 9], [0, 0, 10, 10], [0, 0, 10, 9]]) == [1]


def test_bipartite_matching_of_nothing():
    assert bipartite([], [[0, 0, 1, 1]]) == []
    assert bipartite([[0, 0, 1, 1]], []) == [BACKGROUND]
    assert bipartite([[0, 0, 1, 1]], [], [[0, 0, 9, 9]]) == [IGNORED]


def test_bipartite_thresholds_and_crowds():
    candidates = [[0, 0, 10, 10], [0, 0, 10, 8], [0, 0, 10, 4], [0, 0, 10, 2], [50, 50, 60, 60]]
    crowd = [[50, 50, 55, 60], [0, 0, 10, 9]]
    assert bipartite(candidates, [[0, 0, 10, 10]], high=0.7, low=0.3) == [0, 0, IGNORED, BACKGROUND, BACKGROUND]
    assert bipartite(candidates, [[0, 0, 10, 10]], crowd, 0.7, 0.3) == [0, 0, IGNORED, IGNORED, IGNORED]


def test_bipartite_matching_in_chunks_is_the_same(monkeypatch):
    corners = torch.rand(300, 2) * 100
    candidates = torch.cat([corners, corners + 5 + torch.rand(300, 2) * 20], dim=1)
    boxes = candidates[torch.randint(0, 300, (80,))] + torch.rand(80, 4)
    whole = match_bipartite(candidates, boxes, boxes[:3], 0.5, 0.4)
    monkeypatch.setattr(matching, "MAX_PAIRS", 1000)
    assert torch.equal(match_bipartite(candidates, boxes, boxes[:3], 0.5, 0.4), whole)


def test_hard_negatives_are_those_of_the_largest_loss():
    losses = torch.tensor([[0.5, 3, 1, 2, 0.1], [5, 4, 3, 2, 1], [1, 1, 1, 1, 1]])
    positive = torch.tensor([[1, 0, 0, 0, 0], [0, 0, 0, 0, 0], [1, 1, 0, 0, 0]]).bool()
    negative = torch.tensor([[0, 1, 0, 1, 1], [1, 1, 1, 1, 1], [0, 0, 1, 1, 1]]).bool()
    rows = mine_hard_negatives(losses, positive, negative, 2).int().tolist()
    assert rows == [[0, 1, 0, 1, 0], [0, 0, 0, 0, 0], [0, 0, 1, 1, 1]]
    rows = mine_hard_negatives(losses, positive, negative, 0.5).int().tolist()
    assert rows == [[0, 0, 0, 0, 0], [0, 0, 0, 0, 0], [0, 0, 1, 0, 0]]  # the first of equal losses
