"""A run in int8: what is measured decides which layers stay in float32, is printed, written beside and inside."""

import json
import signal
import sys
from pathlib import Path
from types import ModuleType

import msgspec
import numpy as np
import pytest
import torch
from helpers.exporting import small

from detector.commands import export as export_command
from detector.config import config_text
from detector.data.loader import build_test_datasets
from detector.engine.stop import Stopped
from detector.errors import MissingPackageError, UserError
from detector.inference.export.facts import LeftOut, Loss
from detector.inference.export.write import check_form
from detector.inference.runtimes import ExportedDetector
from detector.models.build import build_detector
from detector.tasks import int8
from detector.tasks.export import export_run, facts_of
from detector.tasks.int8 import Wish, check_wish, int8_text, loss_text, training_pictures

SHIFTS = {"backbone.layer1": 0.0, "neck.inner": 0.05, "head.bbox_pred": 7.0}
"""Pixels by which int8 in a group moves boxes."""


@pytest.fixture
def trained(tiny, tmp_path, write_images):
    """The config of a run with a checkpoint, whose pictures have one rectangle each."""
    data = [write_images(tmp_path / name, (1,) * 12, seed=i) for i, name in enumerate(("ones", "twos"))]
    cfg = tiny("DATASETS.TRAIN", data[0], "DATASETS.TEST", data[1])
    (tmp_path / "out").mkdir()
    facts = {"classes": ["dark", "light"], "category_ids": [3, 7], "config": config_text(cfg), "step": 6}
    torch.save({"model": build_detector(cfg).state_dict(), **facts}, tmp_path / "out" / "model_final.pth")
    return cfg


def finder(shift):
    """A graph that finds the rectangle of a picture, `shift` pixels beside it."""

    def graph(images, sizes):
        boxes = np.zeros((len(images), 1, 4), np.float32)
        labels = np.zeros((len(images), 1), np.int64)
        for i, (image, (height, width)) in enumerate(zip(images, sizes, strict=True)):
            inside = image[0, :height, :width].astype(int)
            rows, columns = np.nonzero(abs(inside - 125) > 60)
            boxes[i, 0] = columns.min() + shift, rows.min(), columns.max() + 1 + shift, rows.max() + 1
            labels[i, 0] = inside[rows[0], columns[0]] > 125
        return boxes, np.full((len(images), 1), 0.9, np.float32), labels, np.ones(len(images), np.int64)

    return graph


@pytest.fixture
def files(monkeypatch):
    """What was exported, by path: the shift of boxes and facts. Under "shifts" those of the layers."""
    files = {}

    def write(model, facts, form, path, split=False):
        files[path] = 0.0, facts
        path.write_bytes(b"in float32")
        return 1000

    def read(path, precision="off", say=True):
        shift, facts = files[Path(path)]
        return ExportedDetector(finder(shift), facts)

    class Shifting:
        def __init__(self, form, source, facts, pictures, second_inputs):
            self.groups, self.pictures = [*files["shifts"]], pictures
            files["pictures"] = pictures

        def save(self, path, facts, left_out=(), only=""):
            groups = [only] if only else [group for group in self.groups if group not in left_out]
            files[path] = sum(files["shifts"][group] for group in groups), facts
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"in int8")
            return 280

    files["shifts"] = dict(SHIFTS)
    monkeypatch.setattr(int8, "export", write)
    monkeypatch.setattr(int8, "load_exported", read)
    monkeypatch.setattr(int8, "needed", lambda *names: None)
    monkeypatch.setattr("detector.tasks.export.check_form", lambda form, path: None)
    monkeypatch.setattr(int8, "FileQuantiser", Shifting)
    return files


def test_layers_that_hurt_stay_in_float32_and_no_others(trained, files, tmp_path, caplog):
    caplog.set_level("INFO", "detector")
    output = tmp_path / "files" / "a.onnx"
    facts = export_run(trained, "onnx", output, tmp_path / "out", int8=Wish())
    said = facts.int8
    assert [one.layers for one in said.left_out] == ["head.bbox_pred"]
    assert said.layers == ["backbone.layer1", "neck.inner"]
    assert said.left_out[0].lost > 0.1  # what int8 cost with it
    (cost,) = said.losses
    assert (cost.data, cost.images, cost.float32) == ("twos", 12, pytest.approx(1.0))
    assert cost.lost == pytest.approx(cost.float32 - cost.int8)
    assert cost.lost <= 0.005
    assert (said.bytes, said.pictures) == (0.28, 9)
    assert 0.1 < said.seconds < 10
    assert 0 < said.error < said.left_out[0].error
    shift, inside = files[output]
    assert shift == 0.05
    assert inside == facts
    assert json.loads((tmp_path / "files" / "a.onnx.int8.json").read_bytes()) == msgspec.to_builtins(said)
    assert sorted(path.name for path in output.parent.iterdir()) == ["a.onnx", "a.onnx.int8.json"]  # no trials are left
    text = caplog.messages[-1]
    assert text == int8_text(said, "a.onnx")
    assert "left in float32: head.bbox_pred (int8 in it alone changes detections by" in text


def test_nothing_is_left_out_for_nothing(trained, files, tmp_path, caplog):
    caplog.set_level("INFO", "detector")
    files["shifts"]["head.bbox_pred"] = 0.0
    facts = export_run(trained, "onnx", tmp_path / "a.onnx", tmp_path / "out", int8=Wish())
    assert facts.int8.left_out == []
    assert facts.int8.layers == [*SHIFTS]
    assert facts.int8.losses[0].lost == pytest.approx(0, abs=0.005)
    assert caplog.text.count(" -> ") == 1  # AP is told once


def test_an_aim_out_of_reach_is_said(trained, files, tmp_path, caplog):
    files["shifts"] = dict.fromkeys(SHIFTS, 6.0)
    facts = export_run(trained, "onnx", tmp_path / "a.onnx", tmp_path / "out", int8=Wish(aim=0.25))
    assert len(facts.int8.left_out) == 2  # one group is in int8 whatever happens
    assert "int8 costs more than 0.25 points of AP with whatever layers left out" in caplog.text


def test_unmeasured_all_layers_are_in_int8(trained, files, tmp_path, caplog):
    caplog.set_level("INFO", "detector")
    trained.defrost()
    trained.DATASETS.TEST = ()
    facts = export_run(trained, "onnx", tmp_path / "a.onnx", tmp_path / "out", int8=Wish(measured=False))
    assert (facts.int8.left_out, facts.int8.losses) == ([], [])
    assert facts.int8.error > 0.1  # and yet said
    assert "what it costs in AP was not measured" in caplog.text


def test_stopped_it_leaves_no_trials(trained, files, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "trials"))
    (tmp_path / "trials").mkdir()

    def stop(*args):
        assert list((tmp_path / "trials").iterdir())
        signal.getsignal(signal.SIGTERM)(signal.SIGTERM, None)

    monkeypatch.setattr(int8, "difference", stop)
    with pytest.raises(Stopped, match="stopped by SIGTERM"):
        export_run(trained, "onnx", tmp_path / "a.onnx", tmp_path / "out", int8=Wish())
    assert not list((tmp_path / "trials").iterdir())
    assert not (tmp_path / "a.onnx").exists()


def test_the_command_says_how(trained, files, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("detector.tasks.export.export_int8", lambda *args: asked.append(args[5]))
    words = [str(tmp_path / "out"), "--output", str(tmp_path / "a.onnx")]
    export_command.main([*words, "--int8"])
    export_command.main([*words, "--int8", "--calibrate", "7", "--aim", "0", "--unmeasured"])
    assert asked == [Wish(128, 0.5, True), Wish(7, 0.0, False)]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--calibrate", "3"], "--calibrate is for --int8"),
        (["--aim", "0"], "--aim is for --int8"),
        (["--unmeasured"], "--unmeasured is for --int8"),
        (["--int8", "--calibrate", "0"], "--calibrate 0: it is a number of pictures, 1 or more"),
        (["--int8", "--aim", "nan"], "--aim nan: points of AP that int8 may cost, 0 or more"),
        (
            ["--int8", "DATASETS.TEST", "()"],
            "DATASETS.TEST is empty, so what int8 costs cannot be measured: name a test",
        ),
        (
            ["--int8", "--unmeasured", "DATASETS.TRAIN", "()"],
            "DATASETS.TRAIN is empty: int8 is calibrated with training",
        ),
    ],
)
def test_mistakes_are_named(words, message, trained, files, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        export_command.main([str(tmp_path / "out"), "--output", str(tmp_path / "a.onnx"), *words])
    assert message in f"{stop.value.code}{capsys.readouterr().err}"
    assert not (tmp_path / "a.onnx").exists()


def test_missing_packages_and_a_format_without_int8_are_named(trained, tmp_path, monkeypatch):
    for package in ("onnx", "onnxscript", "openvino", "onnxruntime"):
        monkeypatch.setitem(sys.modules, package, ModuleType(package))
    monkeypatch.setitem(sys.modules, "nncf", None)
    check_wish(trained, "onnx", Wish())
    check_form("openvino", tmp_path / "a.xml")
    with pytest.raises(MissingPackageError, match=r'package nncf is .*-e "\.\[int8\]", .*residet\[int8\]"$'):
        export_run(trained, "openvino", tmp_path / "a.xml", int8=Wish())
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingPackageError, match=r'packages onnx, nncf are .*residet\[export,int8\]"$'):
        export_run(trained, "openvino", tmp_path / "a.xml", int8=Wish())
    with pytest.raises(UserError, match="--int8 --format torch: write onnx or openvino"):
        check_wish(trained, "torch", Wish())


def test_calibration_is_with_training_pictures_as_a_test_sees_them(trained, caplog):
    facts = facts_of(trained, ["dark", "light"], [3, 7], "", "", None)
    (ones,) = build_test_datasets(trained, outputs=facts.names).values()
    assert len(ones) == 12  # the test set, of other pictures
    found = training_pictures(trained, facts, 5)
    assert (len(found.calibration), len(found.held_out)) == (5, 3)
    images, sizes = found.calibration[0]
    assert (images.dtype, images.shape, sizes.tolist()) == (np.uint8, (1, 3, 64, 96), [[64, 96]])
    again = training_pictures(trained, facts, 9)
    pictures = [images.tobytes() for images, _ in (*again.calibration, *again.held_out)]
    assert len({*pictures}) == 12  # nothing twice: what is held out is not calibrated with
    tests = {ones[i][0].numpy().tobytes() for i in range(12)}
    assert not tests & {*pictures}
    assert [i.tobytes() for i, _ in found.calibration] == pictures[:5]  # always the same
    assert not caplog.messages
    training_pictures(trained, facts, 100)
    assert caplog.messages == ["--calibrate 100: DATASETS.TRAIN has 9 pictures for it"]


def test_texts():
    cost = Loss("test", 72, 0.41664, 0.41464, 0.002, -0.00066, 0.00527)
    assert loss_text(cost) == (
        "AP 41.66 -> 41.46 on test (72 images), lost +0.20 points (95 % interval -0.07 to +0.53)"
    )
    assert "(no interval, too few images)" in loss_text(msgspec.structs.replace(cost, low=None))
    said = int8.Int8(5, ["a"], [LeftOut("b", 0.25, 0.0123)], 0.031, [cost], 0.43, 0.281)
    assert int8_text(said, "x.onnx").splitlines()[2:] == [
        "  detections in training pictures held out differ by 3.1 % (0: as they were, 100: none is found again)",
        "  0.43 of its time, 0.28 of its size",
        "  left in float32: b (int8 in it alone changes detections by 25.0 %; +1.23 points lost)",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("form", ["onnx", "openvino"])
@pytest.mark.parametrize(
    ("head", "split"), [("fcos", False), ("refinedet", False), ("faster_rcnn", False), ("faster_rcnn", True)]
)
def test_real_files_are_a_quarter_as_large_and_find_much_the_same(head, split, form, tiny, tmp_path):
    for name in ("onnx", "onnxscript", "onnxruntime", *(["openvino", "nncf"] if form == "openvino" else [])):
        pytest.importorskip(name)
    model, own = small(head)
    names = ["a", "b", "c"]
    cfg = tiny("MODEL.HEAD.NAME", head, "MODEL.NUM_CLASSES", 3)
    facts = facts_of(own, names, [3, 7, 9], "0" * 64, "model.pth", 12)
    output = tmp_path / {"onnx": "a.onnx", "openvino": "a.xml"}[form]
    cfg.defrost()
    cfg.DATASETS.TEST = ()
    facts = msgspec.structs.replace(facts, names=["dark", "light", "c"])
    found = int8.export_int8(model, facts, form, output, cfg, Wish(4, measured=False), split)
    assert found.int8.error < 0.3
    assert found.int8.bytes < 0.35
    assert found.int8.layers[0] == "backbone.conv1"
    assert ("head.box_heads.fcs" in found.int8.layers) == (head == "faster_rcnn")
    assert int8.load_exported(output).facts == found
