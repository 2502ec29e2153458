"""What happens before the first step, in which order, and what a start that fails leaves behind."""

import errno
import logging
import shlex
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from helpers.runs import move_run, read

from detector.config import load_config
from detector.data import capacity, shapes
from detector.engine.run import open_folder, try_folder
from detector.errors import UserError
from detector.models.build import check_names
from detector.tasks import detection, header, saliency
from detector.tasks.accuracy import measure_accuracy
from detector.tasks.classification import train_classifier
from detector.tasks.detection import DetectionTask, start, train
from detector.tasks.detection import test as run_test  # under its own name pytest would collect it
from detector.tasks.examined import examine_run
from detector.tasks.recipe import Recipe


@pytest.fixture
def break_one(tmp_path):
    """break_one("train"): one of its pictures, the second, is cut."""

    def build(part):
        path = tmp_path / part / "1.png"
        path.write_bytes(path.read_bytes()[:-20])
        return path

    return build


def in_epochs(cfg, number):
    """The config with SOLVER.EPOCHS."""
    cfg.defrost()
    cfg.SOLVER.EPOCHS = number
    cfg.freeze()
    return cfg


def everything(folder):
    return {path: path.stat().st_mtime_ns for path in Path(folder).rglob("*") if path.is_file()}


def fails_without_trace(action, tmp_path, match):
    """Whether a start fails with this message and leaves every file as it was, and no folder."""
    before = everything(tmp_path)
    with pytest.raises(UserError, match=match) as error:
        action()
    assert everything(tmp_path) == before
    assert not (tmp_path / "out").exists()
    return str(error.value)


@pytest.mark.parametrize(
    ("opts", "match"),
    [
        (("MODEL.HEAD.NAME", "fcoss"), r"MODEL\.HEAD\.NAME: unknown head 'fcoss'; close: fcos"),
        (("MODEL.NECK.NAME", "fpm"), r"MODEL\.NECK\.NAME: unknown neck 'fpm'; close: fpn"),
        (("MODEL.BACKBONE.NAME", "resnet51"), r"MODEL\.BACKBONE\.NAME: unknown backbone 'resnet51'"),
        (("MODEL.WEIGHT", "nowhere.pth"), "there is no file nowhere.pth"),
    ],
)
def test_a_mistake_in_the_config_leaves_nothing(tiny, tmp_path, opts, match, monkeypatch):
    monkeypatch.setenv("DETECTOR_CACHE", str(tmp_path.parent / f"{tmp_path.name}_cache"))
    fails_without_trace(lambda: train(tiny(*opts)), tmp_path, match)


def test_a_schedule_that_does_not_fit_the_data_leaves_nothing(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTOR_CACHE", str(tmp_path.parent / f"{tmp_path.name}_cache"))
    cfg = in_epochs(tiny("SOLVER.WARMUP_ITERS", 9), 1)
    fails_without_trace(lambda: train(cfg), tmp_path, r"SOLVER\.WARMUP_ITERS 9 of MAX_ITER 6")


@pytest.mark.parametrize("key", ["HEAD", "NECK", "BACKBONE"])
def test_names_of_parts_are_checked_before_the_data_are_read(tiny, key, monkeypatch):
    for name in ("build_train_dataset", "build_test_datasets"):
        monkeypatch.setattr(detection, name, lambda *_: pytest.fail("data were read"))
    for action in (train, run_test):
        with pytest.raises(KeyError, match=rf"MODEL\.{key}\.NAME: unknown"):
            action(tiny(f"MODEL.{key}.NAME", "nothing"))
    assert check_names(tiny()) is None


@pytest.mark.parametrize("name", ["vgg16", "blresnet50"])
def test_stages_that_cannot_be_deformed_are_refused_before_the_data_are_read(tiny, name, monkeypatch):
    monkeypatch.setattr(detection, "build_train_dataset", lambda *_: pytest.fail("data were read"))
    monkeypatch.setattr(saliency, "build_mask_train", lambda *_: pytest.fail("data were read"))
    deformed = ("MODEL.BACKBONE.NAME", name, "MODEL.BACKBONE.DEFORM_STAGES", "(False, True, True, True)")
    for task in ("detection", "saliency"):
        with pytest.raises(UserError, match=r"cannot be deformed: set MODEL\.BACKBONE\.DEFORM_STAGES"):
            train(tiny("MODEL.TASK", task, *deformed))


@pytest.mark.parametrize("part", ["train", "val"])
def test_a_broken_picture_of_either_set_stops_the_start(tiny, tmp_path, break_one, part, monkeypatch):
    monkeypatch.setenv("DETECTOR_CACHE", str(tmp_path.parent / f"{tmp_path.name}_cache"))
    path = break_one(part)
    text = fails_without_trace(lambda: train(tiny()), tmp_path, "1 of 8 pictures cannot be used")
    assert str(path) in text


def test_skipped_pictures_are_left_out_of_training_and_missed_in_the_test(tiny, tmp_path, break_one, caplog):
    break_one("train")
    break_one("val")
    metrics = train(in_epochs(tiny("DATALOADER.BROKEN", "skip", "SOLVER.STEPS", "()"), 2))
    assert "pictures that cannot be used: 2 (1 left out of training, 1 in the tests, where they count" in caplog.text
    assert read(tmp_path / "out" / "model_final.pth")["step"] == 4  # twice two batches of two: four pictures are left
    measured = (tmp_path / "out" / "metrics.json").read_text()
    assert '"images": 3' in measured
    assert run_test(tiny("DATALOADER.BROKEN", "skip")) == metrics
    with pytest.raises(UserError, match="1 of 3 pictures cannot be used"):
        run_test(tiny())


def test_a_test_looks_at_its_pictures_before_it_builds_the_model(tiny, break_one, monkeypatch):
    train(tiny("SOLVER.MAX_ITER", 1))
    break_one("val")
    monkeypatch.setattr(detection, "load_found", lambda *_: pytest.fail("the model was loaded"))
    with pytest.raises(UserError, match=r"1 of 3 pictures cannot be used:\n.*val/1\.png"):
        run_test(tiny())


def test_too_little_shared_memory_stops_the_start(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTOR_CACHE", str(tmp_path.parent / f"{tmp_path.name}_cache"))
    monkeypatch.setattr(capacity, "free_shared_memory", lambda: 100_000)
    text = fails_without_trace(
        lambda: train(tiny("DATALOADER.NUM_WORKERS", 1)), tmp_path, r"--shm-size=1g"
    )  # 2 x 3 x 64 x 96 bytes to train on and as many to test
    assert "that 1 worker may have ready, 4 of 0.1 MiB each, take 0.3 MiB" in text
    assert "DATALOADER.NUM_WORKERS 0" in text
    monkeypatch.setattr(capacity, "free_shared_memory", lambda: 4 * 2 * 3 * 2 * 64 * 96)
    DetectionTask.from_config(tiny("DATALOADER.NUM_WORKERS", 1))


def test_a_refused_resume_leaves_the_run_as_it_was(tiny, tmp_path):
    train(tiny("SOLVER.MAX_ITER", 2))
    before = everything(tmp_path / "out")
    for opts in (("SOLVER.MAX_ITER", 1), ("SOLVER.OPTIMIZER", "adamw"), ("MODEL.BACKBONE.NAME", "resnet34")):
        with pytest.raises(UserError, match=r"model_final\.pth"):
            train(tiny(*opts), resume=True)
        assert everything(tmp_path / "out") == before
    train(tiny("SOLVER.MAX_ITER", 3), resume=True)
    assert "MAX_ITER: 3" in (tmp_path / "out" / "config.yaml").read_text()


def test_a_folder_is_tried_without_a_trace(tmp_path):
    place = tmp_path / "a" / "b"
    assert try_folder(str(place), False) == place
    assert not list(tmp_path.iterdir())
    open_folder(str(place), False)
    assert try_folder(str(place), False) == place
    assert not list(place.iterdir())
    (place / "model_0000001.pth").touch()
    with pytest.raises(UserError, match="already holds a run"):
        try_folder(str(place), False)
    assert try_folder(str(place), True) == place
    for wrong in (place / "model_0000001.pth", place / "model_0000001.pth" / "inside"):
        with pytest.raises(UserError, match=r"OUTPUT_DIR .* cannot be written: Not a directory; choose another"):
            try_folder(str(wrong), False)


def test_a_folder_that_may_not_be_written_is_refused(tmp_path, monkeypatch):
    def full(**_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(UserError, match="cannot be written: Permission denied"):
        try_folder(str(tmp_path / "new"), False)
    monkeypatch.setattr("tempfile.TemporaryFile", full)
    with pytest.raises(UserError, match=r"OUTPUT_DIR .* cannot be written: No space left on device"):
        try_folder(str(tmp_path), False)


def aligned(text):
    """The rows of a block as a dict, after a look at its form."""
    _, *lines = text.splitlines()
    column = {len(line) - len(line.lstrip()) for line in lines}
    assert column == {2}
    width = max(len(line.split("  ")[1]) for line in lines)
    assert all(line[2 + width : 4 + width] == "  " for line in lines)
    return {line[2 : 2 + width].strip(): line[4 + width :] for line in lines}


def logged(caplog, start):
    (text,) = (r.getMessage() for r in caplog.records if r.getMessage().startswith(start))
    return text


def test_a_training_says_what_it_is_and_what_it_leaves(tiny, tmp_path, caplog, monkeypatch):
    caplog.set_level(logging.INFO, "detector")
    monkeypatch.setattr(header.torch, "get_num_threads", lambda: 1)
    train(tiny("MODEL.BACKBONE.FREEZE_CONV_BODY_AT", 1, "SOLVER.CHECKPOINT_PERIOD", 4))
    text = logged(caplog, "training\n")
    assert text.count("\n") < 12
    total = sum(v.numel() for k, v in detection.build_detector(tiny()).named_parameters())
    found = aligned(text)
    share = found.pop("parameters")
    assert share.startswith(f"{total:,}, ")
    assert share.endswith(" of them trained")
    assert 0 < total - int(share.split(", ", 1)[1].split(" ")[0].replace(",", "")) < 10_000  # the stem
    assert found == {
        "device": "cpu, 1 thread, float32",
        "model": "resnet10 (bn), fpn, fcos; from random weights",
        "classes": "2: dark, light",
        "train": "train: 5 pictures, 7 boxes",
        "test": "val: 3 pictures, 3 boxes",
        "schedule": "6 steps of 2 pictures: 2.4 epochs",
        "rate": "sgd 0.002, warm-up over 2 steps, then times 0.1 at 4",
        "workers": "0",
        "output": f"{tmp_path / 'out'}: a checkpoint every 4 steps, a test at the end",
    }
    end = logged(caplog, "written to ")
    files, _, commands = end.partition("\nnext\n")
    assert {*aligned(files)} == {path.name for path in (tmp_path / "out").iterdir()} - {"model_0000004.pth"}
    assert [line.strip() for line in commands.splitlines()] == [
        f"detector analyze errors {tmp_path / 'out'}",  # the test is done, and stands above
        f"detector predict {tmp_path / 'out'} PHOTOS",
    ]
    assert len(examine_run(tmp_path / "out").source.index) == 3


def test_a_resumed_training_and_several_sets(tiny, tmp_path, caplog, data, write_images):
    caplog.set_level(logging.INFO, "detector")
    second = write_images(tmp_path / "second", (1, 1), seed=5)
    sets = ("DATASETS.TEST", f"('{data[3]}', '{second}')", "DATASETS.TRAIN", f"('{data[1]}', '{second}')")
    train(tiny("SOLVER.MAX_ITER", 1, "DATASETS.TEST", "()"))
    move_run(tmp_path / "out" / "model_final.pth", tmp_path / "it's")
    caplog.clear()
    train(tiny("SOLVER.MAX_ITER", 2, "SOLVER.SCHEDULE", "cosine", *sets, "OUTPUT_DIR", tmp_path / "it's"), resume=True)
    text = logged(caplog, "training\n")
    assert "\n  test        val: 3 pictures, 3 boxes\n  test        second: 2 pictures, 2 boxes\n" in text
    assert "train+second: 7 pictures, 9 boxes" in text
    assert "from model_final.pth" in text
    assert "2 steps of 2 pictures, from step 1: 0.571 epochs" in text
    assert "then a cosine to 0" in text
    end = logged(caplog, "written to ")
    assert "val/metrics.json" in end
    assert "second/results.json" in end
    (line,) = [line for line in end.splitlines() if "detector analyze errors '" in line]  # quoted for a shell
    assert shlex.split(line)[3:] == [str(tmp_path / "it's" / "val")]
    assert len(examine_run(tmp_path / "it's" / "val").source.index) == 3


def test_without_a_test_set_there_is_nothing_to_analyse(tiny, tmp_path, caplog):
    caplog.set_level(logging.INFO, "detector")
    train(tiny("SOLVER.MAX_ITER", 1, "DATASETS.TEST", "()"))
    assert "detector test" not in caplog.text
    assert "detector analyze" not in caplog.text
    assert f"detector predict {tmp_path / 'out'} PHOTOS" in caplog.text
    assert "model_best.pth" not in logged(caplog, "written to ")


def test_the_quickstart_greets_without_a_warning(tmp_path, monkeypatch, caplog):
    generate = shapes.generate_shapes
    monkeypatch.setattr(shapes, "generate_shapes", lambda folder: generate(folder, num_train=4, num_val=2))
    cfg = load_config("quickstart", ["DATASETS.ROOT", str(tmp_path), "OUTPUT_DIR", str(tmp_path / "out")])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        task = DetectionTask.from_config(cfg)
        start(task, tmp_path / "out")
        assert next(iter(task.batches(0, 1))).images.shape[0] == 4
    assert [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING] == []
    start(DetectionTask.from_config(load_config("quickstart", [
        *("DATASETS.ROOT", str(tmp_path), "SOLVER.IMS_PER_BATCH", "2"),
    ])), tmp_path / "out")  # fmt: skip
    assert "batch norms measure their statistics on 2 images" in caplog.text  # the warning stays where it helps


def test_what_lies_beyond_the_last_step_is_warned_of(tiny, caplog):
    start(DetectionTask.from_config(tiny("SOLVER.MAX_ITER", 3)), Path("nowhere"))
    assert "SOLVER.STEPS (4,) with SOLVER.MAX_ITER 3" in caplog.text
    caplog.clear()
    start(DetectionTask.from_config(in_epochs(tiny("SOLVER.IMS_PER_BATCH", 1), 2)), Path("nowhere"))
    assert "SOLVER.STEPS" not in caplog.text
    assert "SOLVER.WARMUP_ITERS" not in caplog.text
    assert not Path("nowhere").exists()


@pytest.fixture
def recipe(tmp_path):
    """recipe(epochs=1, ..): a pre-training on four pictures of two classes."""
    for part in ("train", "val"):
        for name, value in (("a", 60), ("b", 200)):
            (tmp_path / "data" / part / name).mkdir(parents=True)
            for i in range(2):
                cv2.imwrite(str(tmp_path / "data" / part / name / f"{i}.png"), np.full((40, 40, 3), value, np.uint8))

    def build(**more):
        settings = {"epochs": 2, "batch_size": 2, "crop": 32, "lr": 0.01, "workers": 0, "device": "cpu"}
        places = {"data": str(tmp_path / "data"), "output": str(tmp_path / "out")}
        return Recipe("resnet10", **{**places, **settings, **more})

    return build


@pytest.mark.parametrize(
    ("more", "match"),
    [
        ({"backbone": "resnet11"}, "unknown backbone 'resnet11'"),
        ({"data": "nowhere"}, "there is no such folder"),
        ({"batch_size": 5}, "fewer than one batch: write --batch-size 4"),
        ({"weight": "nowhere.pth"}, "there is no file"),
        ({"workers": 2}, "write --workers 1 or --workers 0"),
    ],
)
def test_a_pretraining_that_fails_to_start_leaves_nothing(recipe, tmp_path, more, match, monkeypatch):
    monkeypatch.setattr(capacity, "usable_cores", lambda: 2)
    monkeypatch.setattr(capacity, "free_shared_memory", lambda: 2 * 4 * 2 * 2 * 3 * 32 * 32 - 1)
    settings = recipe(**{k: v for k, v in more.items() if k != "backbone"})
    settings.backbone = more.get("backbone", "resnet10")
    fails_without_trace(lambda: train_classifier(settings), tmp_path, match)


def test_a_pretraining_says_what_it_is_and_what_it_leaves(recipe, tmp_path, caplog, monkeypatch):
    caplog.set_level(logging.INFO, "detector")
    monkeypatch.setattr(header.torch, "get_num_threads", lambda: 2)
    train_classifier(recipe())
    found = aligned(logged(caplog, "training\n"))
    assert found.pop("parameters").endswith(", all trained")
    assert found == {
        "device": "cpu, 2 threads, float32",
        "model": "resnet10 (bn); from random weights",
        "classes": "2: a, b",
        "train": f"4 pictures of {tmp_path / 'data' / 'train'}, crops of 32 pixels",
        "test": f"4 pictures of {tmp_path / 'data' / 'val'}, after each epoch",
        "schedule": "4 steps of 2 pictures: 2 epochs",
        "rate": "sgd 0.01, warm-up over 0.2 epochs, then a cosine to 0",
        "workers": "0",
        "output": str(tmp_path / "out"),
    }
    end = logged(caplog, "written to ")
    out = tmp_path / "out"
    assert {"weights.pth", "weights_best.pth", "log.jsonl"} == {*aligned(end.partition("\nnext\n")[0])}
    assert f"detector classify --backbone resnet10 --data {tmp_path / 'data' / 'val'} --weight {out}/weights.pth" in end
    assert f"MODEL.BACKBONE.NAME resnet10 MODEL.WEIGHT {out}/weights.pth" in end


def test_a_measurement_of_accuracy_needs_shared_memory_too(recipe, tmp_path, monkeypatch):
    train_classifier(recipe(epochs=1))
    monkeypatch.setattr(capacity, "free_shared_memory", lambda: 4 * 2 * 3 * 32 * 32 - 1)
    settings = {"weight": str(tmp_path / "out" / "weights.pth"), "batch_size": 2, "device": "cpu", "norm": "frozen_bn"}
    with pytest.raises(UserError, match=r"--workers 1: .* write --workers 0, so that"):
        measure_accuracy("resnet10", tmp_path / "data" / "val", workers=1, **settings)
    monkeypatch.setattr(capacity, "free_shared_memory", lambda: 4 * 2 * 3 * 32 * 32)
    assert measure_accuracy("resnet10", tmp_path / "data" / "val", workers=1, **settings)["images"] == 4


def test_devices_and_precisions_are_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA X")
    assert header.device_text(torch.device("cuda", 1), "bf16") == "cuda:1 (NVIDIA X), mixed bf16"
    assert header.device_text(torch.device("mps"), "off") == "mps, float32"
    names = [f"c{i}" for i in range(9)]
    assert header.classes_text(names) == "9: c0, c1, c2, c3, c4, .."
