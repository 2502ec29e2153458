"""The three files of a report."""

import json
import logging
import sys

import pytest
from helpers import comparisons

from detector.report.charts import draw
from detector.report.markdown import markdown
from detector.report.page import page
from detector.report.write import write_report


def test_both_pages_are_drawn_from_the_document_alone(tmp_path):
    pytest.importorskip("matplotlib")
    document = comparisons.runs(("a", "b"))
    document["models"]["a"]["APs"]["value"] = float("nan")
    paths = write_report(document, tmp_path / "made")
    assert [path.name for path in paths] == ["report.json", "report.md", "report.html"]
    assert all(path.parent == tmp_path / "made" for path in paths)
    read = json.loads(paths[0].read_text())
    assert read["models"]["a"]["APs"]["value"] is None
    assert paths[1].read_text() == markdown(read)
    assert paths[2].read_text() == page(read, draw(read))


def test_bytes_that_are_no_text_can_be_written(tmp_path):
    document = comparisons.results({"a\udcff": 0.5, "b": 0.6}, ("c\udcfe",), truth="\udcff.json")
    paths = write_report(document, tmp_path)
    for path in paths:
        assert "xff" in path.read_text(encoding="utf-8")


def test_without_matplotlib_the_page_has_no_charts_and_a_line_says_so(tmp_path, monkeypatch, caplog):
    for module in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, module, None)
    with caplog.at_level(logging.WARNING, logger="detector"):
        paths = write_report(comparisons.runs(("a", "b")), tmp_path)
    assert paths[2].read_text() == page(json.loads(paths[0].read_text()))
    (line,) = (record.getMessage() for record in caplog.records)
    assert line.startswith("report.html is without charts")
    assert 'pip install "residet[plots]"' in line
