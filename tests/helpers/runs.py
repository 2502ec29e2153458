"""What runs leave behind."""

import json
import shutil
from pathlib import Path

import torch


def read(path):
    """The content of a checkpoint."""
    return torch.load(path, weights_only=True)


def records(folder):
    """The lines of a run's log.jsonl; the first says how it began."""
    return [json.loads(line) for line in (Path(folder) / "log.jsonl").read_text().splitlines()]


def move_run(checkpoint, folder, **changes):
    """A folder that holds nothing but this checkpoint, some entries of which are others."""
    Path(folder).mkdir(parents=True)
    if changes:
        torch.save({**read(checkpoint), **changes}, Path(folder) / Path(checkpoint).name)
    else:
        shutil.copy(checkpoint, folder)


def same_bits(got, want):
    """Whether two state dicts are equal; an assertion names the tensors that are not."""
    assert list(got) == list(want)
    different = [key for key in want if not torch.equal(got[key], want[key])]
    assert not different
    return True
