"""A run that is killed again and again, in any phase and in any way, ends with the bits of an uninterrupted one."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import environment
from helpers.runs import read, records, same_bits

pytestmark = pytest.mark.slow

RUN = (
    *("SOLVER.MAX_ITER", 80, "SOLVER.STEPS", "(60,)", "SOLVER.CHECKPOINT_PERIOD", 7, "SOLVER.TEST_PERIOD", 13),
    *("DATALOADER.NUM_WORKERS", 1),
)
KILLS = 20
STATUS = {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}


@pytest.mark.parametrize(
    ("way", "processes"), [*((way, 1) for way in STATUS), (signal.SIGKILL, 2)], ids=lambda x: getattr(x, "name", x)
)
def test_a_run_that_is_killed_again_and_again(tiny, tmp_path, way, processes):
    """A first run tells how long it takes; the kills then come at times drawn over all of it, and two in quick turn.

    Of two processes, which torchrun starts, any one is killed.
    """
    (tmp_path / "config.yaml").write_text(tiny(*RUN).dump())
    several = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)] * (processes > 1)
    command = [sys.executable, *several, "-m", "detector", "train", "--config-file", "config.yaml", "OUTPUT_DIR"]
    began = time.monotonic()
    subprocess.run([*command, "whole"], cwd=tmp_path, env=environment(), capture_output=True, check=True, timeout=300)
    long = time.monotonic() - began
    chance = random.Random(way)
    killed, finished = 0, 0
    resume: list[str] = []
    while killed < KILLS:
        with open(tmp_path / "said", "w") as said:
            run = subprocess.Popen(
                [*command, "killed", *resume], cwd=tmp_path, env=environment(), stdout=said, stderr=said
            )
            try:
                run.wait(chance.uniform(0, long))
            except subprocess.TimeoutExpired:
                victims = [run.pid] if processes == 1 else children(run.pid) or [run.pid]
                os.kill(chance.choice(victims), way)
            status = run.wait(120)
        text = (tmp_path / "said").read_text()
        if status == 0:
            finished += 1
            (tmp_path / "killed").rename(tmp_path / f"finished_{finished}")
            resume = []
            continue
        killed += 1
        if processes == 1:
            if status not in (STATUS[way], -way):  # a signal before the training listens ends it as any process
                pytest.fail(f"kill {killed}: status {status}\n{text[-2000:]}")
            assert "Traceback" not in text or "KeyboardInterrupt" in text  # while Python itself still starts
        resume = ["--resume"] if any((tmp_path / "killed").glob("model_0*.pth")) else []
        if not resume and (tmp_path / "killed").exists():
            assert not list((tmp_path / "killed").glob("model_*.pth"))
    subprocess.run(
        [*command, "killed", *resume], cwd=tmp_path, env=environment(), capture_output=True, check=True, timeout=300
    )
    want = read(tmp_path / "whole" / "model_final.pth")
    for name in ["killed", *(f"finished_{i + 1}" for i in range(finished))]:
        got = read(tmp_path / name / "model_final.pth")
        assert same_bits(got["model"], want["model"]), name
        assert same_moments(got["optimizer"], want["optimizer"]), name
        steps = [record["step"] for record in records(tmp_path / name) if "loss" in record]
        assert steps == [20, 40, 60, 80], name
        assert got["metrics"] == want["metrics"], name
        metrics = json.loads((tmp_path / name / "metrics.json").read_text())
        assert metrics["AP"] == json.loads((tmp_path / "whole" / "metrics.json").read_text())["AP"]


def children(process):
    """The processes that a process has started."""
    try:
        return [int(word) for word in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    except OSError:
        return []


def same_moments(got, want):
    """Whether the states of two optimisers are equal to the bit."""
    return all(same_bits(value, want["state"][i]) for i, value in got["state"].items()) and len(got["state"]) == len(
        want["state"]
    )
