"""NMS of the best few against NMS of all; soft-NMS by hand and against the plain form of its article."""

import pytest
import torch
from torchvision.ops import batched_nms, box_iou, nms

from detector.ops.select import keep_best, select_per_class, suppress, suppress_softly

BOXES = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5], [20, 20, 30, 30], [0, 0, 10, 10]])
SCORES = torch.tensor([0.9, 0.8, 0.7, 0.6])


def plain(boxes, scores, labels, method, threshold, sigma, minimum, limit):
    """One class at a time, one box at a time. Bodla et al. 2017, fig. 2."""
    results = []
    for label in labels.unique().tolist():
        rest = [(s, i) for i, s in enumerate(scores.tolist()) if labels[i] == label]
        while rest:
            best = max(rest)
            rest.remove(best)
            if best[0] <= minimum:
                break
            results.append((best[0], best[1], label))
            weakened = []
            for score, i in rest:
                iou = box_iou(boxes[best[1]][None], boxes[i][None]).item()
                if method == "soft_gaussian":
                    score *= torch.exp(torch.tensor(-iou * iou / sigma)).item()
                elif iou > threshold:
                    score *= 1 - iou
                weakened.append((score, i))
            rest = weakened
    return sorted(results, reverse=True)[:limit]


@pytest.mark.parametrize("method", ["soft_linear", "soft_gaussian"])
@pytest.mark.parametrize("limit", [5, 60, 1000])
def test_equals_the_plain_form(method, limit):
    corner = torch.rand(120, 2) * 60
    boxes = torch.cat([corner, corner + 10 + torch.rand(120, 2) * 40], dim=1)
    scores, labels = torch.rand(120), torch.randint(4, (120,))
    options = (method, 0.3, 0.5, 0.05, limit)
    want = plain(boxes, scores, labels, *options)
    got = suppress_softly(boxes, scores, labels, *options)
    assert len(want) == min(limit, len(want))
    torch.testing.assert_close(got["scores"], torch.tensor([w[0] for w in want]), rtol=1e-5, atol=1e-6)
    assert torch.equal(got["boxes"], boxes[[w[1] for w in want]])
    assert got["labels"].tolist() == [w[2] for w in want]


def test_by_hand():
    got = suppress_softly(BOXES, SCORES, torch.tensor([0, 0, 0, 1]), "soft_linear", 0.3, 0.5, 0.001, 100)
    torch.testing.assert_close(got["scores"], torch.tensor([0.9, 0.7, 0.6, 0.4]))
    assert got["labels"].tolist() == [0, 0, 1, 0]
    same = suppress_softly(BOXES, SCORES, torch.zeros(4, dtype=torch.long), "soft_linear", 0.3, 0.5, 0.001, 100)
    torch.testing.assert_close(same["scores"], torch.tensor([0.9, 0.7, 0.4]))  # the last one lay on the first


def test_without_overlaps_it_is_hard_nms():
    labels = torch.tensor([0, 1, 0, 2])
    soft = suppress_softly(BOXES, SCORES, labels, "soft_gaussian", 0.5, 0.5, 0.0, 3)
    hard = suppress(BOXES, SCORES, labels, 0.5, 3)
    assert all(torch.equal(soft[k], hard[k]) for k in hard)


def test_nothing_gives_nothing():
    found = suppress_softly(BOXES[:0], SCORES[:0], torch.zeros(0, dtype=torch.long), "soft_linear", 0.5, 0.5, 0.1, 10)
    assert {k: tuple(v.shape) for k, v in found.items()} == {"boxes": (0, 4), "labels": (0,), "scores": (0,)}


def test_the_best_rows_of_each_class():
    scores = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.5, 0.3], [0.4, 0.6]])
    score, row, label = select_per_class(scores, 0.3, 2)
    found = sorted(zip(label.tolist(), row.tolist(), score.tolist()))
    assert [f[:2] for f in found] == [(0, 0), (0, 2), (1, 1), (1, 3)]
    assert [f[2] for f in found] == pytest.approx([0.9, 0.5, 0.8, 0.6])
    assert sorted(select_per_class(scores, 0.59, 9)[1].tolist()) == [0, 1, 3]  # above the threshold, all of them
    assert [len(x) for x in select_per_class(scores[:0], 0.1, 5)] == [0, 0, 0]
    assert select_per_class(torch.tensor([[0.5]]), 0.5, 1)[0].tolist() == []


@pytest.mark.parametrize("spread", [5, 60, 2000], ids=["one heap", "some overlap", "apart"])
@pytest.mark.parametrize("limit", [1, 7, 100, 5000])
def test_the_best_few_decide(limit, spread):
    corner = torch.rand(1500, 2, dtype=torch.float64) * spread
    boxes = torch.cat([corner, corner + 10 + torch.rand(1500, 2, dtype=torch.float64) * 10], dim=1)
    scores, groups = torch.rand(1500, dtype=torch.float64), torch.randint(6, (1500,))
    want = batched_nms(boxes, scores, groups, 0.5)[:limit]
    assert torch.equal(keep_best(boxes, scores, groups, 0.5, limit), want)


def test_the_number_of_a_class_decides_nothing():
    """As it does in batched_nms, where the boxes of class 1,200 lose digits."""
    generator = torch.Generator().manual_seed(0)
    centre = (torch.rand(60, 2, generator=generator) * 3900)[torch.randint(60, (900,), generator=generator)]
    boxes = torch.cat([centre, centre + 16], dim=1) + torch.randn(900, 4, generator=generator).mul(1.5)
    boxes, scores = boxes.clamp(min=0), torch.rand(900, generator=generator)
    groups = torch.randint(6, (900,), generator=generator)
    want = keep_best(boxes, scores, groups, 0.6, 900)
    assert not torch.equal(batched_nms(boxes, scores, groups + 1197, 0.6), want)
    assert torch.equal(keep_best(boxes, scores, groups + 1197, 0.6, 900), want)
    alone = [(groups == group).nonzero()[:, 0] for group in range(6)]
    kept = torch.cat([rows[nms(boxes[rows], scores[rows], 0.6)] for rows in alone])
    assert torch.equal(kept.sort().values, want.sort().values)


def test_the_best_of_nothing():
    none = torch.zeros(0)
    assert keep_best(torch.zeros(0, 4), none, none.long(), 0.5, 3).tolist() == []
