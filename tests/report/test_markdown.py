"""report.md from report.json."""

import re

from helpers import comparisons

from detector.report.markdown import markdown


def test_results_files():
    text = markdown(comparisons.results({"a": 0.5, "b": 0.55}, se=0.01))
    lines = text.splitlines()
    assert lines[0] == "# Comparison"
    assert "2 detectors on t.json: 400 images with 1,200 objects." in lines
    assert "b is better than a" in lines[4]
    assert "| AP | 50.0 (48.0 .. 52.0) | 55.0 (53.0 .. 57.0) |" in lines
    assert "| APs | - | - |" in lines
    assert "## b minus a" in lines
    assert "| AP50 | +5.0 (+3.0 .. +7.0) | < 0.0001 | b is better |" in lines
    assert "| APs | - | - | nothing to find |" in lines
    assert "| cat | +5.0 (+3.0 .. +7.0) | < 0.0001 |" in lines
    assert "Costs" not in text
    assert "Failed" not in text
    assert text.endswith("Made with detector 0.9.\n")


def test_ties_are_called_ties_and_no_class_is_listed():
    text = markdown(comparisons.results({"a": 0.5, "b": 0.505}))
    assert "| AP | +0.5 (-1.5 .. +2.5) | 0.62 | a tie |" in text
    assert "correction over 2): none." in text
    assert "is better" not in text


def test_runs_have_costs_settings_and_failed_cells():
    document = comparisons.runs(("a", "b"))
    document["failed"] = [{"cell": "c fcos 2", "why": "no memory\nleft"}]
    lines = markdown(document).splitlines()
    assert "| model | parameters | MACs | backbone's MACs | image | step | memory | training | correlation |" in lines
    assert "| b | 33.7 M | 4.7 G | 3.5 G | 63 ms | 1.3 s | 1.17 GB | 13:10 | 0.056 |" in lines
    assert "| MODEL.BACKBONE.NAME | a | b |" in lines
    assert "3 settings are the same; report.json names them." in lines
    assert "| c fcos 2 | no memory\\x0aleft |" in lines
    assert "Made with detector 0.9, torch 2.14.1, python 3.11.2, 2 x Intel Xeon, cpu." in lines


def test_names_break_no_table_and_bring_no_tags(hostile):
    text = markdown(hostile)
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert not re.search(r"(?<!\\)<[A-Za-z/!?]", text)
    cells = {}
    for block in text.split("\n\n"):
        if block.startswith("|"):
            counts = {len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) for line in block.splitlines()}
            assert len(counts) == 1, block
            cells[block.splitlines()[0]] = counts
    assert len(cells) > 4


def test_null_everywhere(empty):
    text = markdown(empty)
    assert "| AP | - | - | - |" in text
    assert "nan" not in text.lower().replace("name", "")
    assert "None" not in text
