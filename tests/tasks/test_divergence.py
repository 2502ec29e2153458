"""A run that diverges ends, and what it says leads out of it."""

import logging

import pytest
import torch
from helpers.runs import read, same_bits

from detector.engine.health import BATCH, SKIPPED
from detector.engine.lock import locked
from detector.errors import NonFiniteError, UserError
from detector.tasks.detection import DetectionTask, train
from detector.tasks.trained import find_trained

QUICK = ("DATASETS.TEST", "()", "SOLVER.STEPS", "()", "SOLVER.CHECKPOINT_KEEP", 0, "INPUT.MIN_SIZE_TRAIN", 32)


@pytest.fixture
def diverging(monkeypatch):
    """diverging(8, 12): the losses of a training rise a thousandfold after 8 steps of this rate, and end after 12."""
    losses, batches, steps = DetectionTask.losses, DetectionTask.batches, []

    def noted(self, start, stop):
        for step, batch in enumerate(batches(self, start, stop), start=start):
            steps.append(step)
            yield batch

    def between(rise, end):
        def risen(self, model, batch):
            found = losses(self, model, batch)
            if self.cfg.SOLVER.BASE_LR < 0.002:  # the advice was taken
                return found
            factor = float("inf") if steps[-1] >= end else 1e3 if steps[-1] > rise else 1.0
            return {name: value * factor for name, value in found.items()}

        monkeypatch.setattr(DetectionTask, "batches", noted)
        monkeypatch.setattr(DetectionTask, "losses", risen)

    return between


def test_a_resume_goes_back_to_before_the_losses_rose(tiny, tmp_path, diverging, caplog):
    caplog.set_level(logging.INFO, "detector")
    diverging(rise=5, end=9)
    opts = (*QUICK, "SOLVER.MAX_ITER", 10, "SOLVER.CHECKPOINT_PERIOD", 2)
    with pytest.raises(NonFiniteError) as caught:
        train(tiny(*opts))
    assert str(caught.value).endswith(
        "then --resume: it continues from model_0000004.pth (step 4), the last one from before the losses rose after "
        "step 5"
    )
    assert (read(tmp_path / "out" / BATCH)["step"], read(tmp_path / "out" / BATCH)["sound"]) == (9, 5)
    caplog.clear()
    train(tiny(*opts, "SOLVER.BASE_LR", 0.001), resume=True)
    assert "passed over, as the losses had risen and the training diverged: model_0000008.pth, model_0000006.pth" in (
        caplog.text
    )
    assert f"resuming from {tmp_path / 'out' / 'model_0000004.pth'} at step 4 of 10" in caplog.text
    assert read(tmp_path / "out" / "model_final.pth")["step"] == 10
    # what it wrote since is as good as any
    (tmp_path / "out" / "model_final.pth").unlink()
    caplog.clear()
    train(tiny(*opts, "SOLVER.BASE_LR", 0.001), resume=True)
    assert "model_0000008.pth at step 8 of 10" in caplog.text


def test_without_a_checkpoint_from_before_it_says_to_start_anew(tiny, tmp_path, diverging):
    diverging(rise=1, end=7)
    opts = (*QUICK, "SOLVER.MAX_ITER", 10, "SOLVER.CHECKPOINT_PERIOD", 3)
    with pytest.raises(
        NonFiniteError, match=r"then start anew with OUTPUT_DIR another/folder: the losses rose after step 1"
    ):
        train(tiny(*opts))
    with pytest.raises(UserError, match=r"holds a run, and nothing to resume it from"):
        train(tiny(*opts, "SOLVER.BASE_LR", 0.001), resume=True)


def test_a_sudden_end_is_resumed_from_the_newest(tiny, tmp_path, diverging):
    diverging(rise=7, end=7)
    with pytest.raises(NonFiniteError, match=r"then --resume: it continues from model_0000006\.pth \(step 6\)$"):
        train(tiny(*QUICK, "SOLVER.MAX_ITER", 10, "SOLVER.CHECKPOINT_PERIOD", 3))


@pytest.fixture
def in_fp16(tiny, monkeypatch):
    """in_fp16(steps): a run in fp16 of which the scaler leaves out every update."""

    def scaled(scaler, optimizer):
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad.fill_(float("inf"))
        unscale(scaler, optimizer)

    unscale = torch.amp.GradScaler.unscale_
    monkeypatch.setattr(torch.amp.GradScaler, "unscale_", scaled)
    return lambda steps: train(tiny(*QUICK, "SOLVER.AMP", "fp16", "SOLVER.MAX_ITER", steps))


def test_a_short_run_without_any_update_is_no_run(in_fp16, tmp_path):
    with pytest.raises(
        NonFiniteError, match=r"gradient norm is inf and 4 updates in a row were left out, at a scale of 8192,"
    ):
        in_fp16(4)
    assert not (tmp_path / "out" / "model_final.pth").exists()


@pytest.mark.slow
def test_updates_that_are_left_out_for_ever_stop_the_run(in_fp16):
    with pytest.raises(
        NonFiniteError,
        match=rf"and {SKIPPED} updates in a row were left out.* at step {SKIPPED - 1}, .*SOLVER\.AMP off",
    ):
        in_fp16(60)


# ---------------------------------------------------------------------------- what else a resume meets


def test_a_second_run_in_the_folder_is_refused(tiny, tmp_path):
    (tmp_path / "out").mkdir()
    with locked(tmp_path / "out"), pytest.raises(UserError, match="is in use by another run"):
        train(tiny("SOLVER.MAX_ITER", 1))
    assert not list((tmp_path / "out").iterdir())


def test_a_finished_run_says_that_nothing_is_left(tiny, tmp_path, caplog):
    caplog.set_level(logging.INFO, "detector")
    train(tiny(*QUICK, "SOLVER.MAX_ITER", 1))
    assert "nothing is left" not in caplog.text
    train(tiny(*QUICK, "SOLVER.MAX_ITER", 1), resume=True)
    assert caplog.messages[-2] == "nothing is left to train: all 1 step is done"
    assert caplog.messages[-1].startswith(f"in {tmp_path / 'out'}\n  model_final.pth  ")
    assert caplog.messages[-1].endswith(f"  detector train {tmp_path / 'out'} --resume SOLVER.MAX_ITER 2")
    train(tiny(*QUICK, "SOLVER.MAX_ITER", 2), resume=True)
    assert caplog.messages[-1].startswith(f"written to {tmp_path / 'out'}\n  model_final.pth  ")
    assert "MAX_ITER" not in caplog.messages[-1]


def test_a_finished_run_does_not_pretend_to_have_had_other_settings(tiny, tmp_path, write_images, caplog):
    caplog.set_level(logging.INFO, "detector")
    train(tiny(*QUICK, "SOLVER.MAX_ITER", 1))
    was = (tmp_path / "out" / "config.yaml").read_text()
    log = (tmp_path / "out" / "log.jsonl").read_text()
    for changed in (["SOLVER.BASE_LR", 0.5], ["INPUT.MIN_SIZE_TEST", 80]):
        message = rf"all 1 step is done, and {changed[0]} would change nothing: leave it out, or .* SOLVER\.MAX_ITER 2$"
        with pytest.raises(UserError, match=message):
            train(tiny(*QUICK, "SOLVER.MAX_ITER", 1, *changed), resume=True)
    assert (tmp_path / "out" / "config.yaml").read_text() == was
    assert (tmp_path / "out" / "log.jsonl").read_text() == log
    further = write_images(tmp_path / "further", (1, 1))
    train(tiny(*QUICK, "SOLVER.MAX_ITER", 1, "DATASETS.TEST", further, "INPUT.MIN_SIZE_TEST", 80), resume=True)
    assert "resumed with other settings" in caplog.text


def test_a_folder_that_is_a_link_is_resumed(tiny, tmp_path):
    opts = (*QUICK, "SOLVER.CHECKPOINT_PERIOD", 2)
    train(tiny(*opts, "SOLVER.MAX_ITER", 4, "OUTPUT_DIR", tmp_path / "whole"))
    train(tiny(*opts, "SOLVER.MAX_ITER", 2, "OUTPUT_DIR", tmp_path / "disk"))
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    cfg = tiny(*opts, "SOLVER.MAX_ITER", 4, "OUTPUT_DIR", tmp_path / "link")
    train(cfg, resume=True)
    assert same_bits(*(read(tmp_path / name / "model_final.pth")["model"] for name in ("disk", "whole")))
    assert find_trained(cfg).newest


def test_links_at_known_names_are_not_followed(tiny, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "precious").write_text("mine")
    names = ("config.yaml", "metrics.json", "results.json")
    for name in names:
        (tmp_path / "out" / name).symlink_to(tmp_path / "precious")
    train(tiny("SOLVER.MAX_ITER", 1))
    assert (tmp_path / "precious").read_text() == "mine"
    assert not [name for name in names if (tmp_path / "out" / name).is_symlink()]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "log.jsonl").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match=r"log\.jsonl is a link, which is not followed"):
        train(tiny("SOLVER.MAX_ITER", 1, "OUTPUT_DIR", tmp_path / "other"))
    assert (tmp_path / "precious").read_text() == "mine"


@pytest.mark.parametrize(("period", "kept"), [(0, False), (1, True), (2, False)])
def test_the_best_is_kept_where_there_is_a_choice(tiny, tmp_path, period, kept, caplog):
    caplog.set_level(logging.INFO, "detector")
    cfg = tiny("SOLVER.MAX_ITER", 2, "SOLVER.TEST_PERIOD", period)
    train(cfg)
    assert (tmp_path / "out" / "model_best.pth").exists() == kept
    found = find_trained(cfg, which="best")
    assert found.file.path.name == ("model_best.pth" if kept else "model_final.pth")
    said = "out has no model_best.pth, which evaluations before the last step write: model_final.pth counts"
    assert (said in caplog.text) != kept
