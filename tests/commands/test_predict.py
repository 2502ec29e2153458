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
    monkeypatch.setattr("detector.inference.detect.detect", detect)


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
        f"--output {tmp_path / where}: {tmp_path / where / 'a.jpg'} and 1 more file would be overwritten, and no "
        "prediction wrote them: nothing was done; write --output another/folder"
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


def test_a_picture_that_cannot_be_read_is_said_at_the_end(cfg, photos, tmp_path, caplog):
    """When all others are written; the summary counts it, and the pictures without a detection."""
    caplog.set_level("INFO", "detector")
    (photos / "b.png").write_bytes(b"")
    (photos / "notes.txt").write_text("no picture")
    with pytest.raises(UserError, match=r"photos: 1 of 3 images could not be read; it is named above"):
        predict(cfg, str(photos), tmp_path / "out", 0.5)
    assert sorted(content(tmp_path / "out")) == ["a.jpg", "detections.json", "inner/a.jpg"]
    assert caplog.messages == [
        f"{photos}: 1 file that is no picture is passed over: {photos / 'notes.txt'}",
        f"{photos / 'b.png'}: the picture file is empty; fetch it again; it is left out",
        f"4 detections, the highest of score 0.80; 2 of 3 images read -> {tmp_path / 'out'}",
    ]


def test_pictures_without_a_detection_are_counted(cfg, photos, tmp_path, caplog):
    caplog.set_level("INFO", "detector")
    predict(cfg, str(photos), tmp_path / "out", 0.9)
    assert caplog.messages[-1] == (
        "no detection of score 0.9 or more: the highest is 0.80, so try --threshold 0.8; 3 of 3 images without one; "
        f"3 of 3 images read -> {tmp_path / 'out'}"
    )


@pytest.mark.parametrize(
    ("formats", "files"),
    [
        (["json"], ["detections.json"]),
        (["pictures"], ["a.jpg", "b.jpg", "inner/a.jpg"]),
        (["csv", "coco"], ["coco.json", "detections.csv"]),
        (["yolo"], ["yolo/data.yaml", "yolo/images/train/b.png", "yolo/labels/train/b.txt"]),
        (["voc"], ["voc/Annotations/inner/a.xml", "voc/JPEGImages/inner/a.jpg", "voc/classes.txt"]),
    ],
)
def test_formats_that_are_asked_for_are_written(cfg, photos, tmp_path, formats, files):
    rows = predict(cfg, str(photos), tmp_path / "out", 0.5, formats=formats)
    written = sorted(content(tmp_path / "out"))
    assert {*files} <= {*written} if {"yolo", "voc"} & {*formats} else written == files
    assert bool(rows) == ("json" in formats)
    if rows:
        assert "picture" not in rows[0]


def test_a_list_of_pictures_here_and_there(cfg, photos, tmp_path, monkeypatch):
    """A picture that is listed twice is drawn twice; paths may be relative or not."""
    monkeypatch.chdir(photos)
    (tmp_path / "list.txt").write_text(f"a.jpg\n{photos / 'inner' / 'a.jpg'}\na.jpg\n")
    found = predict(cfg, str(tmp_path / "list.txt"), tmp_path / "out", 0.5)
    assert [row["picture"] for row in found] == ["a.jpg", "inner/a.jpg", "a_2.jpg"]
    assert sorted(content(tmp_path / "out")) == ["a.jpg", "a_2.jpg", "detections.json", "inner/a.jpg"]


def test_a_video_is_drawn_at_its_rate(cfg, tmp_path, caplog):
    caplog.set_level("INFO", "detector")
    film = cv2.VideoWriter(str(tmp_path / "a.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 12.5, (64, 48))
    for _ in range(7):
        film.write(np.full((48, 64, 3), 90, np.uint8))
    film.release()
    for _ in range(2):  # the second one replaces the first
        found = predict(cfg, str(tmp_path / "a.mp4"), tmp_path / "out", 0.5)
    assert [(row["frame"], row["seconds"]) for row in found] == [(i, i / 12.5) for i in range(7)]
    assert sorted(content(tmp_path / "out")) == ["a.mp4", "detections.json"]
    drawn = cv2.VideoCapture(str(tmp_path / "out" / "a.mp4"))
    assert (drawn.get(cv2.CAP_PROP_FPS), drawn.get(cv2.CAP_PROP_FRAME_COUNT)) == (12.5, 7)
    assert drawn.read()[1].std() > 5
    assert "the highest of score 0.80; 7 of 7 frames read" in caplog.messages[-1]
    with pytest.raises(UserError, match=rf"{tmp_path}/a\.mp4 would be overwritten"):
        predict(cfg, str(tmp_path / "a.mp4"), tmp_path, 0.5)
    predict(cfg, str(tmp_path / "a.mp4"), tmp_path / "two", 0.5, formats=["pictures", "coco"])
    assert sorted(content(tmp_path / "two"))[:2] == ["a/000000.jpg", "a/000001.jpg"]
    images = json.loads((tmp_path / "two" / "coco.json").read_text())["images"]
    assert [image["file_name"] for image in images] == [f"a/{i:06}.jpg" for i in range(7)]
    (tmp_path / "two" / "a" / "000003.jpg").write_bytes(b"mine")
    with pytest.raises(UserError, match=r"a/000003\.jpg would be overwritten, and no prediction wrote it"):
        predict(cfg, str(tmp_path / "a.mp4"), tmp_path / "two", 0.5, formats=["pictures"])


def test_an_interrupted_video_leaves_nothing(cfg, tmp_path, monkeypatch):
    film = cv2.VideoWriter(str(tmp_path / "a.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 10, (64, 48))
    for _ in range(9):
        film.write(np.zeros((48, 64, 3), np.uint8))
    film.release()
    added = []

    def add(video, seen, result):
        added.append(video.file.add(result.draw_on(seen.pixels)))
        if len(added) == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr("detector.inference.listings.Video.add", add)
    with pytest.raises(KeyboardInterrupt):
        predict(cfg, str(tmp_path / "a.mp4"), tmp_path / "out", 0.5)
    assert content(tmp_path / "out") == {}


def test_a_video_that_ends_early_is_said(cfg, tmp_path, caplog):
    film = cv2.VideoWriter(str(tmp_path / "a.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for _ in range(40):
        film.write(np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8))
    film.release()
    data = (tmp_path / "a.avi").read_bytes()
    (tmp_path / "a.avi").write_bytes(data[: len(data) // 2])
    found = predict(cfg, str(tmp_path / "a.avi"), tmp_path / "out", 0.5, formats=["json"])
    assert 5 < len(found) < 39
    text = f"a.avi: {len(found)} frames could be read, and it says that it has 40: its end may be damaged"
    assert caplog.messages[-1].endswith(text)


def test_a_camera_is_watched_until_it_is_interrupted(cfg, tmp_path, monkeypatch):
    class Camera:
        number = 0

        def __init__(self, number):
            assert number == 0

        def isOpened(self):  # noqa: N802
            return True

        def get(self, key):
            return 10.0

        def read(self):
            self.number += 1
            return True, np.zeros((48, 64, 3), np.uint8)

        def release(self):
            pass

    drawn = []

    def add(video, seen, result):
        if len(drawn) == 3:
            raise KeyboardInterrupt
        drawn.append(result)
        video.file.add(result.draw_on(seen.pixels))

    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    monkeypatch.setattr("detector.inference.listings.Video.add", add)
    found = predict(cfg, "0", tmp_path / "out", 0.5)
    assert [row["frame"] for row in found] == [0, 1, 2]
    assert sorted(content(tmp_path / "out")) == ["camera_0.mp4", "detections.json"]


@pytest.mark.parametrize(
    ("source", "formats", "text"),
    [
        ("photos", ["video"], r"--format video: .*photos is no video and no camera; write --format pictures"),
        ("photos", ["gif"], "--format gif: write some of pictures, video, coco, json, csv, yolo, voc"),
        ("a.mp4", ["json", "voc"], r"--format voc: the frames of .*a\.mp4 are no files, which a data set needs"),
    ],
)
def test_a_format_that_does_not_fit_is_refused(cfg, photos, tmp_path, source, formats, text):
    film = cv2.VideoWriter(str(tmp_path / "a.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 10, (64, 48))
    film.write(np.zeros((48, 64, 3), np.uint8))
    film.release()
    with pytest.raises(UserError, match=text):
        predict(cfg, str(tmp_path / source), tmp_path / "out", 0.5, formats=formats)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("form", ["csv", "coco", "voc", "yolo"])
def test_no_format_overwrites_what_somebody_else_wrote(cfg, photos, tmp_path, form):
    """Our own table and list are replaced; a data set is not, since its labels may be corrected."""
    predict(cfg, str(photos), tmp_path / "out", 0.5, formats=[form])
    if form in ("csv", "coco"):
        predict(cfg, str(photos), tmp_path / "out", 0.5, formats=[form])
        (tmp_path / "out" / {"csv": "detections.csv", "coco": "coco.json"}[form]).write_text('{"mine": 1}')
    before = content(tmp_path / "out")
    with pytest.raises(UserError, match=r"(no prediction wrote it|may have been corrected since): nothing was done"):
        predict(cfg, str(photos), tmp_path / "out", 0.5, formats=[form])
    assert content(tmp_path / "out") == before


def test_nothing_to_read_is_no_success(cfg, tmp_path, caplog):
    (tmp_path / "photos").mkdir()
    for name in ("a.jpg", "b.png"):
        (tmp_path / "photos" / name).write_bytes(b"")
    with pytest.raises(UserError, match=r"photos: none of 2 images could be read; each is named above"):
        predict(cfg, str(tmp_path / "photos"), tmp_path / "out", 0.5)
    assert not (tmp_path / "out").exists()
    assert len(caplog.messages) == 2
    (tmp_path / "there").mkdir()
    for output in (tmp_path / "new" / "out", tmp_path / "there"):
        with pytest.raises(UserError, match=r"a\.jpg: the one image could not be read; it is named above"):
            predict(cfg, str(tmp_path / "photos" / "a.jpg"), output, 0.5)
    assert not (tmp_path / "new").exists()
    assert (tmp_path / "there").is_dir()


def test_no_empty_folder_is_left_by_what_fails_on_the_way(cfg, photos, tmp_path, monkeypatch):
    def fails(*_):
        raise MemoryError

    monkeypatch.setattr("detector.inference.listings.Pictures.add", fails)
    with pytest.raises(MemoryError):
        predict(cfg, str(photos), tmp_path / "new" / "out", 0.5)
    assert not (tmp_path / "new").exists()


def test_label_files_are_counted_and_not_named(cfg, photos, tmp_path, caplog):
    caplog.set_level("INFO", "detector")
    (photos / "labels").mkdir()
    (photos / "labels" / "a.txt").write_text("")
    (photos / "b.xml").write_text("")
    predict(cfg, str(photos), tmp_path / "out", 0.5)
    assert caplog.messages[0] == f"{photos}: 2 label files are passed over"
    (photos / "data.yaml").write_text("")
    (photos / "notes.txt").write_text("")
    (photos / "labels" / "a.mp4").write_text("")
    caplog.clear()
    predict(cfg, str(photos), tmp_path / "out", 0.5)
    names = f"{photos / 'data.yaml'}, {photos / 'labels' / 'a.mp4'}, {photos / 'notes.txt'}"
    said = "2 label files and 3 other files that are no pictures are passed over (1 of them a video: name it alone)"
    assert caplog.messages[0] == f"{photos}: {said}: {names}"


@pytest.mark.parametrize("threshold", [-0.1, 1.1, 50, float("nan"), "best"])
def test_a_threshold_that_is_no_score_is_refused(cfg, photos, tmp_path, threshold):
    with pytest.raises(UserError, match=rf"--threshold {threshold}: scores lie in 0\.\.1"):
        predict(cfg, str(photos), tmp_path / "out", threshold)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "formats", "rest"),
    [
        (["run", "photos", "--format", "json"], ["json"], []),
        (["--format", "json", "pictures", "run", "photos"], ["json", "pictures"], []),
        (["run", "photos", "--format", "csv", "voc", "SEED", "3"], ["csv", "voc"], ["SEED", "3"]),
        (["run", "--format=csv,voc", "photos", "--format", "coco", "--threshold", "0.1"], ["csv", "voc", "coco"], []),
        (["run", "photos"], [], []),
    ],
)
def test_formats_end_where_other_words_begin(monkeypatch, words, formats, rest):
    begun = []
    monkeypatch.setattr(command, "begin", lambda args, *more: begun.append((args.formats, *more)))
    command.main(words)
    assert begun == [(formats, "run", "photos", rest)]


@pytest.mark.parametrize("words", [["--format", "gif"], ["--format=json,gif"]])
def test_a_word_that_is_no_format_is_refused(words, capsys):
    with pytest.raises(SystemExit) as stop:
        command.main(["run", "photos", *words])
    assert stop.value.code == 2
    assert "'gif' is none of pictures, video, coco, json, csv, yolo, voc" in capsys.readouterr().err


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
        f"error: {tmp_path}/\\xe9\\x1b[31m: the one image could not be read; it is named above"
    )


def test_its_help_says_what_a_run_of_salient_objects_gives(capsys):
    with pytest.raises(SystemExit):
        command.main(["--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert "FOLDER gets no detections.json but maps/inner/a.png" in told
    assert "saliency:FOLDER" in told
