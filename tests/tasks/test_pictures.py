"""Pictures of what a detector finds, beside the truth."""

import cv2
import pytest
import torch
from torch import nn

from detector.data.loader import build_test_datasets
from detector.tasks import pictures
from detector.tasks.pictures import drawn
from detector.tasks.resolve import resolve_model


class Fixed(nn.Module):
    """Finds one box on every picture, the same share of it, and one of a low score."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(3))
        self.seen = []

    def forward(self, images, sizes):
        assert not self.training
        self.seen.append(tuple(images.shape))
        ((height, width),) = sizes
        box = torch.tensor([[width / 4, height / 4, width / 2, height / 2], [0, 0, width, height]])
        return [{"boxes": box, "labels": torch.tensor([1, 0]), "scores": torch.tensor([0.9, 0.1])}]


@pytest.fixture
def show(tiny, monkeypatch):
    """show(*opts): the pictures, and what was given to be drawn."""

    def show(*opts):
        cfg = resolve_model(tiny("LOG.TENSORBOARD", True, *opts), 2)
        real, given = pictures.draw, []
        monkeypatch.setattr(pictures, "draw", lambda *values: given.append(values) or real(*values))
        model = Fixed()
        found = drawn(model.train(), build_test_datasets(cfg), cfg)
        monkeypatch.setattr(pictures, "draw", real)
        assert model.training
        return found, given

    return show


def test_the_first_ones_are_drawn_with_their_truth(show, tmp_path):
    found, given = show("LOG.PICTURES", 2, "INPUT.MIN_SIZE_TEST", 32, "INPUT.MAX_SIZE_TEST", 48)
    assert list(found) == ["val/1", "val/2"]
    for i, (picture, detections, classes, target) in enumerate(given):
        assert picture.shape == (64, 96, 3)  # as the file, whatever the network saw
        source = cv2.imread(str(tmp_path / "val" / f"{i}.png"))[..., ::-1]
        assert (picture == source).all()
        assert detections["boxes"].tolist() == [[24, 16, 48, 32]]  # that of the low score is left out
        assert (detections["labels"].tolist(), classes) == ([1], ["dark", "light"])
        inside = source[int(target["boxes"][0][1]) + 3 :, int(target["boxes"][0][0]) + 3 :][:6, :6]
        assert {*inside.ravel().tolist()} in ({10}, {245})  # the truth lies where the rectangle is
    assert [len(target["boxes"]) for *_, target in given] == [1, 2]
    assert all((picture != given[i][0]).any() for i, picture in enumerate(found.values()))


def test_what_is_found_in_all_views_of_the_test_is_drawn(show, monkeypatch):
    views = ("TEST.BBOX_AUG.ENABLED", True, "TEST.BBOX_AUG.H_FLIP", True, "TEST.BBOX_AUG.SCALES", "(64,)")
    seen = []
    monkeypatch.setattr(
        Fixed,
        "forward",
        lambda self, images, sizes, one=Fixed.forward: seen.append(sizes[0]) or one(self, images, sizes),
    )
    ((_, detections, *_),) = show("LOG.PICTURES", 1, "INPUT.MIN_SIZE_TEST", 32, "INPUT.MAX_SIZE_TEST", 96, *views)[1]
    assert seen == [(32, 48), (32, 48), (64, 96)]
    assert sorted(map(tuple, detections["boxes"].tolist())) == [(24, 16, 48, 32), (48, 16, 72, 32)]  # and mirrored


def test_a_warped_input_is_shown_in_its_own_shape(show):
    found, given = show("LOG.PICTURES", 1, "INPUT.SQUARE_SIZE", 32)
    ((picture, detections, _, target),) = given
    assert found["val/1"].shape == (64, 96, 3)
    x, y = (int(n) + 3 for n in target["boxes"][0][:2])
    assert {*picture[y : y + 6, x : x + 6].ravel().tolist()} in ({10}, {245})
    assert detections["boxes"].tolist() == [[24, 16, 48, 32]]


def test_large_ones_are_shown_smaller_and_all_is_enough(show, monkeypatch):
    monkeypatch.setattr(pictures, "LONGEST", 48)
    found, given = show("LOG.PICTURES", 100)
    assert [picture.shape for picture in found.values()] == [(32, 48, 3)] * 3
    assert given[0][1]["boxes"].tolist() == [[12, 8, 24, 16]]
    assert show("LOG.PICTURES", 0) == ({}, [])


def test_a_broken_picture_is_left_out(show, tmp_path):
    show()  # writes the data
    (tmp_path / "val" / "1.png").write_bytes(b"nothing")
    assert list(show()[0]) == ["val/1", "val/3"]
