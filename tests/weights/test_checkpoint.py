import errno
import os
import pickle

import pytest
import torch

from detector.weights import checkpoint
from detector.weights.checkpoint import (
    by_step,
    newest_checkpoint,
    numbered,
    read_checkpoint,
    save_checkpoint,
    step_name,
)

FULL = {"model": {"w": torch.arange(3.0)}, "optimizer": {}}


def test_names_and_content_survive(tmp_path):
    path = tmp_path / step_name(60)
    assert path.name == "model_0000060.pth"
    save_checkpoint(path, {**FULL, "step": 60})
    file = read_checkpoint(path)
    assert file.content == {"step": 60}
    assert torch.equal(file.state["w"], torch.arange(3.0))
    assert read_checkpoint(path, "optimizer").content == {"step": 60, "optimizer": {}}
    assert os.listdir(tmp_path) == [path.name]


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "model_final.pth"
    save_checkpoint(path, {**FULL, "step": 1})

    def full_disk(content, file):
        file.write(b"half")
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        finally:
            raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 768 vs 662")  # as torch does

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(OSError, match=r"model_final\.pth: No space left on device\. Free space, lower SOL"):
        save_checkpoint(path, {**FULL, "step": 2})
    assert read_checkpoint(path).content["step"] == 1
    assert os.listdir(tmp_path) == [path.name]


def test_a_file_that_the_system_cuts_short_is_named_and_the_old_one_kept(tmp_path):
    resource = pytest.importorskip("resource")
    path = tmp_path / "model_final.pth"
    save_checkpoint(path, {**FULL, "step": 1})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"write checkpoint .*model_final\.pth: File too large\. Mend that or"):
            save_checkpoint(path, {**FULL, "step": 2})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert read_checkpoint(path, "step").content["step"] == 1
    assert os.listdir(tmp_path) == [path.name]


def test_the_newest_intact_one_is_found(tmp_path, caplog):
    for step in (20, 40, 60):
        save_checkpoint(tmp_path / step_name(step), {**FULL, "step": step})
    save_checkpoint(tmp_path / "model_best.pth", {"model": {}, "step": 999})
    (tmp_path / "model_0000080.pth.tmp").write_bytes(b"half")
    newest = tmp_path / step_name(60)
    newest.write_bytes(newest.read_bytes()[:-100])
    file = newest_checkpoint(tmp_path)
    assert (file.path.name, file.content["step"]) == ("model_0000040.pth", 40)
    save_checkpoint(tmp_path / "model_final.pth", {**FULL, "step": 50})
    assert newest_checkpoint(tmp_path).path.name == "model_final.pth"
    save_checkpoint(tmp_path / step_name(100), {**FULL, "step": 100})
    assert newest_checkpoint(tmp_path).content["step"] == 100
    assert newest_checkpoint(tmp_path / "nowhere") is None


def test_the_tensors_of_one_checkpoint_are_read(tmp_path, reads):
    for step in (20, 40, 60):
        save_checkpoint(tmp_path / step_name(step), {**FULL, "step": step})
    for final, taken in ((50, step_name(60)), (60, "model_final.pth"), (70, "model_final.pth")):
        save_checkpoint(tmp_path / "model_final.pth", {**FULL, "step": final})
        reads.clear()
        assert newest_checkpoint(tmp_path).path.name == taken
        assert reads == [taken]


def test_a_checkpoint_with_a_flipped_bit_is_named_and_the_next_one_taken(tmp_path, caplog, reads):
    for name, step in ((step_name(20), 20), (step_name(40), 40), ("model_final.pth", 50)):
        save_checkpoint(tmp_path / name, {**FULL, "model": {"w": torch.full((500,), float(step))}, "step": step})
    for name in ("model_final.pth", step_name(40)):
        whole = bytearray((tmp_path / name).read_bytes())
        whole[len(whole) // 2] ^= 4  # amid the tensor
        (tmp_path / name).write_bytes(whole)
    assert newest_checkpoint(tmp_path).content["step"] == 20
    assert caplog.messages == [
        f"{tmp_path / name} is damaged: archive/data/0 does not match its checksum; it is left out"
        for name in ("model_final.pth", step_name(40))
    ]
    assert reads == [step_name(20)]


def test_a_checkpoint_without_what_a_run_needs_is_left_out(tmp_path, caplog):
    save_checkpoint(tmp_path / step_name(20), {**FULL, "step": 20})
    save_checkpoint(tmp_path / step_name(40), {"model": FULL["model"], "step": 40})
    assert newest_checkpoint(tmp_path).content == {"step": 40}
    assert newest_checkpoint(tmp_path, "optimizer").content == {"step": 20, "optimizer": {}}
    assert "model_0000040.pth is no checkpoint of this framework: it has no 'optimizer'; it is left out" in caplog.text
    torch.save({"model": FULL["model"]}, tmp_path / "model_final.pth")
    assert newest_checkpoint(tmp_path).content["step"] == 40
    assert "model_final.pth is no checkpoint of this framework: it has no 'step'; it is left out" in caplog.text
    for path in tmp_path.glob("model_0*"):
        path.unlink()
    assert newest_checkpoint(tmp_path) is None


@pytest.mark.parametrize("prefix", ["", "module.", "module._orig_mod."])
def test_a_bare_state_dict_of_a_detector_is_as_good_as_a_checkpoint(tmp_path, prefix):
    state = {f"{prefix}{part}.weight": torch.ones(2) for part in ("backbone", "neck", "head")}
    torch.save(state, tmp_path / "bare.pth")
    file = read_checkpoint(tmp_path / "bare.pth")
    assert (list(file.state), file.content) == (list(state), {})
    with pytest.raises(ValueError, match=r"bare\.pth is no checkpoint of this framework: it has no 'step'$"):
        read_checkpoint(tmp_path / "bare.pth", "step")
    torch.save({"backbone.weight": torch.ones(2)}, tmp_path / "bare.pth")
    with pytest.raises(ValueError, match=r"bare\.pth is no checkpoint of this framework: it has no 'model'$"):
        read_checkpoint(tmp_path / "bare.pth")


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


@pytest.mark.parametrize("kind", ["empty", "text", "code", "other", "absent"])
def test_what_is_no_checkpoint_is_named_and_never_run(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "x.pth"
    if kind == "code":
        torch.save({"model": Bomb(), "step": 1}, path)
    elif kind == "other":
        torch.save({"weights": torch.ones(1)}, path)
    elif kind != "absent":
        path.write_bytes(b"" if kind == "empty" else pickle.dumps(Bomb()))
    with pytest.raises(FileNotFoundError if kind == "absent" else ValueError, match=r"x\.pth"):
        read_checkpoint(path)
    assert not (tmp_path / "exploded").exists()


def test_a_folder_or_a_dangling_link_is_passed_over_and_the_step_inside_counts(tmp_path, caplog):
    (tmp_path / step_name(90)).mkdir()
    (tmp_path / step_name(80)).symlink_to(tmp_path / "nowhere")
    (tmp_path / "model_final.pth").mkdir()
    for name, step in ((70, 3), (20, 20)):
        save_checkpoint(tmp_path / step_name(name), {**FULL, "step": step})
    assert newest_checkpoint(tmp_path).path.name == step_name(20)
    assert [path.name for path in by_step(tmp_path)] == [step_name(20), step_name(70)]
    assert caplog.messages == []
    assert newest_checkpoint(tmp_path, without=[tmp_path / step_name(20)]).content["step"] == 3


def test_a_link_in_its_place_is_replaced_and_not_followed(tmp_path):
    (tmp_path / "precious").write_text("mine")
    path = tmp_path / "model_final.pth"
    path.symlink_to(tmp_path / "precious")
    save_checkpoint(path, {**FULL, "step": 1})
    assert (tmp_path / "precious").read_text() == "mine"
    assert read_checkpoint(path).content["step"] == 1


def test_one_that_its_run_deletes_meanwhile_is_passed_over(tmp_path, monkeypatch):
    for step in (20, 40):
        save_checkpoint(tmp_path / step_name(step), {**FULL, "step": step})

    def numbered_before(folder):
        found = numbered(folder)
        (tmp_path / step_name(20)).unlink(missing_ok=True)
        return found

    monkeypatch.setattr(checkpoint, "numbered", numbered_before)
    assert newest_checkpoint(tmp_path).content["step"] == 40
