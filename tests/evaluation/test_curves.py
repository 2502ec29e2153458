"""Precision, recall, F1 and thresholds: by hand, and as pycocotools' matches count out at every cut."""

import json
import math

import numpy as np
import pytest
from helpers.matched import evaluated, scene

from detector.data.index import load_index
from detector.evaluation.base import Found
from detector.evaluation.coco import value_of
from detector.evaluation.curves import Curve, best_cut, between, class_curves, parts_of, pooled_curve
from detector.evaluation.matching import IOUS, Guesses, Truth, match
from detector.evaluation.precision import accumulate
from detector.evaluation.report import MEASURES

BOX = [10.0, 10.0, 20.0, 20.0]
ELSEWHERE = [60.0, 60.0, 20.0, 20.0]


def one_box_each(right, scores, labels=None, objects=None):
    """As many images of one object each as asked for, and detections that are right, or lie elsewhere."""
    count = len(right)
    objects = list(range(count)) if objects is None else objects
    labels = [0] * count if labels is None else labels
    truth = Truth(
        np.array(objects), np.array([labels[i] for i in objects]), np.array([BOX] * len(objects)).reshape(-1, 4),
        np.full(len(objects), 400.0), np.zeros(len(objects), bool),
    )  # fmt: skip
    xywh = np.array([BOX if one else ELSEWHERE for one in right])
    return truth, Guesses(np.arange(count), np.array(labels), xywh, np.array(scores))


def test_every_score_is_a_cut_and_equal_ones_fall_together():
    truth, guesses = one_box_each([1, 1, 0, 0, 1], [0.9, 0.8, 0.8, 0.7, 0.6])
    (curve,) = class_curves(match(truth, guesses), truth.labels, 1)
    assert curve.objects == 5
    assert curve.detections == 5
    assert curve.scores.tolist() == [0.9, 0.8, 0.7, 0.6]
    assert curve.kept.tolist() == [1, 3, 4, 5]
    assert curve.right.tolist() == [1, 2, 2, 3]
    assert curve.f1.tolist() == pytest.approx([2 / 6, 4 / 8, 4 / 9, 6 / 10])
    best = best_cut(curve)
    assert best == (0.6, 0.6, 0.6, 0.6, 5, 3)


def test_of_equal_f1_the_cut_of_the_fewest_detections_counts():
    # 2 * 1 / (1 + 3) at the first, 2 * 2 / (5 + 3) at the last
    best = best_cut(Curve(3, np.array([0.9, 0.5, 0.1]), np.array([1, 4, 5]), np.array([1, 1, 2])))
    assert (best.threshold, best.f1, best.kept, best.right) == (0.7, 0.5, 1, 1)
    assert (best.precision, best.recall) == (1, 1 / 3)


@pytest.mark.parametrize(
    "curve",
    [
        Curve(0, np.array([0.9]), np.array([1]), np.array([0])),
        Curve(3, np.array([0.9]), np.array([1]), np.array([0])),
        Curve(3, np.array([]), np.array([], int), np.array([], int)),
    ],
)
def test_where_nothing_is_right_there_is_no_best_cut(curve):
    assert best_cut(curve) is None


@pytest.mark.parametrize(
    ("low", "high", "threshold"),
    [
        (0.2, 0.8, 0.5), (0.31, 0.62, 0.46), (0.501, 0.503, 0.502), (0.5012, 0.5018, 0.5015), (0.98, 1.0, 0.99),
        (0.0, 0.004, 0.002), (0.5, 0.5000000000000001, 0.5000000000000001), (-3.0, -1.0, -2.0),
        (None, 0.678, 0.67), (None, 0.6, 0.6), (None, 0.29, 0.29), (None, 0.004, 0.004), (None, 0.00123, 0.001),
        (None, 1.0, 1.0), (None, -1.5, -1.5),
    ],
)  # fmt: skip
def test_a_threshold_has_few_digits(low, high, threshold):
    assert between(low, high) == threshold


@pytest.mark.parametrize("start", [0.1, 0.3, 0.5, 0.7, 0.999])
def test_between_neighbours_a_threshold_keeps_the_order_of_float32(start):
    low = np.float32(start)
    for _ in range(50):
        high = np.nextafter(low, np.float32(2))
        threshold = between(float(low), float(high))
        assert low < np.float32(threshold) <= high
        assert float(low) < threshold <= float(high)
        low = high


@pytest.mark.parametrize(("seed", "iou"), [(0, 0), (1, 4)])
def test_every_cut_is_what_pycocotools_matches_count_out(seed, iou):
    truth, guesses = scene(seed)
    found, evaluation = match(truth, guesses), evaluated(truth, guesses, 25, 5)
    outcomes = [[] for _ in range(5)]  # of each class: score, right
    objects = [0] * 5
    for one in evaluation.evalImgs:
        if one is None or one["aRng"] != evaluation.params.areaRng[0]:
            continue
        label = one["category_id"]
        objects[label] += int((~np.array(one["gtIgnore"], bool)).sum())
        rows = zip(one["dtScores"], one["dtMatches"][iou] > 0, one["dtIgnore"][iou], strict=True)
        outcomes[label] += [(score, hit) for score, hit, ignored in rows if not ignored]
    curves = class_curves(found, truth.labels, 5, iou)
    assert [curve.objects for curve in curves] == objects
    for curve, rows in zip(curves, outcomes, strict=True):
        assert curve.scores.tolist() == sorted({score for score, _ in rows}, reverse=True)
        for score, kept, right in zip(*curve[1:], strict=True):
            assert kept == sum(one >= score for one, _ in rows)
            assert right == sum(one >= score and hit for one, hit in rows)
    every = [row for rows, number in zip(outcomes, objects, strict=True) if number for row in rows]
    whole = pooled_curve(found, truth.labels, 5, iou)
    assert objects[4] == 0
    assert whole.objects == sum(objects)
    assert whole.detections == len(every) < sum(map(len, outcomes))
    for score, kept, right in zip(*whole[1:], strict=True):
        assert (kept, right) == (sum(one >= score for one, _ in every), sum(one >= score and hit for one, hit in every))
    for curve in [*curves[:4], whole]:
        best = best_cut(curve)
        assert best.f1 == max(2 * r / (k + curve.objects) for _, k, r in zip(*curve[1:], strict=True))
        f1 = 2 * best.precision * best.recall / (best.precision + best.recall)
        assert best.f1 == pytest.approx(f1, abs=1e-12)


@pytest.fixture
def index(tmp_path):
    """Three classes of two objects, one and none, in three images; two are of one name."""
    box = {"bbox": BOX, "area": 400, "iscrowd": 0}
    content = {
        "images": [{"id": i, "file_name": f"{i}.png", "height": 100, "width": 100} for i in (1, 2, 3)],
        "categories": [{"id": 2, "name": "a"}, {"id": 5, "name": "b"}, {"id": 9, "name": "a"}],
        "annotations": [
            {"id": i, "image_id": i, "category_id": k, **box} for i, k in ((1, 2), (2, 2), (3, 5))
        ],
    }  # fmt: skip
    (tmp_path / "t.json").write_text(json.dumps(content))
    return load_index(tmp_path / "t.json")


def test_a_class_without_objects_takes_the_threshold_of_all_together(index):
    """And its detections, of which none can be right, lower no other number."""
    found = Found(
        np.array([0, 1, 2, 2, 2]), np.array([BOX, ELSEWHERE, BOX, BOX, BOX]), np.array([0, 0, 1, 2, 2]),
        np.array([0.9, 0.8, 0.4, 0.95, 0.3]),
    )  # fmt: skip
    parts, whole = parts_of(index, found)
    assert [part.name for part in parts] == ["a #2", "b", "a #9"]
    assert [part.ap for part in parts[:2]] == pytest.approx([51 / 101, 1])
    assert math.isnan(parts[2].ap)
    assert np.isnan(parts[2].precision).all()
    assert parts[2].best is None
    assert [part.threshold for part in parts] == [0.85, 0.4, 0.4]
    assert parts[2].curve.detections == 2
    assert (whole.threshold, whole.curve.objects, whole.curve.detections) == (0.4, 3, 3)
    assert whole.best[1:4] == (pytest.approx(2 / 3), pytest.approx(2 / 3), pytest.approx(2 / 3))
    assert whole.ap == pytest.approx((51 / 101 + 1) / 2)


def test_a_class_of_which_nothing_is_found_takes_it_too(index):
    found = Found(np.array([0, 2]), np.array([BOX, ELSEWHERE]), np.array([0, 1]), np.array([0.9, 0.8]))
    parts, _ = parts_of(index, found)
    assert (parts[1].best, parts[1].threshold, parts[1].ap) == (None, 0.85, 0)


def test_without_a_right_detection_there_is_no_threshold(index):
    nothing = Found(np.empty(0, np.int64), np.empty((0, 4)), np.empty(0, np.int64), np.empty(0))
    for found in (nothing, Found(np.array([0]), np.array([ELSEWHERE]), np.array([0]), np.array([0.9]))):
        parts, whole = parts_of(index, found)
        assert whole.best is None
        assert whole.ap == 0
        assert all(math.isnan(part.threshold) for part in [*parts, whole])


@pytest.mark.parametrize("iou", [0.5, 0.75])
def test_the_average_precision_is_cocos(tmp_path, iou):
    truth, guesses = scene(4)
    rows = zip(truth.image.tolist(), truth.labels.tolist(), truth.xywh.tolist(), truth.areas, truth.crowd)
    content = {
        "images": [{"id": i, "file_name": f"{i}.png", "height": 200, "width": 200} for i in range(25)],
        "categories": [{"id": k, "name": str(k)} for k in range(5)],
        "annotations": [
            {"id": n, "image_id": i, "category_id": k, "bbox": box, "area": area, "iscrowd": int(crowd)}
            for n, (i, k, box, area, crowd) in enumerate(rows, 1)
        ],
    }
    (tmp_path / "t.json").write_text(json.dumps(content))
    parts, whole = parts_of(
        load_index(tmp_path / "t.json"), Found(guesses.image, guesses.xywh, guesses.labels, guesses.scores), iou
    )
    numbers = accumulate(match(truth, guesses), truth.labels, 5)
    assert whole.ap == pytest.approx(value_of(numbers, MEASURES[f"AP{100 * iou:.0f}"]), abs=1e-12)
    place = [*IOUS.round(2)].index(iou)
    for k in range(4):
        assert np.array_equal(parts[k].precision, numbers.precision[place, :, k, 0])
