"""A run that counts in epochs, and takes its classes from the data, from the config to its checkpoints."""

import json

import pytest
import torch

from detector.config import config_from_text, config_text, load_config
from detector.tasks.detection import test as measure
from detector.tasks.detection import train

OPEN = ["SOLVER.EPOCHS", "2", "MODEL.NUM_CLASSES", "0"]


@pytest.fixture
def run(tiny, tmp_path):
    """The folder of a run of two epochs of five images, two a step."""
    train(config_from_text(config_text(tiny()), opts=OPEN))
    return tmp_path / "out"


def test_epochs_become_steps_with_an_evaluation_after_each(run):
    entries = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in entries if entry.get("event") == "evaluation"] == [3, 6]
    content = torch.load(run / "model_final.pth", weights_only=True)
    saved = config_from_text(content["config"])
    assert (content["step"], saved.SOLVER.MAX_ITER, saved.SOLVER.STEPS) == (6, 6, (4,))
    assert (saved.SOLVER.EPOCHS, saved.SOLVER.TEST_PERIOD, saved.MODEL.NUM_CLASSES) == (0, 3, 2)
    assert load_config(run / "config.yaml") == saved


def test_the_runs_own_config_resumes_the_very_run(run, tmp_path):
    cfg = load_config(run / "config.yaml", ["OUTPUT_DIR", str(tmp_path / "again")])
    train(cfg)
    ours, theirs = (torch.load(f / "model_final.pth", weights_only=True)["model"] for f in (run, tmp_path / "again"))
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert train(load_config(run / "config.yaml"), resume=True).keys() == {"val"}


def test_a_test_takes_the_classes_of_the_checkpoint(run, tiny):
    cfg = config_from_text(config_text(tiny()), opts=OPEN)
    assert measure(cfg)["val"].keys() >= {"AP/dark", "AP/light"}


def test_milestones_are_steps_in_a_run_of_epochs_too(tiny, tmp_path):
    opts = ("SOLVER.CHECKPOINT_MILESTONES", "[1, 4]", "SOLVER.CHECKPOINT_KEEP", "1", "SOLVER.CHECKPOINT_PERIOD", "1")
    train(
        config_from_text(
            config_text(tiny("DATASETS.TEST", "()", "SOLVER.MAX_ITER", 60, "SOLVER.STEPS", "()", *opts)), opts=OPEN
        )
    )
    found = sorted(path.name for path in (tmp_path / "out").glob("model_*"))
    assert found == ["model_0000001.pth", "model_0000004.pth", "model_0000005.pth", "model_final.pth"]


def test_an_epoch_is_as_long_as_its_repeats_make_it(tiny, tmp_path, write_images, caplog):
    """Of six pictures with an object of one class and one with another, that one comes sqrt(1 / (1 / 7)) times."""
    entry = write_images(tmp_path / "rare", (1,) * 7)
    path = tmp_path / "rare.json"
    content = json.loads(path.read_text())
    for annotation in content["annotations"]:
        annotation["category_id"] = 7 if annotation["image_id"] == 4 else 3
    path.write_text(json.dumps(content))
    opts = [*OPEN, "DATALOADER.REPEAT_THRESHOLD", "1.0", "DATASETS.TRAIN", entry, "DATASETS.TEST", "()"]
    with caplog.at_level("INFO", "detector"):
        train(config_from_text(config_text(tiny("SOLVER.STEPS", "()")), opts=opts))
    # 6 * sqrt(7 / 6) + sqrt(7) = 9.13 entries, two a step
    content = torch.load(tmp_path / "out" / "model_final.pth", weights_only=True)
    assert (content["step"], config_from_text(content["config"]).SOLVER.MAX_ITER) == (10, 10)
    (header,) = (text for text in caplog.messages if text.startswith("training\n"))
    assert "10 steps of 2 pictures: 2.22 epochs" in header
