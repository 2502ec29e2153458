"""VOC's measures: cases by hand, and a plain implementation with loops."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from detector.config import get_defaults
from detector.data.formats.voc import read
from detector.data.packed import PackedIndex
from detector.evaluation.build import build_evaluators
from detector.evaluation.coco import CocoEvaluator
from detector.evaluation.report import VOC_MEASURES, of_class, summary_text
from detector.evaluation.voc import VocEvaluator, all_point_ap, eleven_point_ap


def packed(images, classes=("cat", "dog"), kind="voc"):
    """images: for each one its objects (label, x1, y1, x2, y2[, difficult])."""
    rows = [(image, *one, *(() if len(one) == 6 else (0,))) for image, objects in enumerate(images) for one in objects]
    table = np.array(rows, np.float64).reshape(-1, 7)
    boxes, count = table[:, 2:6], len(table)
    xywh = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)
    return PackedIndex(
        path="memory", classes=list(classes), category_ids=list(range(1, len(classes) + 1)),
        image_ids=np.array([f"{i:03}" for i in range(len(images))]), file_names=np.array(["x"] * len(images)),
        heights=np.full(len(images), 500), widths=np.full(len(images), 500),
        offsets=np.concatenate([[0], np.cumsum([len(objects) for objects in images])]),
        annotation_ids=np.arange(count), labels=table[:, 1].astype(np.int64), boxes_xywh=xywh,
        areas=xywh[:, 2:].prod(1),
        crowd=np.zeros(count, bool), boxes=boxes.astype(np.float32), usable=np.ones(count, bool),
        difficult=table[:, 6].astype(bool), kind=kind,
    )  # fmt: skip


def detections(rows):
    """rows: (label, score, x1, y1, x2, y2)."""
    table = np.array(rows, np.float64).reshape(-1, 6)
    return {
        "boxes": torch.tensor(table[:, 2:], dtype=torch.float32),
        "labels": torch.tensor(table[:, 0]).long(),
        "scores": torch.tensor(table[:, 1], dtype=torch.float32),
    }


def measured(index, found, evaluator=VocEvaluator):
    one = evaluator(SimpleNamespace(index=index))
    for i in reversed(range(len(found))):  # the order of the images must not matter
        one.add([detections(found[i])], [{"image_id": index.image_id(i)}])
    return one.compute()


BOX = (0, 0, 10, 10)
FAR = (50, 50, 60, 60)
OTHER = (100, 100, 110, 110)


def test_ap_by_hand():
    """Right, wrong, right of 4: precisions 1, 1/2, 2/3 at recalls 1/4, 1/4, 2/4."""
    found = np.array([1, 1, 2])
    assert all_point_ap(found, 4) == pytest.approx((1 + 2 / 3) / 4)
    assert eleven_point_ap(found, 4) == pytest.approx((3 * 1 + 3 * 2 / 3) / 11)  # recalls 0 .. 0.2, and 0.3 .. 0.5
    assert all_point_ap(np.array([1, 2]), 2) == eleven_point_ap(np.array([1, 2]), 2) == 1
    assert all_point_ap(np.array([0, 0]), 2) == eleven_point_ap(np.array([0, 0]), 2) == 0
    assert all_point_ap(np.array([], np.int64), 2) == eleven_point_ap(np.array([], np.int64), 2) == 0
    assert eleven_point_ap(np.array([1, 2, 3]), 10) == pytest.approx(4 / 11)  # 3 of 10 reaches the recall 0.3


def test_matching_by_hand():
    index = packed([[(0, *BOX), (0, *FAR)], [(0, *BOX), (1, *FAR)]])
    found = [
        [(0, 0.9, *BOX), (0, 0.8, 0, 0, 10, 9), (0, 0.4, 50, 50, 60, 56)],  # right, a second one, right (0.6)
        [(0, 0.7, *FAR), (0, 0.6, 0, 0, 10, 5), (0, 0.5, 0, 0, 10, 4.9), (1, 0.2, *BOX)],  # class, right (0.5), wrong
    ]
    numbers = measured(index, found)
    # cats by score: right, wrong, wrong, right, wrong, right of three; dogs: wrong
    cat = (1 + 2 / 4 + 3 / 6) / 3
    assert numbers["VOC/AP50/cat"] == pytest.approx(cat)
    assert numbers["VOC/AP50/dog"] == 0
    assert numbers["VOC/AP50"] == pytest.approx(cat / 2)
    assert numbers["VOC/AP50_11point/cat"] == pytest.approx((4 * 1 + 7 * 0.5) / 11)
    # From 0.55 on that of 0.5 is lost, and from 0.65 that of 0.6; the second one has 0.9 and never counts.
    at_55_60, above = (1 + 2 / 6) / 3, 1 / 3
    assert numbers["VOC/AP"] == pytest.approx((cat + 2 * at_55_60 + 7 * above) / 10 / 2)
    assert list(numbers)[:4] == list(VOC_MEASURES)


def test_a_detection_belongs_to_the_object_that_it_overlaps_most():
    """The second one overlaps a taken object most, and a free one by 0.6: wrong by VOC's rule, right by COCO's."""
    index = packed([[(0, 0, 0, 10, 10), (0, 0, 0, 10, 6)]], ("cat",))
    found = [[(0, 0.9, 0, 0, 10, 10), (0, 0.8, 0, 0, 10, 9)]]
    assert measured(index, found)["VOC/AP50"] == 0.5
    assert measured(index, found, CocoEvaluator)["AP50"] == pytest.approx(1)


def test_difficult_objects_are_neither_found_nor_missed():
    index = packed([[(0, *BOX), (0, *FAR, 1)]], ("cat",))
    right = [(0, 0.5, *BOX)]
    for extra in ([], [(0, 0.9, *FAR)], [(0, 0.9, *FAR), (0, 0.8, *FAR)]):
        assert measured(index, [right + extra])["VOC/AP"] == 1
        assert measured(index, [right + extra], CocoEvaluator)["AP"] == pytest.approx(1)
    assert measured(index, [[*right, (0, 0.9, *OTHER)]])["VOC/AP50"] == 0.5
    only = packed([[(0, *FAR, 1)], [(1, *BOX)]])
    numbers = measured(only, [[(0, 0.9, *FAR)], [(1, 0.9, *BOX)]])
    assert (numbers["VOC/AP50/cat"], numbers["VOC/AP50/dog"], numbers["VOC/AP50"]) == (-1, 1, 1)
    assert measured(only, [[], []], CocoEvaluator)["AP/cat"] == -1


def test_crowds_of_coco_are_ignored():
    index = packed([[(0, *BOX), (0, *FAR)]], ("cat",), kind="coco")
    index.crowd[1] = True
    assert measured(index, [[(0, 0.5, *BOX), (0, 0.9, *FAR)]])["VOC/AP50"] == 1


def test_pixels_of_voc_files_give_vocs_own_iou(tmp_path):
    """VOC's IoU adds a pixel to every side; files of 10 and 5 inclusive pixels overlap by exactly a half."""
    for name in ("Annotations", "JPEGImages"):
        (tmp_path / name).mkdir()
    box = "<bndbox><xmin>11</xmin><ymin>21</ymin><xmax>20</xmax><ymax>30</ymax></bndbox>"
    size = "<size><width>99</width><height>99</height></size>"
    text = f"<annotation>{size}<object><name>cat</name>{box}</object></annotation>"
    (tmp_path / "Annotations" / "a.xml").write_text(text)
    (tmp_path / "JPEGImages" / "a.jpg").touch()
    index = read(tmp_path, "all")
    inclusive = np.array([11, 21, 20, 25])  # as a results file of VOC would have it
    continuous = inclusive - [1, 1, 0, 0]
    assert measured(index, [[(0, 0.5, *continuous)]])["VOC/AP50"] == 1
    assert measured(index, [[(0, 0.5, *(continuous - [0, 0, 0, 0.01]))]])["VOC/AP50"] == 0


def plain_voc(index, found, threshold, eleven):
    """AP of each class with loops, after the development kit's description, in VOC's inclusive pixels."""

    def area(box):
        return max(box[2] - box[0] + 1, 0) * max(box[3] - box[1] + 1, 0)

    aps = []
    for label in range(len(index.classes)):
        truth, total = [], 0
        for i in range(len(index)):
            rows = [r for r in range(*index.offsets[i : i + 2]) if index.labels[r] == label]
            x, y, w, h = index.boxes_xywh[rows].T if rows else ((),) * 4
            corners = [(a + 1, b + 1, a + c, b + d) for a, b, c, d in zip(x, y, w, h)]
            truth.append(
                [{"box": box, "difficult": index.difficult[r], "taken": False} for box, r in zip(corners, rows)]
            )
            total += sum(not index.difficult[r] for r in rows)
        if not total:
            continue
        guesses = [(i, row[1], row[2:]) for i, rows in enumerate(found) for row in rows if row[0] == label]
        hits = []
        for i, _, (x1, y1, x2, y2) in sorted(guesses, key=lambda guess: -np.float32(guess[1])):
            guess = tuple(float(np.float32(v)) for v in (x1, y1, x2, y2))
            guess = (guess[0] + 1, guess[1] + 1, guess[2], guess[3])
            best, overlap = None, 0.0
            for one in truth[i]:
                a, b = one["box"], guess
                common = area((max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])))
                iou = common / (area(a) + area(b) - common)
                if iou > overlap:
                    best, overlap = one, iou
            if best is None or overlap < threshold:
                hits.append(0)
            elif not best["difficult"]:
                hits.append(0 if best["taken"] else 1)
                best["taken"] = True
        curve = [(sum(hits[: n + 1]) / total, sum(hits[: n + 1]) / (n + 1)) for n in range(len(hits))]
        if eleven:
            points = [max((p for r, p in curve if r >= t / 10 - 1e-9), default=0) for t in range(11)]
            aps.append(sum(points) / 11)
        else:
            ap, last = 0.0, 0.0
            for n, (recall, _) in enumerate(curve):
                ap += (recall - last) * max(p for _, p in curve[n:])
                last = recall
            aps.append(ap)
    return sum(aps) / len(aps)


@pytest.mark.parametrize("seed", range(3))
def test_numbers_equal_the_plain_implementation(seed):
    rng = np.random.default_rng(seed)
    images, found = [], []
    for _ in range(25):
        objects, rows = [], []
        for _ in range(rng.integers(0, 6)):
            x, y, w, h = *rng.integers(0, 60, 2).tolist(), *rng.integers(8, 40, 2).tolist()
            label = int(rng.integers(3))
            objects.append((label, x, y, x + w, y + h, int(rng.random() < 0.2)))
            for _ in range(rng.integers(0, 4)):
                shake = rng.normal(0, 3, 4)
                box = np.array([x, y, x + w, y + h]) + shake
                box[2:] = np.maximum(box[2:], box[:2] + 1)
                rows.append((label if rng.random() < 0.9 else 1, rng.choice(np.linspace(0.1, 1, 30)), *box))
        images.append(objects)
        found.append(sorted(rows, key=lambda row: -row[1]))
    index = packed(images, ("a", "b", "c", "never there"))
    numbers = measured(index, found)
    for eleven, name in ((False, "AP"), (True, "AP_11point")):
        every = [plain_voc(index, found, t / 100, eleven) for t in range(50, 100, 5)]
        assert numbers[f"VOC/{name}"] == pytest.approx(np.mean(every), abs=1e-12)
        assert numbers[f"VOC/{name.replace('AP', 'AP50')}"] == pytest.approx(every[0], abs=1e-12)
    assert 0.1 < numbers["VOC/AP50"] < 0.9
    assert numbers["VOC/AP50/never there"] == -1


def test_without_detections_and_without_objects():
    index = packed([[(0, *BOX)], []])
    numbers = measured(index, [[], []])
    assert (numbers["VOC/AP"], numbers["VOC/AP50/cat"], numbers["VOC/AP50/dog"]) == (0, 0, -1)
    assert set(measured(packed([[], []]), [[(0, 0.5, *BOX)], []]).values()) == {-1}


def test_evaluators_follow_the_key_and_the_kind_of_data():
    cfg = get_defaults()

    def kinds(kind):
        built = build_evaluators(cfg, SimpleNamespace(index=packed([[(0, *BOX)]], kind=kind)))
        return [type(one) for one in built]

    assert kinds("coco") == [CocoEvaluator]
    assert kinds("voc") == [CocoEvaluator, VocEvaluator]
    cfg.TEST.EVALUATOR = ("voc",)
    assert kinds("coco") == kinds("voc") == [VocEvaluator]
    cfg.TEST.EVALUATOR = ("voc", "coco")
    assert kinds("coco") == [VocEvaluator, CocoEvaluator]


def test_the_names_are_known_before_the_numbers_and_the_summary_has_all():
    index = packed([[(0, *BOX)]])
    both = measured(index, [[(0, 0.5, *BOX)]], CocoEvaluator) | measured(index, [[(0, 0.5, *BOX)]])
    lines = summary_text(both).splitlines()
    assert " Average Precision (VOC) @[ IoU=0.50      |  11 points ] = 1.000" in lines
    assert lines[-3:] == [" class     AP   AP50  11-pt", " cat    1.000  1.000  1.000", " dog        -      -      -"]
    names = [name for kind in (CocoEvaluator, VocEvaluator) for name in kind(SimpleNamespace(index=index)).names()]
    assert names == list(both)
    assert [name for name in names if of_class(name)] == [
        f"{kind}/{name}" for kind in ("AP", "VOC/AP50", "VOC/AP50_11point") for name in ("cat", "dog")
    ]
