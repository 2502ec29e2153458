"""What a run is: its folder, and everything that a checkpoint holds and --resume restores."""

import errno
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from detector.errors import FileAccessError, UserError
from detector.weights.checkpoint import BEST, FINAL, newest_checkpoint, numbered, save_checkpoint, step_name
from detector.weights.load import load_state
from detector.weights.read import WeightFile
from detector.weights.schema import check_run

log = logging.getLogger("detector")


@dataclass
class Run:
    """A training on its way; `step` counts finished steps.

    folder: where its files are; model: what is trained; average: its moving average, if there is one; facts: plain
    values that say what a checkpoint is of (config, class names, ..); evaluated, metrics: step and measures of the last
    evaluation; best: the highest score so far; final: name of the last checkpoint, "" for its number like the others;
    kept: name of the best weights; every: whether older numbered checkpoints stay; header: what log.jsonl says of the
    training when it begins; text: the config, for readers; source: what it was resumed from; written: the last
    checkpoint of this process; whole: whether all of it is of the same step, as it is but for the update itself.
    """

    folder: Path
    model: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    facts: dict[str, Any]
    average: AveragedModel | None = None
    final: str = FINAL
    kept: str = BEST
    every: bool = True
    header: dict[str, Any] = field(default_factory=dict)
    text: str = ""
    step: int = 0
    evaluated: int = 0
    best: float = -1.0
    metrics: dict[str, Any] | None = None
    source: Path | None = None
    written: Path | None = None
    whole: bool = True

    @property
    def averaged(self) -> nn.Module:
        """The network that is evaluated and kept: the average if there is one."""
        return self.model if self.average is None else self.average.module

    def content(self) -> dict[str, Any]:
        """What a checkpoint holds: tensors and plain values only. Chance needs nothing: it is made of seed and step."""
        return {
            "model": self.model.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "optimizer": {**self.optimizer.state_dict(), "kind": type(self.optimizer).__name__},
            "scaler": self.scaler.state_dict(),
            "step": self.step,
            "evaluated": self.evaluated,
            "best": self.best,
            "metrics": self.metrics,
            **self.facts,
        }

    def checkpoint(self, last: bool) -> Path:
        """Where the checkpoint of this step stands. last: it is that of the training's last step."""
        return self.folder / (self.final if last and self.final else step_name(self.step))

    def save(self, last: bool = False) -> None:
        """Write the checkpoint of this step; unless every one is to stay, older ones go once it is on the disk."""
        path = self.checkpoint(last)
        save_checkpoint(path, self.content())
        self.written = path
        if not self.every:
            for other in [*numbered(self.folder), *self.folder.glob("model_*.pth.tmp")]:
                if other != path:
                    other.unlink()

    def keep_best(self, metrics: dict[str, Any], score: float, weights: Mapping[str, Any]) -> None:
        """Take note of an evaluation; `weights` go to the file of the best if no score so far was as high."""
        self.metrics, self.evaluated = metrics, self.step
        if score > self.best or not (self.folder / self.kept).exists():
            self.best = score
            save_checkpoint(self.folder / self.kept, {**weights, "step": self.step, "metrics": metrics})

    def restore(self, file: WeightFile) -> None:
        """Take over a checkpoint. Rates, momenta and decays stay the optimiser's own, as the config may have changed.

        Raises ValueError naming the file when it is of another network, optimiser or frozen part.
        """
        path, content = file.path, file.content
        load_state(self.model, file.state, source=str(path), exact=True)
        check_run(file, self.optimizer, self.average is not None)
        if self.average is not None:
            self.average.load_state_dict(content["average"])
        kind, own = content["optimizer"].get("kind"), type(self.optimizer).__name__
        if kind not in (None, own):
            raise UserError(f"{path}: its optimiser is {kind}; set SOLVER.OPTIMIZER {kind.lower()} to resume it")
        settings = [{k: v for k, v in group.items() if k != "params"} for group in self.optimizer.param_groups]
        try:
            self.optimizer.load_state_dict({k: content["optimizer"][k] for k in ("state", "param_groups")})
        except ValueError as error:
            raise UserError(f"{path}: its optimiser does not fit what is trained here: {error}") from None
        for group, values in zip(self.optimizer.param_groups, settings, strict=True):
            group.update(values)
        if content["scaler"] and self.scaler.is_enabled():  # empty where the run was not in fp16
            self.scaler.load_state_dict(content["scaler"])
        self.step, self.evaluated, self.best = content["step"], content["evaluated"], content["best"]
        self.metrics, self.source = content.get("metrics"), path


def try_folder(name: str, resume: bool) -> Path:
    """OUTPUT_DIR, tried and left as it was: what is not there is not made. Raises as `open_folder` does."""
    folder = Path(name)
    try:
        there = next(place for place in (folder, *folder.parents) if place.exists())
        if there == folder:
            _probe(folder)
        elif not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
            code = errno.EACCES if there.is_dir() else errno.ENOTDIR
            raise OSError(code, os.strerror(code))
    except OSError as error:
        raise _unwritable(folder, error) from None
    _refuse_another(folder, resume)
    return folder


def open_folder(name: str, resume: bool) -> Path:
    """OUTPUT_DIR, made and tried. Raises OSError when it cannot be written, ValueError when it holds another run."""
    folder = Path(name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _probe(folder)
    except OSError as error:
        raise _unwritable(folder, error) from None
    _refuse_another(folder, resume)
    return folder


def _probe(folder: Path) -> None:
    probe = folder / ".probe"
    probe.write_bytes(b"0" * 4096)
    probe.unlink()


def _unwritable(folder: Path, error: OSError) -> FileAccessError:
    return FileAccessError(f"OUTPUT_DIR {folder} cannot be written: {error.strerror or error}; choose another")


def _refuse_another(folder: Path, resume: bool) -> None:
    held = sorted(path.name for pattern in ("model_*.pth", "weights*.pth") for path in folder.glob(pattern))
    if held and not resume:
        raise UserError(
            f"OUTPUT_DIR {folder} already holds a run ({held[-1]}): add --resume to continue it, or write "
            "OUTPUT_DIR another/folder to start anew; MODEL.WEIGHT FILE.pth starts from its weights"
        )


def to_resume(folder: Path, resume: bool) -> WeightFile | None:
    """The newest intact checkpoint of a folder with its optimiser, or None; said where one was asked for."""
    found = newest_checkpoint(folder, "optimizer") if resume else None
    if resume and found is None:
        log.info("OUTPUT_DIR %s holds no checkpoint to resume from: starting at step 0", folder)
    return found
