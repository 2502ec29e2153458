"""The paired bootstrap of two results files: COCO's measures, intervals, and what is wrong in one line."""

import json
import sys

import numpy as np
import pytest
import torch
from helpers import ROOT

from detector.data.index import load_index
from detector.evaluation.coco import CocoEvaluator
from detector.evaluation.report import MEASURES

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


def test_the_command_prints_intervals_and_names_what_is_wrong(data, tmp_path, capsys):
    measured = {}
    for name, noise in (("a", 1), ("b", 4)):
        results, measured[name] = guesses(data.index, noise, 1)
        (tmp_path / f"{name}.json").write_text(json.dumps(results))
    (tmp_path / "images").mkdir()
    entry = ["DATASETS.TEST", f"{tmp_path / 'images'}:{data.index.path}", "MODEL.NUM_CLASSES", "0"]
    words = ["--config-file", "quickstart", "--draws", "20", "--results", str(tmp_path / "a.json")]
    bootstrap.main([*words, str(tmp_path / "b.json"), *entry])
    lines = capsys.readouterr().out.splitlines()
    assert lines[-13].startswith("30 images, 20 draws")
    assert [line.split()[0] for line in lines[-12:]] == list(MEASURES)
    a, b = (measured[name]["AP"] for name in ("a", "b"))
    assert lines[-12].startswith(f"AP     {a:.4f} - {b:.4f} = {a - b:+.4f}  (+")
    assert lines[-12].split()[-1] != "tie"
    (tmp_path / "b.json").write_text('[{"image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4], "score": 0.5}]')
    with pytest.raises(SystemExit, match=r"detection 1 is of image 1, which .*truth.json does not have"):
        bootstrap.main([*words, str(tmp_path / "b.json"), *entry])
    (tmp_path / "b.json").write_text("{}")
    with pytest.raises(SystemExit, match="holds no detections in COCO's results format"):
        bootstrap.main([*words, str(tmp_path / "b.json"), *entry])
