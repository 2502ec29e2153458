"""What is free, and what of it tensors may take."""

import pytest
import torch

from detector.engine import memory
from detector.engine.memory import CARD, GIB, HOST, Overhead, free_memory, overhead


def test_needed_and_allowed_are_each_other_s_opposite():
    extra = Overhead(100, 0.25)
    assert extra.needed(400) == 600
    assert extra.allowed(600) == 400
    assert extra.allowed(50) == 0


@pytest.mark.parametrize(("device", "found"), [("cpu", HOST), ("cuda", CARD), ("cuda:1", CARD), ("auto", CARD)])
def test_a_machine_and_a_card_differ(device, found):
    assert overhead(device) is found


def test_what_is_free_is_told_on_linux_alone(monkeypatch, tmp_path):
    found = free_memory(torch.device("cpu"))
    assert found is None or 2**20 < found < 2**50
    assert free_memory(torch.device("mps")) is None


def test_the_limit_of_a_container_counts(monkeypatch, tmp_path):
    (tmp_path / "memory.max").write_text(f"{GIB // 8}\n")
    (tmp_path / "memory.current").write_text(f"{GIB // 16}\n")
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    assert free_memory(torch.device("cpu")) == GIB // 16
    (tmp_path / "memory.max").write_text("max\n")
    assert free_memory(torch.device("cpu")) != GIB // 16
