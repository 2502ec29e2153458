"""What a training costs, by a few of its steps."""

from pathlib import Path

import pytest
import torch
from helpers.runs import same_bits

from detector.tasks import pace
from detector.tasks.detection import train
from detector.tasks.pace import STEPS, WARM, Pacer, alternating, middle


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_disk_and_tests_are_those_of_the_training(tiny, tmp_path):
    cfg = tiny("SOLVER.MAX_ITER", 9, "SOLVER.STEPS", "(7,)", "SOLVER.CHECKPOINT_PERIOD", 2, "SOLVER.TEST_PERIOD", 4)
    found = Pacer(cfg).pace()
    assert not (tmp_path / "out").exists()
    assert (found.steps, found.tests, found.test_images) == (9, 3, 3)
    assert found.seconds == pytest.approx(9 * found.step_s + 9 * found.image_s)
    assert found.step_s > 0 < found.image_s
    train(cfg)
    left = sum(path.stat().st_size for path in Path(tmp_path / "out").glob("*.pth"))
    assert found.disk == pytest.approx(left, rel=0.02)


def test_kept_checkpoints_are_what_the_config_keeps(tiny):
    """The final one, and of the five on the way two or all."""
    pacer = Pacer(tiny("SOLVER.CHECKPOINT_PERIOD", 1, "SOLVER.CHECKPOINT_KEEP", 0))
    medians = middle(*pacer.times())
    few = pacer.pace(tiny("SOLVER.CHECKPOINT_PERIOD", 1, "SOLVER.CHECKPOINT_KEEP", 2), medians).disk
    assert pacer.pace(medians=medians).disk / few == pytest.approx((1 + 5) / (1 + 2), rel=0.01)


def test_the_first_steps_do_not_count(tiny, monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr(Pacer, "_now", lambda self: 2.0 ** next(clock))
    pacer = Pacer(tiny("TEST.IMS_PER_BATCH", 1))
    steps, images = pacer.times()
    assert len(pacer.batches) == WARM + STEPS
    assert steps == [2.0 ** (2 * k) for k in range(WARM, WARM + STEPS)]
    assert images == [2.0 ** (2 * (WARM + STEPS + WARM))]  # of three images two are the warm-up


def test_turns(monkeypatch):
    class Fake:
        def __init__(self, name):
            self.name = name

        def times(self, trained):
            turns.append((self.name, trained))
            return [len(turns)], []

    turns = []
    found = alternating([(Fake("a"), Path("x")), (Fake("b"), Path("y"))], rounds=3)
    assert turns == [("a", Path("x")), ("b", Path("y"))] * 3
    assert found == [([1, 3, 5], []), ([2, 4, 6], [])]
    assert middle([1, 5, 2], [4, 8]) == (2, 6)


def test_a_trained_model_is_what_is_timed(tiny, tmp_path, monkeypatch):
    cfg = tiny("SOLVER.MAX_ITER", 8)
    train(cfg)
    trained = torch.load(tmp_path / "out" / "model_final.pth", weights_only=True)["model"]
    seen = []

    def prepare(model, precision):
        seen.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        return model

    monkeypatch.setattr(pace, "prepare_for_inference", prepare)
    pacer = Pacer(cfg)
    for file in (None, tmp_path / "out" / "model_final.pth"):
        pacer.times(file)
    assert not all(torch.equal(seen[0][name], trained[name]) for name in trained)
    assert same_bits(seen[1], trained)
