"""A test set of three classes, and detections of it in a file."""

import json

import pytest

from detector.commands import analyze

BOX = [10.0, 10.0, 20.0, 20.0]
ELSEWHERE = [60.0, 60.0, 20.0, 20.0]
NAMES = ("cat", "dog", "\x1b[31mowl")


@pytest.fixture
def study():
    """study("pr", ...): `detector analyze`, with errors as they are raised."""

    def call(*words):
        analyze.begin(analyze.parse([*map(str, words)]))

    return call


@pytest.fixture
def files(tmp_path):
    """files(objects, found): "--results FILE --truth FILE" of images that have one object each.

    objects: the class of each image's, None for none; found: (image, class, right or not, score); names: of classes.
    """

    def write(objects, found, names=NAMES):
        box = {"bbox": BOX, "area": 400, "iscrowd": 0}
        content = {
            "images": [
                {"id": i, "file_name": f"{i}.png", "height": 100, "width": 100} for i in range(1, len(objects) + 1)
            ],
            "categories": [{"id": 10 * (k + 1), "name": name} for k, name in enumerate(names)],
            "annotations": [
                {"id": i, "image_id": i, "category_id": 10 * (k + 1), **box}
                for i, k in enumerate(objects, 1)
                if k is not None
            ],
        }
        rows = [
            {"image_id": i + 1, "category_id": 10 * (k + 1), "bbox": BOX if right else ELSEWHERE, "score": score}
            for i, k, right, score in found
        ]
        (tmp_path / "truth.json").write_text(json.dumps(content))
        (tmp_path / "mine.json").write_text(json.dumps(rows))
        return ["--results", tmp_path / "mine.json", "--truth", tmp_path / "truth.json", "--output", tmp_path / "out"]

    return write


@pytest.fixture
def drawn():
    pytest.importorskip("matplotlib")
