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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from detector.config import config_text
from detector.console import progress
from detector.engine.lock import in_use, locked
from detector.engine.records import NAME as LOG
from detector.engine.stop import Stopped, listening
from detector.errors import InUseError
from detector.files import open_append, write_atomic
from detector.tasks.cells import Arm, Cell
from detector.text import counted

log = logging.getLogger("detector")

SAID = "train.txt"
"""What a training printed, in its folder."""

CLAIM = ".cell"
"""The lock by which a process takes a cell; that of the training itself is another one."""

POLL = 0.5
"""Seconds between looks at a training's log."""

WAIT = 5.0
"""Seconds between looks at cells that others work on."""

_NEARLY = 0.994
"""The share of all trainings that is shown at most while one goes on: rounded it is 99 %."""

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


def run_cells(
    cells: Sequence[Cell], arms: Sequence[Arm], seconds: Mapping[str, float], imports: Sequence[str] = ()
) -> dict[str, str]:
    """Train what is not done, and wait for what other processes train. Returns why cells failed, by their names.

    seconds: of a step of each arm, by its name, for the time that is left. Each cell is tried once by this process; the
    others go on. Raises Stopped, which the training at work has heard of and kept its steps, after Ctrl-C or SIGTERM.
    """
    configs = {arm.name: arm.cfg for arm in arms}
    failed: dict[str, str] = {}
    whole = sum(cell.steps * seconds[cell.arm] for cell in cells)
    begun = sum(steps_done(cell) * seconds[cell.arm] for cell in cells)
    places = {cell.name: f"{cell.name} (training {place} of {len(cells)})" for place, cell in enumerate(cells, start=1)}
    # counted in planned seconds: steps of one arm take longer than those of another
    meter = _Meter(whole, begun)
    with listening(), progress(total=meter.total, initial=meter.told, desc="trainings", unit="%") as bar:
        meter.update = bar.update
        said = False
        while open_ := [cell for cell in cells if not is_done(cell) and cell.name not in failed]:
            taken = False
            for cell in open_:
                with _claimed(cell) as mine:
                    if not mine or is_done(cell):
                        continue
                    taken = True
                    bar.set_postfix_str(places[cell.name])
                    if not (cell.folder / LOG).exists():  # nothing began; what failed may have been mended
                        cfg = configs[cell.arm].clone()
                        cfg.defrost()
                        cfg.SEED, cfg.OUTPUT_DIR = cell.seed, str(cell.folder)
                        write_atomic(cell.folder / "config.yaml", config_text(cfg).encode())
                    if why := _train(cell, imports, meter.of(seconds[cell.arm])):
                        failed[cell.name] = why
                        log.error("%s failed, the others go on: %s", cell.name, why)
                    else:
                        log.info("%s: done", cell.name)
            if not taken:
                if not said:
                    log.info("waiting for %s, which other processes train", ", ".join(cell.name for cell in open_))
                said = True
                time.sleep(WAIT)
        meter.end()
    return failed


class _Meter:
    """Tells a bar of whole seconds what adds up in parts of them, and the last of them when all is done.

    After its last step a training is still tested, so that the plan's seconds may have passed before. update: the
    bar's; total, told: seconds of the whole, and what the bar knows of them.
    """

    update: Callable[[int], object]

    def __init__(self, whole: float, begun: float) -> None:
        self.total, self.passed = max(1, round(whole)), begun
        self.told = self._shown()

    def _shown(self) -> int:
        """Seconds that have passed, of which the bar makes 99 % at most."""
        return min(round(self.passed), int(_NEARLY * self.total))

    def end(self) -> None:
        """All is done."""
        self.update(self.total - self.told)
        self.told = self.total

    def of(self, seconds: float) -> Callable[[int], object]:
        """Takes steps of so many seconds."""
        return lambda steps: self.add(steps * seconds)

    def add(self, seconds: float) -> None:
        """Take seconds that have passed by the plan."""
        self.passed += seconds
        if (more := self._shown() - self.told) > 0:
            self.update(more)
            self.told += more


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
        done = steps_done(cell)
        try:
            while process.poll() is None:
                time.sleep(POLL)
                step = max(steps_done(cell), done)
                update(step - done)
                done = step
        except BaseException as stop:
            if isinstance(stop, Stopped):
                log.info("%s: %s ends after its step", stop.signal, cell.name)
            process.send_signal(signal.SIGTERM)
            process.wait()
            if isinstance(stop, Stopped):
                steps = f"{steps_done(cell)} of {counted(cell.steps, 'step|steps')}"
                text = f"stopped by {stop.signal}: {cell.name} has {steps}"
                raise Stopped(stop.number, f"{text}; the same command goes on from there") from None
            raise
    update(cell.steps - done)
    return "" if process.returncode == 0 and is_done(cell) else _why(cell.folder / SAID, begin, process.returncode)


def steps_done(cell: Cell) -> int:
    """The last step that the log of a training has, all where it is done."""
    if is_done(cell):
        return cell.steps
    try:
        with (cell.folder / LOG).open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 4096))
            lines = file.read().splitlines()
        for line in reversed(lines):
            try:
                return min(int(json.loads(line)["step"]), cell.steps)
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
    if status == 0:
        return f"it ended before step and evaluation that were planned; what it printed is in {said}"
    if status < 0:
        name = signal.Signals(-status).name if -status in {*map(int, signal.Signals)} else str(-status)
        killed = ", for instance by the system where memory ran out" if status == -9 else ""
        return f"the process was ended by {name}{killed}; it printed {said}"
    return f"{lines[-1] if lines else 'nothing was printed'} (status {status}; the whole of it is in {said})"
