"""A run that is killed again and again, in any phase and in any way, ends with the bits of an uninterrupted one."""

import json
import random
import signal
import subprocess
import sys
import time

import pytest
from helpers import environment
from helpers.runs import read, same_bits

pytestmark = pytest.mark.slow

RUN = (
    *("SOLVER.MAX_ITER", 80, "SOLVER.STEPS", "(60,)", "SOLVER.CHECKPOINT_PERIOD", 7, "SOLVER.TEST_PERIOD", 13),
    *("DATALOADER.NUM_WORKERS", 1),
)
KILLS = 20
STATUS = {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}


@pytest.mark.parametrize("way", STATUS, ids=lambda way: way.name)
def test_a_run_that_is_killed_again_and_again(tiny, tmp_path, way):
    """A first run tells how long it takes; the kills then come at times drawn over all of it, and two in quick turn."""
    (tmp_path / "config.yaml").write_text(tiny(*RUN).dump())
    command = [sys.executable, "-m", "detector", "train", "--config-file", "config.yaml", "OUTPUT_DIR"]
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
                run.send_signal(way)
            status = run.wait(60)
        text = (tmp_path / "said").read_text()
        if status == 0:
            finished += 1
            (tmp_path / "killed").rename(tmp_path / f"finished_{finished}")
            resume = []
            continue
        killed += 1
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
        assert got["metrics"] == want["metrics"], name
        metrics = json.loads((tmp_path / name / "metrics.json").read_text())
        assert metrics["AP"] == json.loads((tmp_path / "whole" / "metrics.json").read_text())["AP"]
