"""Pages are called as the navigation calls them, begin with what they are for, and agree on their figures."""

import re

import pytest
from helpers import ROOT
from helpers.docs_blocks import PAGES

from detector.models.backbones import BACKBONES

NAMES = re.findall(r"^ +- (?P<name>.+?): (?P<page>\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.M)
"""(name, page) as the navigation has them, in its order."""

TO_FOLLOW = [page for _, page in NAMES[: [name for name, _ in NAMES].index("Config keys")]]
"""Start page, tutorials, how to: what stands before the reference."""


def text(page):
    """A page without the mark of those that are made of the code."""
    return re.sub(r"\A<!-- Made.*?-->\n\n", "", (ROOT / page).read_text(encoding="utf-8"))


@pytest.mark.parametrize(("name", "page"), NAMES)
def test_a_title_is_the_name_in_the_navigation(name, page):
    title = text(f"docs/{page}").partition("\n")[0]
    assert title == ("# detector" if page == "index.md" else f"# {name}")  # the start page bears the site's name


@pytest.mark.parametrize("page", [page for page in PAGES if page.startswith("docs/")])
def test_a_page_begins_with_what_it_is_for(page):
    title, opening = text(page).split("\n\n")[:2]
    assert title.count("\n") == 0
    assert re.match(r"[A-Z*`]", opening), "words come first, no heading, table, list or block"
    assert len(re.findall(r"[.:?!](?=\s|$)", opening)) >= 2


@pytest.mark.parametrize("page", TO_FOLLOW)
def test_what_to_type_stands_near_the_top(page):
    assert re.search(r"^```|`detector [a-z]", "\n".join(text(f"docs/{page}").splitlines()[:22]), re.M)


# ---------------------------------------------------------------------------- figures that stand in two places


def cells(page, first):
    """The line of a table whose first cell begins with these words, without that cell."""
    (line,) = [line for line in text(page).splitlines() if line.startswith(f"| {first}")]
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def test_speeds_are_those_of_the_benchmarks():
    page = "docs/benchmarks.md"
    shown = {precision: cells("docs/export.md", f"OpenVINO, {precision},") for precision in ("float32", "bf16", "int8")}
    assert shown["float32"] == cells(page, "float32, to its float32 | 0.5")
    assert shown["int8"] == cells(page, "int8, to its best")
    assert cells("README.md", "time of a training step, FCOS, float32")[0] == training(page, "FCOS")[0]
    assert cells("README.md", "time of a prediction, Faster R-CNN, bf16")[0] == shown["bf16"][1]


def training(page, head):
    _, _, part = text(page).partition("| training step |")
    (line,) = [line for line in part.partition("\n\n")[0].splitlines() if line.startswith(f"| {head} |")]
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def test_every_backbone_was_compared_or_it_says_with_what_not():
    page = text("docs/explanation/trust.md")
    said = r"Of the (\d+) registered backbones (\d+) .*?: (\d+) of (\d+) agreed.*?The other (\d+) came"
    registered, verified, agreed, of, later = map(int, re.search(said, page, re.S).groups())
    assert registered == len(BACKBONES)
    assert verified == agreed == of == registered - later
    table = page.partition("| backbones |")[2].partition("\n\n")[0]
    named = [name for line in table.splitlines() for name in re.findall(r"`([^`]+)`", line.split(" | ")[0])]
    assert len(named) == len(set(named)) == later
    assert not set(named) - set(BACKBONES)
