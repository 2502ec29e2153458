"""The evaluator gives pycocotools' numbers, on arrays and on its own result file."""

import contextlib
import io
import json
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detector.data.index import load_index
from detector.evaluation.coco import CocoEvaluator
from detector.evaluation.report import MEASURES


def random_file(seed, images=40, ids=None):
    """A COCO file with crowds, gaps between category ids, an annotation id 0, all sizes and a class without boxes."""
    rng = np.random.default_rng(seed)
    ids = rng.permutation(images * 3)[:images].tolist() if ids is None else ids
    annotations = []
    for i in rng.integers(0, images, 300):
        side = np.exp(rng.uniform(np.log(4), np.log(300), 2))
        x, y = rng.uniform(0, 640 - side[0]), rng.uniform(0, 480 - side[1])
        bbox = [float(v) for v in (x, y, *side)]
        area = float(side.prod() * rng.uniform(0.3, 1))
        fields = {"bbox": bbox, "area": area, "iscrowd": int(rng.random() < 0.1)}
        annotations.append(
            {"id": len(annotations), "image_id": ids[i], "category_id": int(rng.choice([90, 3, 7]))} | fields
        )
    return {
        "images": [{"id": i, "file_name": f"{i}.jpg", "height": 480, "width": 640} for i in ids],
        "annotations": annotations,
        "categories": [{"id": k, "name": f"class{k}"} for k in (90, 3, 7, 12)],
    }


def random_detections(index, seed, extra=6):
    """Shaken ground truth and noise, with scores that tie within and across images."""
    rng = np.random.default_rng(seed)
    detections, targets = [], []
    for i in range(len(index)):
        xywh = index.boxes_xywh[index.rows(i)]
        noise = np.concatenate([rng.uniform(0, 300, (extra, 2)), rng.uniform(5, 200, (extra, 2))], 1)
        xywh = np.concatenate([xywh + rng.normal(0, 0.06, xywh.shape) * xywh[:, [2, 3, 2, 3]], noise])
        xywh[:, 2:] = np.maximum(xywh[:, 2:], 1)
        labels = np.concatenate([index.labels[index.rows(i)], rng.integers(0, len(index.classes), extra)])
        scores = np.sort(rng.choice(np.linspace(0.05, 1, 40), len(labels)))[::-1]
        order = rng.permutation(len(labels))
        boxes = torch.tensor(np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], 1)[order], dtype=torch.float32)
        scores = torch.tensor(scores.copy(), dtype=torch.float32)
        detections.append({"boxes": boxes, "labels": torch.tensor(labels[order]), "scores": scores})
        targets.append({"image_id": index.image_id(i)})
    return detections, targets


def evaluated(path, seed, keep=1.0):
    index = load_index(path)
    evaluator = CocoEvaluator(SimpleNamespace(index=index))
    detections, targets = random_detections(index, seed)
    order = np.random.default_rng(seed).permutation(len(index))[: int(keep * len(index))]
    for part in np.array_split(order, 5):
        evaluator.add([detections[i] for i in part], [targets[i] for i in part])
    return evaluator


def reference(annotations, results):
    """The twelve numbers and the AP of each class by pycocotools."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(annotations))
        evaluation = COCOeval(truth, truth.loadRes(str(results)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    numbers = dict(zip(MEASURES, evaluation.stats.tolist(), strict=True))
    for k, category in enumerate(evaluation.params.catIds):
        values = evaluation.eval["precision"][:, :, k, 0, -1]
        numbers[f"AP/{truth.cats[category]['name']}"] = values[values > -1].mean() if (values > -1).any() else -1
    return numbers


def write(tmp_path, data):
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(data))
    return path


def shifted(data):
    """The same file without the annotation id 0, which pycocotools mistakes for unmatched."""
    return data | {"annotations": [a | {"id": a["id"] + 1} for a in data["annotations"]]}


@pytest.mark.parametrize("seed", range(3))
def test_all_numbers_equal_pycocotools(tmp_path, seed):
    data = random_file(seed)
    evaluator = evaluated(write(tmp_path, data), seed, keep=0.9)
    evaluator.save_results(tmp_path / "results.json")
    numbers = evaluator.compute()
    expected = reference(write(tmp_path, shifted(data)), tmp_path / "results.json")
    assert list(numbers) == [*MEASURES, "AP/class3", "AP/class7", "AP/class12", "AP/class90"]
    assert numbers == pytest.approx(expected, abs=1e-12)
    assert numbers["AP/class12"] == -1
    assert 0.1 < numbers["AP"] < 0.9
    assert numbers == evaluator.compute()


def test_all_numbers_equal_pycocotools_on_coco(tmp_path, coco_tiny):
    path = coco_tiny / "annotations" / "instances_val2017.json"
    evaluator = evaluated(path, 0)
    evaluator.save_results(tmp_path / "results.json")
    numbers = evaluator.compute()
    assert numbers == pytest.approx(reference(path, tmp_path / "results.json"), abs=1e-12)
    assert len(numbers) == 12 + 80


def test_perfect_detections_have_ap_one(tmp_path):
    data = random_file(0)
    for annotation in data["annotations"]:
        annotation["iscrowd"] = 0
        annotation["bbox"] = [float(round(v) + 1) for v in annotation["bbox"]]  # whole numbers are exact in float32
    index = load_index(write(tmp_path, data))
    evaluator = CocoEvaluator(SimpleNamespace(index=index))
    for i in range(len(index)):
        rows = index.rows(i)
        xywh = torch.tensor(index.boxes_xywh[rows], dtype=torch.float32)
        boxes = torch.cat([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], 1)
        detection = {"boxes": boxes, "labels": torch.tensor(index.labels[rows]), "scores": torch.ones(len(boxes))}
        evaluator.add([detection], [{"image_id": index.image_id(i)}])
    numbers = evaluator.compute()
    assert {numbers[name] for name in ("AP", "AP50", "APs", "APm", "APl", "AR100", "AP/class3")} == {1.0}


def test_ids_may_be_texts(tmp_path):
    numbers = sorted(range(100, 140))
    texts = [f"image-{i}" for i in numbers]
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    by_number = evaluated(write(tmp_path / "a", random_file(5, ids=numbers)), 5)
    by_text = evaluated(write(tmp_path / "b", random_file(5, ids=texts)), 5)
    assert by_text.compute() == by_number.compute()
    assert by_text.results()[0]["image_id"] in texts
    assert type(by_number.results()[0]["image_id"]) is int


def test_results_hold_original_ids_and_exact_numbers(tmp_path):
    path = write(tmp_path, random_file(1))
    index = load_index(path)
    evaluator = CocoEvaluator(SimpleNamespace(index=index))
    boxes = torch.tensor([[1.1, 2.2, 30.3, 40.4], [0.0, 0.0, 5.0, 5.0]])
    scores = torch.tensor([0.9, 0.3])
    image_id = index.image_id(3)
    evaluator.add([{"boxes": boxes, "labels": torch.tensor([3, 0]), "scores": scores}], [{"image_id": image_id}])
    boxes.zero_()
    first, second = evaluator.results()
    x1, y1, x2, y2 = (float(np.float32(v)) for v in (1.1, 2.2, 30.3, 40.4))
    expected = {"image_id": image_id, "category_id": 90, "bbox": [x1, y1, x2 - x1, y2 - y1], "score": scores[0].item()}
    assert first == expected
    assert second["category_id"] == 3
    evaluator.save_results(tmp_path / "out" / "results.json")
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == [first, second]
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["results.json"]


def test_without_detections_all_is_zero(tmp_path):
    evaluator = CocoEvaluator(SimpleNamespace(index=load_index(write(tmp_path, random_file(0)))))
    assert evaluator.results() == []
    numbers = evaluator.compute()
    assert numbers["AP"] == numbers["AR100"] == numbers["AP/class3"] == 0
    assert numbers["AP/class12"] == -1


def test_without_annotations_all_is_undefined(tmp_path):
    data = random_file(0) | {"annotations": []}
    assert set(evaluated(write(tmp_path, data), 0).compute().values()) == {-1.0}


def test_classes_of_one_name_are_told_apart(tmp_path):
    data = random_file(0)
    data["categories"] = [{"id": k, "name": "person" if k in (3, 12) else f"a/b {k}"} for k in (90, 3, 7, 12)]
    keys = list(evaluated(write(tmp_path, data), 0).compute())[12:]
    assert keys == ["AP/person #3", "AP/a/b 7", "AP/person #12", "AP/a/b 90"]


def test_the_names_of_all_measures_are_known_before_there_are_numbers(tmp_path):
    evaluator = evaluated(write(tmp_path, random_file(0)), 0)
    assert evaluator.names() == list(evaluator.compute())


def detection(boxes=((1.0, 2, 3, 4),), labels=(0,), scores=(0.5,)):
    return {"boxes": torch.tensor(boxes), "labels": torch.tensor(labels), "scores": torch.tensor(scores)}


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        (detection(boxes=((1.0, 2, float("nan"), 4),)), "a detected box or score is not finite"),
        (detection(scores=(float("inf"),)), "a detected box or score is not finite"),
        (detection(labels=(4,)), "labels reach from 4 to 4, but .* has 4 classes"),
        (detection(labels=(-1,)), "labels reach from -1"),
        (detection(labels=(0, 1)), r"expected boxes \[D, 4\]"),
    ],
)
def test_bad_detections_are_refused(tmp_path, bad, problem):
    index = load_index(write(tmp_path, random_file(0)))
    evaluator = CocoEvaluator(SimpleNamespace(index=index))
    with pytest.raises(ValueError, match=f"image {index.image_id(0)}: {problem}"):
        evaluator.add([bad], [{"image_id": index.image_id(0)}])


def test_an_image_is_taken_once_and_must_be_known(tmp_path):
    index = load_index(write(tmp_path, random_file(0)))
    evaluator = CocoEvaluator(SimpleNamespace(index=index))
    evaluator.add([detection()], [{"image_id": index.image_id(0)}])
    with pytest.raises(ValueError, match="was evaluated before"):
        evaluator.add([detection()], [{"image_id": index.image_id(0)}])
    with pytest.raises(KeyError, match="image 'elsewhere' is not in"):
        evaluator.add([detection()], [{"image_id": "elsewhere"}])


@pytest.mark.slow
def test_a_set_of_the_size_of_coco_is_quick(tmp_path):
    evaluator = evaluated(write(tmp_path, random_file(0, images=5000)), 0)
    start = time.process_time()
    evaluator.compute()
    evaluator.save_results(tmp_path / "results.json")
    assert time.process_time() - start < 60
