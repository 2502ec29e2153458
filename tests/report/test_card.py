"""The model card of a run."""

import json
import re
from pathlib import Path

import pytest
import yaml
from helpers.arms import write_run, write_truth

from detector.commands import card as command
from detector.config import load_config
from detector.errors import UserError
from detector.report.card import card, origin_of_weights, run_name, shareable
from detector.report.seal import sealed


@pytest.fixture
def run(tmp_path):
    entry = write_truth(tmp_path / "data", ("dark|`er", "light"))
    return write_run(tmp_path / "birds", entry, "DATASETS.TRAIN", entry, "MODEL.WEIGHT", "/home/me/first.pth", hits=0.7)


def parts(text):
    """The metadata, and the sections of the text by heading."""
    _, head, body = text.split("---\n", 2)
    return yaml.safe_load(head), dict(part.split("\n", 1) for part in body.split("\n## ")[1:])


def test_it_says_what_was_measured(run):
    found = {row["image_id"] % 2 for row in json.loads((run / "results.json").read_text())}
    assert found == {0, 1}
    text = card(run, licence="mit", replicates=100)
    metadata, sections = parts(text)
    (model,) = metadata["model-index"]
    (result,) = model["results"]
    assert (metadata["license"], metadata["pipeline_tag"], model["name"]) == ("mit", "object-detection", "birds")
    assert {"fcos", "resnet10"} < set(metadata["tags"])
    assert result["dataset"]["name"] == "truth"
    values = {row["name"]: row["value"] for row in result["metrics"]}
    line = next(line for line in sections["Measures"].splitlines() if line.startswith("| AP |"))
    value, low, high = (float(word.strip("().|")) for word in line.split()[3:] if word.strip("().|"))
    assert low < value < high
    assert values["AP"] == pytest.approx(value / 100, abs=5e-4)
    assert "40 images, 40 objects" in sections["Measures"]
    assert "| `dark/'er` |" in sections["Measures"]
    assert "| parameters | 5," in sections["Size and speed"]
    assert "| memory of the training | 300 MiB" in sections["Size and speed"]


def test_it_names_weights_and_limits(run):
    _, sections = parts(card(run, replicates=100))
    assert "not stated" in sections["Licences"]
    assert "`first.pth`; its licence is not known" in sections["Licences"]
    limits = sections["What it must not be used for"]
    assert "40 test images are few" in limits
    assert "persons" in limits
    assert "AP below" not in limits


def test_weights_of_the_middle_of_a_training_may_lie_in_no_file(run):
    content = json.loads((run / "metrics.json").read_text())
    content["measured"]["weight"] = ""
    (run / "metrics.json").write_text(json.dumps(content))
    use = parts(card(run, replicates=100))[1]["Use"]
    assert 'detector.load("model_final.pth")' in use
    assert "Measured: weights that lie in no file, sha256" in use


def test_a_weak_class_and_one_without_objects_are_named(tmp_path):
    entry = write_truth(tmp_path / "data", ("dark", "light", "blue"))
    folder = write_run(tmp_path / "run", entry, "MODEL.NUM_CLASSES", 3)
    rows = [row for row in json.loads((folder / "results.json").read_text()) if row["category_id"] == 0]
    (folder / "results.json").write_text(json.dumps(rows))
    limits = parts(card(folder, replicates=100))[1]["What it must not be used for"]
    assert "To find `light`: AP below 20.0" in limits
    assert "To find `blue`: the test has none" in limits


@pytest.mark.parametrize(
    ("name", "words"),
    [("res2net50_26w_4s", "non-commercial"), ("resnet50", "BSD-3-Clause"), ("res2net152_v1b_26w_4s", "does not state")],
)
def test_weights_of_imagenet_have_their_licence(name, words):
    assert words in origin_of_weights(load_config(None, ["MODEL.BACKBONE.NAME", name, "MODEL.WEIGHT", "imagenet"]))


def test_nothing_of_the_machine_is_told(run, tmp_path):
    assert str(tmp_path) not in card(run, replicates=100)
    entries = ["/a/b c/pictures:/x/y.json", "voc:/data/cells:test", "yolo:cells:val", r"voc:C:\data\cells:test"]
    words = ["DATASETS.TRAIN", repr(entries), "MODEL.WEIGHT", "~/w/a.pth", "OUTPUT_DIR", "/home/me/run"]
    cfg = shareable(load_config(None, words))
    assert cfg.DATASETS.TRAIN == ("pictures:y.json", "voc:cells:test", "yolo:cells:val", "voc:cells:test")
    assert (cfg.MODEL.WEIGHT, cfg.OUTPUT_DIR) == ("a.pth", "output/run")


@pytest.mark.parametrize(
    ("weight", "told"),
    [
        ("https://example.org/models/x.pth", "https://example.org/models/x.pth"),
        ("HTTPS://me:secret@example.org/x.pth?token=1#k", "HTTPS://example.org/x.pth"),
        ("file:///home/alice/x.pth", "x.pth"),
        ("../../alice/x.pth", "x.pth"),
        ("w/../../alice/x.pth", "x.pth"),
        ("~alice/x/y.pth", "y.pth"),
        (r"C:\home\x.pth", "x.pth"),
        ("weights/x.pth", "weights/x.pth"),
        ("imagenet", "imagenet"),
        ("", ""),
    ],
)
def test_of_weights_and_teachers_the_place_is_told_and_nothing_private(weight, told):
    cfg = load_config(None)
    cfg.defrost()
    cfg.MODEL.WEIGHT = weight
    assert shareable(cfg).MODEL.WEIGHT == told
    if weight.startswith("HTTPS"):
        assert origin_of_weights(cfg).startswith(f"`{told}`;")
        return
    if "://" not in weight:
        cfg.DISTILL.TEACHER = weight
        assert shareable(cfg).DISTILL.TEACHER == told
    cfg.DATASETS.TRAIN = (
        "voc:../../alice/cells:test",
        "~alice/a:../b/c.json",
        "voc:~alice:train",
        "/data/cells/:d.json",
    )
    assert shareable(cfg).DATASETS.TRAIN == ("voc:cells:test", "a:c.json", "voc:.:train", "cells:d.json")


def test_a_teacher_is_named_without_its_folder(tmp_path):
    entry = write_truth(tmp_path / "data")
    text = card(write_run(tmp_path / "pupil", entry, "DISTILL.TEACHER", "/home/alice/owl"), replicates=100)
    assert "alice" not in text
    line = "- It learned from a teacher, `owl`, of weights that this card does not know: look where they are from."
    assert line in parts(text)[1]["Licences"].splitlines()


def test_what_is_no_run_is_told_with_what_to_name(tmp_path):
    entry = write_truth(tmp_path / "data")
    for name in ("resnet10", "resnet18"):
        run = write_run(tmp_path / "runs" / name, entry, "MODEL.BACKBONE.NAME", name)
    empty, gone, file = tmp_path / "empty", tmp_path / "gone", run / "config.yaml"
    empty.mkdir()
    told = {
        tmp_path / "runs": "is no run, but holds resnet10, resnet18: name one of them, as",
        empty: "is no run's folder: name one run's, its OUTPUT_DIR",
        gone: "there is no such folder; name that of a run, its OUTPUT_DIR",
        file: "is a file: name one run's folder, its OUTPUT_DIR",
        run: f"holds no metrics.json: `detector test {run}` makes them",
    }
    (run / "metrics.json").rename(tmp_path / "kept.json")
    for folder, words in told.items():
        with pytest.raises((UserError, OSError)) as caught:
            card(folder)
        message = str(caught.value)
        assert message.startswith(f"RUN {folder}")
        assert words in message
        assert "--" not in message
        assert "\n" not in message


def test_of_the_config_it_shows_what_is_not_as_by_default(run):
    section = parts(card(run, replicates=100))[1]["Config"]
    shown, rest = section.split("<details>")
    keys = yaml.safe_load(shown.split("```")[1].removeprefix("yaml"))
    assert keys["MODEL"]["BACKBONE"] == {"NAME": "resnet10", "NORM": "bn", "FREEZE_CONV_BODY_AT": 0}
    assert keys["MODEL"]["WEIGHT"] == "first.pth"
    assert "OUTPUT_DIR" not in keys  # nor what else is of a machine
    assert "DEVICE" not in keys["MODEL"]
    assert len(shown.splitlines()) < 30
    folded = yaml.safe_load(rest.split("```")[1].removeprefix("yaml"))
    assert folded["MODEL"]["DEVICE"] == "cpu"
    assert folded["MODEL"]["RPN"]["NMS_THRESH"] == 0.7


def make(*words):
    command.main([*map(str, words), "--replicates", "100"])


def test_it_shows_what_the_result_was_measured_with(tmp_path):
    entry = write_truth(tmp_path / "data")
    other = ("INPUT.MIN_SIZE_TEST", 128, "INPUT.MAX_SIZE_TEST", 192, "TEST.DETECTIONS_PER_IMG", 7)
    cards = {}
    for name, tested in (("plain", ()), ("other", (*other, "DATASETS.TEST", f"['{entry}']"))):
        folder = write_run(tmp_path / name, "voc:birds:val" if tested else entry, tested=tested)
        cards[name] = card(folder, replicates=100)
    plain, other = cards["plain"], cards["other"]
    assert "shorter side 64, longer side at most 96 (pixels)" in plain
    assert "shorter side 128, longer side at most 192 (pixels)" in other
    macs = [float(re.search(r"largest test size \| ([\d.e-]+) billion", text)[1]) for text in (plain, other)]
    assert macs[1] == pytest.approx(4 * macs[0], rel=0.01)
    assert "in the file" not in plain
    assert "| `INPUT.MIN_SIZE_TEST` | `128` | `64` |" in parts(other)[1]["Measures"]
    assert "| `TEST.DETECTIONS_PER_IMG` | `7` | `100` |" in parts(other)[1]["Measures"]
    assert "tested on `pictures:truth.json`" in parts(other)[1]["Data"]
    assert "MIN_SIZE_TEST: 64" in parts(other)[1]["Config"]  # of the file that is loaded


def test_its_own_card_gives_way_and_one_that_was_changed_stays(run, capsys):
    path = run / "README.md"
    make(run)
    assert capsys.readouterr().out == f"written to {path}\n"
    first = path.read_text()
    make(run, "--license", "mit")
    assert path.read_text() != first
    path.write_bytes(first.replace("\n", "\r\n").encode())  # as another system has it
    make(run)
    assert path.read_text() == first
    changes = first.replace("40 images", "41 images"), f"{first}And mine.\n", first.replace(" -->", "")
    for changed, said in zip(changes, ("was changed since", "was changed since", "was not written"), strict=True):
        path.write_text(changed)
        with pytest.raises(SystemExit) as stop:
            make(run)
        assert said in str(stop.value)
        assert str(stop.value).endswith("move it, or name another file with --output")
        assert path.read_text() == changed


def test_what_is_no_card_or_that_of_another_run_stays(run, tmp_path, monkeypatch):
    monkeypatch.setattr("detector.report.card.card", lambda folder, *_: sealed("words", run_name(Path(folder))))
    other = write_run(tmp_path / "cats -- dogs", f"{tmp_path}/data/pictures:{tmp_path}/data/truth.json")
    card_file = tmp_path / "card.md"
    for mine, theirs, named in ((run, other, "birds"), (other, run, "cats -- dogs")):
        make(mine, "--output", card_file)
        make(mine, "--output", card_file)
        text = card_file.read_text()
        assert "--" not in text.rsplit("<!--", 1)[1].removesuffix("-->\n")
        with pytest.raises(SystemExit, match=f"is the card of another run, {named}: move it, or name another file"):
            make(theirs, "--output", card_file)
        assert card_file.read_text() == text
        card_file.unlink()
    make(run)
    moved = run.rename(tmp_path / "renamed")
    make(moved)
    (moved / "README.md").write_text("my own words")
    with pytest.raises(SystemExit, match="was not written by `detector card`: move it"):
        make(moved)
    assert (moved / "README.md").read_text() == "my own words"
    with pytest.raises(SystemExit, match="is no file: name one with --output"):
        make(moved, "--output", tmp_path)
    monkeypatch.undo()
    with pytest.raises(SystemExit, match="there is no such folder"):
        make(moved / "gone")
