"""The evaluations of a run: in which precision, and which checkpoint is the best."""

import json
import weakref
from itertools import chain, repeat

import numpy as np
import pytest
import torch
from helpers.by_hand import AUTOCAST
from helpers.runs import read, records, same_bits

from detector.data.loader import build_test_datasets
from detector.data.loader import test_loader as loader_of
from detector.engine.log import TrainLog
from detector.evaluation.coco import CocoEvaluator
from detector.inference.prepare import prepare_for_inference
from detector.models.build import build_detector, resolve_parts
from detector.tasks import detection
from detector.tasks.detection import test as run_test
from detector.tasks.detection import train
from detector.tasks.measured import Subject, save_measures

EVERYTHING = (
    *("SOLVER.MAX_ITER", 2),
    *("MODEL.FCOS.INFERENCE_TH", 0, "MODEL.FCOS.PRIOR_PROB", 0.3, "TEST.DETECTIONS_PER_IMG", 500),
)


def by_hand(cfg, path, precision, prepared=False):
    """The scores that the model of a checkpoint gives the test images, falling. prepared: with its norms merged."""
    cfg = resolve_parts(cfg)
    model = build_detector(cfg).eval()
    model.load_state_dict(read(path)["model"])
    if prepared:
        prepare_for_inference(model, precision)
    (dataset,) = build_test_datasets(cfg).values()
    scores = []
    with torch.inference_mode(), torch.autocast("cpu", AUTOCAST.get(precision), enabled=precision in AUTOCAST):
        for batch in loader_of(cfg, dataset):
            scores += [found["scores"].float() for found in model(batch.images, batch.sizes)]
    return torch.cat(scores).sort(descending=True)[0].numpy()


def written(folder):
    """The scores in a results.json, falling."""
    return np.array(sorted((row["score"] for row in json.loads((folder / "results.json").read_text())), reverse=True))


def apart(got, want):
    """The largest difference of scores; an NMS that tips over on rounding may cost one of some hundred."""
    assert abs(len(got) - len(want)) <= 2
    assert len(want) > 100
    shared = min(len(got), len(want))
    return np.abs(got[:shared] - want[:shared]).max()


@pytest.mark.parametrize(("precision", "other"), [("off", "bf16"), ("bf16", "off")])
def test_a_run_is_evaluated_in_the_precision_of_the_test(tiny, tmp_path, precision, other):
    cfg = tiny(*EVERYTHING, "TEST.AMP", precision, "SOLVER.AMP", other)
    train(cfg)
    final = tmp_path / "out" / "model_final.pth"
    right, wrong = (by_hand(cfg, final, p) for p in (precision, other))
    tested = written(tmp_path / "out")
    assert apart(tested, by_hand(cfg, final, precision, prepared=True)) < 1e-6
    assert apart(wrong, right) > 1e-5
    limit = 1e-5 if precision == "off" else 2e-2  # merged norms are rounded otherwise than norms
    assert apart(tested, right) < limit
    if precision == "bf16":
        assert apart(tested, wrong) > 1e-5


@pytest.mark.parametrize("precision", ["off", "bf16"])
def test_a_run_is_evaluated_exactly_as_its_checkpoint_is_tested(tiny, tmp_path, precision):
    wide = ("MODEL.NECK.OUT_CHANNELS", 256, "INPUT.MIN_SIZE_TEST", 256, "INPUT.MAX_SIZE_TEST", 384)  # by Winograd's
    cfg = tiny(*EVERYTHING, *wide, "TEST.AMP", precision)
    trained, out = train(cfg), tmp_path / "out"
    files = {path.name: path.read_bytes() for path in out.glob("results*.json")}
    assert len(json.loads(files["results.json"])) > 100
    for path in out.glob("results*.json"):
        path.unlink()
    assert run_test(cfg) == trained
    assert {path.name: path.read_bytes() for path in out.glob("results*.json")} == files


def test_evaluations_on_the_way_leave_no_trace_in_what_is_trained(tiny, tmp_path):
    runs, steps = {}, ("SOLVER.MAX_ITER", 4, "SOLVER.CHECKPOINT_PERIOD", 2)
    for name, period in (("often", 1), ("once", 0)):
        train(tiny(*EVERYTHING, *steps, "SOLVER.TEST_PERIOD", period, "OUTPUT_DIR", tmp_path / name))
        runs[name] = read(tmp_path / name / "model_final.pth")
        assert len([r for r in records(tmp_path / name) if r.get("event") == "evaluation"]) == (4 if period else 1)
    assert same_bits(runs["often"]["model"], runs["once"]["model"])
    moments, wanted = (
        [state["momentum_buffer"] for state in runs[name]["optimizer"]["state"].values()] for name in runs
    )
    assert all(torch.equal(a, b) for a, b in zip(moments, wanted, strict=True))


def test_the_copy_that_is_evaluated_is_gone_when_training_goes_on(tiny, monkeypatch):
    copies, alive = [], []
    prepare, tick = detection.prepare_for_inference, TrainLog.tick

    def noted(model, precision):
        copies.append(weakref.ref(model))
        return prepare(model, precision)

    def ticked(self):
        alive.append([copy() for copy in copies])
        tick(self)

    monkeypatch.setattr(detection, "prepare_for_inference", noted)
    monkeypatch.setattr(TrainLog, "tick", ticked)
    train(tiny(*EVERYTHING, "SOLVER.TEST_PERIOD", 1))
    assert alive == [[], [None], [None], [None, None]]  # the last step's checkpoint is written before its evaluation


@pytest.fixture
def measured(monkeypatch):
    """measured(0.2, 0.5, ..): the AP that each further evaluation finds, the last one ever after."""

    def set_values(*values):
        following = chain(values, repeat(values[-1]))
        monkeypatch.setattr(CocoEvaluator, "compute", lambda self: {"AP": next(following)})

    return set_values


def test_the_best_checkpoint_stays_when_later_ones_are_worse(tiny, tmp_path, measured):
    out = tmp_path / "out"
    every = (*EVERYTHING, "SOLVER.TEST_PERIOD", 1, "SOLVER.CHECKPOINT_PERIOD", 1)

    def best():
        return read(out / "model_best.pth")

    measured(0.2, 0.5, 0.3)
    assert train(tiny(*every, "SOLVER.MAX_ITER", 3)) == {"val": {"AP": 0.3}}
    assert (best()["step"], best()["metrics"]) == (2, {"val": {"AP": 0.5}})
    assert same_bits(best()["model"], read(out / "model_0000002.pth")["model"])
    assert not torch.equal(
        best()["model"]["head.cls_logits.weight"], read(out / "model_final.pth")["model"]["head.cls_logits.weight"]
    )
    events = [r for r in records(out) if r.get("event") == "evaluation"]
    assert [(r["step"], r["metrics"]["val"]["AP"]) for r in events] == [(1, 0.2), (2, 0.5), (3, 0.3)]
    measured(0.4)
    train(tiny(*every, "SOLVER.MAX_ITER", 5), resume=True)
    assert (best()["step"], best()["metrics"]) == (2, {"val": {"AP": 0.5}})
    assert read(out / "model_final.pth")["best"] == 0.5
    measured(0.6)
    train(tiny(*every, "SOLVER.MAX_ITER", 6), resume=True)
    assert best()["metrics"] == {"val": {"AP": 0.6}}


def test_the_best_is_that_of_the_mean_over_the_test_sets(tiny, tmp_path, data, write_images, measured):
    second = write_images(tmp_path / "second", (1, 1), seed=5)
    measured(*(0.1, 0.7), *(0.6, 0.6), *(0.05, 0.9), *(0.9, 0.1))
    train(
        tiny(*EVERYTHING, "SOLVER.MAX_ITER", 3, "SOLVER.TEST_PERIOD", 1, "DATASETS.TEST", f"('{data[3]}', '{second}')")
    )
    best = read(tmp_path / "out" / "model_best.pth")
    assert (best["step"], best["metrics"]) == (2, {"val": {"AP": 0.6}, "second": {"AP": 0.6}})


def test_what_was_measured_says_no_credentials(tiny, tmp_path):
    cfg = tiny("MODEL.WEIGHT", "https://me:secret@host/w.pth?token=hidden")
    (dataset,) = build_test_datasets(cfg).values()
    save_measures(tmp_path, [CocoEvaluator(dataset)], dataset, cfg, Subject("", "", 1, True), 0.0)
    text = (tmp_path / "metrics.json").read_text()
    assert '"MODEL.WEIGHT": "https://host/w.pth?.."' in text
    assert "secret" not in text
    assert "hidden" not in text


@pytest.fixture
def lost(tiny, tmp_path):
    """measure(folder, weight, digest, ..): save the measures of the test set; lose(): take its last picture away."""
    annotations = tmp_path / "val.json"

    def measure(folder, weight="", digest="a", **subject):
        (dataset,) = build_test_datasets(cfg := tiny()).values()
        made = Subject(str(weight), digest, 1, **{"newest": True, **subject})
        save_measures(folder, [CocoEvaluator(dataset)], dataset, cfg, made, 0.0)

    def lose():
        content = json.loads(annotations.read_text())
        annotations.write_text(json.dumps({**content, "images": content["images"][:-1]}))

    return measure, lose


@pytest.mark.parametrize(
    ("home", "subject"),
    [
        ("run", {"digest": "b", "training": True}),  # resumed
        ("run", {"digest": "b"}),
        ("run", {"weight": "run/model_best.pth", "digest": "b", "newest": False, "beside": True}),
        ("run", {"weight": "run/model.onnx", "exported": True, "newest": False}),
        ("elsewhere", {"weight": "run/model_final.pth", "newest": False}),
        ("elsewhere/val", {"weight": "run/model_final.pth", "newest": False}),
    ],
)
def test_a_test_set_that_lost_pictures_since_is_told_whatever_is_measured(lost, tmp_path, caplog, home, subject):
    measure, lose = lost
    measure(tmp_path / "run", tmp_path / "run" / "model_final.pth")
    if weight := subject.get("weight"):
        subject = {**subject, "weight": tmp_path / weight}
    measure(tmp_path / home, **subject)
    assert "of other images" not in caplog.text
    for path in tmp_path.glob("elsewhere/**/*.json"):
        path.unlink()
    lose()
    measure(tmp_path / home, **{**subject, "digest": "c"})
    assert caplog.text.count("val has 2 images, and had 3 when ") == 1
    assert "/run/metrics" in caplog.text


def test_the_same_weights_are_told_of_each_change_once(lost, tmp_path, caplog):
    measure, lose = lost
    best = {"weight": tmp_path / "run" / "model_best.pth", "newest": False, "beside": True}
    measure(tmp_path / "run", tmp_path / "run" / "model_final.pth")
    measure(tmp_path / "run", digest="b", **best)
    lose()
    measure(tmp_path / "run", digest="b", **best)
    assert caplog.text.count("data val (3 images) -> val (2)") == 1
    assert "metrics_model_best.json: these weights were measured otherwise before" in caplog.text
    assert "of other images" not in caplog.text


def test_another_set_of_the_same_name_is_no_change(lost, tmp_path, caplog):
    measure, lose = lost
    measure(tmp_path / "run", tmp_path / "run" / "model_final.pth")
    path = tmp_path / "run" / "metrics.json"
    path.write_text(path.read_text().replace("val.json", "other/val.json"))
    lose()
    measure(tmp_path / "run", digest="b")
    assert "of other images" not in caplog.text
