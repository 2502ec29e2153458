"""Commands that come back to a folder with results: by which weights, and where they have to read and write."""

import shlex
from pathlib import Path

from detector.engine.records import NAME as LOG
from detector.plugins import import_words
from detector.tasks.measured import what_was_measured
from detector.weights.checkpoint import FINAL, numbered

CONFIG = "config.yaml"
"""What a training writes into its folder before anything else."""


def is_run(folder: Path) -> bool:
    """Whether a training wrote into a folder, or its checkpoints were put there."""
    return any((folder / name).is_file() for name in (CONFIG, LOG)) or _holds_weights(folder)


def _holds_weights(folder: Path) -> bool:
    return (folder / FINAL).is_file() or bool(numbered(folder))


def retest(folder: Path) -> str:
    """`detector test ..`, as one types it, after which `folder` has the results of now."""
    return repeated(folder, "test")


def repeated(folder: Path, verb: str, more: str = "") -> str:
    """`detector VERB ..` with the detector whose results a folder has, or should have, and with that folder's files.

    more: words between the two. Of a run with several test sets each has a folder in the run's, and the command is for
    all. A folder without checkpoints has the results of weights that lie elsewhere: a test wrote there by its
    OUTPUT_DIR, and would again.
    """
    said = what_was_measured(folder / "metrics.json") or {}
    config, weight = said.get("config"), said.get("weight")
    entries = config.get("DATASETS.TEST") if isinstance(config, dict) else None
    above = folder.resolve().parent
    several = isinstance(entries, list | tuple) and len(entries) > 1
    home = above if several or (not is_run(folder) and is_run(above)) else folder
    place = shlex.quote(str(home))
    known = isinstance(weight, str) and weight and Path(weight).resolve().parent != home.resolve()
    if _holds_weights(home) or not known:
        return f"`detector {verb} {place}{more}{import_words()}`"
    return f"`detector {verb} {shlex.quote(str(weight))}{more} OUTPUT_DIR {place}{import_words()}`"
