"""report.html as text: whole, well formed, escaped, and in need of nothing from elsewhere."""

import base64
import hashlib
import re
import shutil
import subprocess
from html.parser import HTMLParser
from importlib.resources import files

import pytest
from helpers import comparisons

from detector.report.charts import draw
from detector.report.page import page

VOID = {"meta", "input", "br", "link"}
SCRIPT = files("detector.report").joinpath("page.js").read_text(encoding="utf-8")


class Reader(HTMLParser):
    """Checks that elements are closed in turn; collects them, the texts of cells and the tables."""

    def __init__(self, source):
        super().__init__()
        self.open, self.elements, self.tables, self.texts = [], [], [], []
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        assert len(dict(attributes)) == len(attributes)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_startendtag(self, tag, attributes):
        assert "svg" in self.open, tag  # elsewhere HTML has no such tags
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)
        if "td" in self.open or "th" in self.open:
            self.tables[-1][-1][-1] += data

    def of(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def read(document, charts=None):
    pytest.importorskip("matplotlib")
    return Reader(page(document, draw(document) if charts is None else charts))


def rows(reader, title):
    """The table that has such a heading, without its heads."""
    return next(table[1:] for table in reader.tables if title in table[0])


@pytest.mark.parametrize("make", [comparisons.runs, lambda: comparisons.results({"a": 0.5, "b": 0.6})])
def test_a_page_is_well_formed(make):
    reader = read(make())
    assert reader.tables
    for table in reader.tables:
        assert len({len(row) for row in table}) == 1, table[0]
    assert all(attributes.get("scope") in ("row", "col") for attributes in reader.of("th"))
    ids = [attributes["id"] for _, attributes in reader.elements if "id" in attributes]
    assert len(ids) == len({*ids})
    assert [attributes["lang"] for attributes in reader.of("html")] == ["en"]
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in reader.of("meta")


def test_a_page_needs_nothing_from_elsewhere():
    text = page(comparisons.runs(), draw(comparisons.runs()))
    assert "http:" not in text
    assert "https:" not in text
    assert not re.search(r"@import|url\((?!#)|\bsrc=|\bsrcset=|<(?:link|iframe|img|object|embed|base)\b", text)
    assert all(found.startswith("#") for found in re.findall(r'href="([^"]*)"', text))


def test_no_script_but_its_own_may_run():
    reader = read(comparisons.runs())
    (policy,) = (each["content"] for each in reader.of("meta") if each.get("http-equiv") == "Content-Security-Policy")
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    assert "default-src 'none'" in policy
    assert f"script-src 'sha256-{digest}'" in policy
    assert len(reader.of("script")) == 1
    assert not [name for _, attributes in reader.elements for name in attributes if name.startswith("on")]


def test_hostile_names_are_text(hostile):
    text = page(hostile, draw(hostile))
    reader = read(hostile)
    assert len(reader.of("script")) == 1
    assert not reader.of("img")
    assert not [name for _, attributes in reader.elements for name in attributes if name.startswith("on")]
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", text)
    for table in reader.tables:
        assert len({len(row) for row in table}) == 1
    assert rows(reader, "AP50")[0][0].startswith("●\xa0$x$<script>alert(1)</script>\"'&|\\x1b[31m\\u202e 日本")
    assert "</td></table>" in [row[0] for row in rows(reader, "p (Holm)")]


def test_numbers_are_those_of_the_document():
    document = comparisons.runs(("a", "b", "c"))
    reader = read(document)
    good = rows(reader, "AP50")
    assert [row[1] for row in good] == ["60.057.6 .. 62.4", "60.458.0 .. 62.8", "63.160.7 .. 65.5"]
    assert [row[0][0] for row in good] == ["●", "■", "◆"]
    assert rows(reader, "p, sign-flip") == [
        ["■\xa0b", "+0.4", "\u22122.0 .. +2.8", "0.9", "0.6", "0.74", "0.25", "a tie"],
        ["◆\xa0c", "+3.1", "+0.7 .. +5.5", "0.9", "0.6", "0.0098", "0.25", "c is better"],
    ]
    assert rows(reader, "parameters")[1] == [
        *("■\xa0b", "33.7 M", "4.7 G", "3.5 G", "63 ms", "1.3 s", "1.17 GiB", "13:10", "0.056"),
    ]
    sizes = rows(reader, "medium")
    assert sizes[0][1:5] == ["\u2013", "", "60.057.6 .. 62.4", ""]
    assert sizes[2][4] == "+3.1+0.7 .. +5.5"
    assert ["a", "1", "60.0", "80.0", "60.0", "11:41", "600", "runs/a_1"] in rows(reader, "seed")
    assert ["MODEL.BACKBONE.NAME", "a", "b", "c"] in rows(reader, "setting")


def test_what_is_sorted_by_has_its_whole_value():
    text = page(comparisons.results({"a": 0.5, "b": 0.55555}))
    assert 'data-v="0.55555">55.6<' in text
    assert 'data-v="">\u2013' in text  # APs


def test_classes_that_differ_stand_first():
    names = [f"class {place}" for place in range(40)]
    document = comparisons.results({"a": 0.5, "b": 0.58}, names)
    differ, rest = (table[1:] for table in read(document).tables if "p (Holm)" in table[0])
    assert [row[0] for row in differ] == ["class 0", "class 1"]
    assert len(rest) == 38
    assert rest[0][:2] == ["class 2", "+2.7+0.7 .. +4.6"]
    text = page(document)
    assert re.search('>class 1</th><td data-v="[^"]*">[+]4.0', text)
    assert re.search('>class 2</th><td class="tie" data-v="[^"]*">[+]2.7', text)  # told alone, not of so many
    words = " ".join(read(document).texts)
    assert "2 of 40 classes differ" in words
    assert "38 other classes are not told apart" in words
    few = comparisons.results({"a": 0.5, "b": 0.58}, names[:3])
    assert [len(table) for table in read(few).tables if "p (Holm)" in table[0]] == [4]


def test_many_classes_make_a_page_that_opens():
    names = [f"class {place}" for place in range(1203)]
    text = page(comparisons.results({"a": 0.5, "b": 0.58}, names))
    assert len(text) < 1_000_000
    assert text.count('class="rest') + text.count('"box rest') >= 1
    assert text.count('type="search"') == 1


def test_failures_and_notes_are_told_at_the_top():
    document = comparisons.runs()
    document["failed"] = [{"cell": "x fcos 1", "why": "line one\nline two"}, {"cell": "y", "why": "?"}]
    document["notes"] = ["The devices differ."]
    text = page(document)
    head = text[: text.index("</header>")]
    assert "2 cells failed" in head
    assert "The devices differ." in head
    assert "line one\nline two" in text
    assert "failed" not in page(comparisons.runs()).split("<body>")[1]


def test_lines_that_are_cut_off_are_said_to_be():
    document = comparisons.results({"a": 0.5, "b": 0.55})
    assert "reaches the edge" not in page(document)
    document["differences"][0]["ARl"].update(value=0.6, interval95=[-0.1, 1.3])
    text = page(document)
    assert "reaches the edge" in text
    assert not re.search(r'x[12]="(-|[1-9]\d\d\.[1-9])', text)


def test_rounds_stand_below_their_times():
    document = comparisons.runs(("a", "b"))
    document["models"]["b"]["facts"]["image_s_rounds"] = [0.061, 0.07, 0.063]
    assert rows(read(document), "parameters")[1][4] == "63 ms61 ms .. 70 ms"


def test_sections_without_numbers_are_left_out(empty):
    reader = read(empty)
    words = " ".join(reader.texts)
    for title in ("How fast", "By object size", "Learning curves", "Failed", "Settings that differ"):
        assert title not in words
    assert "How good" in words
    assert "None" not in words
    assert not re.search(r"\bnan\b", words)
    assert not reader.of("figure")
    results = " ".join(read(comparisons.results({"a": 0.5, "b": 0.6})).texts)
    assert "How fast" not in results
    assert "a.json" in results


def test_charts_stand_in_their_sections_with_alternative_texts():
    reader = read(comparisons.runs())
    labels = [attributes["aria-label"] for attributes in reader.of("div") if attributes.get("role") == "img"]
    assert len(labels) == 5
    assert labels[0].startswith("Difference of AP to resnet50. sreresnet50: +0.4")
    without = Reader(page(comparisons.runs()))
    assert not [attributes for attributes in without.of("div") if attributes.get("role") == "img"]
    assert len(without.tables) == len(reader.tables)
    assert "●" not in "".join(without.texts)  # a sign that no chart explains


def test_brackets_of_the_script_are_closed():
    code = re.sub(r"//[^\n]*|\"[^\"\n]*\"|`[^`]*`", "", SCRIPT)
    open_ones = []
    for sign in code:
        if sign in "([{":
            open_ones.append(sign)
        elif sign in ")]}":
            assert open_ones.pop() + sign in ("()", "[]", "{}")
    assert open_ones == []
    assert "</script" not in SCRIPT


def test_the_script_is_javascript():
    node = shutil.which("node")
    if node is None:
        pytest.skip("there is no node")
    path = str(files("detector.report").joinpath("page.js"))
    checked = subprocess.run([node, "--check", path], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
