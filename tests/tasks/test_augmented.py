"""A run whose tests and predictions see pictures in several views."""

import json
import logging

import pytest
import torch

from detector.commands.predict import main as predict
from detector.data.loader import build_test_datasets, view_loader
from detector.inference.augmented import build_augmentation
from detector.inference.detect import detect_all
from detector.inference.prepare import prepare_for_inference
from detector.models.build import build_detector, resolve_parts
from detector.tasks.detection import test as run_test
from detector.tasks.detection import train
from detector.tasks.pace import STEPS, WARM, Pacer
from detector.tasks.remedies import remedies

RUN = ("SOLVER.MAX_ITER", "2", "MODEL.FCOS.INFERENCE_TH", "0", "MODEL.FCOS.PRIOR_PROB", "0.3")
PAIRS = {"ENABLED": "True", "H_FLIP": "True", "SCALES": "[48]", "MAX_SIZE": "80", "MERGE": "wbf"}
VIEWS = tuple(word for key, value in PAIRS.items() for word in (f"TEST.BBOX_AUG.{key}", value))


def by_hand(cfg, folder):
    """Scores by image of the model in a run, through the library's functions."""
    cfg = resolve_parts(cfg)
    model = build_detector(cfg).eval()
    model.load_state_dict(torch.load(folder / "model_final.pth", weights_only=True)["model"])
    (dataset,) = build_test_datasets(cfg).values()
    model = prepare_for_inference(model)
    return {
        target["image_id"]: found["scores"].tolist()
        for detections, targets in detect_all(model, view_loader(cfg, dataset), "off", build_augmentation(cfg))
        for found, target in zip(detections, targets, strict=True)
    }


def written(folder):
    scores = {}
    for row in json.loads((folder / "results.json").read_text()):
        scores.setdefault(row["image_id"], []).append(row["score"])
    return scores


def test_a_run_is_tested_in_the_views_of_its_config(tiny, tmp_path, caplog):
    home = tmp_path / "out"
    cfg = tiny(*RUN, *VIEWS)
    measures = train(cfg)
    want = by_hand(cfg, home)
    assert [len(scores) for scores in want.values()] == [100] * 3
    got = written(home)
    assert got.keys() == want.keys()
    assert all(sorted(got[i], reverse=True) == pytest.approx(want[i], abs=1e-6) for i in want)
    said = json.loads((home / "metrics.json").read_text())["measured"]["config"]
    assert (said["TEST.BBOX_AUG.ENABLED"], said["TEST.BBOX_AUG.SCALES"]) == (True, [48])

    with caplog.at_level(logging.INFO, "detector"):
        assert run_test(cfg) == measures
    assert "3 views of a picture (2 sizes, 1 mirrored), merged by wbf at IoU 0.65" in caplog.text
    assert "measured otherwise" not in caplog.text
    with caplog.at_level(logging.INFO, "detector"):
        run_test(tiny(*RUN))
    assert "were measured otherwise before (TEST.BBOX_AUG.ENABLED True -> default" in caplog.text
    plain = written(home)
    assert all(max(plain[i]) != pytest.approx(max(got[i]), abs=1e-6) for i in plain)


def test_predictions_are_those_of_the_test(tiny, tmp_path):
    home = tmp_path / "out"
    train(tiny(*RUN, "DATASETS.TEST", "()"))
    data = ("DATASETS.TEST", f"{tmp_path / 'val'}:{tmp_path / 'val.json'}", "TEST.IMS_PER_BATCH", "2")
    run_test(tiny(*RUN, *VIEWS, *data))
    words = [str(home), str(tmp_path / "val"), "--output", str(tmp_path / "seen"), "--threshold", "0", *VIEWS, *data]
    predict(words)
    rows = json.loads((tmp_path / "seen" / "detections.json").read_text())
    got = {i + 1: [one["score"] for one in row["detections"]] for i, row in enumerate(rows)}
    want = written(home)
    assert got.keys() == want.keys()
    for i, scores in want.items():
        assert got[i] == pytest.approx(sorted(scores, reverse=True), abs=1e-6)


def test_the_time_of_an_image_is_that_of_all_its_views(tiny, monkeypatch):
    seen = []
    monkeypatch.setattr("detector.tasks.pace.detect_views", lambda model, views, *rest: seen.append([*views]))
    pacer = Pacer(tiny("TEST.IMS_PER_BATCH", "1", "TEST.BBOX_AUG.ENABLED", "True", "TEST.BBOX_AUG.SCALES", "(48, 32)"))
    pacer.times()
    assert [[min(batch.sizes[0]) for batch in views] for views in seen] == [[64, 48, 32]] * min(3, WARM + STEPS)
    assert all(len({batch.targets[0]["image_id"] for batch in views}) == 1 for views in seen)


def test_less_memory_is_to_be_had_by_smaller_views(tiny):
    assert "smaller TEST.BBOX_AUG.SCALES (now [48])" in remedies(tiny(*VIEWS), training=False).memory
    assert "BBOX_AUG" not in remedies(tiny(), training=False).memory
