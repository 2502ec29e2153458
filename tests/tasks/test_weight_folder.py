"""A run's folder as MODEL.WEIGHT: what a training starts from, and what a test takes."""

import logging

import pytest
import torch
from helpers.runs import read

from detector.config import config_text
from detector.errors import UserError
from detector.models.build import build_detector
from detector.tasks.trained import find_trained, load_weights


@pytest.fixture
def runs(tiny, tmp_path, monkeypatch):
    """Two folders of untrained networks, first and second, as runs leave them; the current folder is theirs."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    for name, weight in (("first", ""), ("second", "first")):
        (tmp_path / name).mkdir()
        cfg = tiny("OUTPUT_DIR", name, "MODEL.WEIGHT", weight)
        content = {"model": build_detector(cfg).state_dict(), "config": config_text(cfg), "classes": ["dark", "light"]}
        torch.save({**content, "step": 2}, tmp_path / name / "model_final.pth")
    return tmp_path


def same(model, path):
    return all(torch.equal(value, read(path)["model"][key]) for key, value in model.state_dict().items())


def test_a_training_starts_from_the_newest_checkpoint_that_is_whole(runs, tiny, caplog):
    caplog.set_level(logging.INFO, "detector")
    cfg = tiny("MODEL.WEIGHT", "first", "OUTPUT_DIR", "new")
    whole = (runs / "first" / "model_final.pth").read_bytes()
    (runs / "first" / "model_0000009.pth").write_bytes(whole[: len(whole) // 2])
    model = build_detector(cfg)
    load_weights(model, cfg, ["dark", "light"])
    assert same(model, runs / "first" / "model_final.pth")
    assert "MODEL.WEIGHT first: its newest checkpoint is model_final.pth" in caplog.messages
    newer = read(runs / "second" / "model_final.pth")
    torch.save({**newer, "step": 5}, runs / "first" / "model_0000005.pth")
    load_weights(model, cfg, ["dark", "light"])
    assert same(model, runs / "second" / "model_final.pth")


@pytest.mark.parametrize(
    ("head", "neck", "says", "kept"),
    [
        ("refinedet", (), "neck and head start anew", ("backbone.",)),
        ("faster_rcnn", ("MODEL.NECK.SOURCES", "[c3, c4, c5]", "MODEL.NECK.EXTRA_LEVELS", "p6p7_p5"),
         "the head starts anew", ("backbone.", "neck.")),
    ],
)  # fmt: skip
def test_from_a_detector_with_another_head_what_is_before_it_is_taken(runs, tiny, caplog, head, neck, says, kept):
    cfg = tiny("MODEL.WEIGHT", "first", "OUTPUT_DIR", "new", "MODEL.HEAD.NAME", head, *neck)
    torch.manual_seed(1)
    model = build_detector(cfg)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    load_weights(model, cfg, ["dark", "light"])
    there = read(runs / "first" / "model_final.pth")["model"]
    assert says in caplog.text
    for key, value in model.state_dict().items():
        assert torch.equal(value, there[key] if key.startswith(kept) else before[key]), key
    assert any(not torch.equal(before[key], there[key]) for key in before if key.startswith(kept[-1]))


def test_a_test_takes_it_as_it_takes_a_run(runs, tiny):
    (runs / "first" / "model_best.pth").write_bytes((runs / "second" / "model_final.pth").read_bytes())
    for cfg, wish in ((tiny("OUTPUT_DIR", "new"), "first"), (tiny("OUTPUT_DIR", "new", "MODEL.WEIGHT", "first"), None)):
        found = find_trained(cfg, wish)
        assert (found.file.path.resolve(), found.newest) == (runs / "first" / "model_final.pth", False)
        assert find_trained(cfg, wish, "best").file.path.resolve() == runs / "first" / "model_best.pth"
    assert find_trained(tiny("OUTPUT_DIR", "first"), str(runs / "first")).newest


def test_what_a_run_started_from_is_no_wish(runs, tiny, caplog):
    caplog.set_level(logging.INFO, "detector")
    cfg = tiny("OUTPUT_DIR", "second")
    assert find_trained(cfg, str(runs / "first")).file.path.resolve() == runs / "second" / "model_final.pth"
    assert "is what the run in second started from: the run's own weights count" in caplog.text
    assert find_trained(tiny("OUTPUT_DIR", "first"), "second").file.path.resolve().parent == runs / "second"


def test_a_folder_without_a_checkpoint_of_a_detector_is_refused_with_what_it_holds(runs, tiny):
    folder = runs / "other"
    folder.mkdir()
    cfg = tiny("MODEL.WEIGHT", "other", "OUTPUT_DIR", "new")
    model = build_detector(cfg)

    def told(use):
        with pytest.raises(UserError) as caught:
            use()
        return str(caught.value)

    uses = (lambda: load_weights(model, cfg), lambda: find_trained(cfg), lambda: find_trained(cfg, "other"))
    for use in uses:
        assert told(use) == "MODEL.WEIGHT other holds no checkpoint: name a run's folder or a checkpoint"
    state = {key.removeprefix("backbone."): value for key, value in model.backbone.state_dict().items()}
    torch.save({"model": state, "step": 3}, folder / "model_0000003.pth")  # of a pre-training
    (folder / "weights.pth").touch()
    assert told(uses[0]).endswith("holds no checkpoint of a detector but weights.pth: write other/weights.pth")
    assert told(uses[1]).endswith("holds no checkpoint of a detector: name a run's folder or a checkpoint")
    (folder / "model_0000003.pth").rename(folder / "model_best.pth")
    for use in uses:
        assert told(use) == "MODEL.WEIGHT other holds no checkpoint but model_best.pth: write other/model_best.pth"
