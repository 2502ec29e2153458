"""`detector.load` and the work of `detector predict` with real, tiny detectors."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from helpers.runs import read

import detector
from detector.data.images import read_rgb
from detector.engine import device as devices
from detector.errors import MissingFileError, UserError
from detector.inference.predictor import Predictor
from detector.models.build import build_detector
from detector.tasks.measured import state_digest
from detector.tasks.predict import Summary, load, predict, summary_text
from detector.tasks.resolve import resolve_model
from detector.tasks.thresholds import FILE
from detector.tasks.trained import load_for_inference, run_config


@pytest.fixture
def run(tiny, tmp_path):
    """A run of random weights: its folder with a checkpoint that holds its config."""
    cfg = resolve_model(tiny("MODEL.FCOS.INFERENCE_TH", 0.001, "MODEL.FCOS.PRIOR_PROB", 0.2), 2)
    folder = tmp_path / "out"
    folder.mkdir()
    content = {"model": build_detector(cfg).state_dict(), "step": 3, "config": cfg.dump()}
    torch.save({**content, "classes": ["dark", "light"], "category_ids": [3, 7]}, folder / "model_final.pth")
    return folder


@pytest.fixture
def pictures(tmp_path, data):
    return sorted((tmp_path / "val").glob("*.png"))


def bits(results):
    return [[one.boxes.tobytes(), one.labels.tobytes(), one.scores.tobytes()] for one in results]


def test_a_run_or_its_checkpoint_is_loaded_without_a_config(run, pictures, tmp_path):
    """Three lines: what they find is what `detector predict` lists."""
    predictor = detector.load(run, precision="off")
    results = list(predictor(pictures[0].parent, threshold=0.1, batch=2))
    assert isinstance(predictor, detector.Predictor) and isinstance(results[0], detector.Result)  # noqa: PT018
    assert (predictor.names, predictor.category_ids, len(results)) == (["dark", "light"], [3, 7], 3)
    assert sum(map(len, results)) > 10
    shutil.copy(run / "model_final.pth", tmp_path / "alone.pth")
    for other in (str(run / "model_final.pth"), tmp_path / "alone.pth"):
        assert bits(load(other, precision="off")(pictures, 0.1, 2)) == bits(results)
    cfg = run_config(run)
    rows = predict(cfg, str(pictures[0].parent), tmp_path / "drawn", 0.1).rows
    assert [row["detections"] for row in rows] == [one.to_dict()["detections"] for one in results]


def test_pixels_and_files_give_the_same(run, pictures):
    predictor = load(run, precision="off")
    want = bits(predictor(pictures, 0.1))
    arrays = [read_rgb(path) for path in pictures]
    assert bits(predictor(arrays, 0.1)) == want
    assert bits(predictor([array[..., ::-1] for array in arrays], 0.1, order="bgr")) == want
    assert bits(predictor((torch.from_numpy(array).permute(2, 0, 1) for array in arrays), 0.1)) == want
    with ThreadPoolExecutor(2) as pool:
        assert [*pool.map(lambda i: bits(predictor(pictures, 0.1)), range(3))] == [want] * 3


def test_the_precision_is_chosen_by_config_or_machine(run, pictures, caplog, monkeypatch):
    caplog.set_level("INFO", "detector")
    has = {"architecture": "x86_64", "avx512_bf16": True}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has, raising=False)
    assert load(run).network.precision == "bf16"
    assert 'precision bf16, as cpu has instructions for it; precision="off" is float32' in caplog.messages
    assert next(load(run)(pictures[0], 0.1)).scores.dtype == np.float32
    has["avx512_bf16"] = False
    assert load(run).network.precision == "off"
    assert "precision off (float32), as cpu is not known to have instructions for bf16" in caplog.messages
    has["architecture"] = "aarch64"
    has["avx512_bf16"] = True
    assert not devices.gains_bf16(torch.device("cpu"))
    assert load(run, precision="bf16").network.precision == "bf16"
    content = read(run / "model_final.pth")
    content["config"] = content["config"].replace("AMP: 'off'", "AMP: bf16").replace('AMP: "off"', "AMP: bf16")
    assert run_config(run).TEST.AMP == "off"
    torch.save(content, run / "model_final.pth")
    assert load(run).network.precision == "bf16"
    assert "precision bf16, by the TEST.AMP of the config" in caplog.messages


def test_what_cannot_be_loaded_is_said(run, tmp_path):
    with pytest.raises(UserError, match=r"runtime 'onnxruntime': .* is for torch; leave runtime out"):
        load(run, runtime="onnxruntime")
    with pytest.raises(UserError, match=r"runtime 'torch': .*model\.ONNX is for onnxruntime"):
        load(tmp_path / "model.ONNX", runtime="torch")
    (tmp_path / "model.onnx").touch()
    with pytest.raises(UserError, match=r"precision bf16: .*model\.onnx is computed in what it was written in; an Op"):
        load(tmp_path / "model.onnx", precision="bf16")
    with pytest.raises(UserError, match=r"model\.onnx runs on the CPU: leave out device cuda"):
        load(tmp_path / "model.onnx", device="cuda")
    with pytest.raises(
        MissingFileError, match=r"gone: there is no such folder or checkpoint; name output/NAME or FILE"
    ):
        load(tmp_path / "gone")
    with pytest.raises(UserError, match="precision 'fp8': write auto, off, bf16, fp16"):
        load(run, precision="fp8")
    with pytest.raises(UserError, match=r"MODEL\.DEVICE 'gpu' is no device"):
        load(run, device="gpu")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty holds no checkpoint: name a run's folder, a checkpoint"):
        load(tmp_path / "empty")


def test_thresholds_are_those_of_these_weights(run, pictures):
    predictor = load(run, precision="off")
    text = rf'threshold="auto": there is no {run / FILE}: `detector analyze pr {run}` writes it'
    with pytest.raises(UserError, match=text):
        predictor(pictures, "auto")
    digest = state_digest(read(run / "model_final.pth")["model"])
    known = {"f1": 0.5, "precision": 0.5, "recall": 0.5, "objects": 9, "detections": 9}
    content = {
        "version": 1, "iou": 0.5, "digest": digest, "weight": "", "step": 3, "data": "val", "images": 2,
        "classes": {"dark": {"threshold": 0.4, **known}}, "other": 0.6,
    }  # fmt: skip
    (run / FILE).write_text(json.dumps(content))
    assert load(run).lowest("auto") == [0.4, 0.6]
    (run / FILE).write_text(json.dumps({**content, "digest": "of others"}))
    predictor = load(run)  # which works with numbers
    assert len(list(predictor(pictures, 0.1))) == 3
    with pytest.raises(UserError, match=r'threshold="auto": .* is of other weights'):
        predictor.lowest("auto")


def test_a_data_set_is_drawn_with_its_truth(run, tmp_path, data):
    """And listed as `detector test` lists it: under its own ids."""
    cfg = run_config(run)
    summary = predict(cfg, data[-1], tmp_path / "drawn", 0.1, formats=["pictures", "coco"])
    assert (summary.read, summary.failed) == (3, 0)
    rows = json.loads((tmp_path / "drawn" / "results.json").read_text())
    assert len(rows) == summary.detections > 10
    assert {row["image_id"] for row in rows} <= {1, 2, 3}
    assert {row["category_id"] for row in rows} <= {3, 7}


@pytest.mark.parametrize(
    ("summary", "text"),
    [
        (
            Summary(3, 0, 1, 5, 0.934),
            "5 detections, the highest of score 0.93; 1 of 3 images without one; 3 of 3 images read",
        ),
        (Summary(2, 1, 2, 0, 0.0), "0 detections; 2 of 2 images without one; 2 of 3 images read"),
        (
            Summary(1, 0, 1, 0, 0.349),
            "no detection of score 0.5 or more: the highest is 0.35, so try --threshold 0.34; 1 of 1 image without "
            "one; 1 of 1 image read",
        ),
    ],
)
def test_the_summary(summary, text):
    assert summary_text(summary, 0.5) == text


def test_a_predictor_made_by_hand_needs_a_network_only(run):
    model, names, ids = load_for_inference(run_config(run, ["MODEL.DEVICE", "cpu"]))
    assert (names, ids) == (["dark", "light"], [3, 7])
    assert Predictor.predict is Predictor.__call__
    assert not model.training
