"""The model card of a run."""

import json

import pytest
import yaml
from helpers.arms import write_run, write_truth

from detector.commands import card as command
from detector.config import load_config
from detector.errors import UserError
from detector.report.card import card, origin_of_weights, shareable


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


def test_it_names_weights_and_limits(run):
    _, sections = parts(card(run, replicates=100))
    assert "not stated" in sections["Licences"]
    assert "`first.pth`; its licence is not known" in sections["Licences"]
    limits = sections["What it must not be used for"]
    assert "40 test images are few" in limits
    assert "persons" in limits
    assert "AP below" not in limits


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


def test_a_file_that_is_there_stays(run, capsys):
    command.main([str(run), "--replicates", "100"])
    assert capsys.readouterr().out == f"written to {run / 'README.md'}\n"
    (run / "README.md").write_text("my own words")
    with pytest.raises(SystemExit, match="perhaps with words of your own"):
        command.main([str(run)])
    assert (run / "README.md").read_text() == "my own words"
    with pytest.raises(SystemExit, match="there is no such folder"):
        command.main([str(run / "gone")])
