"""The trainings of a comparison, one after another; several processes may share them through locks in the folder.

Each is a process of its own, `detector train FOLDER/CELL --resume`: what one of them uses up or breaks the others do
not notice, and what was interrupted goes on exactly.
"""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from detector.config import config_text
from detector.console import progress
from detector.engine.lock import in_use, locked
from detector.engine.records import NAME as LOG
from detector.engine.stop import listening
from detector.errors import InUseError
from detector.files import open_append, write_atomic
from detector.tasks.cells import Arm, Cell

log = logging.getLogger("detector")

SAID = "train.txt"
"""What a training printed, in its folder."""

CLAIM = ".cell"
"""The lock by which a process takes a cell; that of the training itself is another one."""

POLL = 0.5
"""Seconds between looks at a training's log."""

WAIT = 5.0
"""Seconds between looks at cells that others work on."""

_ERROR = "error: "


def is_done(cell: Cell) -> bool:
    """Whether the training has come to its end, by its last step or by its patience, and was measured there."""
    if not (cell.folder / "model_final.pth").is_file():
        return False
    measured, ends = set(), {cell.steps}
    try:
        lines = (cell.folder / LOG).read_bytes().splitlines()
        for event in (msgspec.json.decode(line, type=_Event) for line in lines if b'"event"' in line):
            if event.event == "evaluation":
                measured.add(event.step)
            elif event.event == "patience":
                ends.add(event.step)
    except (OSError, msgspec.DecodeError):
        return False
    return bool(measured & ends)


class _Event(msgspec.Struct):
    step: int
    event: str


def run_cells(cells: Sequence[Cell], arms: Sequence[Arm], imports: Sequence[str] = ()) -> dict[str, str]:
    """Train what is not done, and wait for what other processes train. Returns why cells failed, by their names.

    Each is tried once by this process; the others go on. Raises Stopped, which the training at work has heard of and
    kept its steps, after Ctrl-C or SIGTERM.
    """
    configs = {arm.name: arm.cfg for arm in arms}
    failed: dict[str, str] = {}
    with listening(), progress(total=sum(cell.steps for cell in cells), desc="compare", unit="step") as bar:
        bar.update(sum(cell.steps for cell in cells if is_done(cell)))
        said = False
        while open_ := [cell for cell in cells if not is_done(cell) and cell.name not in failed]:
            taken = False
            for cell in open_:
                with _claimed(cell) as mine:
                    if not mine or is_done(cell):
                        continue
                    taken = True
                    bar.set_postfix_str(cell.name)
                    if not (cell.folder / LOG).exists():  # nothing began; what failed may have been mended
                        cfg = configs[cell.arm].clone()
                        cfg.defrost()
                        cfg.SEED, cfg.OUTPUT_DIR = cell.seed, str(cell.folder)
                        write_atomic(cell.folder / "config.yaml", config_text(cfg).encode())
                    if why := _train(cell, imports, bar.update):
                        failed[cell.name] = why
                        log.error("%s failed, the others go on: %s", cell.name, why)
                    else:
                        log.info("%s: done", cell.name)
            if not taken:
                if not said:
                    log.info("waiting for %s, which other processes train", ", ".join(cell.name for cell in open_))
                said = True
                time.sleep(WAIT)
    return failed


@contextmanager
def _claimed(cell: Cell) -> Iterator[bool]:
    """Whether this process has the cell to itself; neither another comparison's, nor a training that outlived one."""
    cell.folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(cell.folder, CLAIM))
            mine = not in_use(cell.folder)
        except InUseError:
            mine = False
        yield mine


def command(cell: Cell, imports: Sequence[str]) -> list[str]:
    """The words of the process that trains a cell, from its start or from where it stopped."""
    plugins = [word for name in imports for word in ("--import", name)]
    return [sys.executable, "-m", "detector", "train", str(cell.folder), "--resume", *plugins]


def _train(cell: Cell, imports: Sequence[str], update: Callable[[int], object]) -> str:
    """Train one cell to its end; "" or why that failed. update: takes numbers of finished steps."""
    home = str(Path(__file__).resolve().parents[2])
    paths = [home, *filter(None, [os.environ.get("PYTHONPATH")])]
    with open_append(cell.folder / SAID) as said:
        begin = said.tell()
        # A session of its own: Ctrl-C reaches it through this process alone, once.
        process = subprocess.Popen(
            command(cell, imports), stdout=said, stderr=said, stdin=subprocess.DEVNULL, start_new_session=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        )  # fmt: skip
        done, before = 0, _step(cell.folder)
        try:
            while process.poll() is None:
                time.sleep(POLL)
                step = max(_step(cell.folder), before)
                update(step - done)
                done = step
        except BaseException:
            process.send_signal(signal.SIGTERM)
            process.wait()
            raise
    if process.returncode == 0 and is_done(cell):
        update(cell.steps - done)
        return ""
    update(-done)
    return _why(cell.folder / SAID, begin, process.returncode)


def _step(folder: Path) -> int:
    """The last step that a run's log has."""
    try:
        with (folder / LOG).open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 4096))
            lines = file.read().splitlines()
        for line in reversed(lines):
            try:
                return int(json.loads(line)["step"])
            except (ValueError, KeyError, TypeError):
                continue
    except OSError:
        pass
    return 0


def _why(said: Path, begin: int, status: int) -> str:
    """Why a training failed: its error, or its last line and its status."""
    text = said.read_bytes()[begin:].decode("utf-8", "replace")
    lines = [line for line in text.splitlines() if line.strip()]
    for line in reversed(lines):
        if line.startswith(_ERROR):
            return line.removeprefix(_ERROR)
    if status < 0:
        name = signal.Signals(-status).name if -status in {*map(int, signal.Signals)} else str(-status)
        killed = ", for instance by the system where memory ran out" if status == -9 else ""
        return f"the process was ended by {name}{killed}; it printed {said}"
    return f"{lines[-1] if lines else 'nothing was printed'} (status {status}; the whole of it is in {said})"
