"""Printed tables and JSON files."""

import json
import re

import pytest

from detector.evaluation.report import MEASURES, headline, summary_text
from detector.files import write_json


def test_the_twelve_numbers_in_the_words_of_coco():
    lines = summary_text({name: i / 100 for i, name in enumerate(MEASURES)} | {"APs": -1.0}).splitlines()
    assert len(lines) == 12
    assert lines[0] == " Average Precision  (AP) @[ IoU=0.50:0.95 | area=   all | maxDets=100 ] = 0.000"
    assert lines[1] == " Average Precision  (AP) @[ IoU=0.50      | area=   all | maxDets=100 ] = 0.010"
    assert lines[3].endswith("area= small | maxDets=100 ] =     -")
    assert lines[6] == " Average Recall     (AR) @[ IoU=0.50:0.95 | area=   all | maxDets=  1 ] = 0.060"


@pytest.mark.parametrize("count", [1, 3, 20, 80, 81])
def test_every_class_stands_in_the_table_once_and_columns_align(count):
    metrics = {f"AP/class {'x' * (i % 9)}{i}": i / 100 for i in range(count)}
    lines = summary_text(metrics).splitlines()
    assert all(len(line) <= 120 for line in lines)
    text = " " + " ".join(lines) + " "
    assert all(text.count(f" {name[3:]} ") == 1 for name in metrics)
    titles = [found.end() for found in re.finditer(r" AP(?= |$)", lines[0])]
    numbers = [[found.end() for found in re.finditer(r"\d\.\d{3}", line)] for line in lines[1:]]
    assert sum(map(len, numbers)) == count
    assert all(row == titles[: len(row)] for row in numbers)
    assert [len(row) for row in numbers] == sorted(map(len, numbers), reverse=True)  # only the last column is shorter
    assert len(numbers[0]) == len(titles)


def test_long_names_and_other_numbers_are_shown():
    text = summary_text({"AP": 0.5, "seconds": 1.5, "AP/" + "n" * 150: 0.25, "AP/b/c": -1.0})
    assert " seconds = 1.500" in text
    assert "n" * 150 + "  0.250" in text
    assert "b/c" in text


def test_no_numbers_no_text():
    assert summary_text({}) == ""


def test_the_line_above_a_table():
    metrics = {"AP": 0.41249, "AP50": -1.0, "AP75": 0.3, "VOC/AP50": 0.5}
    assert headline(metrics, "val", 500) == "step 500 | val | AP 0.412 | AP50 -"
    assert headline({"VOC/AP": 0.25, "VOC/AP50": 0.5, "VOC/AP50/dark": 1.0}, "val", None) == (
        "val | VOC/AP 0.250 | VOC/AP50 0.500"
    )
    assert headline({}, "val", 0) == "step 0 | val"


def test_json_is_written_whole(tmp_path):
    path = tmp_path / "new" / "metrics.json"
    write_json(path, {"AP": 0.5, "nan": float("nan")})
    write_json(path, {"AP": 0.25, "AP/ä": -1.0})
    assert json.loads(path.read_text(encoding="utf-8")) == {"AP": 0.25, "AP/ä": -1.0}
    with pytest.raises(TypeError):
        write_json(path, {"AP": object()})
    assert json.loads(path.read_text(encoding="utf-8"))["AP"] == 0.25
    assert [p.name for p in path.parent.iterdir()] == ["metrics.json"]


def test_names_of_classes_move_nothing_on_the_screen():
    text = summary_text({"AP/\x1b[31mcat\n": 0.25, "AP/dog": 0.5})
    assert [line.split() for line in text.splitlines()[1:]] == [["\\x1b[31mcat\\x0a", "0.250"], ["dog", "0.500"]]
