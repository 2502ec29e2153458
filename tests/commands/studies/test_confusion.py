"""`detector analyze confusion`: what it prints and writes."""

import csv
import json

import cv2
import pytest

OBJECTS = [0, 0, 0, 1, None]
FOUND = [
    (0, 0, True, 0.9), (1, 1, True, 0.5), (2, 0, False, 0.49), (2, 1, False, 0.6), (3, 1, True, 0.7), (4, 2, True, 0.3),
]  # fmt: skip


@pytest.mark.usefixtures("drawn")
def test_matrix_list_and_files(study, files, tmp_path, capsys):
    study("confusion", *files(OBJECTS, FOUND))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["truth", "\\", "detected", "cat", "dog", "\\x1b[31mowl", "(background)"]
    assert [line.rsplit(None, 4)[1:] for line in lines[1:5]] == [[*"1101"], [*"0100"], [*"0000"], [*"0100"]]
    assert lines[5] == (
        "of 4 objects 2 are found as what they are, 1 as another class, 1 not at all; "
        "1 of 4 detections is a false alarm"
    )
    assert [line.split("  ")[0] for line in lines[6:]] == ["truth -> detected", "cat -> dog"]
    assert lines[7].split()[-2:] == ["1", "0.333"]
    said = json.loads((tmp_path / "out" / "confusion.json").read_text())
    assert said == {
        "version": 1, "name": "mine", "data": "truth", "images": 5, "iou": 0.5, "threshold": 0.5,
        "thresholds": {"cat": 0.5, "dog": 0.5, "\x1b[31mowl": 0.5}, "classes": ["cat", "dog", "\x1b[31mowl"],
        "matrix": [[1, 1, 0, 1], [0, 1, 0, 0], [0, 0, 0, 0], [0, 1, 0, 0]], "left_out": 0,
    }  # fmt: skip
    rows = [*csv.reader((tmp_path / "out" / "confusion.csv").open())]
    assert rows[0] == ["truth", "cat", "dog", "\x1b[31mowl", "(background)"]
    assert rows[1] == ["cat", "1", "1", "0", "1"]
    assert [row[0] for row in rows] == rows[0]
    assert cv2.imread(str(tmp_path / "out" / "confusion.png")).size


@pytest.mark.usefixtures("pictures")
def test_auto_takes_the_thresholds_of_the_best_f1(study, files, tmp_path, monkeypatch):
    study("confusion", *files(OBJECTS, FOUND), "--threshold", "auto")
    said = json.loads((tmp_path / "out" / "confusion.json").read_text())
    monkeypatch.setattr("detector.analysis.precision_chart.save_precision_chart", lambda *given: None)
    study("pr", *files(OBJECTS, FOUND))
    parts = json.loads((tmp_path / "out" / "pr.json").read_text())["classes"]
    assert said["threshold"] == "auto"
    assert said["thresholds"] == {name: part["threshold"] for name, part in parts.items()}
    # 0.9 of 0.9 and 0.49; 0.7 of 0.7, 0.6 and 0.5; the best of both together is at 0.7
    assert [*said["thresholds"].values()] == [0.7, 0.65, 0.65]
    assert said["matrix"] == [[1, 0, 0, 2], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]


def test_auto_needs_something_that_is_right(study, files):
    with pytest.raises(ValueError, match="--threshold auto: nothing was found in truth; write a score"):
        study("confusion", *files([0], [(0, 0, False, 0.9)]), "--threshold", "auto")


@pytest.mark.parametrize("threshold", ["1.1", "-0.1", "nan", "Auto", ""])
def test_a_threshold_that_is_no_score(study, files, threshold, capsys):
    with pytest.raises(SystemExit):
        study("confusion", *files([0], []), f"--threshold={threshold}")
    assert f"{threshold!r} is neither a score in 0..1 nor auto" in capsys.readouterr().err


@pytest.fixture
def pictures(monkeypatch):
    """What is drawn: title, rows, columns, shares, counts."""
    seen = []
    monkeypatch.setattr(
        "detector.analysis.confusion_chart.save_confusion_chart", lambda path, *given: seen.append(given)
    )
    return seen


def test_of_many_classes_those_are_drawn_that_are_confused(study, files, pictures, capsys):
    names = [f"class {k}" for k in range(80)]
    objects = [*range(80), 0, 0]
    # each of the classes 30 to 49 is taken for the next; 50 for 7, which is the rarest column
    found = [(k, k + 1, True, 0.9) for k in range(30, 50)] + [(k, k, True, 0.9) for k in range(60, 80)]
    found += [(0, 0, True, 0.9), (80, 0, False, 0.9), (5, 5, False, 0.9), (50, 7, True, 0.9)]
    study("confusion", *files(objects, found, names))
    out = capsys.readouterr().out
    assert "truth \\ detected" not in out
    assert "21 as another class" in out
    assert "class 30 -> class 31" in out
    assert out.rstrip().endswith("and 1 other pairs of classes")
    ((title, rows, columns, shares, counts),) = pictures
    assert title.endswith("the 20 of 80 classes that are most often taken for others, or others for them")
    chosen = [f"class {k}" for k in range(30, 51)]
    chosen.remove("class 30")  # once in a pair, as is 7; the others twice
    assert rows == [*chosen, "(background)"]
    assert columns == [*chosen, "(60 others)", "(background)"]
    assert counts.shape == shares.shape == (21, 22)
    assert counts[-2].tolist() == [0] * 20 + [1, 0]  # 50, which is taken for 7
    assert shares[-2].tolist() == [0] * 20 + [1, 0]
    # false alarms of the others: two, of all 24 detections that name one of them
    assert counts[-1, -2] == 2
    assert shares[-1, -2] == pytest.approx(2 / 24)
    assert shares[:-1].sum(1).tolist() == pytest.approx([1] * 20)


def test_few_classes_are_drawn_whole(study, files, pictures):
    study("confusion", *files(OBJECTS, FOUND))
    ((_, rows, columns, shares, counts),) = pictures
    assert rows == columns == ["cat", "dog", "\x1b[31mowl", "(background)"]
    assert counts.tolist()[0] == [1, 1, 0, 1]
    assert shares[0].tolist() == pytest.approx([1 / 3, 1 / 3, 0, 1 / 3])
