"""What TensorBoard reads of a run."""

import builtins

import cv2
import numpy as np
import pytest

from detector.engine.log import TrainLog
from detector.engine.tensorboard import Board, require_tensorboard
from detector.errors import MissingPackageError

accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")


def read(folder):
    """Scalars by tag as (step, value), pictures by tag as [(step, RGB)], and the texts by tag."""
    events = accumulator.EventAccumulator(
        str(folder / "tensorboard"), dict.fromkeys(("scalars", "images", "tensors"), 0)
    )
    tags = events.Reload().Tags()
    scalars = {tag: [(e.step, pytest.approx(e.value)) for e in events.Scalars(tag)] for tag in tags["scalars"]}
    pictures = {
        tag: [
            (e.step, cv2.imdecode(np.frombuffer(e.encoded_image_string, np.uint8), cv2.IMREAD_COLOR)[..., ::-1])
            for e in events.Images(tag)
        ]
        for tag in tags["images"]
    }
    texts = {tag: [e.tensor_proto.string_val[0].decode() for e in events.Tensors(tag)] for tag in tags["tensors"]}
    return scalars, pictures, texts


def steps(report, start, stop):
    for step in range(start + 1, stop + 1):
        values = {"loss": float(step), "loss_cls": 0.5, "grad_norm": 2.0, "data_s": 0.25}
        report.step(step, values, 0.01, 100.0)


def test_numbers_measures_pictures_and_the_config_are_there(tmp_path):
    report = TrainLog(tmp_path, 0, 25, board=Board(tmp_path, 0, "SEED: 0\nLOG: {}\n"))
    steps(report, 0, 25)
    picture = np.zeros((6, 9, 3), np.uint8)
    picture[1:3, 2:5] = (200, 30, 10)
    metrics = {"val": {"AP": 0.25, "APl": -1.0, "AP/dark": 0.5}, "other": {"AP": 0.75}}
    report.evaluation(25, metrics, {"val/7": picture})
    report.evaluation(25, {"top1": 50.0}, {})
    report.close()
    scalars, pictures, texts = read(tmp_path)
    assert scalars["train/loss"] == [(20, 10.5), (25, 15.5)]
    assert scalars["train/lr"] == [(20, 0.01), (25, 0.01)]
    assert scalars["time/data_s"] == [(20, 0.25), (25, 0.25)]
    assert scalars.keys() == {
        *(
            "train/loss",
            "train/loss_cls",
            "train/lr",
            "train/grad_norm",
            "train/memory_mb",
            "time/data_s",
            "time/step_s",
        ),
        *("test/val/AP", "test/val/AP/dark", "test/other/AP", "test/top1"),
    }
    assert (scalars["test/val/AP/dark"], scalars["test/top1"]) == ([(25, 0.5)], [(25, 50.0)])
    ((step, shown),) = pictures["val/7"]
    assert step == 25
    assert np.array_equal(shown, picture)
    assert texts == {"config/text_summary": ["    SEED: 0\n    LOG: {}\n"]}


def test_a_resumed_run_has_no_step_twice(tmp_path):
    for start, stop in ((0, 60), (40, 80)):
        report = TrainLog(tmp_path, start, 80, board=Board(tmp_path, start, "SEED: 0\n"))
        steps(report, start, stop)
        report.evaluation(stop, {"val": {"AP": stop / 100}}, {"val/7": np.full((2, 2, 3), stop, np.uint8)})
        report.close()
    scalars, pictures, texts = read(tmp_path)
    assert scalars["train/loss"] == [(20, 10.5), (40, 30.5), (60, 50.5), (80, 70.5)]
    assert scalars["test/val/AP"] == [(80, 0.8)]  # that of step 60 was of steps that were made again
    assert [(step, int(shown[0, 0, 0])) for step, shown in pictures["val/7"]] == [(80, 80)]
    assert len(texts["config/text_summary"]) == 1


def test_the_missing_package_is_named_with_what_to_install(monkeypatch):
    real = builtins.__import__

    def absent(name, *rest):
        if name == "tensorboard":
            raise ModuleNotFoundError("No module named 'tensorboard'")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(MissingPackageError, match=r"No module named 'tensorboard'.*pip install \"residet\[log\]\""):
        require_tensorboard()
