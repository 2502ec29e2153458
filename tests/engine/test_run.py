"""What a run's folder holds, which checkpoints stay, and what there is to resume."""

import logging
import os

import pytest
import torch
from torch import nn

from detector.config import save_config
from detector.config.defaults import get_defaults
from detector.engine.health import BATCH, RISEN
from detector.engine.run import Run, open_folder, to_resume, try_folder
from detector.errors import UserError
from detector.version import versions
from detector.weights.checkpoint import save_checkpoint, step_name


@pytest.fixture
def make(tmp_path):
    """make(keep=3, ..): a run of a single weight."""

    def build(**more):
        model = nn.Linear(1, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        return Run(tmp_path, model, optimizer, torch.amp.GradScaler("cpu", enabled=False), {}, **more)

    return build


def steps(folder):
    return sorted(int(path.stem.removeprefix("model_")) for path in folder.glob("model_0*.pth"))


def save_at(run, *numbers):
    for number in numbers:
        run.step = number
        run.save()


@pytest.mark.parametrize(("keep", "left"), [(0, [1, 2, 3, 4, 5]), (1, [5]), (3, [3, 4, 5]), (9, [1, 2, 3, 4, 5])])
def test_so_many_numbered_checkpoints_stay(make, tmp_path, keep, left):
    for name in ("model_final.pth", "model_best.pth", "model_mine.pth", "model_1.pth"):
        (tmp_path / name).write_bytes(b"")
    save_at(make(keep=keep), 1, 2, 3, 4, 5)
    assert steps(tmp_path) == left
    assert {"model_final.pth", "model_best.pth", "model_mine.pth", "model_1.pth"} < set(os.listdir(tmp_path))


def test_older_ones_go_when_the_new_one_is_there(make, tmp_path, monkeypatch):
    save_at(make(keep=1), 1)
    run = make(keep=1)
    real = torch.save

    def full_disk(content, file):
        assert steps(tmp_path) == [1]
        raise OSError("No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(OSError, match="No space left"):
        save_at(run, 2)
    assert steps(tmp_path) == [1]
    monkeypatch.setattr(torch, "save", real)
    save_at(run, 2)
    assert steps(tmp_path) == [2]


def test_what_is_no_older_checkpoint_is_left_alone(make, tmp_path):
    (tmp_path / step_name(1)).mkdir()
    (tmp_path / step_name(2)).symlink_to(tmp_path / "nowhere")
    (tmp_path / step_name(99)).write_bytes(b"of a step to come")
    save_at(make(keep=1), 4, 5)
    assert steps(tmp_path) == [1, 2, 5, 99]


def test_the_last_checkpoint_before_the_losses_rose_is_spared(make, tmp_path):
    run = make(keep=2)
    for step in range(100):  # whose loss is that of the weights before it
        run.health.note(step, 1.0 if step <= 35 else RISEN + 1, skipped=False)
        run.step = step + 1
        if run.step % 10 == 0:
            run.save()
    assert steps(tmp_path) == [30, 90, 100]


@pytest.mark.parametrize(
    ("keep", "left"), [(0, [*range(1, 10)]), (1, [2, 5, 9]), (2, [2, 5, 8, 9]), (9, [*range(1, 10)])]
)
def test_milestones_stay_and_do_not_count(make, tmp_path, keep, left):
    save_at(make(keep=keep, milestones=(2, 5, 20)), *range(1, 10))
    assert steps(tmp_path) == left


def test_a_milestone_that_is_none_any_more_goes(make, tmp_path):
    save_at(make(keep=1, milestones=(2,)), 1, 2, 3, 4)
    assert steps(tmp_path) == [2, 4]
    save_at(make(keep=1), 5)
    assert steps(tmp_path) == [5]


def test_many_deletions_at_once_are_said(make, tmp_path, caplog):
    caplog.set_level(logging.INFO, "detector")
    save_at(make(keep=0), 1, 2, 3, 4)
    save_at(make(keep=3), 5)
    assert caplog.messages == [
        "deleted, as the newest 3 stay: model_0000002.pth, model_0000001.pth"
    ]  # fmt: skip
    caplog.clear()
    save_at(make(keep=3), 6)
    assert steps(tmp_path) == [4, 5, 6]
    assert caplog.messages == []


def test_leftovers_of_killed_writers_go_with_the_next_checkpoint(make, tmp_path):
    (tmp_path / "model_0000007.pth.0123456789abcdef.tmp").write_bytes(b"half")
    save_at(make(), 8)
    assert os.listdir(tmp_path) == [step_name(8)]


def test_the_best_is_kept_where_it_has_a_name(make, tmp_path):
    for kept, files in (("", []), ("model_best.pth", ["model_best.pth"])):
        run = make(kept=kept)
        run.keep_best({"AP": 0.3}, 0.3, {"model": {}})
        assert (run.best, run.metrics, os.listdir(tmp_path)) == (0.3, {"AP": 0.3}, files)


def test_checkpoints_say_which_versions_wrote_them(make):
    assert make().content()["versions"] == versions()


# ---------------------------------------------------------------------------- what there is to resume


def test_an_empty_folder_is_started_in(tmp_path, caplog):
    caplog.set_level(logging.INFO, "detector")
    (tmp_path / step_name(10)).mkdir()
    (tmp_path / "model_final.pth").symlink_to(tmp_path / "nowhere")
    assert to_resume(open_folder(str(tmp_path), resume=True), resume=True) is None
    assert "holds no checkpoint to resume from: starting at step 0" in caplog.text
    assert to_resume(tmp_path, resume=False) is None
    assert open_folder(str(tmp_path), resume=False) == tmp_path


def test_a_training_that_was_prepared_begins_without_a_word(tmp_path, caplog):
    """As those of a comparison are: a config, and nothing yet that could be lost."""
    (tmp_path / "config.yaml").write_text("{}")
    assert to_resume(tmp_path, resume=True) is None
    assert not caplog.text
    (tmp_path / "log.jsonl").touch()  # it began, and ended before its first checkpoint
    assert to_resume(tmp_path, resume=True) is None
    assert "starting at step 0" in caplog.text


@pytest.mark.parametrize("name", ["model_best.pth", "weights_best.pth"])
def test_weights_alone_are_not_started_over(tmp_path, name):
    save_checkpoint(tmp_path / name, {"model": {}, "step": 3})
    before = (tmp_path / name).read_bytes()
    with pytest.raises(
        UserError, match=rf"{name} is without the optimiser's state\. Write OUTPUT_DIR another/folder"
    ) as e:
        to_resume(tmp_path, resume=True)
    assert f"with MODEL.WEIGHT {tmp_path / name}, which starts from these weights" in str(e.value)
    assert (tmp_path / name).read_bytes() == before


def test_damaged_checkpoints_are_not_started_over(tmp_path):
    for step in (2, 4):
        (tmp_path / step_name(step)).write_bytes(b"PK\x03\x04 half")
    (tmp_path / "model_final.pth").write_bytes(b"")
    with pytest.raises(UserError) as caught:
        to_resume(tmp_path, resume=True)
    assert str(caught.value) == (
        f"OUTPUT_DIR {tmp_path} holds a run, and nothing to resume it from: its checkpoints (model_final.pth, "
        "model_0000004.pth, model_0000002.pth) cannot be resumed, as was said. Write OUTPUT_DIR another/folder, or "
        "delete or move the run to start anew here"
    )


def test_a_checkpoints_own_step_counts(tmp_path):
    for name, step in ((step_name(9), 2), (step_name(5), 5), ("model_final.pth", 4)):
        save_checkpoint(tmp_path / name, {"model": {}, "optimizer": {}, "step": step})
    assert to_resume(tmp_path, resume=True).path.name == step_name(5)


def test_after_a_divergence_what_it_ruined_is_passed_over(tmp_path, caplog):
    for step in (20, 40, 60):
        save_checkpoint(tmp_path / step_name(step), {"model": {}, "optimizer": {}, "step": step, "resumes": 0})
    save_checkpoint(tmp_path / BATCH, {"step": 63, "sound": 35, "resumes": 0})
    assert to_resume(tmp_path, resume=True).path.name == step_name(20)
    assert "passed over, as the losses had risen and the training diverged: model_0000060.pth, model_0000040.pth" in (
        caplog.text
    )
    (tmp_path / step_name(20)).unlink()
    with pytest.raises(UserError, match=rf"when the losses had risen\. .* delete .*{BATCH} to resume the newest all"):
        to_resume(tmp_path, resume=True)


def test_a_run_that_begins_after_a_divergence_is_not_what_that_one_ruined(make, tmp_path):
    save_checkpoint(tmp_path / BATCH, {"step": 63, "sound": 1, "resumes": 4})  # before its first checkpoint
    run = make()
    save_at(run, 20)
    assert to_resume(tmp_path, resume=True).path.name == step_name(20)
    again = make()
    again.restore(to_resume(tmp_path, resume=True))
    assert (run.health.resumes, again.health.resumes) == (5, 6)


def test_files_that_no_run_wrote_are_not_replaced(tmp_path):
    names = ("config.yaml", "log.jsonl", "metrics.json")
    for name in names:
        (tmp_path / name).write_text("MODEL: {HEAD: {NAME: fcos}}  # mine\n")
    for use in (try_folder, open_folder):
        with pytest.raises(UserError, match=r"no run wrote .*\(config\.yaml, log\.jsonl, metrics\.json\): write"):
            use(str(tmp_path), False)
    save_config(get_defaults(), tmp_path / "config.yaml")
    (tmp_path / "log.jsonl").write_text('{"step":0,"event":"start"}\n')
    (tmp_path / "metrics.json").write_text('{"AP": 0.5, "measured": {}}')
    assert try_folder(str(tmp_path), False) == tmp_path
    (tmp_path / "log.jsonl").write_text("")
    assert open_folder(str(tmp_path), False) == tmp_path
    assert {path.name for path in tmp_path.iterdir()} == {*names}


def test_evaluations_since_the_best_are_counted(make, tmp_path):
    run = make()
    for step, (score, known) in enumerate(
        [(-1.0, (-1, 1, 1)), (0.2, (0.2, 2, 0)), (0.2, (0.2, 2, 1)), (0.1, (0.2, 2, 2))], 1
    ):
        run.step = step
        run.keep_best({}, score, {"model": {}})
        assert (run.best, run.best_step, run.stale) == known  # the first is kept whatever it found
    content = run.content()
    assert [content[key] for key in ("best", "best_step", "stale")] == [0.2, 2, 2]
