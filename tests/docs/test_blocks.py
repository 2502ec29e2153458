"""Every block of commands in README.md and docs is run here, or says what it needs."""

import os
import re
import shlex
import subprocess
import sys
from itertools import pairwise

import pytest
from helpers import ROOT
from helpers.docs_blocks import PAGES, blocks, commands

from detector.commands import VERBS
from detector.config import shipped_configs

sys.path.insert(0, str(ROOT / "tools/reference"))
import pages

ELSEWHERE = (
    # lines of unmarked blocks that are run by something else: CI, or a test of their own
    r"python3(\.10)? -m venv \.venv.*",
    r"\.venv-test/bin/python -m pytest -m slow",
    r"pip install -e \.",
    r"PYTHONPATH=\. detector train --import my_package .*",
)
SHORT = ["MODEL.DEVICE", "cpu", "SOLVER.MAX_ITER", "3", "SOLVER.WARMUP_ITERS", "1", "DATALOADER.NUM_WORKERS", "0"]


def runnable(block):
    """The `detector` commands of a block that needs nothing, as lists of words."""
    lines = [line for line in block.lines if not any(re.fullmatch(known, line) for known in ELSEWHERE)]
    return [shlex.split(words) for line in lines for words in commands(line)]


def test_a_block_without_mark_has_nothing_but_what_is_run():
    left = [
        (block.page, line)
        for block in blocks()
        for line in block.lines
        if not block.needs and not commands(line) and not any(re.fullmatch(known, line) for known in ELSEWHERE)
    ]
    assert not left
    assert sum(len(runnable(block)) for block in blocks() if not block.needs) >= 6


@pytest.mark.slow
@pytest.mark.parametrize("page", sorted({block.page for block in blocks() if not block.needs and runnable(block)}))
def test_blocks_run(page, tmp_path):
    """One after the other in an empty folder, trainings with a few steps."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "DETECTOR_CACHE": str(tmp_path / "cache")}
    environment.pop("DETECTOR_DATASETS", None)
    for block in blocks():
        if block.page == page and not block.needs:
            for verb, *words in runnable(block):
                short = SHORT if verb == "train" else []
                run = [sys.executable, "-m", "detector", verb, *words, *short]
                done = subprocess.run(run, cwd=tmp_path, env=environment, capture_output=True, text=True)
                assert done.returncode == 0, (words, done.stdout[-1000:], done.stderr[-2000:])


def test_commands_have_the_verbs_flags_and_configs_that_there_are():
    checked = 0
    for block in blocks():
        for line in block.lines:
            for verb, *words in map(shlex.split, commands(line)):
                assert verb in VERBS, (block.page, line)
                page = pages.help_of(verb, *(words[:1] if verb == "analyze" else ()))
                flags = {word.partition("=")[0] for word in words if word.startswith("--")}
                assert not flags - set(re.findall(r"--[a-z][a-z0-9-]*", page)), (block.page, line)
                for flag, value in pairwise(words):
                    if flag == "--config-file" and not value.endswith((".yaml", "..")):
                        assert value in shipped_configs() or value.isupper(), (block.page, line)
                checked += 1
    assert checked > 40
    assert "README.md" in PAGES
