"""What a run is: its folder, and everything that a checkpoint holds and --resume restores."""

import errno
import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from detector.config.write import was_saved
from detector.distributed import from_main, is_main, largest, world_size
from detector.engine.health import BATCH, Health, divergence, ruined
from detector.engine.lock import locked
from detector.errors import FileAccessError, MissingFileError, UserError
from detector.files import clear_asides
from detector.version import versions
from detector.weights.checkpoint import (
    BEST,
    FINAL,
    newest_checkpoint,
    numbered,
    read_checkpoint,
    save_checkpoint,
    step_name,
)
from detector.weights.load import listed, load_state
from detector.weights.read import WeightFile
from detector.weights.schema import check_run

log = logging.getLogger("detector")

NO_SCORE = -1.0
"""Below all scores, and that of an evaluation where there was nothing to find."""


@dataclass
class Run:
    """A training on its way; `step` counts finished steps.

    folder: where its files are; model: what is trained; average: its moving average, if there is one; facts: plain
    values that say what a checkpoint is of (config, class names, ..); evaluated, metrics: step and measures of the last
    evaluation; best, best_step: the highest score so far, and its step; stale: evaluations since then; final: name of
    the last checkpoint, "" for its number like the others; kept: name of the best weights, "" where they are not kept;
    keep: how many numbered checkpoints stay, 0 for all, beside those of the steps in milestones; header: what log.jsonl
    says of the training when it begins; text: the config, for readers; source: what it was resumed from; written: the
    last checkpoint of this process; whole: whether all of it is of the same step, as it is but for the update itself;
    health: whether it still learns; wrapped: the model as the loop calls it, which several processes do by torch's
    DistributedDataParallel. Only the first of them writes.
    """

    folder: Path
    model: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    facts: dict[str, Any]
    average: AveragedModel | None = None
    final: str = FINAL
    kept: str = BEST
    keep: int = 0
    milestones: tuple[int, ...] = ()
    header: dict[str, Any] = field(default_factory=dict)
    text: str = ""
    step: int = 0
    evaluated: int = 0
    best: float = NO_SCORE
    best_step: int = 0
    stale: int = 0
    metrics: dict[str, Any] | None = None
    source: Path | None = None
    written: Path | None = None
    whole: bool = True
    health: Health = field(default_factory=Health)
    wrapped: nn.Module = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.wrapped = self.model
        if before := divergence(self.folder):  # what this run writes is not what that one ruined
            self.health.resumes = before.resumes + 1

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
            "best_step": self.best_step,
            "stale": self.stale,
            "metrics": self.metrics,
            "versions": versions(),
            "processes": world_size(),
            **self.health.content(),
            **self.facts,
        }

    def checkpoint(self, last: bool) -> Path:
        """Where the checkpoint of this step stands. last: it is that of the training's last step."""
        return self.folder / (self.final if last and self.final else step_name(self.step))

    def save(self, last: bool = False) -> None:
        """Write the checkpoint of this step; once it is on the disk, what it makes superfluous goes."""
        path = self.checkpoint(last)
        if is_main():
            save_checkpoint(path, self.content())
        self.written = path
        if not is_main():
            return
        clear_asides(self.folder, ("model_", "weights"))
        gone = self.superfluous()
        for other in gone:
            other.unlink()
        if len(gone) > 1:
            log.info("deleted, as the newest %d stay: %s", self.keep, listed([other.name for other in gone]))

    def superfluous(self) -> list[Path]:
        """The numbered checkpoints beyond those that are to stay; where losses have risen, the last before that stays.

        Milestones stay and do not count. Those of steps that are still to come are no older ones.
        """
        if not self.keep:
            return []
        older = [(number, path) for number, path in numbered(self.folder) if number <= self.step]
        before = [path for number, path in older if number <= self.health.sound]
        spared = before[:1] if self.health.risen else []
        counted = [path for number, path in older if number not in self.milestones]
        return [path for path in counted[self.keep :] if path not in spared]

    def keep_best(self, metrics: dict[str, Any], score: float, weights: Mapping[str, Any]) -> None:
        """Take note of an evaluation; `weights` go to the file of the best, if any, where no score was as high."""
        self.metrics, self.evaluated = metrics, self.step
        missing = bool(self.kept) and is_main() and not (self.folder / self.kept).exists()
        (missing_there,) = largest([missing])  # to the first process, which all follow
        again = self.best_step == self.step  # the best one itself is measured once more
        self.stale = 0 if score > self.best or again else self.stale + 1
        if score > self.best or missing_there:
            self.best, self.best_step = score, self.step
            if self.kept and is_main():
                save_checkpoint(self.folder / self.kept, {**weights, "step": self.step, "metrics": metrics})

    def out_of_patience(self, patience: int) -> bool:
        """Whether so many evaluations in a row were no better; never for 0."""
        return 0 < patience <= self.stale

    def patience_text(self, steps: int) -> str:
        """That no evaluation was better, and what that ends. steps: of the whole training."""
        return (
            f"no better one in {self.stale} evaluation{'s' * (self.stale != 1)} in a row, so training ends at step "
            f"{self.step} of {steps}; the best score, {self.best:.4g}, is that of step {self.best_step}"
        )

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
        self.best_step, self.stale = content.get("best_step", 0), content.get("stale", 0)
        self.metrics, self.source = content.get("metrics"), path
        number = self.health.resumes
        self.health.restore(content)
        self.health.resumes = max(number, self.health.resumes + 1)


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
    with tempfile.TemporaryFile(dir=folder) as probe:
        probe.write(b"0" * 4096)


def _unwritable(folder: Path, error: OSError) -> FileAccessError:
    return FileAccessError(f"OUTPUT_DIR {folder} cannot be written: {error.strerror or error}; choose another")


def _refuse_another(folder: Path, resume: bool) -> None:
    if not resume and (names := foreign(folder)):
        raise UserError(
            f"OUTPUT_DIR {folder} holds files that no run wrote and that this one would replace ({', '.join(names)}): "
            "write OUTPUT_DIR another/folder"
        )
    found = held(folder)
    if found and not resume:
        raise UserError(
            f"OUTPUT_DIR {folder} already holds a run ({found[-1]}): add --resume (in Python resume=True) to continue "
            "it, or write OUTPUT_DIR another/folder to start anew; MODEL.WEIGHT FILE.pth starts from its weights"
        )


@contextmanager
def claimed(name: str, resume: bool) -> Iterator[tuple[Path, Callable[[], None]]]:
    """OUTPUT_DIR for one run at a time, and a function that makes it: until then nothing is there that was not.

    A folder that is there is locked at once, another one when it is made. Of several processes the first one does so
    for all. Raises as `open_folder` and `locked` do.
    """
    if not is_main():
        yield Path(name), lambda: None
        return
    folder = try_folder(name, resume)
    with ExitStack() as stack:
        there = folder.is_dir()
        if there:
            stack.enter_context(locked(folder))

        def make() -> None:
            if not there:
                folder.mkdir(parents=True, exist_ok=True)
                stack.enter_context(locked(folder))
            open_folder(name, resume)  # which a run that was quicker may have filled meanwhile

        yield folder, make


def foreign(folder: Path) -> list[str]:
    """Names of files in a folder that a run would replace, and that neither a run nor a test has written.

    Links do not count: what takes their place leaves alone what they lead to.
    """
    ours: dict[str, Callable[[Path], bool]] = {
        "config.yaml": was_saved,
        "log.jsonl": lambda path: _first_line(path)[:8] in (b'{"step":', b""),
        "metrics.json": lambda path: b'"measured"' in path.read_bytes(),
    }
    places = {folder / name: is_ours for name, is_ours in ours.items()}
    return [path.name for path, is_ours in places.items() if _is_plain(path) and not is_ours(path)]


def _is_plain(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _first_line(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.readline(1000)


def held(folder: Path) -> list[str]:
    """Names of the weights that a run left in a folder."""
    found = (path for pattern in ("model_*.pth", "weights*.pth") for path in folder.glob(pattern))
    return sorted(path.name for path in found if path.is_file())


def to_resume(folder: Path, resume: bool) -> WeightFile | None:
    """The checkpoint that `newest_to_resume` finds, which the first of several processes chooses for all."""
    if not resume:
        return None
    found = newest_to_resume(folder) if is_main() else None
    path = from_main(None if found is None else found.path)
    if path is None or found is not None:
        return found
    if not path.is_file():
        raise MissingFileError(f"{path} is on the first machine only: OUTPUT_DIR has to be on a disk that all share")
    return read_checkpoint(path, "optimizer")


def newest_to_resume(folder: Path) -> WeightFile | None:
    """The checkpoint of a folder that a run goes on from, with its optimiser; None where there is no run.

    That is the newest intact one; after a divergence, of those before the losses rose. Raises ValueError where a run
    is there and nothing of it can be resumed: to start anew would overwrite it.
    """
    names, behind = held(folder), ruined(folder)
    found = newest_checkpoint(folder, "optimizer", without=behind)
    if found is not None:
        if behind:
            told = listed([path.name for path in behind])
            log.warning("passed over, as the losses had risen and the training diverged: %s", told)
        return found
    if not names:
        # a config and no log: a training that a comparison has prepared, and that has not begun
        prepared = (folder / "config.yaml").is_file() and not (folder / "log.jsonl").exists()
        if not prepared:
            log.warning("OUTPUT_DIR %s holds no checkpoint to resume from: starting at step 0", folder)
        return None
    broken = [name for name in (FINAL, *(path.name for _, path in numbered(folder))) if name in names]
    if behind:
        why = f"its checkpoints ({listed([path.name for path in behind])}) are of the time when the losses had risen"
        remedy = f"; delete {folder / BATCH} to resume the newest all the same"
    elif broken:
        why, remedy = f"its checkpoints ({listed(broken)}) cannot be resumed, as was said", ""
    else:
        why, remedy = f"{listed(names)} is without the optimiser's state", ""
    best = next((name for name in names if name not in broken), "")
    start = f" with MODEL.WEIGHT {folder / best}, which starts from these weights" if best else ""
    raise UserError(
        f"OUTPUT_DIR {folder} holds a run, and nothing to resume it from: {why}. Write OUTPUT_DIR "
        f"another/folder{start}, or delete or move the run to start anew here{remedy}"
    )
