"""The blocks of commands in README.md and docs."""

import re
from typing import NamedTuple

from helpers import ROOT

PAGES = ["README.md", "datasets/README.md", *(str(p.relative_to(ROOT)) for p in sorted((ROOT / "docs").rglob("*.md")))]
BLOCK = re.compile(r"^(?P<mark><!-- needs [^\n]*-->\n)?```bash\n(?P<text>.*?)^```$", re.S | re.M)
COMMAND = re.compile(r"(?:^|/|-m | )detector (?=[a-z])(?P<words>.*)")


class Block(NamedTuple):
    """Lines of a block, those that go on joined. needs: what its mark says, "" for one that runs as it is."""

    page: str
    needs: str
    lines: list[str]


def blocks():
    """Every block of commands, page by page."""
    for page in PAGES:
        for match in BLOCK.finditer((ROOT / page).read_text(encoding="utf-8")):
            lines = [line.partition(" #")[0].strip() for line in match["text"].replace("\\\n", " ").splitlines()]
            yield Block(page, (match["mark"] or "").strip("<!->\n ").removeprefix("needs "), [x for x in lines if x])


def commands(line):
    """What stands behind `detector` in the parts of a line."""
    return [match["words"] for part in line.split("&&") if (match := COMMAND.search(part.strip()))]


def files(page):
    """Name -> text of the files that a page shows whole: blocks whose first line is `# NAME`."""
    text = (ROOT / page).read_text(encoding="utf-8")
    shown = re.findall(r"^```(?:yaml|python)\n(# (\S+\.(?:yaml|py))\n.*?)^```$", text, re.S | re.M)
    return {name: content for content, name in shown}


def scripts(page):
    """The pieces of Python that load a run, each a script by itself."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(r"^```python\n(import detector\n.*?detector\.load\(.*?)^```$", text, re.S | re.M)
