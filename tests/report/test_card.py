"""The model card of a run."""

import json

import pytest
import yaml
from helpers.arms import write_run, write_truth

from detector.commands import card as command
from detector.config import load_config
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


def test_a_file_that_is_there_stays(run, capsys):
    command.main([str(run), "--replicates", "100"])
    assert capsys.readouterr().out == f"written to {run / 'README.md'}\n"
    (run / "README.md").write_text("my own words")
    with pytest.raises(SystemExit, match="perhaps with words of your own"):
        command.main([str(run)])
    assert (run / "README.md").read_text() == "my own words"
    with pytest.raises(SystemExit, match="there is no such folder"):
        command.main([str(run / "gone")])
