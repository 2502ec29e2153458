"""What a run says: a progress bar, console lines that do not break it, and log.jsonl."""

import json
import logging
import time
from collections import defaultdict, deque
from pathlib import Path
from typing import Any

from tqdm import tqdm

from detector.files import open_append
from detector.text import printable

PERIOD = 20  # steps between lines of log.jsonl and refreshes of the bar


class _TqdmHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(printable(self.format(record), keep="\n\t"))


def setup_logging() -> logging.Logger:
    """The logger "detector", writing to standard output between progress bars; once per process."""
    log = logging.getLogger("detector")
    if not log.handlers:
        handler = _TqdmHandler()
        handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
        log.addHandler(handler)
        log.setLevel(logging.INFO)
        log.propagate = False
    return log


class TrainLog:
    """Collects the numbers of each step; shows and files their averages every PERIOD steps.

    One JSON object a line in log.jsonl: {"step", "lr", "loss", each loss term, "grad_norm", "data_s", "step_s",
    "memory_mb"} or {"step", "event": "resume" | "evaluation", ...}.
    """

    def __init__(self, output: Path, start: int, total: int) -> None:
        self.file = open_append(output / "log.jsonl")
        self.bar = tqdm(total=total, initial=start, desc="train", unit="step", dynamic_ncols=True)
        self.window: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=PERIOD))
        self.last = time.perf_counter()

    def tick(self) -> None:
        """Start the clock of the next step."""
        self.last = time.perf_counter()

    def step(self, step: int, values: dict[str, float], lr: float, memory_mb: float) -> None:
        """Take the numbers of a finished step (1 after the first)."""
        now = time.perf_counter()
        for name, value in {**values, "step_s": now - self.last}.items():
            self.window[name].append(value)
        self.last = now
        self.bar.update()
        if step % PERIOD == 0 or step == self.bar.total:
            means = {name: sum(values) / len(values) for name, values in self.window.items()}
            self.event({"step": step, "lr": lr, **means, "memory_mb": memory_mb})
            parts = " ".join(f"{name.removeprefix('loss_')} {means[name]:.3f}" for name in means if "loss_" in name)
            terms = f" ({parts})" if parts else ""
            self.bar.set_postfix_str(
                f"loss {means['loss']:.3f}{terms} lr {lr:.2g} data {means['data_s']:.3f}s mem {memory_mb:.0f}M"
            )

    def event(self, record: dict[str, Any]) -> None:
        """Append one line to log.jsonl."""
        self.file.write(
            json.dumps({k: float(f"{v:.6g}") if isinstance(v, float) else v for k, v in record.items()}) + "\n"
        )
        self.file.flush()

    def close(self) -> None:
        """Close the bar and the file."""
        self.bar.close()
        self.file.close()
