"""What Python offers for training and evaluating: which path is taken for what."""

from pathlib import Path

import pytest
import torch

import detector
from detector.config import config_text, load_config
from detector.errors import MissingFileError, UserError
from detector.tasks import detection, export


@pytest.fixture
def called(monkeypatch):
    """What the tasks were called with."""
    calls = []
    for module, name in ((detection, "train"), (detection, "test"), (export, "evaluate_exported")):
        monkeypatch.setattr(module, name, lambda *given, name=name: calls.append((name, *given)) or {"set": {}})
    return calls


@pytest.fixture
def run(tmp_path):
    """A run's folder with a checkpoint, and photos.yaml beside it."""
    (tmp_path / "run").mkdir()
    (tmp_path / "photos.yaml").write_text("SEED: 3\n")
    config = config_text(load_config(tmp_path / "photos.yaml"))
    torch.save({"model": {}, "config": config, "step": 4}, tmp_path / "run" / "model_final.pth")
    return tmp_path / "run"


def test_a_training_takes_a_config_or_the_path_of_one(called, run):
    path = run.parent / "photos.yaml"
    cfg = load_config(path)
    for given in (cfg, path, str(path)):
        assert detector.train(given, resume=True) == {"set": {}}
    assert detector.train("quickstart") == {"set": {}}
    assert called == [("train", cfg, True, False)] * 3 + [("train", load_config("quickstart"), False, False)]
    with pytest.raises(UserError, match=r"^train\(5\): pass a config, or the path of one$"):
        detector.train(5)
    with pytest.raises(MissingFileError, match=r"nothing\.yaml"):
        detector.train("nothing.yaml")


def test_an_evaluation_takes_a_run_a_checkpoint_an_exported_file_or_a_config(called, run):
    detector.evaluate(run, which="best")
    detector.evaluate(str(run / "model_final.pth"))
    detector.evaluate(run, "other.pth")
    cfg = load_config(run.parent / "photos.yaml", {"OUTPUT_DIR": run})
    wanted = [(run, "best"), (run / "model_final.pth", "newest"), ("other.pth", "newest")]
    assert called == [("test", cfg, *one) for one in wanted]
    called.clear()
    cfg = load_config(run.parent / "photos.yaml")
    for given in (cfg, run.parent / "photos.yaml"):
        detector.evaluate(given, Path("other.pth"))
    assert called == [("test", cfg, Path("other.pth"), "newest")] * 2
    detector.evaluate("model.onnx")
    assert called[-1] == ("evaluate_exported", Path("model.onnx"))
    with pytest.raises(UserError, match=r"^evaluate\(\[1\]\): pass a run's folder, a checkpoint, an exported file or"):
        detector.evaluate([1])


def test_a_config_in_place_of_a_run_is_told_apart(run):
    path = run.parent / "photos.yaml"
    with pytest.raises(UserError, match=r"photos\.yaml is a config and no run: write --config-file .*load_config\('"):
        detector.load(path)
