"""Exported files are computed in float32 unless asked, whatever a runtime's own default is."""

import sys
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
import torch
from helpers.exporting import small

from detector.errors import MissingFileError, UserError
from detector.inference import runtimes
from detector.inference.export.facts import SECOND, Facts, Int8, facts_text, second_path
from detector.inference.export.write import INPUTS, split_facts, with_second
from detector.inference.runtimes import Opened, auto_text, check_precision, load_exported
from detector.tasks.export import facts_of

INT8 = Int8(5, ["a"], [], 0.0, [], 0.5, 0.3)


@pytest.fixture
def bf16(monkeypatch):
    """bf16(True): whether the processor has instructions for it."""

    def has(value):
        told = {"architecture": "x86_64", "avx512_bf16": value}
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: told, raising=False)

    return has


@pytest.fixture
def facts() -> Facts:
    return facts_of(small("fcos")[1], ["a", "b", "c"], [3, 7, 9], "", "model.pth", None)


@pytest.fixture
def compiled(facts, tmp_path, monkeypatch):
    """The settings that a stand-in for OpenVINO compiles a file with, whose path is among them."""
    settings = {"path": tmp_path / "a.xml"}
    for name in ("a.xml", "a.bin"):
        (tmp_path / name).write_bytes(b"a graph")
    ports = [[SimpleNamespace(any_name=name) for name in names] for names in (("images", "sizes"), facts.outputs)]

    class Core:
        def read_model(self, path):
            said = SimpleNamespace(astype=lambda kind: facts_text(facts))
            return SimpleNamespace(has_rt_info=lambda path: True, get_rt_info=lambda path: said)

        def compile_model(self, graph, device, given):
            settings.update(given, device=device)
            return SimpleNamespace(inputs=ports[0], outputs=ports[1])

    monkeypatch.setitem(sys.modules, "openvino", SimpleNamespace(Core=Core))
    return settings


def test_openvino_is_float32_unless_asked(compiled, bf16):
    bf16(True)
    load_exported(compiled["path"])
    assert (compiled["device"], compiled["INFERENCE_PRECISION_HINT"]) == ("CPU", "f32")
    load_exported(compiled["path"], "bf16")
    assert compiled["INFERENCE_PRECISION_HINT"] == "bf16"


def test_what_a_file_is_not_computed_in_is_refused(compiled, bf16):
    bf16(False)
    with pytest.raises(
        UserError, match=r"precision bf16: this processor has no instructions for it, so .*a\.xml would"
    ):
        load_exported(compiled["path"], "bf16")
    bf16(True)
    with pytest.raises(UserError, match=r"precision fp16: .*a\.xml is computed in what it was written in; leave it"):
        load_exported(compiled["path"], "fp16")
    with pytest.raises(UserError, match=r"precision bf16: a\.onnx is computed in what .*; an OpenVINO file can be"):
        check_precision(Path("a.onnx"), "bf16")
    check_precision(Path("a.onnx"), "off")
    assert "device" not in compiled


def test_what_auto_is_for_a_file(facts, bf16):
    bf16(True)
    faster = "off (float32), as the file was written; bf16 is faster here, and moves boxes"
    assert auto_text(Path("a.xml"), facts) == faster
    assert auto_text(Path("a.onnx"), facts) == "off (float32), as the file was written"
    bf16(False)
    assert auto_text(Path("a.xml"), facts) == "off (float32), as the file was written"
    assert auto_text(Path("a.xml"), msgspec.structs.replace(facts, int8=INT8)).startswith("int8, which the file was")


def test_a_file_in_int8_says_so(compiled, facts, caplog, monkeypatch):
    caplog.set_level("INFO", "detector")
    load_exported(compiled["path"])
    assert caplog.messages == [f"{compiled['path']}: 3 classes, of model.pth"]
    caplog.clear()
    load_exported(compiled["path"], say=False)
    assert not caplog.messages
    other = facts_text(msgspec.structs.replace(facts, int8=INT8))
    monkeypatch.setattr(
        "detector.inference.runtimes.read_facts", lambda text, path: msgspec.json.decode(other, type=Facts)
    )
    load_exported(compiled["path"])
    assert caplog.messages == [f"{compiled['path']}: 3 classes, in int8, of model.pth"]


def test_a_file_whose_metadata_are_no_text_is_named(tmp_path, monkeypatch):
    class Session:
        def __init__(self, *given, **named):
            pass

        def get_modelmeta(self):
            return b"\xff".decode()

    faults = dict.fromkeys(
        ("InvalidProtobuf", "InvalidGraph", "InvalidArgument", "Fail", "NotImplemented"), ConnectionError
    )
    state = SimpleNamespace(onnxruntime_pybind11_state=SimpleNamespace(**faults))
    runtime = SimpleNamespace(capi=state, SessionOptions=SimpleNamespace, InferenceSession=Session)
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
    (tmp_path / "a.onnx").write_bytes(b"a graph")
    with pytest.raises(UserError, match=r"a\.onnx is damaged: what it says of itself is no text \(.*utf-8"):
        load_exported(tmp_path / "a.onnx")


@pytest.fixture
def two_files(tmp_path, monkeypatch):
    """A split file of two stages, that beside it, and what is read as them, by path; no runtime is asked."""
    model, cfg = small("faster_rcnn")
    path = tmp_path / "a.b.onnx"
    beside = second_path(path)
    for one in (path, beside):
        one.write_bytes(b"a graph")
    facts = with_second(split_facts(model, facts_of(cfg, ["a", "b", "c"], [3, 7, 9], "", "model.pth", None)), beside)
    files = {
        path: Opened(lambda given, outputs: [], facts_text(facts), list(INPUTS), facts.outputs),
        beside: Opened(lambda given, outputs: [], SECOND, facts.second.inputs, facts.second.outputs),
    }
    monkeypatch.setattr(runtimes, "_opened", lambda path, precision: files[path])
    return path, files


def test_a_file_of_two_stages_has_the_second_beside_it(two_files):
    path, files = two_files
    beside = path.with_name("a.b.roi_heads.onnx")
    assert [*files] == [path, beside]
    assert load_exported(path).second is not None
    with pytest.raises(
        UserError, match=r"a\.b\.roi_heads\.onnx is the second of two files: name the first, a\.b\.onnx$"
    ):
        load_exported(beside)
    renamed = beside.rename(path.with_name("c.onnx"))
    with pytest.raises(
        MissingFileError, match=r"a\.b\.onnx: its second stage, a\.b\.roi_heads\.onnx, is not beside it; copy both"
    ):
        load_exported(path)
    files[renamed] = files[beside]
    with pytest.raises(UserError, match=r"c\.onnx is the second of two files: name the first, NAME\.onnx$"):
        load_exported(renamed)


def test_the_second_file_is_that_of_the_same_export(two_files):
    path, files = two_files
    beside = second_path(path)
    beside.write_bytes(b"another graph")
    message = r"a\.b\.roi_heads\.onnx does not belong to a\.b\.onnx: it is of another export; copy both files of one"
    with pytest.raises(UserError, match=message):
        load_exported(path)
    beside.write_bytes(b"a graph")
    files[beside] = files[beside]._replace(said=files[path].said)
    with pytest.raises(UserError, match=message):
        load_exported(path)
    files[beside] = files[beside]._replace(said=SECOND, inputs=["boxes"])
    with pytest.raises(
        UserError, match=r"roi_heads\.onnx is no detector that .*: it turns boxes into scores, deltas, and"
    ):
        load_exported(path)


def test_a_file_of_torch_with_other_inputs_or_outputs_is_named(facts, tmp_path, monkeypatch):
    (tmp_path / "a.pt2").write_bytes(b"a graph")
    opened = Opened(lambda given, outputs: [], facts_text(facts), list(INPUTS), len(facts.outputs))
    monkeypatch.setattr(runtimes, "_opened", lambda path, precision: opened)
    assert load_exported(tmp_path / "a.pt2").facts == facts
    for other in ({"inputs": ["sizes", "images"]}, {"inputs": ["images"]}, {"outputs": 3}):
        monkeypatch.setattr(runtimes, "_opened", lambda path, precision, other=other: opened._replace(**other))
        with pytest.raises(UserError, match=r"a\.pt2 is no detector that .*: its graph has other inputs and outputs"):
            load_exported(tmp_path / "a.pt2")
