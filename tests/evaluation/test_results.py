"""Results files as other frameworks write them."""

import json

import numpy as np
import pytest

from detector.data.index import load_index
from detector.evaluation.results import read_results


@pytest.fixture
def index(tmp_path):
    images = [{"id": i, "file_name": f"{i}.jpg", "height": 20, "width": 30} for i in (7, 3, 12)]
    categories = [{"id": k, "name": f"class {k}"} for k in (5, 2)]
    path = tmp_path / "truth.json"
    path.write_text(json.dumps({"images": images, "annotations": [], "categories": categories}))
    return load_index(path)


def rows(*pairs):
    return [{"image_id": i, "category_id": k, "bbox": [1, 2, 3, n], "score": 0.5} for n, (i, k) in enumerate(pairs)]


def write(tmp_path, content):
    path = tmp_path / "results.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def test_detections_stand_by_image_in_their_order(index, tmp_path):
    found = read_results(write(tmp_path, rows((12, 5), (7, 2), (3, 2), (7, 5))), index)
    assert found.image.tolist() == [0, 0, 1, 2]
    assert found.xywh[:, 3].tolist() == [1, 3, 2, 0]
    assert found.labels.tolist() == [0, 1, 0, 1]
    assert found.scores.tolist() == [0.5] * 4
    assert found.xywh.dtype == np.float64


def test_ids_may_be_texts_or_floats(index, tmp_path):
    found = read_results(write(tmp_path, rows(("12", "5"), (7.0, 2.0), ("3", 2))), index)
    assert (found.image.tolist(), found.labels.tolist()) == ([0, 1, 2], [0, 0, 1])


def test_a_byte_order_mark_is_no_part_of_the_file(index, tmp_path):
    found = read_results(write(tmp_path, "\ufeff" + json.dumps(rows((12, 5)))), index)
    assert (found.image.tolist(), found.labels.tolist()) == ([2], [1])


def test_categories_that_the_file_lacks_count_for_nothing(index, tmp_path, caplog):
    found = read_results(write(tmp_path, rows((7, 2), (7, 8), (3, 5))), index)
    assert found.labels.tolist() == [0, 1]
    assert "1 of 3 detections is of categories that" in caplog.text


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (rows((7, 2), (8, 2), (9, 2)), r"detection 2 is of image 8, which .*truth\.json does not have \(2 such"),
        (rows((7, 9)), r"no detection is of a class of .*; the first is of category 9, there are 2, 5$"),
        ("{}", "holds no detections in COCO's results format"),
        ("[{}]", "holds no detections in COCO's results format"),
        ("[", "holds no detections in COCO's results format"),
    ],
)
def test_what_is_wrong_is_named(index, tmp_path, content, problem):
    with pytest.raises(ValueError, match=problem):
        read_results(write(tmp_path, content), index)


def test_no_detections_and_no_file(index, tmp_path):
    assert read_results(write(tmp_path, []), index).xywh.shape == (0, 4)
    with pytest.raises(FileNotFoundError, match="there is no such file of detections"):
        read_results(tmp_path / "other.json", index)
