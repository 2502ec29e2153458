"""The table of a GPU: every cell is there and in order, failures and the limit of time cost no other number."""

import json
import sys
from dataclasses import asdict
from types import SimpleNamespace

import pytest
import torch
from helpers import ROOT

sys.path.insert(0, str(ROOT / "tools/benchmark"))
gpu = pytest.importorskip("gpu")
cells = pytest.importorskip("gpu_cells")
CPU = torch.device("cpu")


class Clock:
    """A clock that runs only when told."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now


@pytest.fixture
def quick(monkeypatch):
    """No collection of garbage, of which a whole test session has much."""
    monkeypatch.setattr(gpu, "gc", SimpleNamespace(collect=lambda: None))


def row(who="ours", head="fcos", work="train", precision="off", **numbers):
    last = "channels_last" not in numbers
    known = {"channels_last": who == "ours" or precision != "off"} if last else {}
    cell = cells.Cell(
        who, head, work, precision, **known, **{k: numbers.pop(k) for k in ("channels_last",) if not last}
    )
    return {"cell": cell.name, **asdict(cell), "spent_s": 1.0, "peak_memory_mb": None, **numbers}


def test_every_cell_is_there_once():
    names = [cell.name for cell in cells.all_cells()]
    assert len(set(names)) == len(names)
    for work in ("train", "infer"):
        for precision in ("fp32", "fp16", "bf16"):
            assert f"ours refinedet resnet50 {work} {precision}" in names
            for head in ("fcos", "faster_rcnn"):
                for who in ("ours", "torchvision"):
                    assert f"{who} {head} resnet50 {work} {precision}" in names
        for backbone in ("sreresnet50", "resnest50"):
            for head in ("fcos", "faster_rcnn", "refinedet"):
                assert f"ours {head} {backbone} {work} fp16" in names
        assert f"ours fcos resnet50 {work} fp32 contiguous" in names
    for head in ("fcos", "faster_rcnn", "refinedet"):
        assert f"ours {head} resnet50 waits fp16" in names
    assert "ours fcos resnet50 data fp16" in names
    assert "ours fcos resnet50 train fp32 checkpointed" in names


def test_what_is_compared_in_float32_comes_first_and_side_by_side():
    names = [cell.name for cell in cells.all_cells()]
    assert names[:2] == ["ours fcos resnet50 train fp32", "torchvision fcos resnet50 train fp32"]
    first = [name for name in names[:9] if "fp32" in name]
    assert len(first) == 9


def test_a_cell_that_fails_is_written_down_and_the_next_one_runs(quick):
    filed, some = [], cells.all_cells()[:4]
    errors = {some[1]: torch.OutOfMemoryError("CUDA out of memory.\nTried"), some[2]: KeyError("x")}

    def action(cell):
        if cell in errors:
            raise errors[cell]
        return {"images_per_s": 2.0}

    gpu.run_cells(some, action, 100, lambda rows, left: filed.append((list(rows), left)))
    rows, left = filed[-1]
    assert [r.get("error") for r in rows] == [
        None,
        "OutOfMemoryError: CUDA out of memory. Tried",
        "KeyError: 'x'",
        None,
    ]
    assert [r.get("images_per_s") for r in rows] == [2.0, None, None, 2.0]
    assert left == []
    assert [len(rows) for rows, _ in filed] == [0, 1, 2, 3, 4]  # nothing is lost when it is killed
    assert filed[1][1] == [cell.name for cell in some[1:]]


def test_what_the_time_does_not_suffice_for_is_named(monkeypatch, quick):
    clock, filed, some = Clock(), [], cells.all_cells()[:5]
    monkeypatch.setattr(gpu, "time", clock)

    def action(cell):
        clock.now += 4
        return {"images_per_s": 1.0}

    gpu.run_cells(some, action, 7, lambda rows, left: filed.append((list(rows), left)))
    rows, left = filed[-1]
    assert [r["cell"] for r in rows] == [cell.name for cell in some[:2]]
    assert left == [cell.name for cell in some[2:]]


@pytest.mark.parametrize(("each", "runs"), [(0.01, 30), (0.5, 13), (2.0, 2), (5.0, 1), (20.0, 1)])
def test_a_cell_measures_for_at_most_its_budget(monkeypatch, each, runs):
    clock = Clock()
    monkeypatch.setattr(cells, "time", clock)
    bench = cells.Bench(CPU, (8, 8))

    def step():
        clock.now += each

    count, seconds = bench.clock(step)
    assert count == runs
    assert seconds == pytest.approx(count * each)
    assert clock.now <= max(8, 2 * each if each < 8 else each)


def test_goals_compare_the_same_head_work_and_precision():
    rows = [
        row(images_per_s=10.0, peak_memory_mb=7000.0), row(who="torchvision", images_per_s=8.0),
        row(precision="fp16", images_per_s=30.0), row(precision="bf16", images_per_s=36.0),
        row(who="torchvision", precision="fp16", images_per_s=24.0),
        row(who="torchvision", precision="bf16", error="no"),
        row(channels_last=False, images_per_s=1000.0),
        {**row(images_per_s=999.0, peak_memory_mb=9.0), "backbone": "sreresnet50"},
        {**row(images_per_s=998.0, peak_memory_mb=9.0), "checkpoint": True},
        row(head="faster_rcnn", peak_memory_mb=9000.0, images_per_s=5.0),
        row(work="waits", precision="fp16", waits=4),
    ]  # fmt: skip
    found = {one["goal"]: (one["value"], one["met"]) for one in gpu.goals(rows)}
    assert found["fcos fp32 train: GB at most"] == (pytest.approx(7.34, abs=0.01), True)
    assert found["faster_rcnn fp32 train: GB at most"] == (pytest.approx(9.44, abs=0.01), False)
    assert found["refinedet fp32 train: GB at most"] == (None, None)
    assert found["fcos train fp32: images/s over torchvision's"] == (1.25, True)
    assert found["fcos train best to best: images/s over torchvision's"] == (1.5, True)
    assert found["faster_rcnn train fp32: images/s over torchvision's"] == (None, None)
    assert found["fcos infer fp32: images/s over torchvision's"] == (None, None)
    assert found["fcos: waits for the device a step"] == (4, False)
    assert len(found) == 3 + 8 + 1


def test_the_page_says_everything():
    content = {
        "device": {"name": "cuda (A card)", "driver": "550.1"}, "size": (800, 1333), "train_batch": 2, "infer_batch": 1,
        "smoke": False,
        "cells": [
            row(images_per_s=3.21, run_s=0.6, peak_memory_mb=1234.0),
            row(head="refinedet", error="RuntimeError: a | b"),
            row(work="waits", waits=3, places={"a.py:7 x.item()": 2, "b.py:1 y": 1}, share_waited=0.25),
            row(work="data", precision="fp16", images_per_s=1.0, steps=20, steps_that_wait=5, share_waited=0.1),
        ],
        "goals": [
            {"goal": "g", "limit": 1.5, "value": 1.25, "met": False},
            {"goal": "h", "limit": 8.0, "value": None, "met": None},
        ],
        "left_out": ["ours x"],
    }  # fmt: skip
    text = gpu.markdown(content)
    lines = text.splitlines()
    assert lines[0] == "# cuda (A card)"
    assert "| ours fcos resnet50 train fp32 | 3.21 | 600.0 | 1234 |  |" in lines
    assert "| ours refinedet resnet50 train fp32 | | | | RuntimeError: a / b |" in lines
    assert "fcos: a training step waits 3 times for the device, 25% of its time" in lines
    assert "- 2 x `a.py:7 x.item()`" in lines
    assert "5 of 20 steps wait for data, 10% of the time" in text
    assert "| g | 1.5 | 1.25 | not met |" in lines
    assert "| h | 8 |  | not measured |" in lines
    assert lines[-1] == "Left out for want of time: ours x."


def test_the_driver_may_be_unknown(monkeypatch):
    def missing(*args, **kwargs):
        raise FileNotFoundError(args[0][0])

    monkeypatch.setattr(gpu.subprocess, "run", missing)
    assert gpu.driver() == "unknown"
    monkeypatch.setattr(gpu.subprocess, "run", lambda *args, **kwargs: SimpleNamespace(stdout="550.54\n550.54\n"))
    assert gpu.driver() == "550.54"


def test_without_a_gpu_the_command_says_what_to_write(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="sees no CUDA device; --smoke runs the same"):
        gpu.main(["--output", str(tmp_path)])
    with pytest.raises(SystemExit, match="--only fcos vgg16: no cell has these words"):
        gpu.main(["--output", str(tmp_path), "--smoke", "--only", "fcos vgg16"])


def test_a_cell_from_end_to_end(tmp_path, capsys):
    gpu.main(["--output", str(tmp_path), "--smoke", "--only", "ours fcos waits"])
    content = json.loads((tmp_path / "gpu.json").read_text())
    (one,) = content["cells"]
    assert 2 <= one["waits"] <= 3
    assert sum(one["places"].values()) == one["waits"]
    assert content["goals"][-1]["met"] is True
    assert content["device"].keys() >= {"torch", "torchvision", "date", "detector", "name"}
    text = (tmp_path / "gpu.md").read_text()
    assert "these numbers mean nothing" in text
    assert text in capsys.readouterr().out


@pytest.mark.slow
def test_all_cells_from_end_to_end(tmp_path):
    gpu.main(["--output", str(tmp_path), "--smoke", "--limit", "1000"])
    content = json.loads((tmp_path / "gpu.json").read_text())
    assert [one["cell"] for one in content["cells"]] == [cell.name for cell in cells.all_cells()]
    assert content["left_out"] == []
    for one in content["cells"]:
        assert "error" not in one, one
        assert one.get("images_per_s", 1) > 0
    assert sum(goal["met"] is None for goal in content["goals"]) == 3  # memory, of which a CPU has no count
