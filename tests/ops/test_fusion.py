"""Weighted box fusion by hand, against the plain form of its article, and against the package of its author."""

import pytest
import torch
from torchvision.ops import box_iou

from detector.ops.fusion import fuse_boxes


def plain(boxes, scores, groups, views, threshold):
    """One group at a time, one box at a time, in float64. Solovyev et al. 2021, sec. 3."""
    found = []
    for group in groups.unique().tolist():
        own = (groups == group).nonzero()[:, 0]
        clusters, fused = [], []
        for i in own[scores[own].argsort(descending=True, stable=True)].tolist():
            overlaps = [box_iou(boxes[i][None].double(), f[None]).item() for f in fused]
            best = max(range(len(overlaps)), key=overlaps.__getitem__, default=None)
            if best is None or not overlaps[best] > threshold:
                clusters.append([i])
                fused.append(boxes[i].double())
            else:
                clusters[best].append(i)
                weights = scores[clusters[best]].double()
                fused[best] = (boxes[clusters[best]].double() * weights[:, None]).sum(0) / weights.sum()
        for members, box in zip(clusters, fused, strict=True):
            number, of_image = len(members), int(views[members[0]])
            mean = sum(scores[members].double().tolist()) / number
            found.append((mean * min(number, of_image) / of_image, box.tolist(), group))
    return sorted(found, key=lambda row: -row[0])


def views_of_objects(seed, views=4, number=30, classes=3, objects=10):
    """What `views` views find around the same objects: boxes [K, 4] in 0..1, scores, labels and the views [K]."""
    chance = torch.Generator().manual_seed(seed)
    centre, side = torch.rand(objects, 2, generator=chance) * 0.7 + 0.15, torch.rand(objects, 2, generator=chance) * 0.2
    label = torch.randint(classes, (objects,), generator=chance)
    seen = torch.randint(objects, (views * number,), generator=chance)
    middle = centre[seen] + 0.01 * torch.randn(len(seen), 2, generator=chance)
    half = (side[seen] / 2 + 0.02) * (0.15 * torch.randn(len(seen), 2, generator=chance)).exp()
    boxes = torch.cat([middle - half, middle + half], dim=1).clamp(0, 1)
    scores = 0.05 + 0.95 * torch.rand(len(seen), generator=chance)
    return boxes, scores, label[seen], torch.arange(views).repeat_interleave(number)


def fused(boxes, scores, groups, views, threshold=0.55):
    counts = torch.full_like(groups, views) if isinstance(views, int) else views
    return fuse_boxes(boxes, scores, groups, counts, threshold)


def test_by_hand():
    boxes = torch.tensor([[0.0, 0, 10, 10], [2, 0, 12, 10], [50, 50, 60, 60], [0, 0, 10, 10]])
    scores = torch.tensor([0.6, 0.2, 0.9, 0.5])
    got, values, groups = fused(boxes, scores, torch.tensor([7, 7, 7, 3]), 2)
    # 0.6 and 0.2 overlap by 80 / 120: the mean lies a quarter of the way. The others are seen by one view of two.
    assert got.tolist() == [[50, 50, 60, 60], [0.5, 0, 10.5, 10], [0, 0, 10, 10]]
    assert groups.tolist() == [7, 7, 3]
    torch.testing.assert_close(values, torch.tensor([0.45, 0.4, 0.25]))


def test_a_cluster_moves_and_its_mean_is_what_counts():
    """The third box overlaps the first by 0.54 and the mean of the first two by more."""
    boxes = torch.tensor([[0.0, 0, 100, 10], [20, 0, 120, 10], [30, 0, 130, 10]])
    scores = torch.tensor([0.5, 0.4, 0.3])
    assert len(fused(boxes, scores, torch.zeros(3).long(), 3)[0]) == 1
    assert len(fused(boxes[[0, 2]], scores[[0, 2]], torch.zeros(2).long(), 3)[0]) == 2
    one, value, _ = fused(boxes, scores, torch.zeros(3).long(), 3)
    torch.testing.assert_close(one[0, 0], torch.tensor((0.4 * 20 + 0.3 * 30) / 1.2))
    torch.testing.assert_close(value, torch.tensor([0.4]))


def test_more_boxes_than_views_count_as_all_of_them():
    boxes, scores = torch.tensor([[0.0, 0, 10, 10]]).repeat(5, 1), torch.full((5,), 0.8)
    assert fused(boxes, scores, torch.zeros(5).long(), 2)[1].tolist() == pytest.approx([0.8])
    assert fused(boxes, scores, torch.zeros(5).long(), 10)[1].tolist() == pytest.approx([0.4])


def test_the_threshold_has_to_be_exceeded():
    boxes, scores = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5]]), torch.tensor([0.9, 0.8])
    assert [len(fused(boxes, scores, torch.zeros(2).long(), 2, t)[0]) for t in (0.49, 0.5)] == [1, 2]
    assert len(fused(boxes + torch.tensor([[0.0], [99]]), scores, torch.zeros(2).long(), 2, 0.0)[0]) == 2


def test_who_stays_alone_keeps_its_bits_and_boxes_without_area_meet_nobody():
    boxes = torch.rand(6, 4)
    boxes[:, 2:] = boxes[:, :2]
    boxes[0, 2:] += 0.1
    scores = torch.rand(6).sort(descending=True)[0]
    got, values, _ = fused(boxes, scores, torch.zeros(6).long(), 1)
    assert torch.equal(got, boxes)
    assert torch.equal(values, scores)


def test_nothing_gives_nothing():
    got = fused(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0).long(), 3)
    assert [x.shape for x in got] == [(0, 4), (0,), (0,)]


@pytest.mark.parametrize("threshold", [0.4, 0.55, 0.7])
def test_equals_the_plain_form(threshold):
    """Also where groups have different numbers of views, and in whatever order the boxes come."""
    parts = [views_of_objects(seed, views, 15) for seed, views in enumerate((2, 5, 3))]
    boxes, scores, labels = (torch.cat([part[i] for part in parts]) for i in range(3))
    groups = torch.cat([labels_of + 10 * i for i, (_, _, labels_of, _) in enumerate(parts)])
    views = torch.cat([torch.full((len(part[0]),), number) for part, number in zip(parts, (2, 5, 3), strict=True)])
    want = plain(boxes * 300, scores, groups, views, threshold)
    order = torch.randperm(len(boxes))
    got, values, of = fused(boxes[order] * 300, scores[order], groups[order], views[order], threshold)
    assert len(labels.unique()) == 3
    assert 20 < len(want) < 0.8 * len(boxes)
    assert of.tolist() == [row[2] for row in want]
    torch.testing.assert_close(values, torch.tensor([row[0] for row in want]))
    torch.testing.assert_close(got, torch.tensor([row[1] for row in want]))


FROZEN = (  # label, score, box
    (1, 0.503333, 0.244305, 0.205695, 0.437152, 0.484305),
    (0, 0.383333, 0.334087, 0.385913, 0.557043, 0.544087),
    (1, 0.333333, 0.577100, 0.412900, 0.753550, 0.757100),
    (0, 0.300000, 0.020000, 0.160000, 0.250000, 0.290000),
    (0, 0.283333, 0.663765, 0.596235, 0.871882, 0.813765),
    (0, 0.276667, 0.080000, 0.100000, 0.280000, 0.350000),
    (0, 0.253333, 0.140000, 0.040000, 0.310000, 0.410000),
    (0, 0.226667, 0.410000, 0.310000, 0.595000, 0.620000),
    (1, 0.216667, 0.170000, 0.280000, 0.400000, 0.410000),
    (1, 0.166667, 0.500000, 0.490000, 0.715000, 0.680000),
    (0, 0.106667, 0.740000, 0.520000, 0.910000, 0.890000),
)


def test_equals_the_numbers_of_the_authors_package():
    """Of ensemble-boxes 1.0.9, for three views of five objects."""
    boxes, scores, labels, _ = views_by_rule()
    got, values, of = fused(boxes, scores, labels, 3)
    assert of.tolist() == [row[0] for row in FROZEN]
    torch.testing.assert_close(values, torch.tensor([row[1] for row in FROZEN]), rtol=0, atol=2e-6)
    torch.testing.assert_close(got, torch.tensor([row[2:] for row in FROZEN]), rtol=0, atol=2e-6)


def views_by_rule():
    """Three views that move five boxes to and fro; made by a rule, so that no generator has to stay the same."""
    boxes, scores, labels, views = [], [], [], []
    for view in range(3):
        for i in range(5):
            x, y, shift = 0.15 * i + 0.08, 0.12 * i + 0.1, 0.03 * ((3 * i + 2 * view) % 5 - 2)
            boxes.append([x + shift, y - shift, x + 0.2 + shift / 2, y + 0.25 + shift])
            scores.append(0.9 - 0.11 * i - 0.07 * ((view + i) % 3))
            labels.append(i % 2)
            views.append(view)
    return torch.tensor(boxes), torch.tensor(scores), torch.tensor(labels), torch.tensor(views)


@pytest.mark.parametrize("seed", range(8))
def test_equals_the_authors_package(seed):
    """It takes boxes in 0..1, drops those without area, and has a list for each view; here a box knows its number."""
    fusion = pytest.importorskip("ensemble_boxes").weighted_boxes_fusion
    number = 2 + seed % 4
    boxes, scores, labels, view = views_of_objects(seed, number)
    lists = [[x[view == v].numpy() for v in range(number)] for x in (boxes, scores, labels)]
    threshold = (0.45, 0.55, 0.7)[seed % 3]
    want_boxes, want_scores, want_labels = map(torch.from_numpy, fusion(*lists, iou_thr=threshold))
    size = torch.tensor([640.0, 480, 640, 480])
    got, values, of = fused(boxes * size, scores, labels, number, threshold)
    assert torch.equal(of, want_labels.long())
    torch.testing.assert_close(values, want_scores.float(), rtol=0, atol=1e-6)
    torch.testing.assert_close(got / size, want_boxes.float(), rtol=0, atol=1e-6)
