"""Pictures as files, and a network that finds one box in each, whose score tells the picture's grey."""

import json

import cv2
import numpy as np
import pytest
import torch

from detector.inference.predictor import Predictor


class Grey:
    """A stand-in: in a picture of one grey g it finds a box of class g % 2 with score g / 255, as large as it is."""

    names, category_ids = ["dark", "light"], [3, 7]

    def __init__(self):
        self.batches = []

    def prepare(self, pixels):
        return pixels[:1, :1].copy()

    def detect(self, pictures, originals):
        self.batches.append(len(pictures))
        found = []
        for picture, (height, width) in zip(pictures, originals, strict=True):
            grey = int(picture[0, 0, 0])
            box = torch.tensor([[0.0, 0, width, height]])
            found.append({"boxes": box, "labels": torch.tensor([grey % 2]), "scores": torch.tensor([grey / 255])})
        return found


@pytest.fixture
def network():
    return Grey()


@pytest.fixture
def predictor(network):
    return Predictor(network)


@pytest.fixture
def write_greys(tmp_path):
    """write_greys("a.png", "inner/b.jpg", ..): pictures of 40 x 50 of greys 10, 20, .. in tmp_path / "photos"."""

    def write(*names, folder=tmp_path / "photos"):
        folder.mkdir(parents=True, exist_ok=True)
        for i, name in enumerate(names, 1):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(cv2.imencode(path.suffix, np.full((40, 50, 3), 10 * i, np.uint8))[1].tobytes())
        return folder

    return write


@pytest.fixture
def write_film():
    """write_film(path, greys, rate): a video of 64 x 48 with a frame of each grey."""

    def write(path, greys, rate=12.5):
        film = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), rate, (64, 48))
        for grey in greys:
            film.write(np.full((48, 64, 3), grey, np.uint8))
        film.release()
        return path

    return write


@pytest.fixture
def write_cells(tmp_path):
    """write_cells(2, 0, ..): a data set of pictures 64 x 96 with so many boxes; returns its "IMAGES:JSON" entry."""

    def write(*numbers):
        folder = tmp_path / "cells"
        folder.mkdir()
        images, rows = [], []
        for i, number in enumerate(numbers):
            cv2.imwrite(str(folder / f"{i}.png"), np.full((64, 96, 3), 200, np.uint8))
            images.append({"id": 40 + i, "file_name": f"{i}.png", "height": 64, "width": 96})
            boxes = [[10 * k, 5, 20, 30] for k in range(number)]
            rows += [{"image_id": 40 + i, "category_id": 9, "bbox": box, "area": 600, "iscrowd": 0} for box in boxes]
        for i, row in enumerate(rows, 1):
            row["id"] = i
        categories = [{"id": 5, "name": "light"}, {"id": 9, "name": "dark"}]
        content = {"images": images, "annotations": rows, "categories": categories}
        (tmp_path / "cells.json").write_text(json.dumps(content))
        return f"{folder}:{folder}.json"

    return write
