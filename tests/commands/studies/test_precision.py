"""`detector analyze pr`: what it prints and writes."""

import csv
import json
import sys

import cv2
import pytest

OBJECTS = [0, 0, 0, 1, None]
FOUND = [
    (0, 0, True, 0.9), (1, 0, True, 0.5), (2, 0, False, 0.3), (4, 0, False, 0.5), (3, 1, False, 0.7), (4, 2, True, 0.8),
]  # fmt: skip


@pytest.fixture
def undrawn(monkeypatch):
    monkeypatch.setattr("detector.analysis.precision_chart.save_precision_chart", lambda *given: None)


@pytest.mark.usefixtures("drawn")
def test_table_files_and_picture(study, files, tmp_path, capsys):
    study("pr", *files(OBJECTS, FOUND))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == "class objects detections AP50 best F1 precision recall threshold".split()
    # the cut at 0.5 keeps three, of which two are right, of three objects
    assert lines[1].split() == ["cat", "3", "4", "66.3", "66.7", "66.7", "66.7", "0.400"]
    assert lines[2].split() == ["dog", "1", "1", "0.0", "-", "-", "-", "0.400"]
    assert lines[3].split() == ["\\x1b[31mowl", "0", "1", "-", "-", "-", "-", "0.400"]
    # of all together 0.7 is false too, and the detection of the class without objects counts for nothing
    assert lines[4].split() == ["all", "together", "4", "5", "33.2", "50.0", "50.0", "50.0", "0.400"]
    assert lines[5:] == [
        "1 class without an object, so with the threshold of all together: \\x1b[31mowl",
        "1 class of which nothing was found, so with the threshold of all together: dog",
        "1 class with fewer than 10 objects, so with a threshold that hangs on single pictures: cat",
    ]
    said = json.loads((tmp_path / "out" / "pr.json").read_text())
    assert {key: said[key] for key in ("version", "name", "data", "images", "iou")} == {
        "version": 1, "name": "mine", "data": "truth", "images": 5, "iou": 0.5,
    }  # fmt: skip
    cat = said["classes"]["cat"]
    points = cat.pop("precision_at_recalls")
    assert cat == {
        "objects": 3, "detections": 4, "AP": pytest.approx(67 / 101), "f1": pytest.approx(2 / 3),
        "precision": pytest.approx(2 / 3), "recall": pytest.approx(2 / 3), "threshold": 0.4, "kept": 3,
    }  # fmt: skip
    assert points == pytest.approx([1] * 67 + [0] * 34)  # which takes the right one of two equal scores first
    nothing = dict.fromkeys(("AP", "f1", "precision", "recall", "kept", "precision_at_recalls"))
    assert said["classes"]["\x1b[31mowl"] == {**nothing, "objects": 0, "detections": 1, "threshold": 0.4}
    assert said["all"]["AP"] == pytest.approx(cat["AP"] / 2)
    rows = [*csv.DictReader((tmp_path / "out" / "pr.csv").open())]
    assert [row["class"] for row in rows] == [*said["classes"]]
    assert (float(rows[0]["f1"]), rows[1]["f1"], rows[1]["threshold"]) == (pytest.approx(2 / 3), "", "0.4")
    assert cv2.imread(str(tmp_path / "out" / "pr.png")).size
    assert not [*tmp_path.rglob("thresholds.json")]


@pytest.mark.usefixtures("undrawn")
def test_another_iou(study, files, tmp_path, capsys):
    words = files([0], [(0, 0, True, 0.9)])
    rows = json.loads((tmp_path / "mine.json").read_text())
    rows[0]["bbox"][3] = 14  # of 20
    (tmp_path / "mine.json").write_text(json.dumps(rows))
    study("pr", *words, "--iou", "0.70")
    assert "AP70" in capsys.readouterr().out
    assert json.loads((tmp_path / "out" / "pr.json").read_text())["all"]["f1"] == 1
    study("pr", *words, "--iou", ".75")
    said = json.loads((tmp_path / "out" / "pr.json").read_text())
    assert (said["iou"], said["all"]["AP"], said["all"]["threshold"]) == (0.75, 0, None)


@pytest.mark.parametrize("iou", ["0.4", "1", "0.52", "half", "nan", "-0.5"])
def test_an_iou_that_cocos_evaluation_does_not_have(study, files, iou, capsys):
    with pytest.raises(SystemExit):
        study("pr", *files([0], []), "--iou", iou)
    assert f"{iou!r} is none of 0.5, 0.55, .. 0.95" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "said"), [("pr", "all together"), ("confusion", "false alarms")])
def test_without_matplotlib_numbers_are_there(name, said, study, files, tmp_path, caplog, capsys, monkeypatch):
    for module in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, module, None)
    study(name, *files(OBJECTS, FOUND))
    (line,) = (record.getMessage() for record in caplog.records if record.levelname == "WARNING")
    assert line.startswith("there is no picture: ")
    assert line.endswith('pip install "residet[plots]"')
    assert said in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [f"{name}.csv", f"{name}.json"]


@pytest.mark.usefixtures("undrawn")
def test_classes_that_do_not_occur_at_all_are_counted_and_not_listed(study, files, capsys):
    names = [f"class {k}" for k in range(1203)]
    study("pr", *files([1, 1], [(0, 1, True, 0.9)], names))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines[1:3]] == ["1", "together"]
    assert lines[3].startswith(
        "1202 classes without an object, so with the threshold of all together: class 0, class 2"
    )
    assert lines[3].endswith("class 8, ..")


@pytest.mark.usefixtures("drawn")
def test_no_object_and_no_detection(study, files, tmp_path):
    study("pr", *files([None], []))
    assert json.loads((tmp_path / "out" / "pr.json").read_text())["all"]["threshold"] is None
    assert cv2.imread(str(tmp_path / "out" / "pr.png")).size
