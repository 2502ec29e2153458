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
    assert "| b | 33.7 M | 4.7 G | 3.5 G | 63 ms | 1.3 s | 1.17 GiB | 13:10 | 0.056 |" in lines
    assert "| MODEL.BACKBONE.NAME | a | b |" in lines
    assert "3 settings are the same; report.json names them." in lines
    assert "| c fcos 2 | no memory\\x0aleft |" in lines
    assert "Made with detector 0.9, torch 2.14.1, python 3.11.2, 2 x Intel Xeon, cpu." in lines


def test_what_failed_or_did_not_end_stands_at_the_top():
    document = comparisons.runs(("a", "b"))
    document["failed"] = [{"cell": f"c{place}", "why": "no memory"} for place in range(7)]
    document["unfinished"] = [{"model": "b", "folder": "runs/b_0", "why": "its log ends at step 20 of 60"}]
    top = markdown(document)[: markdown(document).index("b and a")]
    assert "**7 cells failed, as told below: c0, c1, c2, c3, c4 and 2 more.**" in top
    assert "**Not trained to the end: b (runs/b_0: its log ends at step 20 of 60)." in top
    assert "**" not in markdown(comparisons.runs(("a", "b")))


def test_ap_by_class():
    lines = markdown(comparisons.results({"a": 0.5, "b": 0.55})).splitlines()
    place = lines.index("## AP by class")
    assert lines[place + 2] == "| class | a | b |"
    assert lines[place + 4] == "| cat | 50.0 (48.0 .. 52.0) | 55.0 (53.0 .. 57.0) |"
    assert lines[place + 5].startswith("| dog | ")
    many = [f"class {place}" for place in range(21)]
    text = markdown(comparisons.results({"a": 0.5, "b": 0.58}, many))
    table = text[text.index("## AP by class") :].split("\n\n")
    assert table[1].count("\n") == 3
    assert table[2] == "2 of 21 classes, those that differ from the first model's; report.json has all."
    alike = markdown(comparisons.results({"a": 0.5, "b": 0.5}, many))
    assert "0 of 21 classes, none of which differs from the first model's" in alike
    alone = markdown(comparisons.results({"a": 0.5}, many))
    assert "The AP of each of 21 classes is in report.json." in alone
    assert "differ" not in alone


def test_columns_are_explained_and_the_sign_flip_is_shown_where_it_is_spoken_of():
    document = comparisons.runs(("a", "b"))
    document["models"]["b"]["facts"]["step_s_rounds"] = [1.25, 1.4]
    document["sizes"] = {"small": 3, "medium": 4, "large": 5}
    text = markdown(document)
    assert "Correlation is the mean of" in text
    assert "240 x 320 pixels" in text
    assert "1.3 s (1.25 s .. 1.4 s)" in text
    assert "3 small, 4 medium, 5 large" in text
    assert "| measure | difference | p | p, sign-flip | verdict |" in text
    assert "| AP | +0.4 (-2.0 .. +2.8) | 0.74 | 0.25 | a tie |" in text
    assert "sign-flip" not in markdown(comparisons.results({"a": 0.5, "b": 0.55}))


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
