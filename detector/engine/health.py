"""Whether a training still learns: since when its losses have risen, and which checkpoint is from before."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any, NamedTuple

from detector.errors import UserError
from detector.weights.checkpoint import with_steps
from detector.weights.read import read_plain

BATCH = "nonfinite_batch.pth"
"""Where a training that diverges leaves its last batch, and what `Health` knew."""

WINDOW = 20  # steps whose median says what losses are usual
RISEN = 3.0  # times the lowest of these medians
SKIPPED = 50  # updates in a row that fp16 may leave out


@dataclass
class Health:
    """What is known of the losses so far; a checkpoint keeps it.

    level: the lowest median of WINDOW losses; sound: the latest step after which the weights still gave a loss of at
    most RISEN times that; latest: the latest step whose weights gave a loss; skipped: updates that fp16 left out in a
    row, as gradients were infinite; left_out: and in the whole training; resumes: how often it was resumed.
    """

    level: float = inf
    sound: int = 0
    skipped: int = 0
    left_out: int = 0
    resumes: int = 0
    latest: int = 0
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW), repr=False)

    def note(self, step: int, loss: float, skipped: bool) -> None:
        """Take the loss that the weights gave after `step` steps, and whether their update was left out."""
        self.latest, self.skipped = step, self.skipped + 1 if skipped else 0
        self.left_out += skipped
        if loss < inf:  # nor is it no number
            self.recent.append(loss)
            self.level = min(self.level, sorted(self.recent)[(len(self.recent) - 1) // 2])
            if loss <= RISEN * self.level:
                self.sound = step

    @property
    def risen(self) -> bool:
        """Whether the latest loss was no usual one."""
        return self.sound < self.latest

    def content(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        counts = {"skipped": self.skipped, "left_out": self.left_out, "resumes": self.resumes}
        return {"level": self.level, "sound": self.sound, "recent": [*self.recent], **counts}

    def left_out_text(self, steps: int) -> str:
        """How many of so many updates fp16 left out."""
        return f"fp16 left out {self.left_out} of {steps} updates, as gradients were infinite"

    def restore(self, content: Mapping[str, Any]) -> None:
        """Take over what a checkpoint kept; older ones kept nothing, and count as sound."""
        self.level, self.sound = content.get("level", inf), content.get("sound", content["step"])
        self.latest = self.sound
        self.recent.clear()
        self.recent.extend(content.get("recent", ()))  # else the first loss by itself would be their median
        self.skipped, self.resumes = content.get("skipped", 0), content.get("resumes", 0)
        self.left_out = content.get("left_out", self.skipped)


class Divergence(NamedTuple):
    """That a training diverged after `step` steps, the losses having been sound until `sound`."""

    step: int
    sound: int
    resumes: int


def divergence(folder: Path) -> Divergence | None:
    """What the last divergence in a folder left behind, if there was one."""
    try:
        said = read_plain(folder / BATCH) if (folder / BATCH).is_file() else {}
    except UserError:
        return None
    numbers = [said.get(name) for name in Divergence._fields]
    return Divergence(*numbers) if all(isinstance(number, int) for number in numbers) else None  # type: ignore[arg-type]


def ruined(folder: Path) -> list[Path]:
    """The checkpoints that were written between the rise of the losses and the divergence that it ended in."""
    found = divergence(folder)
    if found is None:
        return []
    return [
        path
        for step, path in with_steps(folder)
        if found.sound < step and read_plain(path).get("resumes", 0) <= found.resumes
    ]


def way_out(folder: Path, sound: int) -> str:
    """What to do after a divergence, the losses having been sound until a step: the end of a message."""
    places = with_steps(folder)
    if not places:
        return "then start again: no checkpoint was written yet"
    before = [(step, path) for step, path in places if step <= sound]
    if not before:
        return (
            f"then start anew with OUTPUT_DIR another/folder: the losses rose after step {sound}, before the first "
            "checkpoint that is left"
        )
    step, path = before[0]
    why = f", the last one from before the losses rose after step {sound}" if len(before) < len(places) else ""
    return f"then --resume: it continues from {path.name} (step {step}){why}"
