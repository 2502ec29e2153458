"""What `predict` writes where, and what it never writes onto; the detector is a stand-in."""

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from detector.commands import predict as command
from detector.commands.predict import predict
from detector.config import load_config
from detector.errors import UserError
from detector.inference.drawn import name_pictures, was_drawn
from detector.inference.sources import find_images

CLASSES = ["N/A", "cat", "__background__", "\x1b[31mdog"]


@pytest.fixture(autouse=True)
def detector(monkeypatch):
    """A detector with an output for each of CLASSES, of scores 0.9, 0.8, 0.7, 0.6."""

    def detect(model, batch, precision):
        box = torch.tensor([[2.0, 2, 20, 20]])
        one = {"boxes": box.repeat(4, 1), "labels": torch.arange(4), "scores": torch.tensor([0.9, 0.8, 0.7, 0.6])}
        return [one for _ in batch.sizes]

    monkeypatch.setattr("detector.tasks.trained.load_for_inference", lambda *given: (None, CLASSES, [5, 6, 7, 8]))
    monkeypatch.setattr("detector.inference.predictor.detect", detect)


@pytest.fixture
def cfg():
    return load_config(None, ["INPUT.MIN_SIZE_TEST", "32", "MODEL.DEVICE", "cpu"])


@pytest.fixture
def photos(tmp_path):
    return photos_in(tmp_path / "photos", "a.jpg", "b.png", "inner/a.jpg")


def photos_in(folder, *names):
    for i, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image = np.full((40, 50, 3), 40 * i, np.uint8)
        path.write_bytes(cv2.imencode(path.suffix, image)[1].tobytes())
    return folder


def content(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_pictures_and_list_lie_in_the_output(cfg, photos, tmp_path):
    before = content(photos)
    found = predict(cfg, str(photos), tmp_path / "out", 0.5)
    assert sorted(content(tmp_path / "out")) == ["a.jpg", "b.jpg", "detections.json", "inner/a.jpg"]
    assert json.loads((tmp_path / "out" / "detections.json").read_bytes()) == found
    assert [(Path(row["file"]).name, row["picture"]) for row in found] == [
        ("a.jpg", "a.jpg"), ("b.png", "b.jpg"), ("a.jpg", "inner/a.jpg"),
    ]  # fmt: skip
    drawn = cv2.imread(str(tmp_path / "out" / "b.jpg"))
    assert drawn.shape == (40, 50, 3)
    assert not np.array_equal(drawn, cv2.imread(str(photos / "b.png")))
    assert content(photos) == before


def test_outputs_without_a_class_are_neither_listed_nor_drawn(cfg, photos, tmp_path):
    first, *_ = predict(cfg, str(photos / "a.jpg"), tmp_path / "out", 0.0)
    assert [(one["class"], one["category_id"]) for one in first["detections"]] == [("cat", 6), ("\x1b[31mdog", 8)]
    first, *_ = predict(cfg, str(photos / "a.jpg"), tmp_path / "out", 0.85)
    assert first["detections"] == []
    assert cv2.imread(str(tmp_path / "out" / "a.jpg")).std() < 1  # all of one colour: nothing is drawn


def test_it_replaces_what_it_wrote_itself(cfg, photos, tmp_path):
    predict(cfg, str(photos), tmp_path / "out", 0.5)
    (tmp_path / "out" / "detections.json").unlink()  # a killed one leaves pictures alone
    predict(cfg, str(photos / "a.jpg"), tmp_path / "out", 0.5)  # and one of fewer images does not know the others
    predict(cfg, str(photos), tmp_path / "out", 0.5)
    assert len(content(tmp_path / "out")) == 4


@pytest.mark.parametrize("where", ["photos", "link", "photos/../photos"])
def test_the_images_are_not_drawn_on(cfg, photos, tmp_path, where):
    (tmp_path / "link").symlink_to(photos)
    before = content(photos)
    with pytest.raises(UserError) as caught:
        predict(cfg, str(photos), tmp_path / where, 0.5)
    assert str(caught.value) == (
        f"--output {tmp_path / where}: {tmp_path / where / 'a.jpg'} and 1 more files would be overwritten, and no "
        "prediction wrote it: nothing was done; write --output another/folder"
    )
    assert content(photos) == before


def test_drawn_pictures_are_not_drawn_on_in_their_place(cfg, photos, tmp_path):
    predict(cfg, str(photos), tmp_path / "out", 0.5)
    before = content(tmp_path / "out")
    with pytest.raises(UserError, match=r"a\.jpg, which is one of the images"):
        predict(cfg, str(tmp_path / "out" / "a.jpg"), tmp_path / "out", 0.5)
    assert content(tmp_path / "out") == before
    predict(cfg, str(tmp_path / "out" / "a.jpg"), tmp_path / "again", 0.5)


@pytest.mark.parametrize("name", ["inner/a.jpg", "detections.json"])
@pytest.mark.parametrize("kind", ["file", "link", "link to its like", "folder", "hard link"])
def test_what_somebody_else_wrote_stays(cfg, photos, tmp_path, name, kind):
    predict(cfg, str(photos), tmp_path / "out", 0.5)
    (tmp_path / "precious").write_text('[{"file": "mine"}]')
    path = tmp_path / "out" / name
    path.unlink()
    if kind == "file":
        path.write_text('{"my": "notes"}')
    elif kind == "link to its like":
        predict(cfg, str(photos), tmp_path / "else", 0.5)
        path.symlink_to(tmp_path / "else" / name)
    elif kind == "folder":
        path.mkdir()
    else:
        (path.symlink_to if kind == "link" else path.hardlink_to)(tmp_path / "precious")
    before = content(tmp_path)
    with pytest.raises(UserError, match=rf"{name} would be overwritten, and no prediction wrote it: nothing was done"):
        predict(cfg, str(photos), tmp_path / "out", 0.5)
    assert content(tmp_path) == before


def test_earlier_pictures_below_the_source_are_no_images(cfg, photos, caplog):
    caplog.set_level("INFO", "detector")
    out = photos / "drawn"
    predict(cfg, str(photos), out, 0.5)
    photos_in(out, "mine.png")
    assert len(predict(cfg, str(photos), out, 0.5)) == 4
    assert f"3 pictures in {out}, which predict drew, are left out" in caplog.messages
    assert len(find_images(str(photos))) == 8


@pytest.mark.parametrize(
    ("images", "pictures"),
    [
        (["a.jpg", "b.png"], ["a.jpg", "b.jpg"]),
        (["a.jpg", "a.png", "b.png"], ["a.jpg.jpg", "a.png.jpg", "b.jpg"]),
        (["a.JPG", "A.png"], ["a.JPG.jpg", "A.png.jpg"]),
        (["a.jpg", "a.png", "a.png.jpg"], ["a.jpg.jpg", "a.png.jpg", "a.png.jpg.jpg"]),
        (["x/a.jpg", "y/a.png"], ["x/a.jpg", "y/a.jpg"]),
        (["x/a.jpg"], ["a.jpg"]),
    ],
)
def test_two_images_never_share_a_picture(images, pictures):
    assert [str(name) for name in name_pictures(list(map(Path, images)))] == pictures


def test_both_of_one_stem_are_written(cfg, tmp_path):
    source = photos_in(tmp_path / "photos", "a.jpg", "a.png")
    predict(cfg, str(source), tmp_path / "out", 0.5)
    assert sorted(content(tmp_path / "out")) == ["a.jpg.jpg", "a.png.jpg", "detections.json"]
    assert was_drawn(tmp_path / "out" / "a.png.jpg")
    assert not was_drawn(source / "a.jpg")


def test_names_of_any_bytes_are_listed(cfg, tmp_path):
    folder = os.fsencode(tmp_path / "photos")
    os.mkdir(folder)
    name = folder + b"/caf\xe9\n.png"
    with open(name, "wb") as file:
        file.write(cv2.imencode(".png", np.zeros((40, 50, 3), np.uint8))[1].tobytes())
    predict(cfg, str(tmp_path / "photos"), tmp_path / "out", 0.5)
    (row,) = json.loads((tmp_path / "out" / "detections.json").read_text(encoding="utf-8"))
    assert row["file"] == f"{tmp_path}/photos/caf\\xe9\n.png"
    assert os.path.exists(os.fsencode(tmp_path / "out") + b"/caf\xe9\n.jpg")


def test_nothing_to_read_is_no_success(cfg, tmp_path, caplog):
    (tmp_path / "photos").mkdir()
    for name in ("a.jpg", "b.png"):
        (tmp_path / "photos" / name).write_bytes(b"")
    with pytest.raises(UserError, match=r"photos: none of 2 images could be read; each is named above"):
        predict(cfg, str(tmp_path / "photos"), tmp_path / "out", 0.5)
    assert not (tmp_path / "out" / "detections.json").exists()
    assert len(caplog.messages) == 2


@pytest.mark.parametrize("threshold", [-0.1, 1.1, 50, float("nan"), "best"])
def test_a_threshold_that_is_no_score_is_refused(cfg, photos, tmp_path, threshold):
    with pytest.raises(UserError, match=rf"--threshold {threshold}: scores lie in 0\.\.1"):
        predict(cfg, str(photos), tmp_path / "out", threshold)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("word", ["1.1", "-0.1", "nan", "best", "Auto", ""])
def test_a_word_that_is_no_threshold_is_refused_with_the_usage(word, capsys):
    with pytest.raises(SystemExit) as stop:
        command.main(["run", "photos", f"--threshold={word}"])
    assert stop.value.code == 2
    assert f"argument --threshold: {word!r} is neither a score in 0..1 nor auto" in capsys.readouterr().err


def test_each_class_has_the_threshold_of_its_name(cfg, photos, tmp_path, caplog):
    """Outputs without a class have none; a class that the test set did not have takes that of all classes."""
    caplog.set_level("INFO", "detector")
    known = {"threshold": 0.85, "f1": 0.5, "precision": 0.5, "recall": 0.5, "objects": 9, "detections": 9}
    content = {
        "version": 1, "iou": 0.5, "digest": "", "weight": "", "step": 3, "data": "val", "images": 2,
        "classes": {"cat": known, "N/A": {**known, "threshold": 0.1}}, "other": 0.6,
    }  # fmt: skip
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thresholds.json").write_text(json.dumps(content))
    cfg = load_config(None, ["MODEL.DEVICE", "cpu", "INPUT.MIN_SIZE_TEST", "32", "OUTPUT_DIR", str(tmp_path / "run")])
    first, *_ = predict(cfg, str(photos / "a.jpg"), tmp_path / "out", "auto")
    assert [(one["class"], one["threshold"]) for one in first["detections"]] == [("\x1b[31mdog", 0.6)]
    said = f"cat 0.85, \\x1b[31mdog 0.6 (IoU 0.5 on val, step 3; {tmp_path / 'run' / 'thresholds.json'})"
    assert f"--threshold auto: {said}" in caplog.messages
    content["other"] = 0.65
    (tmp_path / "run" / "thresholds.json").write_text(json.dumps(content))
    first, *_ = predict(cfg, str(photos / "a.jpg"), tmp_path / "out", "auto")
    assert first["detections"] == []
    text = "no detection reaches its class's threshold: the highest is 0.80, so try --threshold 0.8"
    assert any(line.startswith(text) for line in caplog.messages)


def test_a_number_is_said_with_each_detection(cfg, photos, tmp_path):
    first, *_ = predict(cfg, str(photos / "a.jpg"), tmp_path / "out", 0.7)
    assert [(one["class"], one["threshold"]) for one in first["detections"]] == [("cat", 0.7)]


def test_home_is_expanded_in_every_path_of_the_command(monkeypatch, tmp_path):
    photos_in(tmp_path / "photos", "a.png")
    (tmp_path / "mine.yaml").write_text("_BASE_: ~/base.yaml\nMODEL: {DEVICE: cpu}\n")
    (tmp_path / "base.yaml").write_text("INPUT: {MIN_SIZE_TEST: 32}\nOUTPUT_DIR: ~/run\nDATASETS: {ROOT: ~/data}\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    for source in (["--input", "~/photos"], ["~/photos"], ["~/photos/*.png"]):
        command.main([*source, "--config-file", "~/mine.yaml", "--output", "~/out"])
    assert (tmp_path / "out" / "detections.json").exists()
    cfg = load_config("~/mine.yaml")
    assert (cfg.OUTPUT_DIR, cfg.DATASETS.ROOT) == (str(tmp_path / "run"), str(tmp_path / "data"))
    assert load_config(None, ["OUTPUT_DIR", "~/other"]).OUTPUT_DIR == str(tmp_path / "other")


def test_a_name_with_control_characters_is_printed_plainly(tmp_path, capsys):
    """By the log, and by the line that ends the command; neither can be encoded as it is."""
    folder = os.fsencode(tmp_path) + b"/\xe9\x1b[31m"
    os.mkdir(folder)
    with open(folder + b"/a.png", "wb") as file:
        file.write(b"no picture")
    words = ["--config-file", "quickstart", "--input", os.fsdecode(folder), "--output", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as caught:
        command.main(words)
    assert f"{tmp_path}/\\xe9\\x1b[31m/a.png: the picture cannot be decoded" in capsys.readouterr().out
    assert caught.value.code == (
        f"error: {tmp_path}/\\xe9\\x1b[31m: none of 1 images could be read; each is named above"
    )
