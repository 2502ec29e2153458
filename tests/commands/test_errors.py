"""`detector analyze errors`: of a results file and of a run's folder; its text, its files, and what it refuses."""

import json
import sys

import cv2
import numpy as np
import pytest

from detector.__main__ import main
from detector.evaluation.errors import KINDS, SPECIAL

CATEGORIES = [{"id": 3, "name": "cat"}, {"id": 9, "name": "dog"}, {"id": 5, "name": "bird"}]


def call(*words):
    main(["analyze", "errors", *map(str, words)])


def fails(*words):
    with pytest.raises(SystemExit) as stop:
        call(*words)
    message = str(stop.value.code)
    assert message.startswith("error: ")
    assert "\n" not in message
    return message


@pytest.fixture
def write(tmp_path):
    """write(objects, detections): the words that name them; pairs (category, box), and (category, box, score)."""

    def build(objects, detections, categories=CATEGORIES, crowd=0):
        truth = {
            "images": [{"id": i, "file_name": f"{i}.jpg", "height": 400, "width": 400} for i in (1, 2)],
            "annotations": [
                {"id": i, "image_id": 1, "category_id": k, "bbox": box, "area": box[2] * box[3], "iscrowd": crowd}
                for i, (k, box) in enumerate(objects, start=1)
            ],
            "categories": categories,
        }
        rows = [{"image_id": 1, "category_id": k, "bbox": box, "score": score} for k, box, score in detections]
        (tmp_path / "t.json").write_text(json.dumps(truth))
        (tmp_path / "net.json").write_text(json.dumps(rows))
        return ["--results", tmp_path / "net.json", "--truth", tmp_path / "t.json", "--output", tmp_path / "out"]

    return build


def box(x, y=0):
    return [x, y, 10, 10]


OBJECTS = [(3, box(0)), (3, box(50)), (9, box(100)), (9, box(150))]
DETECTIONS = [(3, box(0), 0.9), (9, box(50), 0.8), (9, box(100, 4), 0.7), (3, box(300), 0.95), (5, box(320), 0.5)]


@pytest.fixture
def drawn():
    pytest.importorskip("matplotlib")


@pytest.fixture
def undrawn(monkeypatch):
    """Without the picture, which takes the most time."""
    monkeypatch.setattr("detector.analysis.error_charts.save_errors_chart", lambda *_: None)


@pytest.mark.usefixtures("drawn")
def test_of_a_results_file(write, tmp_path, capsys):
    call(*write(OBJECTS, DETECTIONS))
    report = json.loads((tmp_path / "out" / "errors.json").read_text())
    # cats: wrong, right, of two; the first half of the recalls, 51 of 101, at a precision of a half; dogs: nothing
    cat = 51 / 101 / 2
    assert {name: report[name] for name in ("version", "name", "data", "truth", "images", "objects", "detections")} == {
        "version": 1, "name": "net", "data": "t", "truth": str(tmp_path / "t.json"), "images": 2, "objects": 4,
        "detections": 5,
    }  # fmt: skip
    assert (report["foreground"], report["background"]) == (0.5, 0.1)
    assert (report["AP50"], report["AP75"], report["AP"]) == pytest.approx((cat / 2,) * 3)
    assert list(report["kinds"]) == list(KINDS)
    assert [one["number"] for one in report["kinds"].values()] == [1, 1, 0, 0, 2, 1]
    assert [one["number"] for one in report["special"].values()] == [4, 3]
    assert list(report["special"]) == list(SPECIAL)
    # a better class finds the second cat: wrong, right, right; better boxes find a dog behind a wrong one, and so on
    gains = [(101 * 2 / 3 - 25.5) / 101, cat, 0, 0, cat, 0]
    assert [one["cost"] for one in report["kinds"].values()] == pytest.approx([gain / 2 for gain in gains])
    turns = [one["in_turn"] for one in report["kinds"].values()]
    assert turns == pytest.approx([1 / 3, (2 / 3 + 51 / 101) / 2, *[turns[1]] * 2, (1 + 51 / 101) / 2, 1])
    assert set(report["classes"]) == {"cat", "dog", "bird"}
    assert report["classes"]["bird"] == {
        "objects": 0, "AP50": None, "chief": None,
        "kinds": {kind: {"number": int(kind == "background"), "cost": None} for kind in KINDS},
    }  # fmt: skip
    dog = report["classes"]["dog"]
    assert (dog["objects"], dog["AP50"], dog["chief"]) == (2, 0, "localisation")
    assert [one["number"] for one in dog["kinds"].values()] == [1, 1, 0, 0, 0, 1]
    assert dog["kinds"]["localisation"]["cost"] == pytest.approx(cat)
    text = capsys.readouterr().out
    assert text.startswith("net on t: 2 images, 4 objects, 5 detections\n")
    rows = {line.split()[0]: line.split() for line in text.splitlines() if line}
    assert rows["background"][:4] == ["background", "2", "12.6", "75.2"]
    assert rows["dog"] == ["dog", "2", "0.0", "0.0", "25.2", "0.0", "0.0", "0.0", "0.0", "localisation"]
    assert [line.split()[0] for line in text.splitlines()[-4:-2]] == ["dog", "cat"]  # the lowest AP50 first
    assert "bird" not in rows
    assert "AP50 is 12.6. Repaired alone, these would gain most: classification (+20.7), then" in text
    assert "AP75 is 12.6 and AP, the mean of 0.50 to 0.95, 12.6: the 0.0 points between" in text
    assert cv2.imread(str(tmp_path / "out" / "errors.png")).size


@pytest.mark.usefixtures("drawn")
def test_of_a_run(write, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(OBJECTS, [])
    run = tmp_path / "run"
    run.mkdir()
    (tmp_path / "t").mkdir()
    measured = {"data": {"name": "t", "images": 2}, "config": {"DATASETS.TEST": ["t:t.json"]}}
    (run / "metrics.json").write_text(json.dumps({"measured": measured}))
    rows = [{"image_id": 1, "category_id": k, "bbox": b, "score": score} for k, b, score in DETECTIONS]
    (run / "results.json").write_text(json.dumps(rows))
    call(run)
    report = json.loads((run / "analysis" / "errors.json").read_text())
    assert (report["name"], report["detections"], report["kinds"]["background"]["number"]) == ("run", 5, 2)
    assert (run / "analysis" / "errors.png").is_file()


@pytest.mark.usefixtures("undrawn")
def test_no_detections_one_class_and_nothing_wrong(write, tmp_path, capsys):
    call(*write(OBJECTS, []))
    text = capsys.readouterr().out
    assert "There are no detections at all: every object is missed." in text
    assert "AP50 is 0.0. Repaired alone, these would gain most: missed (+100.0). What" in text
    assert "AP75" not in text
    assert json.loads((tmp_path / "out" / "errors.json").read_text())["kinds"]["missed"]["cost"] == 1
    call(*write(OBJECTS[:2], DETECTIONS[:1], CATEGORIES[:1]))
    assert "With one class, none can be taken for another" in capsys.readouterr().out
    right = [(k, b, 0.9) for k, b in OBJECTS]
    call(*write(OBJECTS, right))
    text = capsys.readouterr().out
    assert "AP50 is 100.0. There is nothing to gain." in text
    assert "one class" not in text
    assert json.loads((tmp_path / "out" / "errors.json").read_text())["classes"]["cat"]["chief"] is None
    call(*write(OBJECTS[:3], [(3, b, 0.9) for _, b in OBJECTS[:2]] + [(9, box(300), 0.8)]))  # a dog, and a wrong one
    assert "AP50 is 50.0. No repair gains anything alone; one after" in capsys.readouterr().out


@pytest.mark.usefixtures("undrawn")
def test_many_classes_are_cut_in_the_text_only(write, tmp_path, capsys):
    categories = [{"id": i, "name": f"class {i}\x1b"} for i in range(60)]
    objects = [(i, box(0)) for i in range(50)]
    call(*write(objects, [(i, box(0), 0.9) for i in range(40)], categories))
    text = capsys.readouterr().out
    assert [text.count(f"class {i} ") + text.count(f"class {i}\\") for i in (0, 9, 10, 39, 40, 49)] == [
        1,
        1,
        0,
        0,
        1,
        1,
    ]
    assert "These are the 20 of the lowest AP50; errors.json has all 50." in text
    assert "\x1b" not in text
    assert len(json.loads((tmp_path / "out" / "errors.json").read_text())["classes"]) == 60


def test_what_is_wrong_is_one_line(write, tmp_path):
    nothing = fails(*write([], DETECTIONS))
    assert f"{tmp_path / 't.json'} has no object to find in its 2 images; without objects" in nothing
    crowds = fails(*write(OBJECTS, DETECTIONS, crowd=1))
    assert "in its 2 images, but 4 crowds or difficult ones, which do not count; without" in crowds
    assert not (tmp_path / "out").exists()
    words = write(OBJECTS, DETECTIONS)
    assert "name a run's folder, or both --results FILE and --truth" in fails(*words[:2])
    assert "has its own results and test set" in fails(tmp_path, *words)
    assert "leave it out, or --results, --truth and --root" in fails(tmp_path, "--root", tmp_path)
    assert "there is no such file of detections" in fails("--results", "x.json", *words[2:])
    assert "--output" in fails(*words[:4], "--output", tmp_path / "t.json")
    (tmp_path / "net.json").write_text("{}")
    assert "holds no detections in COCO's results format" in fails(*words)


def test_without_matplotlib_table_and_document_are_there(write, tmp_path, capsys, monkeypatch):
    for module in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, module, None)
    picture = tmp_path / "out" / "errors.png"
    picture.parent.mkdir()
    for earlier in ("", f"; {picture} is of an earlier study"):
        call(*write(OBJECTS, DETECTIONS))  # ends with status 0
        out = capsys.readouterr().out
        assert "in turn" in out
        (line,) = (line for line in out.splitlines() if "there is no picture" in line)
        assert line.endswith(f'pip install "residet[plots]"{earlier}')
        picture.touch()
    assert np.isfinite(json.loads((tmp_path / "out" / "errors.json").read_text())["AP50"])
