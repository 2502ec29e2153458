"""Drawn boxes and labels."""

import numpy as np
import pytest
import torch

from detector import visualize
from detector.visualize import class_color, draw

CLASSES = ["cat", "a name that is much longer than the picture is wide, by far", "Mädchen"]


def detection(boxes, labels):
    count = len(boxes)
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "scores": torch.linspace(0.9, 0.2, count) if count else torch.zeros(0),
    }


def test_the_picture_given_is_not_touched():
    image = np.full((60, 80, 3), 100, np.uint8)
    image.flags.writeable = False
    out = draw(image, detection([[10, 30, 40, 50]], [0]), CLASSES)
    assert out.shape == image.shape
    assert out.dtype == np.uint8
    assert (image == 100).all()
    assert tuple(out[50, 25]) == class_color(0)


def test_without_boxes_nothing_is_drawn():
    image = np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)
    assert (draw(image, detection([], []), CLASSES) == image).all()


def test_ground_truth_is_dashed_black_and_white_and_crowds_grey():
    image = np.full((100, 100, 3), 100, np.uint8)
    empty = torch.zeros(0, 4)
    target = {"boxes": torch.tensor([[10.0, 10, 90, 90]]), "ignore": empty, "labels": torch.tensor([0])}
    out = draw(image, detection([], []), CLASSES, target)
    assert {tuple(p) for p in out[10, 10:91].tolist()} == {(0, 0, 0), (255, 255, 255), (100, 100, 100)}
    target = {"boxes": empty, "ignore": torch.tensor([[10.0, 10, 90, 90]]), "labels": torch.tensor([])}
    crowd = draw(image, detection([], []), CLASSES, target)
    assert {tuple(p) for p in crowd[10, 10:91].tolist()} == {(128, 128, 128), (255, 255, 255), (100, 100, 100)}


def test_a_detection_that_fits_is_seen_through_the_truth():
    image = np.full((100, 100, 3), 100, np.uint8)
    box = torch.tensor([[10.0, 30, 90, 90]])
    target = {"boxes": box, "ignore": torch.zeros(0, 4), "labels": torch.tensor([0])}
    out = draw(image, detection(box.tolist(), [0]), CLASSES, target)
    shares = [(out[90, 10:91] == color).all(1).mean() for color in (class_color(0), (0, 0, 0), (255, 255, 255))]
    assert shares == pytest.approx([0.5, 0.25, 0.25], abs=0.08)


@pytest.mark.parametrize("size", [(40, 40), (90, 300), (480, 640), (2000, 1500)])
def test_labels_stay_inside_the_picture(size, monkeypatch):
    spots = []
    write = visualize._write
    monkeypatch.setattr(visualize, "_write", lambda p, t, spot, *rest: (spots.append(spot), write(p, t, spot, *rest)))
    h, w = size
    boxes = [[0, 0, w, h], [w - 5, h - 5, w, h], [-20, -20, 5, 5], [w - 3, 0, w + 30, 9], [0, h - 4, 6, h]]
    draw(np.zeros((h, w, 3), np.uint8), detection(boxes, [0, 1, 2, 1, 0]), CLASSES)
    assert len(spots) == 5
    assert all(0 <= x1 and 0 <= y1 and x2 <= w and y2 <= h for x1, y1, x2, y2 in spots)


def test_labels_of_neighbours_do_not_cover_each_other(monkeypatch):
    spots = []
    monkeypatch.setattr(visualize, "_write", lambda p, t, spot, *rest: spots.append(spot))
    draw(np.zeros((480, 640, 3), np.uint8), detection([[100, 100, 200, 300], [102, 101, 203, 298]], [0, 2]), CLASSES)
    assert visualize._overlap(*spots) == 0


def test_colours_are_distinct_and_fixed():
    colors = [class_color(k) for k in range(80)]
    assert len(set(colors)) == 80
    assert colors == [class_color(k) for k in range(80)]
    assert min(np.abs(np.subtract(colors[a], colors[a + 1])).sum() for a in range(79)) > 60


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4), np.uint8), np.zeros((3, 4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)]
)
def test_other_arrays_are_refused(image):
    with pytest.raises(ValueError, match="expected a picture"):
        draw(image, detection([], []), CLASSES)


def test_a_name_with_control_characters_is_drawn_as_its_escapes():
    pictures = []
    for name in ("a\nb", "a\\x0ab"):
        pictures.append(draw(np.zeros((60, 300, 3), np.uint8), detection([[10, 30, 40, 50]], [0]), [name]))
    assert np.array_equal(*pictures)


def test_what_was_missed_is_dashed_red_and_thicker_around_its_box():
    image = np.full((100, 100, 3), 100, np.uint8)
    boxes = torch.tensor([[10.0, 10, 40, 40], [60.0, 60, 68, 68]])
    target = {"boxes": boxes, "ignore": torch.tensor([[60.0, 10, 90, 40]]), "labels": torch.tensor([0, 0])}
    out = draw(image, detection([], []), CLASSES, target, lost=[False, True])
    assert {tuple(p) for p in out[58, 59:70].tolist()} == {(255, 0, 0), (255, 255, 255)}
    assert (out[59, 60:69] != 100).any(1).all()  # two pixels wide
    assert (out[57] == 100).all()
    assert (out[60:69, 60:69] == 100).all()  # an object of eight pixels is seen whole
    assert (255, 0, 0) not in {tuple(p) for p in out[10, 10:41].tolist()}


def test_false_detections_have_a_cross_before_their_name(monkeypatch):
    texts = []
    monkeypatch.setattr(visualize, "_write", lambda picture, text, *rest: texts.append(text))
    image = np.zeros((300, 300, 3), np.uint8)
    found = detection([[10, 30, 60, 80], [100, 100, 200, 200]], [0, 2])
    draw(image, found, CLASSES, untrue=[False, True])
    assert sorted(texts) == ["cat 0.90", "x Madchen 0.20"]
    texts.clear()
    draw(image, found, CLASSES)
    assert sorted(texts) == ["Madchen 0.20", "cat 0.90"]
