"""Links in README.md and docs lead somewhere, and every page can be found."""

import re

import pytest
from helpers import ROOT
from helpers.docs_blocks import PAGES


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


def test_every_finding_stands_in_the_index():
    index = (ROOT / "docs/findings.md").read_text()
    assert not [path.name for path in (ROOT / "findings").iterdir() if f"(../findings/{path.name})" not in index]
    assert all(path.stat().st_mode & 0o100 for path in (ROOT / "findings").iterdir())


def test_every_page_stands_in_the_navigation():
    text = (ROOT / "mkdocs.yml").read_text()
    pages = [str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")]
    assert not [page for page in pages if f": {page}\n" not in text]


def test_the_readme_stays_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150
