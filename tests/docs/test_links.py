"""Links and commands in README.md and docs lead somewhere."""

import re
import shlex
import sys
from itertools import pairwise

import pytest
from helpers import ROOT

from detector.commands import VERBS
from detector.config import shipped_configs

sys.path.insert(0, str(ROOT / "tools/reference"))
import pages

PAGES = ["README.md", "datasets/README.md", *(str(p.relative_to(ROOT)) for p in sorted((ROOT / "docs").rglob("*.md")))]
BLOCK = re.compile(r"^```bash\n(.*?)^```$", re.S | re.M)


def slug(heading):
    """The anchor of a heading, as GitHub and mkdocs make it."""
    return re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", heading.strip().lower()))


def anchors(path):
    return {slug(line.lstrip("#")) for line in path.read_text().splitlines() if re.match("#+ ", line)}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    text = re.sub(r"^```.*?^```$", "", (ROOT / page).read_text(), flags=re.S | re.M)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match("https?://", target):
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / page).parent / path if path else ROOT / page
        assert file.exists(), f"{page}: {target}"
        assert not anchor or anchor in anchors(file), f"{page}: {target}"


def commands():
    """(page, words) of every `detector VERB ..` of a block; lines that go on are joined."""
    for page in PAGES:
        for block in BLOCK.findall((ROOT / page).read_text()):
            for line in block.replace("\\\n", " ").splitlines():
                for part in line.split("&&"):
                    if match := re.search(r"(?:^|/|-m | )detector (?=[a-z])(.*)", part.partition(" #")[0]):
                        yield pytest.param(shlex.split(match[1]), id=f"{page}: {match[1][:60]}")


@pytest.mark.parametrize("words", list(commands()))
def test_commands_have_the_verbs_flags_and_configs_that_there_are(words):
    verb, *rest = words
    assert verb in VERBS
    page = pages.help_of(verb, *(rest[:1] if verb == "analyze" else ()))
    flags = {word.partition("=")[0] for word in rest if word.startswith("--")}
    assert not flags - set(re.findall(r"--[a-z][a-z-]*", page)), flags
    for flag, value in pairwise(rest):
        if flag == "--config-file" and not value.endswith((".yaml", "..")) and value.isascii():
            assert value in shipped_configs() or value.isupper(), value
