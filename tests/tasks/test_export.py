"""An exported file says enough of itself to be evaluated, and its measures are those of the run."""

import json
import re
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import cv2
import msgspec
import numpy as np
import pytest
import torch
from helpers import ROOT
from torch import nn

from detector.commands import export as export_command
from detector.commands import predict as predict_command
from detector.commands import test as test_command
from detector.config import config_text
from detector.errors import UserError
from detector.inference import runtimes
from detector.inference.export import Network, Whole
from detector.inference.export.facts import facts_text, second_path
from detector.inference.export.whole import second_stage
from detector.inference.export.write import PACKAGES, split_facts
from detector.inference.formats import EXPORTS
from detector.inference.runtimes import ExportedDetector, check_precision
from detector.models.build import build_detector, resolve_parts
from detector.ops import arrays
from detector.tasks.export import evaluate_exported, export_run
from detector.tasks.exported import exported_predictor, open_exported
from detector.tasks.measured import state_digest
from detector.tasks.predict import load
from detector.tasks.trained import load_trained, run_config


@pytest.fixture
def trained(tiny, tmp_path):
    """The config of a run with a checkpoint that finds much."""
    cfg = tiny("MODEL.FCOS.PRIOR_PROB", "0.3")
    model = build_detector(cfg)
    nn.init.normal_(model.head.bbox_pred.weight, std=0.05)
    nn.init.normal_(model.head.cls_logits.weight, std=0.05)
    (tmp_path / "out").mkdir()
    facts = {"classes": ["dark", "light"], "category_ids": [3, 7], "config": config_text(cfg), "step": 6}
    torch.save({"model": model.state_dict(), **facts}, tmp_path / "out" / "model_final.pth")
    return cfg


@pytest.fixture
def trained_twice(tiny, tmp_path):
    """As `trained`, of two stages."""
    opts = [
        *("MODEL.ROI_BOX_HEAD.MLP_HEAD_DIM", "32", "MODEL.ROI_HEADS.NMS", "0.95"),
        *("MODEL.RPN.POST_NMS_TOP_N_TEST", "50"),
    ]
    cfg = tiny("MODEL.HEAD.NAME", "faster_rcnn", *opts)
    model = build_detector(cfg)
    nn.init.normal_(model.head.rpn.objectness.weight, std=0.5)
    nn.init.normal_(model.head.box_heads[0].cls_logits.weight, std=0.5)
    model.head.box_heads[0].cls_logits.bias.data[-1] = -5.0  # background
    (tmp_path / "out").mkdir()
    facts = {"classes": ["dark", "light"], "category_ids": [3, 7], "config": config_text(cfg), "step": 6}
    torch.save({"model": model.state_dict(), **facts}, tmp_path / "out" / "model_final.pth")
    return cfg


@pytest.fixture
def files(monkeypatch):
    """What was exported, by path, and what is read as it: a graph that torch itself runs."""
    files = {}

    def write(model, facts, form, path, split=False):
        if split:
            facts = split_facts(model, facts)
        files[path] = model, facts
        path.write_bytes(b"a graph")
        return 7

    def read(path, precision="off", *, say=True):
        check_precision(Path(path), precision)
        model, facts = files[Path(path)]
        made = Network(model) if facts.split else Whole(model)

        def graph(images, sizes):
            with torch.no_grad():
                return [entry.numpy() for entry in made(torch.from_numpy(images), torch.from_numpy(sizes))]

        stage = second_stage(model.head)

        def second(given):
            with torch.no_grad():
                return [entry.numpy() for entry in stage(*(torch.from_numpy(given[name]) for name in stage.inputs))]

        return ExportedDetector(graph, facts, second if facts.second else None)

    monkeypatch.setattr("detector.tasks.export.check_form", lambda form, path: None)
    monkeypatch.setattr("detector.tasks.export.export", write)
    monkeypatch.setattr("detector.inference.runtimes.load_exported", read)
    return files


def test_what_a_file_says(trained, files, tmp_path):
    facts = export_run(trained, "onnx", tmp_path / "a.onnx", tmp_path / "out")
    model, _, _ = load_trained(trained, tmp_path / "out")
    assert (facts.names, facts.category_ids, facts.step) == (["dark", "light"], [3, 7], 6)
    assert (facts.weight, facts.digest) == ("model_final.pth", state_digest(model.state_dict()))
    assert (facts.resize.short, facts.resize.long, facts.resize.divisibility) == (64, 96, 32)
    assert (facts.limit, facts.scores, facts.thresholds) == (100, 0.05, None)
    assert facts.config == config_text(resolve_parts(trained))
    assert files[tmp_path / "a.onnx"][1] == facts


@pytest.mark.parametrize(("digest", "kept"), [("own", True), ("other", False)])
def test_thresholds_of_these_weights_are_kept(digest, kept, trained, files, tmp_path):
    model, _, _ = load_trained(trained, tmp_path / "out")
    own = state_digest(model.state_dict()) if digest == "own" else "0" * 64
    one = {"f1": 1.0, "precision": 1.0, "recall": 1.0, "objects": 1, "detections": 1}
    said = {"version": 1, "iou": 0.5, "digest": own, "weight": "", "step": 6, "data": "", "images": 1, "other": 0.4}
    classes = {"light": {"threshold": 0.7, **one}}
    (tmp_path / "out" / "thresholds.json").write_text(json.dumps({**said, "classes": classes}))
    facts = export_run(trained, "onnx", tmp_path / "a.onnx", tmp_path / "out")
    assert facts.thresholds == ([0.4, 0.7] if kept else None)


def measures(path):
    return {k: v for k, v in json.loads(path.read_bytes()).items() if k != "measured"}


@pytest.mark.parametrize("flags", [[], ["--split"]])
def test_its_measures_are_those_of_the_run(flags, trained, files, tmp_path):
    """By the commands; the numbers of other weights in the folder of the file stay."""
    run, file = str(tmp_path / "out"), tmp_path / "files" / "a.onnx"
    file.parent.mkdir()
    export_command.main([run, "--output", str(file), *flags])
    assert files[file][1].outputs[0] == ("logits" if flags else "boxes")
    test_command.main([run])
    test_command.main([str(file)])
    assert len(json.loads((tmp_path / "out" / "results.json").read_bytes())) > 20
    mine = measures(tmp_path / "files" / "metrics_a.onnx.json")
    want = measures(tmp_path / "out" / "metrics.json")
    assert mine == pytest.approx(want, abs=1e-6)
    said = json.loads((tmp_path / "files" / "metrics_a.onnx.json").read_bytes())["measured"]
    assert (said["weight"], said["step"]) == (str(file), 6)
    assert said["digest"] == files[file][1].digest


def test_the_measures_of_two_stages_are_those_of_the_run(trained_twice, files, tmp_path, capsys):
    run, file = tmp_path / "out", tmp_path / "a.onnx"
    export_command.main([str(run), "--output", str(file)])
    assert "copy both" not in capsys.readouterr().out
    export_command.main([str(run), "--output", str(file), "--split"])
    assert f"{tmp_path / 'a.roi_heads.onnx'}, with the second stage, belongs to it" in capsys.readouterr().out
    assert files[file][1].outputs[-2:] == ["objectness", "deltas"]
    for one in (run, file):
        test_command.main([str(one)])
    assert len(json.loads((run / "results.json").read_bytes())) > 20
    assert measures(tmp_path / "metrics_a.onnx.json") == pytest.approx(measures(run / "metrics.json"), abs=1e-6)


def test_its_numbers_never_take_the_place_of_the_runs(trained, files, tmp_path, capsys):
    """Though the weights are the same; nor do those of files of other formats."""
    run = tmp_path / "out"
    test_command.main([str(run)])
    before = {path: path.read_bytes() for path in run.iterdir()}
    for form, name in (("onnx", "model.onnx"), ("torch", "model.pt2")):
        export_run(trained, form, run / name, run)
        test_command.main([str(run / name)])
    assert {path: path.read_bytes() for path in before} == before
    written = [f"{kind}_{name}.json" for name in ("model.onnx", "model.pt2") for kind in ("metrics", "results")]
    assert {path.name for path in set(run.iterdir()) - {*before}} == {"model.onnx", "model.pt2", *written}
    assert "give way" not in capsys.readouterr().out
    test_command.main([str(run / "model.onnx"), "INPUT.MIN_SIZE_TEST", "48"])
    assert f"{run / 'metrics_model.onnx.json'}: these weights were measured otherwise before" in capsys.readouterr().out
    model, facts = files[run / "model.onnx"]
    files[run / "model.onnx"] = model, msgspec.structs.replace(facts, digest="5" * 64)  # the file of other weights
    test_command.main([str(run / "model.onnx")])
    assert measures(run / "metrics_model.onnx_55555555.json")
    assert json.loads((run / "metrics_model.onnx.json").read_bytes())["measured"]["digest"] == facts.digest


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--which", "best"], "holds its weights, so leave out --which best"),
        (["MODEL.WEIGHT", "x.pth"], "holds its weights, so leave out MODEL.WEIGHT"),
        (
            ["TEST.AMP", "bf16"],
            "a.onnx is computed in what it was written in; an OpenVINO file can be computed in bf16",
        ),
        (["MODEL.DEVICE", "cuda"], "a.onnx runs on the CPU: leave out MODEL.DEVICE cuda"),
        (
            ["MODEL.FCOS.NMS_TH", "0.5"],
            "is what its MODEL.FCOS.NMS_TH made of it: leave that out, or export the run anew",
        ),
        (["TEST.DETECTIONS_PER_IMG", "5"], "is what its TEST.DETECTIONS_PER_IMG made of it: leave that out"),
        (["DATALOADER.SIZE_DIVISIBILITY", "64"], "is what its DATALOADER.SIZE_DIVISIBILITY made of it"),
        (["INPUT.PIXEL_MEAN", "(1, 2, 3)"], "is what its INPUT.PIXEL_MEAN made of it"),
        (["DATASETS.TEST", "()"], "DATASETS.TEST"),
    ],
)
def test_what_a_file_cannot_be_told(words, message, trained, files, tmp_path):
    export_run(trained, "onnx", tmp_path / "a.onnx", tmp_path / "out")
    with pytest.raises(SystemExit) as stop:
        test_command.main([str(tmp_path / "a.onnx"), *words])
    assert message in str(stop.value.code)


def test_auto_is_what_a_file_was_written_in(trained, files, tmp_path, caplog):
    caplog.set_level("INFO", "detector")
    export_run(trained, "onnx", tmp_path / "a.onnx", tmp_path / "out")
    evaluate_exported(tmp_path / "a.onnx", ["TEST.AMP", "auto"])
    load(tmp_path / "a.onnx")
    for key in ("TEST.AMP", "precision"):
        assert f"{key} off (float32), as the file was written" in caplog.messages


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(SystemExit) as stop:
        test_command.main([str(tmp_path / "a.onnx")])
    assert str(stop.value.code) == f"error: {tmp_path / 'a.onnx'}: there is no such file"


@pytest.mark.parametrize(
    ("trained_as", "flags", "name"),
    [
        ("out", [], "model.onnx"),
        ("out", ["--format", "openvino"], "model.xml"),
        ("out", ["--format", "torch", "--split"], "model_split.pt2"),
        ("out/model_final.pth", [], "model_final.onnx"),
    ],
)
def test_without_a_name_the_file_lies_in_the_run_and_what_to_type_next_is_said(
    trained_as, flags, name, trained, files, tmp_path, capsys
):
    export_command.main([str(tmp_path / trained_as), *flags])
    assert [*files] == [tmp_path / "out" / name]
    assert f"next\n  detector test {tmp_path / 'out' / name}\n" in capsys.readouterr().out


def test_the_name_says_int8_and_best():
    args = SimpleNamespace(which="best", split=True, int8=True, format="onnx")
    assert export_command.own_name(args, None) == "model_best_split_int8.onnx"


def test_the_checkpoint_is_not_overwritten(trained, files, tmp_path):
    with pytest.raises(SystemExit) as stop:
        export_command.main([str(tmp_path / "out"), "--output", str(tmp_path / "out" / "model_final.pth")])
    assert str(stop.value.code).endswith("model_final.pth is the checkpoint itself")


def test_pictures_are_prepared_and_found_as_by_the_run(trained, files, tmp_path):
    """From arrays to boxes in their pixels, by two threads at once."""
    export_run(trained, "onnx", tmp_path / "a.onnx", tmp_path / "out")
    model = load(tmp_path / "a.onnx").network
    pixels = [np.random.default_rng(i).integers(0, 256, (100 + 20 * i, 150, 3), np.uint8) for i in range(2)]
    prepared = [model.prepare(one) for one in pixels]
    assert [one.shape for (one,) in prepared] == [(64, 96, 3), (64, 80, 3)]
    found = []

    def look():
        found.append(model.detect(prepared, [(100, 150), (120, 150)]))

    threads = [threading.Thread(target=look) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one, other in zip(*found, strict=True):
        assert len(one["scores"]) > 5
        assert torch.equal(one["boxes"], other["boxes"])
        assert one["boxes"][:, 2].max() > 100  # pixels of the original
    assert run_config(tmp_path / "out").MODEL.FCOS.PRIOR_PROB == 0.3


@pytest.mark.parametrize("flags", [[], ["--split"]])
def test_predict_finds_what_it_finds_by_the_run(flags, trained, files, tmp_path):
    """By the commands, with the thresholds of the run, which are in the file."""
    run, file = tmp_path / "out", tmp_path / "files" / "a.onnx"
    file.parent.mkdir()
    model, _, _ = load_trained(trained, run)
    one = {"f1": 1.0, "precision": 1.0, "recall": 1.0, "objects": 1, "detections": 1}
    said = {"version": 1, "iou": 0.5, "digest": state_digest(model.state_dict()), "weight": "", "step": 6, "data": ""}
    classes = {"light": {"threshold": 0.45, **one}}
    (run / "thresholds.json").write_text(json.dumps({**said, "images": 1, "other": 0.4, "classes": classes}))
    export_command.main([str(run), "--output", str(file), *flags])
    rows = []
    for name in (run, file):
        output = tmp_path / f"seen_{name.name}"
        words = [str(name), str(tmp_path / "val"), "--threshold", "auto", "--format", "json", "--output", str(output)]
        predict_command.main(words)
        rows.append(json.loads((output / "detections.json").read_bytes()))
    mine, wanted = ([one for row in some for one in row["detections"]] for some in rows)
    assert {one["threshold"] for one in mine} == {0.4, 0.45}
    assert len(mine) == len(wanted) > 10
    for one, other in zip(mine, wanted, strict=True):
        assert (one["class"], one["category_id"]) == (other["class"], other["category_id"])
        assert [*one["box"], one["score"]] == pytest.approx([*other["box"], other["score"]], abs=0.02)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--threshold", "auto"],
            "error: --threshold auto: FILE has no thresholds; `detector analyze pr RUN` finds them",
        ),
        (["--which", "best"], "holds its weights, so leave out --which best"),
        (["TEST.AMP", "bf16"], "is computed in what it was written in"),
        (["MODEL.NUM_CLASSES", "3"], "is what its MODEL.NUM_CLASSES made of it"),
        (["TEST.DETECTIONS_PER_IMG", "5"], "is what its TEST.DETECTIONS_PER_IMG made of it"),
        (["DATALOADER.SIZE_DIVISIBILITY", "64"], "is what its DATALOADER.SIZE_DIVISIBILITY made of it"),
    ],
)
def test_what_predict_cannot_do_with_a_file(words, message, trained, files, tmp_path):
    file = tmp_path / "a.onnx"
    export_run(trained, "onnx", file, tmp_path / "out")
    with pytest.raises(SystemExit) as stop:
        predict_command.main([str(file), str(tmp_path / "val"), "--output", str(tmp_path / "seen"), *words])
    assert message.replace("FILE", str(file)) in str(stop.value.code)
    assert not (tmp_path / "seen").exists()


def test_sizes_and_views_are_those_of_the_config(trained, files, tmp_path):
    """Also with overrides, and as the run has them."""
    cfg = trained.clone()
    cfg.merge_from_list(["TEST.BBOX_AUG.ENABLED", True, "TEST.BBOX_AUG.SCALES", (48,)])
    export_run(cfg, "onnx", tmp_path / "a.onnx", tmp_path / "out")
    network = load(tmp_path / "a.onnx").network
    assert [one.shape for one in network.prepare(np.zeros((100, 150, 3), np.uint8))] == [(64, 96, 3), (48, 72, 3)]
    opened = exported_predictor(*open_exported(tmp_path / "a.onnx", ["INPUT.MIN_SIZE_TEST", "32"]), tmp_path / "a.onnx")
    assert opened.network.prepare(np.zeros((100, 150, 3), np.uint8))[0].shape == (32, 48, 3)


def script_of_the_docs():
    text = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")
    _, code = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)  # the first is torch's
    return code


def assert_said(text, model, pixels):
    """Whether the lines of the script are what the detector finds in a picture that needs no resize."""
    (want,) = model.detect([(pixels,)], [pixels.shape[:2]])
    sure = [
        one for one in zip(*(want[k].tolist() for k in ("scores", "boxes", "labels")), strict=True) if one[0] >= 0.5
    ]
    assert len(sure) > 3
    for (score, box, label), line in zip(sure, text.splitlines(), strict=True):
        name, said, *sides = line.split()
        assert name == model.names[label]
        assert [float(said), *map(float, sides)] == pytest.approx([score, *box], abs=0.06)


def picture(path, height, width):
    """A picture of smooth noise, and its file."""
    rough = np.random.default_rng(0).integers(0, 256, (7, 10, 3), np.uint8)
    pixels = cv2.resize(rough, (width, height), interpolation=cv2.INTER_CUBIC)
    np.save(path, pixels)
    return pixels


@pytest.mark.parametrize(
    ("height", "width", "square", "split"),
    [
        (64, 96, 0, False),
        (130, 200, 0, False),
        (201, 40, 0, True),
        (70, 50, 96, False),
        (64, 96, 0, True),
        (1, 640, 0, False),
        (64, 96, 0, "two stages"),
    ],
)
def test_the_script_of_the_docs(height, width, square, split, request, files, tmp_path, monkeypatch, capsys):
    """With a stand-in for onnxruntime, which gets what the detector itself would."""
    cfg = request.getfixturevalue("trained_twice" if split == "two stages" else "trained").clone()
    cfg.defrost()
    cfg.INPUT.SQUARE_SIZE = square
    export_run(cfg, "onnx", tmp_path / "a.onnx", tmp_path / "out", split=bool(split))
    model, pixels = runtimes.load_exported(tmp_path / "a.onnx"), picture(tmp_path / "a.npy", height, width)
    network = load(tmp_path / "a.onnx").network
    got = {}

    class Session:
        def __init__(self, path, providers):
            self.second = path == str(tmp_path / "a.roi_heads.onnx")
            assert self.second or path == str(tmp_path / "a.onnx")

        def get_modelmeta(self):
            return SimpleNamespace(custom_metadata_map={"detector": facts_text(model.facts)})

        def run(self, outputs, inputs):
            assert outputs is None
            if self.second:
                return model.second(inputs)
            got.update(inputs)
            return model.graph(inputs["images"], inputs["sizes"])

    monkeypatch.setitem(sys.modules, "onnxruntime", SimpleNamespace(InferenceSession=Session))
    monkeypatch.setitem(sys.modules, "arrays", arrays)
    monkeypatch.setattr(sys, "argv", ["boxes.py", str(tmp_path / "a.onnx"), str(tmp_path / "a.npy")])
    code = script_of_the_docs()
    assert set(re.findall(r"^import (.*)$", code, re.MULTILINE)) == {"json, sys", "numpy as np, onnxruntime"}
    capsys.readouterr()
    exec(compile(code, "boxes.py", "exec"), {})
    text = capsys.readouterr().out
    (want,) = network.prepare(pixels)
    assert got["images"].dtype == np.uint8
    assert got["sizes"].tolist() == [list(want.shape[:2])]
    assert all(side % 32 == 0 for side in got["images"].shape[2:])
    inside = got["images"][0, :, : want.shape[0], : want.shape[1]].transpose(1, 2, 0)
    assert np.abs(inside.astype(int) - want).max() <= 1
    assert got["images"].sum() == inside.sum()
    if want.shape == pixels.shape:
        assert_said(text, network, pixels)
    elif text:
        sides = np.array([[float(side) for side in line.split()[2:]] for line in text.splitlines()])
        assert sides[:, 2].max() <= width + 0.1
        assert sides[:, 3].max() <= height + 0.1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "flags"), [("onnx", []), ("openvino", []), ("torch", []), ("onnx", ["--split"]), ("openvino", ["--split"])]
)
@pytest.mark.parametrize("stages", ["trained", "trained_twice"])
def test_a_real_file_measures_the_same(stages, form, flags, request, tmp_path):
    request.getfixturevalue(stages)
    for name in (*PACKAGES[form], {"onnx": "onnxruntime"}.get(form, form)):
        pytest.importorskip(name)
    file = tmp_path / "files" / f"a{EXPORTS[form]}"
    export_command.main([str(tmp_path / "out"), "--format", form, "--output", str(file), *flags])
    test_command.main([str(tmp_path / "out")])
    test_command.main([str(file)])
    mine = measures(tmp_path / "files" / f"metrics_{file.name}.json")
    assert mine == pytest.approx(measures(tmp_path / "out" / "metrics.json"), abs=1e-4)
    seen = []
    for name in (tmp_path / "out", file):
        output = tmp_path / f"seen_{name.name}"
        predict_command.main([str(name), str(tmp_path / "val"), "--format", "json", "--output", str(output)])
        seen += [
            one["score"] for row in json.loads((output / "detections.json").read_bytes()) for one in row["detections"]
        ]
    assert seen[: len(seen) // 2] == pytest.approx(seen[len(seen) // 2 :], abs=1e-4)
    assert len(seen) > 10
    if form == "onnx":
        pixels = picture(tmp_path / "a.npy", 64, 96)
        (tmp_path / "arrays.py").write_bytes(Path(arrays.__file__).read_bytes())
        words = [sys.executable, "-c", script_of_the_docs(), str(file), str(tmp_path / "a.npy")]
        said = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
        assert said.returncode == 0, said.stderr
        assert_said(said.stdout, load(file).network, pixels)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["onnx", "openvino", "torch"])
def test_the_second_stage_of_a_file_goes_where_a_whole_one_takes_its_place(form, trained_twice, tmp_path):
    for name in (*PACKAGES[form], {"onnx": "onnxruntime"}.get(form, form)):
        pytest.importorskip(name)
    file, words = tmp_path / "files" / f"a{EXPORTS[form]}", [str(tmp_path / "out"), "--format", form, "--output"]
    export_command.main([*words, str(file), "--split"])
    assert second_path(file).is_file()
    export_command.main([*words, str(file)])
    assert {path.stem for path in file.parent.iterdir()} == {"a"}
    load(file)


def test_a_run_may_be_called_as_a_file(trained, tmp_path):
    """Its folder's name decides nothing."""
    run = tmp_path / "run.onnx"
    (tmp_path / "out").rename(run)
    assert load(run).names == ["dark", "light"]
    predict_command.main([str(run), str(tmp_path / "val"), "--format", "json", "--output", str(tmp_path / "seen")])
    assert (tmp_path / "seen" / "detections.json").exists()


def test_what_load_takes_with_a_file(trained, files, tmp_path):
    export_run(trained, "onnx", tmp_path / "a.onnx", tmp_path / "out")
    for runtime in ("auto", "onnxruntime"):
        assert load(tmp_path / "a.onnx", device=torch.device("cpu"), runtime=runtime).names == ["dark", "light"]
    with pytest.raises(UserError, match=r"runtime 'torch': .*a\.onnx is for onnxruntime; leave runtime out"):
        load(tmp_path / "a.onnx", runtime="torch")
    with pytest.raises(UserError, match=r"a\.onnx runs on the CPU: leave out device cuda"):
        load(tmp_path / "a.onnx", device=torch.device("cuda"))
    for path in (None, 5, b"x"):
        with pytest.raises(UserError, match=rf"^load\({path!r}\): pass the path of a run's folder"):
            load(path)
