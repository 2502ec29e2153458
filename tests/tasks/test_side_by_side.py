"""The trainings of a comparison: failures, locks, signals, resuming; with a stand-in for the training itself."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from helpers import environment

from detector.config import load_config
from detector.engine.lock import locked
from detector.engine.stop import Stopped
from detector.tasks import side_by_side
from detector.tasks.cells import Arm, Cell
from detector.tasks.side_by_side import SAID, is_done, run_cells

# Writes what a training does; its folder says what it is to do.
TRAINING = """
import json, os, signal, sys, time
from pathlib import Path
folder, steps = Path(sys.argv[1]), int(sys.argv[2])
orders = folder.parent / f"{folder.name}.orders"
order = orders.read_text() if orders.exists() else ""
with (folder / "log.jsonl").open("a") as log:
    log.write(json.dumps({"step": 0, "event": "start"}) + "\\n")
    log.write(json.dumps({"step": steps // 2}) + "\\nhalf a li")
(folder / "count").write_text(str(int((folder / "count").read_text()) + 1 if (folder / "count").exists() else 1))
print("something", flush=True)
if order == "fails":
    sys.exit("error: the loss is nan")
if order == "dies":
    os.kill(os.getpid(), signal.SIGKILL)
if order == "bug":
    raise RuntimeError("what a bug")
if order == "waits":
    def stop(number, frame):
        (folder / "stopped").touch()
        sys.exit(143)
    signal.signal(signal.SIGTERM, stop)
    (folder / "waiting").touch()
    time.sleep(60)
(folder / "model_final.pth").touch()
end = steps // 2 if order == "patience" else steps
with (folder / "log.jsonl").open("w") as log:
    log.write(json.dumps({"step": 0, "event": "start"}) + "\\n" + json.dumps({"step": 1, "loss": 1}) + "\\n")
    log.write(json.dumps({"step": end, "event": "evaluation", "metrics": {}}) + "\\n")
    if order == "patience":
        log.write(json.dumps({"step": end, "event": "patience"}) + "\\n")
"""


@pytest.fixture
def cells(tmp_path, monkeypatch):
    """cells(order, order, ..): as many cells, each of which is told what to do."""
    script = tmp_path / "training.py"
    script.write_text(TRAINING)
    monkeypatch.setattr(
        side_by_side, "command", lambda cell, imports: [sys.executable, str(script), str(cell.folder), str(cell.steps)]
    )
    monkeypatch.setattr(side_by_side, "POLL", 0.02)
    monkeypatch.setattr(side_by_side, "WAIT", 0.02)

    def make(*orders):
        made = []
        for seed, order in enumerate(orders):
            (tmp_path / f"cell{seed}.orders").write_text(order)
            made.append(Cell("arm", seed, tmp_path / f"cell{seed}", 10))
        return made

    return make


SECONDS = {"arm": 0.5}
ARMS = [Arm("arm", "resnet10", "fcos", load_config("quickstart"))]


def count(cell):
    return int((cell.folder / "count").read_text())


def test_every_cell_gets_its_config_and_is_trained_once(cells):
    made = cells("", "")
    assert run_cells(made, ARMS, SECONDS) == {}
    assert all(map(is_done, made))
    for cell in made:
        cfg = load_config(cell.folder / "config.yaml")
        assert (cfg.SEED, cfg.OUTPUT_DIR) == (cell.seed, str(cell.folder))
        assert (cell.folder / SAID).read_text() == "something\n"
    assert run_cells(made, ARMS, SECONDS) == {}
    assert [count(cell) for cell in made] == [1, 1]


class Bar:
    """What a bar was told, as it was told it."""

    def __init__(self, total, initial, **words):
        self.total, self.done, self.shown = total, initial, [initial / total]

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def set_postfix_str(self, text):
        pass

    def update(self, number):
        self.done += number
        self.shown.append(self.done / self.total)


@pytest.mark.parametrize("seconds", [0.001, 0.5, 33.3])
def test_the_bar_is_full_when_the_last_training_is_tested(cells, monkeypatch, seconds):
    """All steps of the last one are in its log before it is done."""
    bars, ends = [], []
    made = cells("", "")

    def bar(**words):
        bars.append(Bar(**words))
        return bars[-1]

    def train(cell, imports, update):
        for _ in range(cell.steps):
            update(1)
        ends.append(bars[0].done / bars[0].total)
        (cell.folder / "model_final.pth").touch()
        (cell.folder / side_by_side.LOG).write_text(json.dumps({"step": cell.steps, "event": "evaluation"}))
        return ""

    monkeypatch.setattr(side_by_side, "progress", bar)
    monkeypatch.setattr(side_by_side, "_train", train)
    run_cells(made, ARMS, {"arm": seconds})
    assert f"{100 * ends[-1]:.0f}" != "100"
    assert bars[0].shown[-1] == 1
    assert bars[0].shown == sorted(bars[0].shown)
    if seconds == 33.3:
        assert f"{100 * ends[0]:.0f} {100 * ends[1]:.0f}" == "50 99"
    run_cells(made, ARMS, {"arm": seconds})
    assert bars[1].done == bars[1].total


def test_a_cell_that_fails_costs_no_other(cells):
    made = cells("fails", "dies", "bug", "")
    failed = run_cells(made, ARMS, SECONDS)
    assert list(failed) == ["arm, seed 0", "arm, seed 1", "arm, seed 2"]
    assert failed["arm, seed 0"] == "the loss is nan"
    assert "ended by SIGKILL" in failed["arm, seed 1"]
    assert "what a bug" in failed["arm, seed 2"]
    assert "status 1" in failed["arm, seed 2"]
    assert [is_done(cell) for cell in made] == [False, False, False, True]
    (made[0].folder.parent / "cell0.orders").write_text("")
    assert list(run_cells(made[:1], ARMS, SECONDS)) == []
    assert count(made[0]) == 2


def test_a_cell_is_done_where_it_was_measured_at_its_end(cells):
    whole, patient = cells("", "patience")
    run_cells([whole, patient], ARMS, SECONDS)
    assert is_done(whole)
    assert is_done(patient)
    assert not is_done(whole._replace(steps=11))
    log = whole.folder / "log.jsonl"
    log.write_text(log.read_text().replace("evaluation", "resume"))
    assert not is_done(whole)
    (patient.folder / "model_final.pth").unlink()
    assert not is_done(patient)


HOLDER = """
import sys
from pathlib import Path
from detector.engine.lock import locked
with locked(Path(sys.argv[1]), sys.argv[2]):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("name", [".cell", ".lock"])
def test_a_cell_of_another_process_is_left_to_it(cells, name):
    """Both the claim of another comparison, and the lock of a training that outlived its own."""
    made = cells("", "")
    made[0].folder.mkdir()
    other = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(made[0].folder), name],
        env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert other.stdout.readline() == "held\n"
    seen = []

    def let_go():
        deadline = time.monotonic() + 20
        while not is_done(made[1]) and time.monotonic() < deadline:
            time.sleep(0.01)
        seen.append(is_done(made[0]))
        other.communicate("")

    thread = threading.Thread(target=let_go)
    thread.start()
    assert run_cells(made, ARMS, SECONDS) == {}
    thread.join()
    assert seen == [False]
    assert is_done(made[0])


def test_a_signal_reaches_the_training_and_leaves_the_rest(cells):
    made = cells("waits", "")
    me = os.getpid()

    def ask():
        deadline = time.monotonic() + 20
        while not (made[0].folder / "waiting").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(me, signal.SIGTERM)

    thread = threading.Thread(target=ask)
    thread.start()
    with pytest.raises(Stopped, match=r"stopped by SIGTERM: arm, seed 0 has 5 of 10 steps; the same command goes on"):
        run_cells(made, ARMS, SECONDS)
    thread.join()
    assert (made[0].folder / "stopped").exists()
    assert not made[1].folder.exists()
    with locked(made[0].folder), locked(made[0].folder, ".cell"):
        pass


def test_the_config_of_what_has_begun_stays(cells):
    """A run goes on with the config that it has; one that never began takes a mended one."""
    made = cells("fails", "")
    made[1].folder.mkdir()
    for cell in made:
        cell.folder.mkdir(exist_ok=True)
        (cell.folder / "config.yaml").write_text("SEED: 99\n")
    (made[0].folder / "log.jsonl").write_text(json.dumps({"step": 3}) + "\n")
    run_cells(made, ARMS, SECONDS)
    assert [load_config(cell.folder / "config.yaml").SEED for cell in made] == [99, 1]
