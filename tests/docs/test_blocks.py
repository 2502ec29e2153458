"""Every block of commands in README.md and docs is run here, or says what it needs."""

import re
import shlex
import sys
from itertools import pairwise

import pytest
from helpers import ROOT
from helpers.docs_blocks import PAGES, blocks, commands, files, scripts
from helpers.docs_world import World

from detector.commands import VERBS
from detector.config import shipped_configs

sys.path.insert(0, str(ROOT / "tools/reference"))
import pages

ELSEWHERE = (
    # lines of unmarked blocks that are run by something else: CI, or a test of their own
    r"python3(\.10)? -m venv \.venv.*",
    r"\.venv-test/bin/python -m pytest -m slow",
    r"pip install -e .*",
)
NEEDS = (  # what a marked block may need
    *("a download", "COCO", "ImageNet", "saliency data", "several GPUs", "a server", "minutes", "hours"),
    *("a trained run", r"the packages of \[\w+\]"),
)


def lines_to_run(block):
    """Those of a block that needs nothing."""
    return [line for line in block.lines if not any(re.fullmatch(known, line) for known in ELSEWHERE)]


def test_a_block_without_mark_has_nothing_but_what_is_run():
    left = [(block.page, x) for block in blocks() if not block.needs for x in lines_to_run(block) if not commands(x)]
    assert not left
    assert sum(len(lines_to_run(block)) for block in blocks() if not block.needs) >= 35


def test_a_mark_says_what_is_needed():
    known = f"({'|'.join(NEEDS)})(, ({'|'.join(NEEDS)}))*"
    assert not [(block.page, block.needs) for block in blocks() if block.needs and not re.fullmatch(known, block.needs)]


@pytest.mark.slow
@pytest.mark.parametrize("page", sorted({block.page for block in blocks() if not block.needs and lines_to_run(block)}))
def test_blocks_run(page, tmp_path):
    """One after the other in an empty folder, trainings with a few steps; then the scripts."""
    world = World(tmp_path)
    world.write(files(page))
    for block in blocks():
        if block.page == page and not block.needs:
            for line in lines_to_run(block):
                world.run(line)
    for script in scripts(page):
        world.python(script)


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
