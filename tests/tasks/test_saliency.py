"""Salient objects in the loop of detecting: trained, tested, resumed, kept."""

import json
import shutil

import cv2
import numpy as np
import pytest
import torch
from helpers.runs import read, records, same_bits
from helpers.salient import register_small, tiny_salient

from detector.config import load_config
from detector.engine import loop
from detector.errors import UnknownNameError, UserError
from detector.evaluation.saliency import MEASURES
from detector.tasks import detection, pictures
from detector.tasks.detection import task_of, train
from detector.tasks.saliency import SaliencyTask


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    register_small(monkeypatch)
    return lambda *opts: tiny_salient(tmp_path, *opts)


def measures_of(folder):
    return json.loads((folder / "metrics.json").read_text())


def test_a_run_is_trained_measured_kept_and_tested_again(tiny, tmp_path):
    metrics = train(tiny("SOLVER.TEST_PERIOD", 2, "SOLVER.EMA_DECAY", 0.5))
    out = tmp_path / "out"
    content = measures_of(out)
    assert [*metrics["val"]] == list(MEASURES)
    assert all(0 <= value <= 1 for value in metrics["val"].values())
    assert {key: content[key] for key in MEASURES} == metrics["val"]
    assert content["measured"]["config"]["MODEL.TASK"] == "saliency"
    assert content["measured"]["data"] == {"name": "val", "annotations": str(tmp_path / "val"), "images": 3}
    assert [row["image_id"] for row in json.loads((out / "results.json").read_text())] == ["a0", "a1", "a2"]
    lines = records(out)
    (steps,) = [line for line in lines if "loss_fused" in line]
    assert {"loss_c1", "loss_c5"} < steps.keys()
    assert steps["loss"] == pytest.approx(sum(v for k, v in steps.items() if k.startswith("loss_")), rel=1e-5)
    best, last = read(out / "model_best.pth"), read(out / "model_final.pth")
    assert (best["best_by"], last["classes"]) == ("max_f", ["salient object"])
    assert best["metrics"]["val"]["max_f"] == last["best"] >= metrics["val"]["max_f"]
    again = detection.test(load_config(out / "config.yaml"), which="newest")
    assert again["val"] == pytest.approx(metrics["val"], abs=1e-9)


def test_a_resumed_run_ends_with_the_same_bits(tiny, tmp_path):
    opts = ("SOLVER.EMA_DECAY", 0.5, "SOLVER.OPTIMIZER", "adamw", "DATASETS.TEST", "()")
    train(tiny(*opts))
    (tmp_path / "half").mkdir()
    shutil.copy(tmp_path / "out" / "model_0000002.pth", tmp_path / "half")
    train(tiny(*opts, "OUTPUT_DIR", tmp_path / "half"), resume=True)
    whole, resumed = (read(tmp_path / name / "model_final.pth") for name in ("out", "half"))
    assert same_bits(resumed["model"], whole["model"])
    assert same_bits(resumed["average"], whole["average"])
    assert resumed["step"] == 4


def gradients(cfg, tmp_path):
    """The losses and gradients of the first step."""
    task = task_of(cfg).from_config(cfg)
    run = detection.start(task, tmp_path / "none")
    run.model.train()
    batch = next(iter(task.batches(0, 1)))
    names, terms = loop.backward(run, task, detection.plan(task.cfg, tests=False), batch, torch.device("cpu"))
    return dict(zip(names, terms.tolist())), {n: p.grad for n, p in run.model.named_parameters()}


def test_accumulation_makes_the_same_step(tiny, tmp_path):
    opts = ("SOLVER.IMS_PER_BATCH", 3, "MODEL.BACKBONE.NORM", "frozen_bn")
    once, grads = gradients(tiny(*opts), tmp_path)
    turns, others = gradients(tiny(*opts, "SOLVER.ACCUM_ITERS", 2), tmp_path)
    assert turns == pytest.approx(once, rel=1e-5)
    assert all(torch.allclose(others[name], grad, rtol=1e-3, atol=1e-6) for name, grad in grads.items())
    assert once["loss_fused"] > 0.1


@pytest.mark.parametrize("amp", ["bf16"])
def test_mixed_precision_trains_and_tests(tiny, amp):
    cfg = tiny("SOLVER.AMP", amp, "TEST.AMP", amp, "SOLVER.MAX_ITER", 2, "SOLVER.CHECKPOINT_PERIOD", 0)
    assert all(np.isfinite(value) for value in train(cfg)["val"].values())


def test_pictures_show_picture_map_and_mask_in_a_row(tiny, tmp_path):
    cfg = tiny("LOG.TENSORBOARD", True, "LOG.PICTURES", 2)
    task = SaliencyTask.from_config(cfg)
    run = detection.start(task, tmp_path / "none")
    shown = task.pictures(run)
    assert {name: picture.shape for name, picture in shown.items()} == dict.fromkeys(("val/a0", "val/a1"), (24, 108, 3))
    assert set(np.unique(shown["val/a0"][:, 72:])) == {0, 255}
    assert run.model.training


def test_pictures_are_those_on_disk_in_no_more_than_they_need(tiny, tmp_path, monkeypatch):
    cfg = tiny("LOG.TENSORBOARD", True, "LOG.PICTURES", 1, "INPUT.MIN_SIZE_TEST", 16, "INPUT.MAX_SIZE_TEST", 16)
    task = SaliencyTask.from_config(cfg)
    run = detection.start(task, tmp_path / "none")
    (path,) = (tmp_path / "val").rglob("a0.jpg")
    source = cv2.imread(str(path))[..., ::-1]
    assert (task.pictures(run)["val/a0"][:, :36] == source).all()
    monkeypatch.setattr(pictures, "LONGEST", 18)
    assert task.pictures(run)["val/a0"].shape == (12, 54, 3)


def test_score_layers_learn_at_a_tenth_of_the_rate(tiny, tmp_path):
    run = detection.start(SaliencyTask.from_config(tiny()), tmp_path / "none")
    rates = {id(p): group["base_lr"] for group in run.optimizer.param_groups for p in group["params"]}
    found = {name: rates[id(p)] for name, p in run.model.named_parameters()}
    assert found["head.branches.c5.0.weight"] == found["backbone.convs.0.0.weight"] == pytest.approx(0.01)
    assert found["head.branches.c5.4.weight"] == found["head.fusion.weight"] == pytest.approx(0.001)
    assert found["head.mixes.c2.bias"] == pytest.approx(0.002)


@pytest.mark.parametrize(
    ("opts", "kind", "said"),
    [
        (("TEST.BEST_BY", "mae"), UserError, "TEST.BEST_BY mae: less of it is better.* write max_f, max_mean_f"),
        (("TEST.BEST_BY", "AP"), UserError, "TEST.BEST_BY AP: there is no such measure of salient objects"),
        (
            ("MODEL.SALIENCY.NAME", "dsss"),
            UnknownNameError,
            "MODEL.SALIENCY.NAME: unknown saliency head 'dsss'; close: dss",
        ),
        (("MODEL.BACKBONE.NAME", "resnet11"), UnknownNameError, "MODEL.BACKBONE.NAME: unknown backbone 'resnet11'"),
        (("DATASETS.TRAIN", "()"), UserError, "DATASETS.TRAIN is empty; write saliency:FOLDER"),
        (("DATASETS.TRAIN", "shapes_train"), UnknownNameError, "MODEL.TASK saliency learns from pictures with masks"),
    ],
)
def test_what_does_not_fit_is_told_before_anything_is_made(tiny, tmp_path, opts, kind, said):
    with pytest.raises(kind, match=said):
        train(tiny(*opts))
    assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match="--batch auto is for detectors"):
        train(tiny(), auto_batch=True)


def test_another_network_is_not_resumed(tiny, tmp_path):
    train(tiny("SOLVER.MAX_ITER", 1, "DATASETS.TEST", "()"))
    with pytest.raises(UserError, match=r"MODEL\.SALIENCY\.WIDTH 0\.02 -> 0\.04"):
        train(tiny("SOLVER.MAX_ITER", 2, "MODEL.SALIENCY.WIDTH", 0.04), resume=True)


def test_a_run_of_another_task_is_neither_resumed_nor_tested(tiny, tmp_path):
    cfg = tiny("SOLVER.MAX_ITER", 1, "DATASETS.TEST", "()")
    train(cfg)
    boxes = cfg.clone()
    boxes.merge_from_list(["MODEL.TASK", "detection", "DATASETS.TRAIN", ["nowhere"], "DATASETS.TEST", ["nowhere"]])
    said = r"out/model_final\.pth is of MODEL\.TASK saliency, and this config of MODEL\.TASK detection: take"
    for attempt in (lambda: train(boxes, resume=True), lambda: detection.test(boxes)):
        with pytest.raises(UserError, match=said):
            attempt()


def test_a_trained_network_is_where_another_training_starts(tiny, tmp_path):
    once = ("SOLVER.MAX_ITER", 1, "DATASETS.TEST", "()", "SOLVER.BASE_LR", 1e-9)
    train(tiny("SOLVER.BASE_LR", 0.5, "DATASETS.TEST", "()"))
    start = read(tmp_path / "out" / "model_final.pth")["model"]
    train(tiny(*once, "MODEL.WEIGHT", tmp_path / "out" / "model_final.pth", "OUTPUT_DIR", tmp_path / "fine"))
    fine = read(tmp_path / "fine" / "model_final.pth")["model"]
    weights = [name for name in start if name.endswith("weight")]
    assert all(torch.allclose(fine[name], start[name], atol=1e-6) for name in weights)
    other = ("OUTPUT_DIR", tmp_path / "other")
    with pytest.raises(UserError, match="does not fit the model"):
        train(tiny(*once, "MODEL.WEIGHT", tmp_path / "out/model_final.pth", "MODEL.SALIENCY.WIDTH", 0.04, *other))


def test_several_test_sets_have_their_own_numbers(tiny, tmp_path):
    cfg = tiny("SOLVER.MAX_ITER", 1, "DATASETS.TEST", "()")
    train(cfg)
    sets = [f"saliency:{tmp_path}/{name}" for name in ("val", "train")]
    config = load_config(tmp_path / "out" / "config.yaml", ["OUTPUT_DIR", str(tmp_path / "t"), "DATASETS.TEST", sets])
    metrics = detection.test(config, tmp_path / "out")
    assert [*metrics] == ["val", "train"]
    for name, number in (("val", 3), ("train", 5)):
        said = measures_of(tmp_path / "t" / name)
        assert {key: said[key] for key in MEASURES} == metrics[name]
        assert len(json.loads((tmp_path / "t" / name / "results.json").read_text())) == number


@pytest.mark.slow
def test_generated_pictures_are_learned(tmp_path):
    """The shipped quickstart reaches a max F of 0.9 on pictures that it has not seen."""
    own = ["DATASETS.ROOT", str(tmp_path), "OUTPUT_DIR", str(tmp_path / "out"), "MODEL.DEVICE", "cpu"]
    metrics = train(load_config("saliency_quickstart", own))
    assert metrics["saliency_shapes_val"]["max_f"] >= 0.9
