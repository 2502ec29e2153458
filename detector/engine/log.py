"""What a training says, in one place for all who listen: the console, log.jsonl and TensorBoard."""

import logging
import time
from collections import defaultdict, deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detector.console import QUIET, duration, progress, watched
from detector.engine.records import Records
from detector.engine.tensorboard import Board

log = logging.getLogger("detector")

PERIOD = 20
"""Steps that are averaged: between lines of log.jsonl, points of TensorBoard, and what the console shows."""


class TrainLog:
    """Collects the numbers of each step; shows and files their averages every PERIOD steps.

    One JSON object a line in log.jsonl: {"step", "lr", "loss", each loss term, "grad_norm", "data_s", "step_s",
    "memory_mb"} or {"step", "event": "start" | "resume" | "evaluation" | "patience" | "nonfinite", ...}; in fp16 also
    "skipped", the updates that were left out so far. The console has a bar; where that cannot be redrawn a line for the
    first and the last step, and for the others one every PERIOD steps or QUIET seconds. board: who takes them to
    TensorBoard, if anybody.
    """

    def __init__(self, folder: Path, start: int, total: int, *, evaluated: int = 0, board: Board | None = None) -> None:
        """start: steps that are done, total: of the whole training, evaluated: step of the last evaluation."""
        self.records = Records(folder, start, evaluated)
        self.board, self.total = board, total
        self.bar = progress(desc="train", unit="step", total=total, initial=start) if watched() else None
        self.window: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=PERIOD))
        self.last = self.said = time.perf_counter()
        self.said_step: int | None = None
        self.peak = 0.0

    def tick(self) -> None:
        """Start the clock of the next step."""
        self.last = time.perf_counter()

    def step(
        self, step: int, values: dict[str, float], lr: float, memory_mb: float, counts: Mapping[str, int] | None = None
    ) -> None:
        """Take the numbers of a finished step (1 after the first). counts: since the first one, filed as they are."""
        now = time.perf_counter()
        self.peak = memory_mb = max(self.peak, memory_mb)  # Linux counts approximately, and may tell less later
        for name, value in {**values, "step_s": now - self.last}.items():
            self.window[name].append(value)
        self.last = now
        if self.bar is not None:
            self.bar.update()
        filed, line = step % PERIOD == 0 or step == self.total, self.bar is None and self._has_to_speak(step, now)
        first = self.bar is not None and len(self.window["loss"]) == 1
        if not (filed or line or first):
            return
        means = {name: sum(values) / len(values) for name, values in self.window.items()}
        if filed:
            record = {"lr": lr, **means, **(counts or {}), "memory_mb": memory_mb}
            self.event({"step": step, **record})
            if self.board is not None:
                self.board.numbers(step, record)
        if self.bar is not None:
            self.bar.set_postfix_str(f"loss {means['loss']:.3f} lr {lr:.2g} mem {memory_mb:.0f}M")
        if line:
            left = duration((self.total - step) * means["step_s"])
            seconds = f"{means['step_s']:.3f} s/step (data {means['data_s']:.3f})"
            log.info(f"step {step}/{self.total} {_losses(means, lr)} {seconds} left {left} mem {memory_mb:.0f}M")

    def event(self, record: dict[str, Any]) -> None:
        """Append one line to log.jsonl."""
        self.records.write(record)

    def evaluation(self, step: int, metrics: Mapping[str, Any], pictures: Mapping[str, Any]) -> None:
        """Take the measures after a step; pictures: by name, uint8 RGB [H, W, 3], for TensorBoard."""
        self.event({"step": step, "event": "evaluation", "metrics": metrics})
        if self.board is not None:
            self.board.measures(step, metrics)
            self.board.pictures(step, pictures)

    def close(self) -> None:
        """Close the bar and the files."""
        if self.bar is not None:
            self.bar.close()
        if self.board is not None:
            self.board.close()
        self.records.close()

    def _has_to_speak(self, step: int, now: float) -> bool:
        """Whether a line is due, which is then taken as said."""
        if self.said_step is None:
            self.said, self.said_step = now, (step - 1) // PERIOD * PERIOD  # the others are those of log.jsonl
            return True
        if step - self.said_step < PERIOD and now - self.said < QUIET and step != self.total:
            return False
        self.said, self.said_step = now, step
        return True


class Silent:
    """The `TrainLog` of a process that does not write: the first one does for all."""

    def tick(self) -> None:
        """Nothing."""

    def step(self, *numbers: object) -> None:
        """Nothing."""

    def event(self, record: dict[str, Any]) -> None:
        """Nothing."""

    def evaluation(self, step: int, metrics: Mapping[str, Any], pictures: Mapping[str, Any]) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def _losses(means: Mapping[str, float], lr: float) -> str:
    parts = " ".join(f"{name.removeprefix('loss_')} {means[name]:.3f}" for name in means if "loss_" in name)
    terms = f" ({parts})" if parts else ""
    return f"loss {means['loss']:.3f}{terms} lr {lr:.2g}"
