"""How often a training step makes the host wait for the device."""

import sys

import pytest
import torch
from helpers import ROOT
from torch.overrides import TorchFunctionMode

from detector.engine.loop import train
from detector.engine.run import open_folder
from detector.tasks.detection import DetectionTask, plan, start
from detector.tasks.several import to_device

sys.path.insert(0, str(ROOT / "tools/benchmark"))
waits = pytest.importorskip("waits")


def test_a_step_of_fcos_waits_three_times_at_most(tiny, tmp_path):
    totals = {}
    for steps in (1, 3):
        cfg = tiny("SOLVER.MAX_ITER", steps, "SOLVER.STEPS", "()", "SOLVER.CLIP_GRAD_NORM", 1)
        task = DetectionTask.from_config(cfg)
        run = start(task, open_folder(str(tmp_path / f"run{steps}"), resume=False))
        schedule = plan(task.cfg, tests=False)
        ready = list(task.batches(0, steps))  # by workers, which have no part in this
        task.batches = lambda *args, ready=ready, **kwargs: ready
        places = waits.host_waits(lambda run=run, task=task, s=schedule: train(run, task, s), task.device)
        totals[steps] = places.total()
    assert 2 <= (totals[3] - totals[1]) / 2 <= 3  # locations of objects, numbers for the log; that of fp16's overflow


def test_targets_are_copied_while_the_host_goes_on():
    kinds = []

    class Copies(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            if func is torch.Tensor.to:
                kinds.append(bool(kwargs and kwargs.get("non_blocking")))
            return func(*args, **(kwargs or {}))

    empty = torch.zeros(0, 4)
    target = {"boxes": empty, "labels": torch.zeros(0).long(), "ignore": empty, "image_id": 7, "original": (4, 5)}
    with Copies():
        moved = to_device({**target, "draw": 1}, torch.device("meta"))
    assert kinds == [True] * 3
    assert {moved[key].device.type for key in ("boxes", "labels", "ignore")} == {"meta"}
    assert (moved["image_id"], moved["original"], moved["draw"]) == (7, (4, 5), 1)
