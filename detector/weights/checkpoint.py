"""Checkpoints: written atomically, read without executing anything, found again after a crash."""

import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

log = logging.getLogger("detector")

FINAL, BEST = "model_final.pth", "model_best.pth"


def step_name(step: int) -> str:
    """File name of the checkpoint after `step` steps: model_0000060.pth."""
    return f"model_{step:07d}.pth"


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write aside, flush to disk, rename: a crash leaves the old file or the new one, never half a file.

    Raises OSError naming the file when it cannot be written; earlier checkpoints stay as they are.
    """
    aside = path.with_name(path.name + ".tmp")
    try:
        with open(aside, "wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except (OSError, RuntimeError) as error:
        aside.unlink(missing_ok=True)
        raise OSError(
            f"cannot write checkpoint {path}: {error}. Free space or choose another OUTPUT_DIR; earlier "
            "checkpoints are untouched, --resume continues from the newest"
        ) from error


def read_checkpoint(path: Path, *needs: str) -> dict[str, Any]:
    """The dict that a checkpoint file holds, on the CPU; it has "model" and the keys in `needs`.

    Raises FileNotFoundError, or ValueError naming the file when it is truncated, no checkpoint, or holds code.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such checkpoint") from None
    except Exception as error:
        reason = str(error).partition(". ")[0].splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path} is truncated, no checkpoint, or holds code, which is never run: {reason}") from None
    missing = [key for key in ("model", *needs) if not isinstance(content, dict) or key not in content]
    if missing:
        raise ValueError(f"{path} is no checkpoint of this framework: it has no {', '.join(map(repr, missing))}")
    return content


def numbered(output: Path) -> list[Path]:
    """The numbered checkpoints of a folder, newest first."""
    return sorted((p for p in output.glob("model_*.pth") if re.fullmatch(r"model_\d{7,}", p.stem)), reverse=True)


def newest_checkpoint(output: Path) -> tuple[Path, dict[str, Any]] | None:
    """The intact checkpoint of a folder with the most steps, or None; damaged ones are named in a warning."""

    def intact(paths: list[Path]) -> Iterator[tuple[Path, dict[str, Any]]]:
        for path in paths:
            try:
                yield path, read_checkpoint(path, "step", "optimizer")
            except ValueError as error:
                log.warning("%s; it is left out", error)

    candidates = [*intact([output / FINAL] if (output / FINAL).exists() else [])]
    candidates += [newest for newest in [next(intact(numbered(output)), None)] if newest]
    return max(candidates, key=lambda found: found[1]["step"], default=None)
