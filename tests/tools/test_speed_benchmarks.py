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


@pytest.mark.slow
@pytest.mark.parametrize("tool", ["infer", "train"])
def test_both_run_from_end_to_end(tool, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [tool, "--size", "96", "128", "--rounds", "2", "--device", "cpu"])
    __import__(tool).main()
    lines = capsys.readouterr().out.splitlines()
    assert sum("fp32 to fp32:" in line for line in lines) == 2
    assert sum("of the arithmetic limit" in line for line in lines) == 8
