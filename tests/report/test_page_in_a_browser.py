"""report.html in a headless Chromium: nothing complains, tables sort, charts show, 1,203 classes stay usable."""

import io
import time

import pytest
from helpers import comparisons
from helpers.browser import start_browser
from PIL import Image

from detector.report.charts import draw
from detector.report.page import page

NAMES = [f"{word}_{place}" for place, word in enumerate(["owl", "cup", "red boat"] * 401)]
COLUMN = """[...document.querySelectorAll('table')[{}].tBodies[0].rows]
    .filter(row => !row.hidden).map(row => row.cells[{}].innerText)"""
SORTS = "[...document.querySelectorAll('table')[{}].tHead.rows[0].cells].map(cell => cell.getAttribute('aria-sort'))"
OF_CLASSES = "[...document.querySelectorAll('table')].findIndex(table => table.matches('.filtered'))"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = start_browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    pytest.importorskip("matplotlib")
    folder = tmp_path_factory.mktemp("pages")
    documents = {"runs": comparisons.runs(), "many": comparisons.results({"a": 0.5, "b": 0.58}, NAMES)}
    for name, document in documents.items():
        (folder / f"{name}.html").write_text(page(document, draw(document)), encoding="utf-8")
    return folder


def names_of(browser, table=0):
    return [name.split("\xa0")[-1] for name in browser.ask(COLUMN.format(table, 0))]


def heading(table, column):
    return f"document.querySelectorAll('table')[{table}].tHead.rows[0].cells[{column}]"


def sorts(browser, table=0):
    return browser.ask(SORTS.format(table))


def test_tables_sort_by_a_click(browser, pages):
    browser.open(pages / "runs.html")
    assert names_of(browser) == ["resnet50", "sreresnet50", "iresnet50", "res2net50", "resnest50"]
    assert sorts(browser) == ["none"] * 7
    browser.ask(f"{heading(0, 1)}.querySelector('button').click()")
    assert names_of(browser) == ["iresnet50", "sreresnet50", "resnet50", "res2net50", "resnest50"]
    assert sorts(browser)[:3] == ["none", "descending", "none"]
    browser.ask(f"{heading(0, 1)}.querySelector('button').click()")
    assert names_of(browser) == ["resnest50", "res2net50", "resnet50", "sreresnet50", "iresnet50"]
    assert sorts(browser)[:3] == ["none", "ascending", "none"]
    browser.ask(f"{heading(0, 0)}.querySelector('button').click()")
    assert sorts(browser)[:3] == ["ascending", "none", "none"]
    assert browser.said == []


def test_tables_sort_by_the_keyboard(browser, pages):
    browser.open(pages / "runs.html")
    browser.ask("document.querySelector('.box').focus()")
    for _ in range(2):
        browser.press("Tab", 9)
    assert browser.ask("document.activeElement.innerText") == "AP"
    browser.press("Enter", 13)
    assert names_of(browser)[0] == "iresnet50"
    browser.press(" ", 32)
    assert names_of(browser)[0] == "resnest50"


def test_what_is_missing_sorts_last_both_ways(browser, pages):
    browser.open(pages / "many.html")
    table = 1  # every measure; APs has no value
    for _ in range(2):
        browser.ask(f"{heading(table, 1)}.querySelector('button').click()")
        assert names_of(browser, table)[-1] == "APs"


def test_charts_show_in_light_and_in_dark(browser, pages):
    for scheme, paper in (("light", (255, 255, 255)), ("dark", (21, 23, 26))):
        browser.open(pages / "runs.html", scheme=scheme)
        boxes = browser.ask(
            "[...document.querySelectorAll('figure svg')].map(svg => svg.getBoundingClientRect())"
            ".map(box => [box.x, box.y, box.width, box.height])"
        )
        assert len(boxes) == 5
        picture = Image.open(io.BytesIO(browser.picture(whole=True, scale=0.5))).convert("RGB")
        for x, y, width, height in boxes:
            assert width > 400
            assert height > 100
            part = picture.crop([round(edge / 2) for edge in (x, y, x + width, y + height)])
            colors = part.getcolors(1 << 24)
            count, most = max(colors)
            assert most == paper
            assert count < 0.99 * part.width * part.height  # something is drawn on it
            assert len([color for _, color in colors if max(color) - min(color) > 60]) > 5
        assert browser.said == []


def test_a_lone_chart_is_no_larger_than_one_of_two(browser, tmp_path):
    pytest.importorskip("matplotlib")
    document = comparisons.runs(("a", "b"))
    for model in document["models"].values():
        model["facts"]["image_s"] = None
        model["curves"] = []
    (tmp_path / "lone.html").write_text(page(document, draw(document)), encoding="utf-8")
    browser.open(tmp_path / "lone.html")
    assert browser.ask("document.querySelectorAll('.pair svg').length") == 1
    assert 300 < browser.ask("document.querySelector('.pair svg').getBoundingClientRect().width") < 600


def test_1203_classes_stay_usable(browser, pages):
    began = time.perf_counter()
    browser.open(pages / "many.html")
    assert time.perf_counter() - began < 20
    tables = browser.ask("document.querySelectorAll('table.filtered').length")
    assert tables == 2
    first = browser.ask(OF_CLASSES)
    assert len(names_of(browser, first)) + len(names_of(browser, first + 1)) == 1203
    assert names_of(browser, first)[0] == NAMES[0]
    assert browser.ask("document.documentElement.scrollHeight") < 5000  # the rest scrolls in a box of its own
    assert browser.ask("document.querySelector('.rest').scrollHeight") > 10000
    assert browser.ask("document.querySelector('.filter').hidden") is False
    browser.ask("document.querySelector('.filter input').focus()")
    browser.call("Input.insertText", text="Boat_11")
    shown = names_of(browser, first) + names_of(browser, first + 1)
    assert shown == [name for name in NAMES if "boat_11" in name]
    assert browser.ask("document.querySelector('.filter output').innerText") == f"{len(shown)} of 1203"
    browser.ask(f"{heading(first + 1, 0)}.querySelector('button').click()")
    assert names_of(browser, first + 1) == sorted(
        (name for name in NAMES if "boat_11" in name), key=lambda name: int(name.split("_")[1])
    )
    browser.ask("document.querySelector('.filter input').value = ''")
    browser.call("Input.insertText", text=" ")
    assert len(names_of(browser, first)) + len(names_of(browser, first + 1)) == 1203
    assert browser.said == []


def test_a_phone_scrolls_down_alone(browser, pages):
    for name in ("runs", "many"):
        browser.open(pages / f"{name}.html", width=390, height=844)
        assert browser.ask("document.documentElement.scrollWidth") <= 390
        assert browser.said == []


def test_without_javascript_the_page_is_whole(browser, pages):
    browser.open(pages / "many.html", script=False)
    assert browser.ask("document.querySelectorAll('button').length") == 0
    assert browser.ask("document.querySelector('.filter').hidden") is True
    first = browser.ask(OF_CLASSES)
    assert len(names_of(browser, first)) + len(names_of(browser, first + 1)) == 1203


def test_hostile_names_run_nothing(browser, hostile, tmp_path):
    pytest.importorskip("matplotlib")
    path = tmp_path / "hostile.html"
    path.write_text(page(hostile, draw(hostile)), encoding="utf-8")
    browser.open(path)
    assert browser.said == []
    assert browser.ask("document.scripts.length") == 1
    assert browser.ask("document.images.length") == 0
    assert browser.ask("document.querySelector('tbody th').innerText").startswith("●\xa0$x$<script>alert(1)</script>")


def test_another_script_is_refused(browser, tmp_path):
    """The policy is in force: what would slip in does not run, and says so."""
    path = tmp_path / "bad.html"
    text = page(comparisons.results({"a": 0.5, "b": 0.6}))
    path.write_text(text.replace("</main>", "<script>document.title = 'taken'</script></main>"), encoding="utf-8")
    browser.open(path)
    assert browser.ask("document.title") != "taken"
    assert browser.said
