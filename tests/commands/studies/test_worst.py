"""`detector analyze worst`: its ranking, its files, and pictures that are not there."""

import json

import cv2
import numpy as np
import pytest
from PIL import Image

from detector.__main__ import main
from detector.commands import analyze
from detector.commands.studies import worst
from detector.evaluation.worst import MEASURES, THRESHOLD

BOX, OTHER = [40, 60, 100, 120], [300, 200, 80, 90]
NAMES = ("good.png", "missed.png", "false.png")
GAP, HEAD = 14, 36  # of the sheet


def call(*words):
    main(["analyze", "worst", *map(str, words)])


def fails(*words):
    with pytest.raises(SystemExit) as stop:
        call(*words)
    return str(stop.value.code)


@pytest.fixture
def scene(tmp_path):
    """Three grey pictures of 360x480 with an object each, of which one is found, one missed, one beside a false one."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in NAMES:
        cv2.imwrite(str(folder / name), np.full((360, 480, 3), 128, np.uint8))
    images = [{"id": i, "file_name": name, "height": 360, "width": 480} for i, name in enumerate(NAMES, start=1)]
    objects = [{"id": i, "image_id": i, "category_id": 5, "bbox": BOX, "area": 12000, "iscrowd": 0} for i in (1, 2, 3)]
    truth = {"images": images, "annotations": objects, "categories": [{"id": 5, "name": "crane"}]}
    found = [
        {"image_id": 1, "category_id": 5, "bbox": BOX, "score": 0.9},
        {"image_id": 3, "category_id": 5, "bbox": BOX, "score": 0.8},
        {"image_id": 3, "category_id": 5, "bbox": OTHER, "score": 0.75},
        {"image_id": 2, "category_id": 5, "bbox": BOX, "score": 0.2},
    ]
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    (tmp_path / "found.json").write_text(json.dumps(found))
    return tmp_path


def words(scene, *more):
    truth = f"{scene / 'photos'}:{scene / 'truth.json'}"
    return ("--results", scene / "found.json", "--truth", truth, "--output", scene / "out", *more)


def ranked(scene):
    return json.loads((scene / "out" / "worst.json").read_text())["images"]


def sheet(scene):
    """The sheet as int RGB, and the same sheet's cell by its number, 360 x 480."""
    picture = cv2.imread(str(scene / "out" / "worst.jpg"))[..., ::-1].astype(int)
    top = HEAD + GAP

    def cell(number):
        left = GAP + number * (480 + GAP)
        return picture[top : top + 360, left : left + 480]

    return picture, cell


def test_the_ranking_is_written_with_what_is_wrong(scene, capsys):
    call(*words(scene))
    document = json.loads((scene / "out" / "worst.json").read_text())
    assert {key: document[key] for key in ("version", "name", "data", "threshold", "iou", "by")} == {
        "version": 1, "name": "found", "data": "truth", "threshold": 0.3, "iou": 0.5, "by": "share",
    }  # fmt: skip
    first, second, third = document["images"]
    assert first == {
        "rank": 1, "file": "missed.png", "id": 2, "value": 0.5, "objects": 1, "found": 0, "missed": 1,
        "missed_classes": {"crane": 1}, "false": 0, "false_scores": 0.0, "surest_false": None,
    }  # fmt: skip
    assert second["file"] == "false.png"
    assert second["value"] == pytest.approx(0.75 / 2.75)
    assert second["surest_false"] == {"class": "crane", "score": 0.75}
    assert third["value"] == 0
    out = capsys.readouterr().out
    assert "found on truth: 2 of 3 objects are found by detections of 0.3 or more (IoU 0.5)" in out
    assert "false detections: 1; images with mistakes: 2 of 3" in out
    lines = [line.split() for line in out.splitlines() if ".png" in line]
    assert [line[:2] for line in lines] == [["1", "missed.png"], ["2", "false.png"]]  # good.png is none of the worst


def test_the_words_are_those_of_the_evaluation():
    assert worst.MEASURES == MEASURES
    args = analyze.parse(["worst", "RUN"])
    assert (args.by, args.threshold, args.number) == (MEASURES[0], THRESHOLD, 12)


def test_the_order_is_that_of_the_measure_asked_for(scene):
    call(*words(scene, "--by", "false"))
    assert [one["file"] for one in ranked(scene)] == ["false.png", "good.png", "missed.png"]
    call(*words(scene, "--threshold", "0.1"))
    assert [one["file"] for one in ranked(scene)] == ["false.png", "good.png", "missed.png"]
    call(*words(scene, "--threshold", "0.85"))
    assert [one["value"] for one in ranked(scene)] == [0.5, 0.5, 0]


@pytest.mark.parametrize(
    ("by", "said", "head", "first"),
    [
        ("share", "images with mistakes: 2 of 3", "share objects missed false", "missed.png 0.500 1 1 0 -"),
        ("errors", "images with mistakes: 2 of 3", "errors objects missed false", "missed.png 1.000 1 1 0 -"),
        ("missed", "images with missed objects: 1 of 3", "objects missed false", "missed.png 1 1 0 -"),
        (
            "false", "images with false detections: 1 of 3", "sum of scores objects missed false",
            "false.png 0.750 1 0 1 crane 0.75",
        ),
    ],
)  # fmt: skip
def test_each_measure_has_a_column_of_its_own_name(scene, capsys, monkeypatch, by, said, head, first):
    monkeypatch.setattr(worst, "_draw", lambda *given: None)
    call(*words(scene, "--by", by))
    summary, heads, row, *_ = capsys.readouterr().out.splitlines()
    assert summary.endswith(said)
    assert heads.split() == [*head.split(), "surest", "false"]
    assert row.split() == ["1", *first.split()]


def test_the_sheet_shows_truth_and_detections_where_they_are(scene):
    call(*words(scene))
    picture, cell = sheet(scene)
    assert picture.shape == (HEAD + 360 + 3 * 18 + 2 * GAP, GAP + 2 * (480 + GAP), 3)
    x, y, width, height = BOX
    red = cell(0)[y - 3 : y, x : x + width]  # around the box
    assert (red[..., 0] - red[..., 1:].max(-1) > 80).mean() > 0.2  # missed: red dashes
    other = cell(1)[OTHER[1] - 1 : OTHER[1] + 3, OTHER[0] + 2 : OTHER[0] + OTHER[2]]
    assert (other.max(-1) - other.min(-1) > 80).mean() > 0.2  # false: a line of its colour
    edge = cell(1)[y - 2 : y + 3, x : x + width]
    assert (edge[..., 0] - edge[..., 1:].max(-1) > 80).mean() < 0.9
    inside = cell(0)[y + 20 : y + height - 20, x + 20 : x + width - 20]
    assert abs(inside - 128).max() < 25
    assert (picture[-3 * 18 - GAP :] < 150).any()  # captions


def test_pictures_come_in_full_size_only_if_asked_for(scene):
    call(*words(scene))
    assert not (scene / "out" / "worst").exists()
    call(*words(scene, "--pictures", "--number", "1"))
    assert [path.name for path in (scene / "out" / "worst").iterdir()] == ["001_missed.jpg"]
    assert cv2.imread(str(scene / "out" / "worst" / "001_missed.jpg")).shape == (360, 480, 3)


def test_a_picture_that_is_missing_or_damaged_is_named_and_left_out(scene, capsys):
    (scene / "photos" / "missed.png").unlink()
    call(*words(scene))
    out = capsys.readouterr().out
    assert "left out: " in out
    assert "missed.png: there is no such picture" in out
    assert sheet(scene)[0].shape[1] == GAP + 480 + GAP
    (scene / "photos" / "false.png").write_bytes(b"no picture")
    capsys.readouterr()
    call(*words(scene))
    assert "WARNING none of the 2 worst pictures in" in capsys.readouterr().out
    assert not (scene / "out" / "worst.jpg").exists()
    assert "none of the 2 worst pictures in" in fails(*words(scene, "--pictures"))


def test_without_a_folder_of_pictures_the_remedy_is_said_once(scene, capsys):
    """The ranking needs none; --pictures does, and says so before anything is written."""
    call(*words(scene))
    (scene / "truth.json").rename(scene / "moved.json")
    named = ("--results", scene / "found.json", "--truth", scene / "moved.json", "--output", scene / "out")
    (scene / "out" / "worst.json").unlink()
    capsys.readouterr()
    text = fails(*named, "--pictures")
    assert "none of the 2 worst pictures is in" in text
    assert "name their folder: --truth FOLDER:FILE.json" in text
    assert "\n" not in text
    assert not (scene / "out" / "worst.json").exists()
    assert "missed.png" not in capsys.readouterr().out
    call(*named)
    out = capsys.readouterr().out
    assert out.count("name their folder: --truth FOLDER:FILE.json") == 1
    assert "WARNING none of the 2 worst" in out
    assert "missed.png" in out
    assert len(ranked(scene)) == 3
    assert not (scene / "out" / "worst.jpg").exists()  # of another ranking


def test_a_run_is_examined_on_its_own_test_set(scene):
    run = scene / "run"
    run.mkdir()
    (scene / "found.json").rename(run / "results.json")
    entry = f"{scene / 'photos'}:{scene / 'truth.json'}"
    said = {"data": {"name": "truth", "images": 3}, "config": {"DATASETS.TEST": [entry], "DATASETS.ROOT": "."}}
    (run / "metrics.json").write_text(json.dumps({"measured": said}))
    call(run)
    document = json.loads((run / "analysis" / "worst.json").read_text())
    assert document["name"] == "run"
    assert document["images"][0]["file"] == "missed.png"
    assert (run / "analysis" / "worst.jpg").exists()
    for path in (scene / "photos").iterdir():
        path.unlink()
    text = fails(run, "--pictures")
    assert f"put them back, or write --results {run}/results.json and name their folder" in text


def test_where_nothing_is_wrong_there_is_no_sheet(scene, capsys):
    call(*words(scene))
    assert (scene / "out" / "worst.jpg").exists()
    call(*words(scene, "--by", "false", "--threshold", "0.78"))
    assert "no image has any" in capsys.readouterr().out
    assert not (scene / "out" / "worst.jpg").exists()


@pytest.mark.parametrize(("height", "width"), [(360, 240), (240, 360)])
def test_a_picture_is_turned_as_its_record_expects(scene, height, width):
    """Stored lying, with a tag that it stands; the box is where it is in a picture of the size in the record."""
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(np.full((240, 360, 3), 128, np.uint8)).save(scene / "photos" / "turned.jpg", exif=exif, quality=95)
    truth = json.loads((scene / "truth.json").read_text())
    truth["images"] = [{"id": 1, "file_name": "turned.jpg", "height": height, "width": width}]
    truth["annotations"] = truth["annotations"][:1]
    (scene / "truth.json").write_text(json.dumps(truth))
    (scene / "found.json").write_text("[]")
    call(*words(scene))
    cell, scale = sheet(scene)[1](0), min(360 / height, 480 / width)
    assert sheet(scene)[0].shape[0] == HEAD + round(height * scale) + 3 * 18 + 2 * GAP
    if height > width:
        assert (cell[:, 245:] > 235).all()  # paper beside it
    x, y, w, _ = (round(side * scale) for side in BOX)
    red = cell[y - 3 : y, x : x + w]
    assert (red[..., 0] - red[..., 1:].max(-1) > 80).mean() > 0.2
    assert abs(cell[300:310, 10:200] - 128).max() < 30


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--number", "0"), "--number 0: write 1 to 100"),
        (("--number", "101"), "--number 101: write 1 to 100"),
        (("--threshold", "nan"), "--threshold nan: write a score, such as 0.3"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(scene, more, said):
    assert said in fails(*words(scene, *more))
    assert not (scene / "out").exists()


def test_names_of_files_are_shown_by_their_end_and_cannot_move_the_terminal(scene, capsys):
    truth = json.loads((scene / "truth.json").read_text())
    truth["images"][1]["file_name"] = "a" * 60 + "/\x1b[31mmissed.png"
    (scene / "truth.json").write_text(json.dumps(truth))
    call(*words(scene, "--pictures"))
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\\x1b[31mmissed.png" in out
    assert any(line.split()[1].startswith("..aaa") for line in out.splitlines() if line.startswith("  1 "))
