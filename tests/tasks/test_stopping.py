"""A training that is stopped on its way: what is kept, what is said, and that it goes on with the same bits."""

import os
import re
import signal
import time
from pathlib import Path

import pytest
import torch
from helpers.fresh import fresh
from helpers.runs import read, records, same_bits

from detector.data.dataset import CocoDetection
from detector.engine.stop import Stopped
from detector.errors import UserError
from detector.evaluation.coco import CocoEvaluator
from detector.models.detector import Detector
from detector.tasks.detection import DetectionTask, train
from detector.tasks.detection import test as evaluate

RUN = ("SOLVER.MAX_ITER", 6, "SOLVER.TEST_PERIOD", 2)


def at_call(monkeypatch, owner, name, number, action):
    """Do something in the call of this number, before what is called."""
    real, calls = getattr(owner, name), []

    def called(*given, **named):
        calls.append(1)
        if len(calls) == number:
            action()
        return real(*given, **named)

    monkeypatch.setattr(owner, name, called)


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


def fail(error):
    def action():
        raise error

    return action


@pytest.fixture(scope="module")
def kept():
    """What `whole` gave the first time: the pictures and the run are the same in all tests."""
    return {}


@pytest.fixture
def whole(tiny, tmp_path, kept):
    """The last checkpoint of an uninterrupted run."""
    if not kept:
        train(tiny(*RUN, "OUTPUT_DIR", tmp_path / "whole"))
        kept.update(read(tmp_path / "whole" / "model_final.pth"))
    return kept


def resumed(tiny, tmp_path, *opts):
    train(tiny(*RUN, *opts), resume=True)
    return read(tmp_path / "out" / "model_final.pth")


PLACES = {
    "in the losses": (DetectionTask, "losses", 3, 3),
    "in the update": (torch.optim.SGD, "step", 3, 3),
    "while a picture is read": (
        CocoDetection,
        "__getitem__",
        11,
        3,
    ),  # of the fourth batch; three are of the evaluation
    "in an evaluation": (CocoEvaluator, "add", 2, 2),
    "while the best is written": (DetectionTask, "weights", 1, 2),
    "in the last evaluation": (CocoEvaluator, "add", 5, 6),
}


@pytest.mark.parametrize("place", PLACES)
def test_the_finished_steps_are_kept_and_the_run_goes_on_with_the_same_bits(
    tiny, tmp_path, whole, monkeypatch, caplog, place
):
    owner, name, number, step = PLACES[place]
    with monkeypatch.context() as patch:
        at_call(patch, owner, name, number, interrupt)
        with pytest.raises(Stopped) as stopped:
            train(tiny(*RUN))
    path = tmp_path / "out" / ("model_final.pth" if step == 6 else f"model_{step:07d}.pth")
    assert str(stopped.value) == (f"stopped by Ctrl-C: step {step} of 6 is kept in {path}: --resume goes on from there")
    assert stopped.value.status == 130
    assert read(path)["step"] == step
    assert records(tmp_path / "out")[-1] == {"step": step, "event": "stopped", "by": "Ctrl-C"}
    last = resumed(tiny, tmp_path)
    assert same_bits(last["model"], whole["model"])
    assert last["metrics"] == whole["metrics"]


def test_before_the_first_step_nothing_is_kept(tiny, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        at_call(patch, CocoDetection, "__getitem__", 1, interrupt)
        with pytest.raises(Stopped, match="stopped by Ctrl-C: no step was finished, so no checkpoint was written"):
            train(tiny(*RUN))
    assert not list((tmp_path / "out").glob("*.pth"))
    at_call(monkeypatch, DetectionTask, "build", 1, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Stopped, match="stopped by SIGTERM before the first step: nothing was written") as stopped:
        train(tiny(*RUN))
    assert stopped.value.status == 143


def test_a_resumed_run_that_is_stopped_before_a_step_names_what_it_came_from(tiny, tmp_path, monkeypatch):
    train(tiny("SOLVER.MAX_ITER", 2))
    at_call(monkeypatch, CocoDetection, "__getitem__", 1, interrupt)
    with pytest.raises(Stopped, match=rf"--resume goes on from {re.escape(str(tmp_path))}.*model_final\.pth"):
        train(tiny("SOLVER.MAX_ITER", 4, "SOLVER.STEPS", "()", "DATASETS.TEST", "()"), resume=True)


def test_a_broken_picture_costs_no_step(tiny, tmp_path, whole, monkeypatch):
    with monkeypatch.context() as patch:
        at_call(patch, CocoDetection, "_read", 9, fail(UserError("7.png: the picture is broken; fetch it again.")))
        with pytest.raises(UserError) as stopped:
            train(tiny(*RUN))
    step = read(next((tmp_path / "out").glob("model_0*.pth")))["step"]
    path = tmp_path / "out" / f"model_{step:07d}.pth"
    assert str(stopped.value) == (
        f"7.png: the picture is broken; fetch it again. Step {step} of 6 is kept in {path}: --resume goes on from there"
    )
    assert same_bits(resumed(tiny, tmp_path)["model"], whole["model"])


MEMORY = {
    "device": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.50 GiB. GPU 0 has a total"),
    "processor": RuntimeError(
        "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to "
        "allocate 1073741824 bytes. Error code 12 (Cannot allocate memory)"
    ),
    "python": MemoryError(),
    "system": OSError(12, "Cannot allocate memory"),
}


@pytest.mark.parametrize("kind", MEMORY)
def test_out_of_memory_names_the_keys_and_costs_no_step(tiny, tmp_path, whole, monkeypatch, kind):
    """In the third step, after its batch norms have seen the images: their statistics go back."""
    with monkeypatch.context() as patch:
        at_call(patch, torch.Tensor, "backward", 3, fail(MEMORY[kind]))
        with pytest.raises(UserError) as stopped:
            train(tiny(*RUN))
    text = str(stopped.value)
    assert text.startswith("out of memory")
    assert {"device": "of the GPU (1.50 GiB", "processor": "(1024 MiB more"}.get(kind, "") in text
    keys = ["SOLVER.AMP bf16", "SOLVER.IMS_PER_BATCH 1 SOLVER.REFERENCE_BATCH 2", "SOLVER.ACCUM_ITERS 2 (now 1)"]
    keys += ["MODEL.BACKBONE.CHECKPOINT_STAGES 1,2,3,4 (now none)", "INPUT.MAX_SIZE_TRAIN 72"]
    places = [text.index(key) for key in keys]
    assert places == sorted(places)
    kept = tmp_path / "out" / "model_0000002.pth"
    assert text.endswith(f". Step 2 of 6 is kept in {kept}: --resume goes on from there")
    assert same_bits(resumed(tiny, tmp_path)["model"], whole["model"])


def test_an_update_that_fails_half_way_is_not_kept(tiny, tmp_path, monkeypatch):
    at_call(monkeypatch, torch.optim.SGD, "step", 2, fail(MemoryError()))
    with pytest.raises(UserError, match=r"\. There is no checkpoint to go on from"):
        train(tiny("SOLVER.MAX_ITER", 3, "SOLVER.STEPS", "()"))
    assert not list((tmp_path / "out").glob("*.pth"))


def test_a_bug_keeps_its_type_and_the_steps_are_kept(tiny, tmp_path, monkeypatch, caplog):
    at_call(monkeypatch, DetectionTask, "losses", 3, fail(IndexError("a bug")))
    with pytest.raises(IndexError, match="a bug"):
        train(tiny(*RUN))
    assert "step 2 of 6 is kept in" in caplog.text


def test_out_of_memory_in_a_test_names_its_keys(tiny, monkeypatch):
    train(tiny("SOLVER.MAX_ITER", 1))
    at_call(monkeypatch, Detector, "forward", 2, fail(MEMORY["device"]))
    with pytest.raises(UserError, match=r"^out of memory.*: TEST\.IMS_PER_BATCH 1 \(now 2\); TEST\.AMP bf16"):
        evaluate(tiny("SOLVER.MAX_ITER", 1))


# In processes of their own: what a shell sees, and workers.
CHILDREN = """
import os, signal, sys, threading, time
from pathlib import Path

import torch
from detector.commands.base import run
from detector.config import load_config
from detector.data import dataset, workers
from detector.engine import stop
from detector.engine.log import TrainLog
from detector.tasks.detection import DetectionTask, train

def ctrl_c():
    at_step(3, lambda: os.kill(os.getpid(), signal.SIGINT))

def terminated():
    at_step(3, lambda: os.kill(os.getpid(), signal.SIGTERM))

def twice():
    stop.COPY = 0
    at_step(3, lambda: [os.kill(os.getpid(), signal.SIGINT) for _ in range(2)])

def closed():
    at_step(3, lambda: os.kill(os.getpid(), signal.SIGHUP))

def tee():  # which goes with the same Ctrl-C
    def both():
        read, write = os.pipe()
        os.close(read)
        for number in (1, 2):
            os.dup2(write, number)
        sys.stdout = sys.stderr = open(1, "w", closefd=False)
        os.kill(os.getpid(), signal.SIGINT)
    at_step(3, both)

def bug():
    real = DetectionTask.losses
    def losses(self, model, batch):
        DetectionTask.count = getattr(DetectionTask, "count", 0) + 1
        if DetectionTask.count == 4:
            raise IndexError("a bug")
        return real(self, model, batch)
    DetectionTask.losses = losses

def hung():  # a worker that hangs, and a Ctrl-C
    at_read(signal.SIGSTOP)
    def later():
        time.sleep(8)
        os.kill(os.getpid(), signal.SIGINT)
    threading.Thread(target=later, daemon=True).start()

def everybody():  # as a terminal and job systems do it
    os.setpgid(0, 0)
    at_step(3, lambda: os.killpg(0, signal.SIGTERM))

def worker_killed():
    at_read(signal.SIGKILL)

def worker_stopped():
    at_read(signal.SIGSTOP)

def parent_killed():
    at_step(3, lambda: os.kill(os.getpid(), signal.SIGKILL))

def at_step(number, action):
    real = TrainLog.step
    def step(self, step, *rest):
        real(self, step, *rest)
        if step == number:
            action()
    TrainLog.step = step

def at_read(number):
    real = dataset.CocoDetection._read
    def read(self, position):
        if self.folder.name == "train" and os.getpid() != MAIN:
            Path("pids").write_text(str(os.getpid()))
            count = Path("count")
            count.write_text(count.read_text() + "." if count.exists() else ".")
            if len(count.read_text()) == 20:
                os.kill(os.getpid(), number)
        return real(self, position)
    dataset.CocoDetection._read = read

def note_worker():
    real = workers._start
    def start(*given, **named):
        Path("workers").open("a").write(f"{os.getpid()} ")
        real(*given, **named)
    workers._start = start

MAIN = os.getpid()
note_worker()
globals()[sys.argv[2]]()
run(lambda: train(load_config(sys.argv[1], ["OUTPUT_DIR", "out", *sys.argv[3:]])))
"""
ENDS = {
    "ctrl_c": (130, 3, "stopped by Ctrl-C: step 3 of 60 is kept in out/model_0000003.pth: --resume goes on"),
    "terminated": (143, 3, "stopped by SIGTERM: step 3 of 60 is kept in out/model_0000003.pth: --resume goes on"),
    "everybody": (143, 3, "stopped by SIGTERM: step 3 of 60"),
    "twice": (-2, None, ""),
    "worker_killed": (1, ..., "a process that reads pictures was killed, which the system does when memory runs out"),
    "worker_stopped": (1, ..., "no batch came for 2 seconds: a process that reads pictures hangs"),
    "parent_killed": (-9, None, ""),
    "closed": (129, 3, "stopped by SIGHUP (the terminal was closed): step 3 of 60"),
    "tee": (130, 3, ""),
    "bug": (1, 3, "IndexError: a bug"),
    "hung": (..., ..., ""),
}


@pytest.mark.parametrize(
    "names",
    [("everybody", "worker_stopped", "bug", "tee"), pytest.param(tuple(ENDS), marks=pytest.mark.slow)],
    ids=["some", "all"],
)
def test_how_processes_end(tiny, tmp_path, names):
    opts = ("SOLVER.MAX_ITER", 60, "SOLVER.STEPS", "()", "DATALOADER.NUM_WORKERS", 1, "DATALOADER.TIMEOUT", 5)
    (tmp_path / "config.yaml").write_text(tiny(*opts).dump())
    for name in names:
        status, step, words = ENDS[name]
        (tmp_path / name).mkdir()
        more = ["DATALOADER.TIMEOUT", 2] * (name == "worker_stopped")
        ended = fresh("-c", CHILDREN, tmp_path / "config.yaml", name, *more, cwd=tmp_path / name)
        said = ended.stdout + ended.stderr
        assert status in (..., ended.returncode), (name, ended.returncode, said[-2000:])
        assert words in said
        assert "Traceback" not in said or name == "bug"
        kept = list((tmp_path / name / "out").glob("*.pth"))
        if step is not ...:  # a worker reads ahead: on a slow machine it ends before there is a step to keep
            assert bool(kept) == (step is not None)
        if step not in (None, ...):
            assert [read(path)["step"] for path in kept] == [step]
    for name in names:
        for worker in (tmp_path / name / "workers").read_text().split():
            assert gone(int(worker)), name


def gone(process):
    """Whether a process has ended within a second."""
    for _ in range(20):
        try:
            state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False
