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


def table(page, corner):
    """First cell -> the others, line by line, of the first table of a page whose first column is called so."""
    lines = text(page).partition(f"| {corner} |")[2].partition("\n\n")[0].splitlines()[2:]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert rows, (page, corner)
    return {first: rest for first, *rest in rows}


def test_speeds_are_those_of_the_benchmarks():
    shares, training = table("docs/benchmarks.md", "prediction"), table("docs/benchmarks.md", "training step")
    assert table("docs/export.md", "prediction") == {f"OpenVINO, {form}": row for form, row in shares.items()}
    assert len(shares) == 3
    readme = {first.partition(" (")[0]: rest[0] for first, rest in table("README.md", "| this").items()}
    assert readme["time of a training step, FCOS, float32"] == training["FCOS"][0]
    assert readme["time of a prediction, Faster R-CNN, bf16"] == shares["bf16, to its best"][1]


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


def test_multiply_adds_of_repeated_stages_are_those_of_the_table():
    """systems.md has bodies, backbones.md a classifier of 1000 classes on 2048 channels too."""
    page = text("docs/explanation/systems.md")
    number = r"(\d\.\d+)"
    said = f"{number} times the arithmetic .*?: {number} G .*? against {number} G; "
    said += f"{number} times .*?: {number} against {number} G"
    numbers = list(map(float, re.search(said, page, re.S).groups()))
    counts = table("docs/reference/backbones.md", "backbone                ")
    for (times, twice, once), name in ((numbers[:3], "resnet50_caffe"), (numbers[3:], "resnet50")):
        assert times == round(twice / once, 2)
        for row, body in ((f"sre{name}", twice), (name, once)):
            assert round(float(counts[f"`{row}`"][2]) - 2048 * 1000 / 1e9, 3) == body
