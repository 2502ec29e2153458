"""The benchmarks against torchvision: the same weights give the same numbers, and both take turns."""

import sys

import pytest
import torch
from helpers import ROOT

sys.path.insert(0, str(ROOT / "tools/benchmark"))
peers = pytest.importorskip("peers")


def test_every_run_takes_its_turn_and_the_first_round_does_not_count():
    order = []
    runs = {name: lambda name=name: order.append(name) for name in "abc"}
    seconds = peers.take_turns(runs, 2, torch.device("cpu"))
    assert "".join(order) == "cbaabccba"
    assert {name: len(times) for name, times in seconds.items()} == {"a": 2, "b": 2, "c": 2}


def test_shares_are_of_the_same_round():
    seconds = {"ours": [1.0, 4.0, 3.0], "theirs": [2.0, 4.0, 4.0]}
    assert peers.share(seconds, "ours", "theirs") == "0.750 (0.50..1.00)"


def test_the_fastest_form_of_a_precision_is_held_against_the_goal(capsys):
    infer = pytest.importorskip("infer")
    infer.print_goals(
        "fcos",
        {
            "torchvision fp32": [10.0, 20.0, 10.0], "torchvision best": [5.0, 5.0, 5.0], "ours fp32": [7.0, 14.0, 7.0],
            "openvino fp32": [6.0, 12.0, 6.0], "ours best": [4.0, 4.0, 4.0],
        },
    )  # fmt: skip
    assert capsys.readouterr().out.splitlines() == [
        "  fp32, openvino fp32: 0.600 (0.60..0.60) of torchvision fp32's time: goal 0.66 reached",
        "  fp32, ours fp32: 0.700 (0.70..0.70) of torchvision fp32's time",
        "  bf16, ours best: 0.800 (0.80..0.80) of torchvision best's time: goal 0.60 missed",
    ]


def test_forms_are_left_out_where_they_cannot_run(monkeypatch):
    runtimes = pytest.importorskip("infer_runtimes")
    monkeypatch.setattr(runtimes.importlib.util, "find_spec", lambda name: None if name == "mayaku" else name)
    names = runtimes.available("fcos", torch.device("cpu"), False)
    assert "openvino int8" in names
    assert "onnx split" in names
    assert not {"mayaku fp32", "ours compiled"} & set(names)
    both = runtimes.available("faster_rcnn", torch.device("cpu"), True)
    assert {"onnx split", "ours compiled"} <= set(both)
    monkeypatch.setattr(runtimes.importlib.util, "find_spec", lambda name: name)
    has = ["mayaku fp32" in runtimes.available(head, torch.device("cpu"), True) for head in ("fcos", "faster_rcnn")]
    assert has == [False, True]
    assert {name.split()[0] for name in runtimes.available("fcos", torch.device("cuda"), False)} == {
        "torchvision", "ours",
    }  # fmt: skip


def test_an_openvino_file_is_as_large_as_graph_and_weights(tmp_path):
    infer = pytest.importorskip("infer")
    sizes = {"fp32.onnx": 4, "fp32.xml": 1, "fp32.bin": 2, "split.onnx": 5, "split.roi_heads.onnx": 6, "split.xml": 7}
    for name, size in (sizes | {"split.bin": 1, "split.roi_heads.xml": 3, "split.roi_heads.bin": 9}).items():
        (tmp_path / f"faster_rcnn_{name}").write_bytes(b"0" * size * 10**6)
    contest = infer.Contest("faster_rcnn", tmp_path, (480, 640), torch.device("cpu"), 1)
    names = "openvino bf16", "onnx fp32", "ours fp32", "onnx split", "openvino split"
    assert [infer.size_of(contest, name) for name in names] == ["3.0", "4.0", "", "11.0", "20.0"]


def test_what_goes_wrong_in_a_process_is_told(tmp_path, monkeypatch):
    infer = pytest.importorskip("infer")
    monkeypatch.setattr(torch, "set_num_threads", lambda number: None)
    contest = infer.Contest("fcos", tmp_path, (96, 128), torch.device("cpu"), 1)
    answers = []
    pipe = type("Pipe", (), {"send": lambda self, said: answers.append(said)})()
    sys.modules["infer_runtimes"].work(pipe, "torchvision fp32", contest)
    assert answers == [f"FileNotFoundError: [Errno 2] No such file or directory: '{tmp_path}/fcos_theirs.pth'"]


ONLY = {"infer": ["--only", "torchvision fp32", "torchvision best", "ours fp32", "ours best"], "train": []}


@pytest.mark.slow
@pytest.mark.parametrize("tool", ["infer", "train"])
def test_both_run_from_end_to_end(tool, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [tool, "--size", "96", "128", "--rounds", "2", "--device", "cpu", *ONLY[tool]])
    __import__(tool).main()
    lines = capsys.readouterr().out.splitlines()
    assert sum("fp32 to fp32:" in line for line in lines) == 2
    words, number = {"infer": ("GMAC a second", 2), "train": ("of the arithmetic limit", 8)}[tool]
    assert sum(words in line for line in lines) == number
