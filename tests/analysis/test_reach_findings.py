"""What is out of reach is said with picture, record and box."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from detector.analysis import reach_findings as module
from detector.analysis.perfect import APART, BETWEEN, HIDDEN, LEARNED, UNKNOWN, WEAK
from detector.analysis.reach import Reach
from detector.analysis.reach_findings import reach_findings
from detector.data.packed import PackedIndex
from detector.data.problems import KINDS

BOXES = [(1, 2, 3, 4), (5, 6.5, 7, 8), (9, 9, 9, 9), (0, 0, 50, 60), (10, 0, 5, 5), (20, 0, 5, 5)]


@pytest.fixture
def index():
    """Three pictures with two, none and four boxes."""
    xywh = np.array(BOXES, float)
    count = len(BOXES)
    return PackedIndex(
        path=Path("set.json"), classes=["cat"], category_ids=[1], image_ids=np.array([7, 8, 9]),
        file_names=np.array(["a.png", "b.png", "c.png"]), heights=np.full(3, 100), widths=np.full(3, 100),
        offsets=np.array([0, 2, 2, 6]), annotation_ids=np.arange(100, 100 + count), labels=np.zeros(count, int),
        boxes_xywh=xywh, areas=xywh[:, 2:].prod(1), crowd=np.zeros(count, bool),
        boxes=np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], 1).astype(np.float32),
        usable=np.ones(count, bool), difficult=np.zeros(count, bool),
    )  # fmt: skip


def reached(index, fates, **changes):
    none = np.empty(0, int)
    found = Reach(
        index=index, head="fcos", images=np.arange(3), rows=np.arange(6), fates=np.array(fates),
        fits=np.full(6, np.nan), threshold=None, found=np.ones((2, 6), bool), sizes=np.full((3, 2), 100),
        stride=8, cells=1.0, small=none, sides=np.empty(0), limits={"TEST.DETECTIONS_PER_IMG": 3}, crowded=none,
        objects=none,
    )  # fmt: skip
    return reach_findings(replace(found, **changes))


def test_where_all_is_in_reach_the_recall_alone_is_said(index):
    (said,) = reached(index, [LEARNED] * 6)
    assert said.kind == module.RECALL
    wanted = (
        "after a perfect training fcos would find 100.00 % at IoU 0.5 and 100.00 % at IoU 0.75 of 6 boxes of 3 of 3 "
    )
    assert said.text == f"set.json: {wanted}images"
    assert reached(index, [LEARNED] * 6, found=None) == []


def test_boxes_that_are_found_though_they_are_not_taught_are_told(index):
    """They lie on a box of their class, whose detection overlaps them enough."""
    *hidden, said = reached(index, [HIDDEN, HIDDEN, LEARNED, LEARNED, LEARNED, LEARNED])
    assert [
        one.text.endswith("is not taught it by itself, as each of its locations answers for another box")
        for one in hidden
    ] == [True] * 2
    assert said.text.endswith("images; 2 of them are not taught and found by the detection of the box beneath")
    found = np.ones((2, 6), bool)
    found[:, 0] = False
    *_, said = reached(index, [HIDDEN, HIDDEN, LEARNED, LEARNED, LEARNED, LEARNED], found=found)
    assert said.text.endswith("; 1 of them is not taught and found by the detection of the box beneath")


def test_boxes_that_are_not_taught_say_why(index):
    *said, _ = reached(index, [LEARNED, APART, BETWEEN, HIDDEN, UNKNOWN, LEARNED])
    by_box = {one.box: one for one in said}
    apart = by_box[BOXES[1]]
    record = "images[0], id 7 of set.json, annotation id 101"
    assert (apart.kind, apart.picture, apart.record) == (module.ALONE, "a.png", record)
    assert apart.text == f"a.png ({record}), box 7 x 8 at 5, 6.5: fcos is not taught it, as no location lies in it"
    assert by_box[BOXES[2]].text.endswith("as it is in the range of no level that has a location in it")
    assert by_box[BOXES[2]].picture == "c.png"
    assert (by_box[BOXES[3]].kind, by_box[BOXES[4]].kind) == (module.COVERED, module.ALONE)
    assert by_box[BOXES[3]].text.endswith("as each of its locations answers for another box")
    assert len(said) == 4
    (said, _) = reached(index, [LEARNED] * 5 + [APART], threshold=0.7, head="faster_rcnn")
    assert said.text.endswith("faster_rcnn is not taught it, as no anchor touches it")


def test_weak_anchors_say_how_good_they_are(index):
    fits = np.array([0.9, 0.9, 0.413, 0.9, 0.9, 0.2])
    first, second, _ = reached(index, [0, 0, WEAK, 0, 0, WEAK], fits=fits, threshold=0.7)
    assert (first.box, second.box) == (BOXES[2], BOXES[5])
    assert first.text.endswith("its best anchor has an IoU of 0.41, below the threshold of 0.7")
    assert first.kind == module.UNFIT


def test_small_boxes_and_crowded_images_say_how_far_they_are_off(index):
    many = {"crowded": np.array([2]), "objects": np.array([4])}
    small, crowded, _ = reached(index, [0] * 6, small=np.array([4]), sides=np.array([2.54]), **many)
    assert small.text.endswith("its shorter side is 2.5 pixels after the resize, less than 1 cell of 8 pixels")
    assert (small.kind, small.picture, small.box) == (module.SMALL, "c.png", BOXES[4])
    assert crowded.text == "c.png (images[2], id 9 of set.json): 4 objects, and TEST.DETECTIONS_PER_IMG 3 are kept"
    limits = {"TEST.DETECTIONS_PER_IMG": 9, "MODEL.RPN.POST_NMS_TOP_N_TEST": 3}
    crowded, _ = reached(index, [0] * 6, limits=limits, **many)
    assert crowded.text.endswith("4 objects, and MODEL.RPN.POST_NMS_TOP_N_TEST 3 are kept")


def test_records_of_voc_are_their_files(index):
    ids = np.array([f"{name}.xml#{k}" for name, k in (("a", 1), ("a", 2), *(("c", k) for k in range(1, 5)))])
    voc = replace(index, kind="voc", path=Path("Annotations"), annotation_ids=ids, image_ids=np.array(["a", "b", "c"]))
    said, _ = reached(voc, [APART, 0, 0, 0, 0, 0])
    assert said.record == "Annotations/a.xml#1"


def test_every_kind_is_in_the_table_with_a_remedy():
    kinds = {module.ALONE, module.COVERED, module.UNFIT, module.SMALL, module.CROWDED, module.RECALL}
    assert len(kinds) == 6
    assert all(KINDS[kind].remedy.endswith(".") and KINDS[kind].severity != "error" for kind in kinds)
