"""Checkpoints: written atomically, read without executing anything, found again after a crash."""

import errno
import logging
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch

from detector.errors import FileAccessError, MissingFileError, UserError
from detector.files import is_special, writing
from detector.weights.load import is_detector
from detector.weights.read import FETCH, WeightFile, read_file, read_plain
from detector.weights.schema import check_entries

log = logging.getLogger("detector")

FINAL, BEST = "model_final.pth", "model_best.pth"


def step_name(step: int) -> str:
    """File name of the checkpoint after `step` steps: model_0000060.pth."""
    return f"model_{step:07d}.pth"


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write aside, flush to disk, rename: a crash leaves the old file or the new one, never half a file.

    Raises OSError naming the file when it cannot be written; earlier checkpoints stay as they are.
    """
    if path.is_dir() or is_special(path):
        raise FileAccessError(f"cannot write checkpoint {path}: a folder or device is there; choose another name")
    try:
        with writing(path, durable=True) as file:
            torch.save(content, file)
    except (OSError, RuntimeError) as error:
        cause = _of_the_system(error)
        short = cause is not None and cause.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = "Free space, lower SOLVER.CHECKPOINT_KEEP," if short else "Mend that"
        raise FileAccessError(
            f"cannot write checkpoint {path}: {cause.strerror if cause else error}. {remedy} or choose another "
            "OUTPUT_DIR; what was there is untouched"
        ) from error


def _of_the_system(error: BaseException) -> OSError | None:
    """What the operating system said, which torch's writer covers with an error of its own."""
    cause: BaseException | None = error
    while cause is not None and not (isinstance(cause, OSError) and cause.errno):
        cause = cause.__cause__ or cause.__context__
    return cause


def read_checkpoint(path: Path, *needs: str) -> WeightFile:
    """A checkpoint of ours, or a bare state dict of a detector of ours, on the CPU; it has the entries in `needs`.

    The optimiser's state is read only if it is among them. Raises FileNotFoundError, or ValueError naming the file when
    it is damaged, no checkpoint, or holds code.
    """
    try:
        file = read_file(path, optimizer="optimizer" in needs)
    except FileNotFoundError:
        raise MissingFileError(f"{path}: no such checkpoint") from None
    missing = [key for key in needs if key not in file.content]
    if not file.taken and not is_detector(file):
        missing.insert(0, "model")
    if missing:
        raise UserError(f"{path} is no checkpoint of this framework: it has no {', '.join(map(repr, missing))}")
    return check_entries(file)


def numbered(output: Path) -> list[tuple[int, Path]]:
    """Numbers and files of those of a folder that are named as numbered checkpoints, the highest first."""
    found = [path for path in output.glob("model_*.pth") if re.fullmatch(r"model_\d{7,}", path.stem) and path.is_file()]
    return sorted(((int(path.stem.removeprefix("model_")), path) for path in found), reverse=True)


def with_steps(output: Path) -> list[tuple[int, Path]]:
    """Steps and files of the checkpoints of a folder, that of the most steps first; those of no step are named.

    A checkpoint's own step counts, whatever its name. No tensor is read, so some may be damaged.
    """
    final, places = output / FINAL, list[tuple[int, Path]]()
    for path in [*([final] if final.is_file() else []), *(path for _, path in numbered(output))]:
        try:
            places.append((_step(path), path))
        except UserError as error:
            log.warning("%s; it is left out", str(error).removesuffix(FETCH))
        except FileNotFoundError:  # its run has deleted it meanwhile
            continue
    return sorted(places, key=lambda place: place[0], reverse=True)


def by_step(output: Path) -> list[Path]:
    """The checkpoints of a folder, that of the most steps first; see `with_steps`."""
    return [path for _, path in with_steps(output)]


def _step(path: Path) -> int:
    step = read_plain(path).get("step")
    if not isinstance(step, int):
        raise UserError(f"{path} is no checkpoint of this framework: it has no 'step'")
    return step


def newest_config(output: Path) -> tuple[Path, str] | None:
    """The newest checkpoint of a folder that can be read and has a config, and that config; None without any."""
    for path in by_step(output):
        try:
            text = read_plain(path).get("config")
        except FileNotFoundError:
            continue
        except UserError as error:
            log.warning("%s; it is left out", str(error).removesuffix(FETCH))
            continue
        if isinstance(text, str):
            return path, text
    return None


def newest_checkpoint(output: Path, *needs: str, without: Collection[Path] = ()) -> WeightFile | None:
    """The intact checkpoint of a folder with the most steps, or None; damaged ones are named in a warning.

    needs: as in `read_checkpoint`, beside "step"; without: files to pass over. Tensors are read of no more than the one
    that is taken, and of damaged ones before it.
    """
    for path in by_step(output):
        if path in without:
            continue
        try:
            return read_checkpoint(path, "step", *needs)
        except UserError as error:
            log.warning("%s; it is left out", str(error).removesuffix(FETCH))
    return None
