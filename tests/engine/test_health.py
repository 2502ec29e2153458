"""Since when losses have risen, by hand; and which checkpoints that makes good for what."""

import pytest
import torch

from detector.engine.health import BATCH, RISEN, SKIPPED, Divergence, Health, divergence, ruined, way_out
from detector.weights.checkpoint import save_checkpoint, step_name


def after(losses, health=None, start=0):
    health = health or Health()
    for step, loss in enumerate(losses, start=start):
        health.note(step, loss, skipped=False)
    return health


@pytest.mark.parametrize(
    ("losses", "sound"),
    [
        ([2.0], 0),
        ([2.0, 1.9, 1.8], 2),
        ([2.0, 1e9, 1e9], 0),  # the first update ruined it
        ([2.0, 1e9, 1e8, float("inf")], 0),
        ([2.0, 1.0, 1.0, 5.0, float("nan")], 2),
        ([1.0] * 30 + [2.9] * 10, 39),  # below three times the usual is usual
        ([1.0] * 30 + [3.1] * 100, 29),
        ([1.0] * 30 + [0.01] + [1.0] * 5, 35),  # one lucky batch is not what is usual
        ([9.0] * 30 + [1.0] * 30 + [4.0], 59),
    ],
)
def test_sound_is_the_last_step_whose_weights_gave_a_usual_loss(losses, sound):
    assert after(losses).sound == sound


def test_losses_have_risen_while_the_latest_is_not_usual():
    health = after([1.0] * 25)
    assert not health.risen
    after([RISEN + 1], health, 25)
    assert health.risen
    after([1.0], health, 90)
    assert not health.risen


def test_a_checkpoint_keeps_what_is_known():
    first = after([1.0] * 30 + [9.0] * 5)
    first.note(35, 9.0, skipped=True)
    second = Health()
    second.restore({"step": 36, **first.content()})
    after([9.0], second, 36)  # against what was usual before, not against itself
    assert (second.sound, second.level, first.skipped) == (29, 1.0, 1)
    assert (second.skipped, second.left_out) == (0, 1)
    old = Health()
    old.restore({"step": 36})
    assert (old.sound, old.resumes, old.skipped, old.left_out) == (36, 0, 0, 0)


def test_one_lucky_batch_is_not_what_is_usual_after_a_resume_either():
    first, second = after([1.0] * 30), Health()
    second.restore({"step": 30, **first.content()})
    after([0.2] + [1.0] * 5, second, 30)
    assert (second.level, second.sound, second.risen) == (1.0, 35, False)


def test_skipped_updates_count_in_a_row():
    health = Health()
    for step in range(SKIPPED):
        health.note(step, 1.0, skipped=True)
    assert health.skipped == SKIPPED
    health.note(SKIPPED, 1.0, skipped=False)
    assert health.skipped == 0
    assert health.left_out == SKIPPED
    assert health.left_out_text(90) == f"fp16 left out {SKIPPED} of 90 updates, as gradients were infinite"


@pytest.fixture
def folder(tmp_path):
    """Checkpoints of 20, 40 and 60 steps, and a divergence after 63 whose losses had risen after 35."""
    for step in (20, 40, 60):
        save_checkpoint(tmp_path / step_name(step), {"model": {}, "step": step, "resumes": 1})
    save_checkpoint(tmp_path / BATCH, {"images": torch.ones(1), "step": 63, "sound": 35, "resumes": 1})
    return tmp_path


def test_what_lies_between_rise_and_divergence_is_ruined(folder):
    assert divergence(folder) == Divergence(step=63, sound=35, resumes=1)
    assert [path.name for path in ruined(folder)] == [step_name(60), step_name(40)]
    # a run that went on from before writes sound ones under the same names
    save_checkpoint(folder / step_name(40), {"model": {}, "step": 40, "resumes": 2})
    assert [path.name for path in ruined(folder)] == [step_name(60)]
    save_checkpoint(folder / step_name(80), {"model": {}, "step": 80, "resumes": 0})  # of an attempt before
    assert [path.name for path in ruined(folder)] == [step_name(80), step_name(60)]
    (folder / BATCH).write_bytes(b"no file of torch")
    assert (divergence(folder), ruined(folder)) == (None, [])
    (folder / BATCH).unlink()
    assert (divergence(folder), ruined(folder)) == (None, [])


def test_a_batch_of_another_version_says_nothing(folder):
    save_checkpoint(folder / BATCH, {"images": torch.ones(1), "step": 63})
    assert ruined(folder) == []


def test_the_way_out_names_the_checkpoint(folder, tmp_path):
    assert way_out(folder, 63) == "then --resume: it continues from model_0000060.pth (step 60)"
    assert way_out(folder, 35) == (
        "then --resume: it continues from model_0000020.pth (step 20), the last one from before the losses rose after "
        "step 35"
    )
    assert way_out(folder, 19) == (
        "then start anew with OUTPUT_DIR another/folder: the losses rose after step 19, before the first checkpoint "
        "that is left"
    )
    assert way_out(tmp_path / "nowhere", 19) == "then start again: no checkpoint was written yet"
