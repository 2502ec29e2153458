"""A checkpoint fixes the classes: data are mapped to them by name, in a test and in a continued run."""

import json

import pytest
import torch

from detector.data.catalog import load_dataset
from detector.tasks.detection import test as run_test
from detector.tasks.detection import train

EVERYTHING = ("TEST.DETECTIONS_PER_IMG", 1000, "MODEL.FCOS.INFERENCE_TH", 0)


def renamed(entry, ids, name):
    """The same data in another file. ids: old category ids -> new ones."""
    folder, path = entry.rsplit(":", 1)
    content = json.loads(open(path).read())
    for one in content["annotations"]:
        one["category_id"] = ids[one["category_id"]]
    known = {one["id"]: one["name"] for one in content["categories"]}
    content["categories"] = [{"id": new, "name": known[old]} for old, new in ids.items()]
    path = path.replace(".json", f"_{name}.json")
    with open(path, "w") as file:
        json.dump(content, file)
    return f"{folder}:{path}"


def found(folder):
    """Detections without the ids of their classes, those ids, and the measures by class."""
    results = json.loads((folder / "results.json").read_text())
    metrics = json.loads((folder / "metrics.json").read_text())
    measures = {name: value for name, value in metrics.items() if name != "measured"}
    ids = [row.pop("category_id") for row in results]
    return results, ids, measures


def test_a_test_finds_the_classes_of_a_run_by_name(tiny, tmp_path, data):
    train(tiny("SOLVER.MAX_ITER", 1, "DATASETS.TEST", "()"))
    weight = str(tmp_path / "out" / "model_final.pth")
    turned = renamed(data[3], {7: 0, 3: 5}, "turned")  # light, dark

    def tested(name, entry):
        home = tmp_path / name
        run_test(
            tiny(*EVERYTHING, "DATASETS.TRAIN", "gone:gone.json", "DATASETS.TEST", entry, "OUTPUT_DIR", home), weight
        )
        return found(home)

    boxes, ids, measures = tested("plain", data[3])
    assert len(boxes) > 20
    assert set(ids) == {3, 7}
    other_boxes, other_ids, other_measures = tested("turned", turned)
    assert other_boxes == boxes
    assert other_ids == [{3: 5, 7: 0}[number] for number in ids]
    assert other_measures == measures


def test_the_truth_follows_the_names(tiny, tmp_path, data, monkeypatch):
    """Detections that are the truth under the run's labels are right on data of another order."""
    train(tiny("SOLVER.MAX_ITER", 1, "DATASETS.TEST", "()"))
    truth = load_dataset(data[3], "").index

    def detect_all(model, batches, precision, augmentation):
        for batch in batches:
            rows = [truth.rows(truth.image_ids.tolist().index(target["image_id"])) for target in batch.targets]
            yield [perfect(truth, r) for r in rows], batch.targets

    monkeypatch.setattr("detector.tasks.detection.detect_all", detect_all)
    turned = renamed(data[3], {7: 0, 3: 5}, "turned")
    home = tmp_path / "tested"
    run_test(tiny("DATASETS.TEST", turned, "OUTPUT_DIR", home), str(tmp_path / "out" / "model_final.pth"))
    _, ids, measures = found(home)
    assert ids == [{0: 5, 1: 0}[label] for label in truth.labels.tolist()]
    assert (measures["AP/dark"], measures["AP/light"]) == pytest.approx((1, 1))


def perfect(index, rows):
    """The objects of an image as detections."""
    boxes = torch.from_numpy(index.boxes[rows])
    return {"boxes": boxes, "labels": torch.from_numpy(index.labels[rows]), "scores": torch.ones(len(boxes))}


def test_a_test_may_lack_a_class_of_the_run(tiny, tmp_path, write_images):
    train(tiny("SOLVER.MAX_ITER", 1, "DATASETS.TEST", "()"))
    path = tmp_path / "few.json"
    few = write_images(tmp_path / "few", (1, 2))
    content = json.loads(path.read_text())
    content["categories"] = [{"id": 9, "name": "light"}]
    content["annotations"] = [{**one, "category_id": 9} for one in content["annotations"] if one["category_id"] == 7]
    path.write_text(json.dumps(content))
    home = tmp_path / "tested"
    cfg = tiny(*EVERYTHING, "DATASETS.TEST", few, "OUTPUT_DIR", home)
    run_test(cfg, str(tmp_path / "out" / "model_final.pth"))
    _, ids, measures = found(home)
    assert set(ids) == {9, 10}  # what the file has no id for gets one
    assert measures["AP/dark"] == -1
    assert measures["AP/light"] >= 0


def test_a_continued_run_keeps_its_classes_whatever_order_the_data_have(tiny, tmp_path, data):
    turned = ["DATASETS.TRAIN", renamed(data[1], {7: 0, 3: 5}, "turned"), "DATASETS.TEST", data[3]]
    for name, second in (("plain", data), ("turned", turned)):
        home = tmp_path / name
        train(tiny("SOLVER.MAX_ITER", 2, "OUTPUT_DIR", home))
        train(tiny("SOLVER.MAX_ITER", 4, *second, "OUTPUT_DIR", home), resume=True)
    plain, other = (torch.load(tmp_path / n / "model_final.pth", weights_only=True) for n in ("plain", "turned"))
    assert other["classes"] == plain["classes"] == ["dark", "light"]
    assert other["category_ids"] == plain["category_ids"] == [3, 7]
    for key, value in plain["model"].items():
        assert torch.equal(other["model"][key], value), key
    assert other["metrics"] == plain["metrics"]


def test_without_a_checkpoint_such_data_are_refused(tiny, data):
    turned = renamed(data[3], {7: 0, 3: 5}, "turned")
    with pytest.raises(ValueError, match=r"train\.json and .*turned\.json list different categories"):
        train(tiny("SOLVER.MAX_ITER", 1, "DATASETS.TEST", turned))
