"""The paired bootstrap: its measures are COCO's, and it tells a real difference from chance."""

import json
import sys

import numpy as np
import pytest
import torch
from helpers import ROOT

from detector.data.index import load_index
from detector.evaluation.coco import CocoEvaluator

sys.path.insert(0, str(ROOT / "tools/benchmark"))
bootstrap = pytest.importorskip("bootstrap")


class Data:
    def __init__(self, index):
        self.index = index


@pytest.fixture
def data(tmp_path):
    """30 images with 0 to 8 boxes of three classes, some of them crowds; the last class has a single object."""
    rng = np.random.default_rng(0)
    images = [{"id": 5 * i + 2, "file_name": f"{i}.jpg", "height": 200, "width": 300} for i in range(30)]
    annotations = []
    for image in images:
        for _ in range(rng.integers(0, 9)):
            box = [*map(float, rng.integers(0, 150, 2)), *map(float, rng.integers(10, 60, 2))]
            box_of = {"image_id": image["id"], "category_id": int(rng.choice([3, 9])), "bbox": box}
            annotations.append({**box_of, "iscrowd": int(rng.random() < 0.15)})
    annotations.append({"image_id": 7, "category_id": 11, "bbox": [1.0, 2, 30, 40], "iscrowd": 0})
    for i, one in enumerate(annotations):
        one |= {"id": i + 1, "area": one["bbox"][2] * one["bbox"][3]}
    categories = [{"id": k, "name": str(k)} for k in (3, 9, 11)]
    path = tmp_path / "truth.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return Data(load_index(path))


def guesses(index, noise, seed, extra=4):
    """COCO results: the objects, moved by `noise` pixels, some missing, with false ones; and their measures."""
    rng = np.random.default_rng(seed)
    evaluator = CocoEvaluator(Data(index))
    for i, image_id in enumerate(index.image_ids.tolist()):
        part = slice(index.offsets[i], index.offsets[i + 1])
        boxes, labels = np.array(index.boxes_xywh[part], np.float64), np.array(index.labels[part])
        kept = rng.random(len(boxes)) < 0.9
        boxes = boxes[kept] + rng.normal(0, noise, (kept.sum(), 4))
        false = np.concatenate([rng.uniform(0, 150, (extra, 2)), rng.uniform(5, 50, (extra, 2))], axis=1)
        boxes = np.concatenate([boxes, boxes + 2, false])
        labels = np.concatenate([labels[kept], labels[kept], rng.integers(0, 3, extra)])
        boxes[:, 2:] = boxes[:, 2:].clip(1) + boxes[:, :2]
        found = {"boxes": torch.tensor(boxes), "labels": torch.tensor(labels), "scores": torch.rand(len(boxes))}
        evaluator.update([found], [{"image_id": image_id}])
    return evaluator.results(), evaluator.compute()


@pytest.mark.parametrize("noise", [0.5, 3])
def test_on_all_images_once_the_measures_are_cocos(data, noise):
    torch.manual_seed(0)
    results, measures = guesses(data.index, noise, 1)
    judged = bootstrap.judge(data.index, results)
    found = bootstrap.compare(judged, judged, 3)
    for name in ("AP", "AP50", "AP75"):
        assert 0.1 < measures[name] < 0.99
        assert found[name][:2] == (pytest.approx(measures[name], abs=1e-9),) * 2
        assert (found[name][2] == 0).all()


def test_a_draw_is_the_measure_of_these_images(data, tmp_path):
    results, _ = guesses(data.index, 2, 3)
    judged = bootstrap.judge(data.index, results)
    times = np.random.default_rng(1).multinomial(30, np.full(30, 1 / 30))
    images, annotations, drawn = [], [], []
    for i, image_id in enumerate(data.index.image_ids.tolist()):
        for copy in range(times[i]):
            new = 1000 * (copy + 1) + image_id
            images.append({"id": new, "file_name": f"{new}.jpg", "height": 200, "width": 300})
            for j in range(data.index.offsets[i], data.index.offsets[i + 1]):
                box = np.array(data.index.boxes_xywh[j]).tolist()
                annotations.append(
                    {
                        "id": len(annotations) + 1, "image_id": new, "bbox": box, "area": box[2] * box[3],
                        "category_id": data.index.category_ids[data.index.labels[j]],
                        "iscrowd": int(data.index.crowd[j]),
                    }
                )  # fmt: skip
            drawn += [{**one, "image_id": new} for one in results if one["image_id"] == image_id]
    path = tmp_path / "drawn.json"
    categories = [{"id": k, "name": str(k)} for k in (3, 9, 11)]
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    again = bootstrap.judge(load_index(path), drawn)
    want = bootstrap.average_precision(again, np.ones((1, len(images)), np.int64))
    np.testing.assert_allclose(bootstrap.average_precision(judged, times[None]), want, atol=1e-12)


def test_a_real_difference_is_told_from_chance(data):
    good, bad, alike = (bootstrap.judge(data.index, guesses(data.index, *args)[0]) for args in ((1, 1), (6, 2), (1, 5)))
    low, high = np.percentile(bootstrap.compare(good, bad, 200)["AP75"][2], (2.5, 97.5))
    assert 0 < low < high
    low, high = np.percentile(bootstrap.compare(good, alike, 200)["AP75"][2], (2.5, 97.5))
    assert low < 0 < high


def test_detections_beyond_the_limit_do_not_count():
    overlaps, free = np.array([[0.9, 0.0], [0.8, 0.6], [0.0, 0.7]]), np.array([False, True])
    right, ignored = bootstrap.match(overlaps, free)
    assert right[0].tolist() == [True, False, False]
    assert ignored[0].tolist() == [False, True, True]
    assert ignored[3].tolist() == [False, False, True]  # IoU 0.65
    assert right[9].tolist() == [False] * 3  # IoU 0.95


def test_the_command_prints_intervals_and_names_what_is_wrong(data, tmp_path, capsys):
    for name, noise in (("a", 1), ("b", 4)):
        (tmp_path / f"{name}.json").write_text(json.dumps(guesses(data.index, noise, 1)[0]))
    (tmp_path / "images").mkdir()
    entry = ["DATASETS.TEST", f"{tmp_path / 'images'}:{data.index.path}", "MODEL.NUM_CLASSES", "0"]
    words = ["--config-file", "quickstart", "--draws", "20", "--results", str(tmp_path / "a.json")]
    bootstrap.main([*words, str(tmp_path / "b.json"), *entry])
    lines = capsys.readouterr().out.splitlines()
    assert lines[-4].startswith("30 images, 20 draws")
    assert [line.split()[0] for line in lines[-3:]] == ["AP", "AP50", "AP75"]
    (tmp_path / "b.json").write_text('[{"image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4], "score": 0.5}]')
    with pytest.raises(SystemExit, match="has no image 1 or no category 3"):
        bootstrap.main([*words, str(tmp_path / "b.json"), *entry])
    (tmp_path / "b.json").write_text("{}")
    with pytest.raises(SystemExit, match="holds no detections in COCO's results format"):
        bootstrap.main([*words, str(tmp_path / "b.json"), *entry])
