"""Weight files: read without running them, whatever their format and however deep the tensors stand."""

import os
import pickle
import re

import numpy as np
import pytest
import torch

from detector.weights.read import read_file


class Evil:
    """Runs a command when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("key", [None, "model", "state_dict"])
@pytest.mark.parametrize("legacy", [False, True])
def test_reads_torch_files(tmp_path, key, legacy):
    state = {"conv1.weight": torch.randn(2, 3), "bn1.num_batches_tracked": torch.tensor(5)}
    path = tmp_path / "weights.pth.tar"
    torch.save({key: state, "iteration": 90000} if key else state, path, _use_new_zipfile_serialization=not legacy)
    torch.testing.assert_close(read_file(path).state, state)


def test_reads_safetensors(tmp_path):
    save_file = pytest.importorskip("safetensors.torch").save_file
    state = {"fc.weight": torch.randn(2, 3)}
    save_file(state, tmp_path / "weights.safetensors")
    torch.testing.assert_close(read_file(tmp_path / "weights.safetensors").state, state)


@pytest.mark.parametrize("suffix", [".pth", ".pkl", ".safetensors", ".pdparams", ""])
def test_the_content_decides_on_the_format(tmp_path, suffix):
    state = {"fc.weight": torch.randn(2, 3)}
    files = [tmp_path / f"{kind}{suffix}" for kind in ("torch", "before_1_6", "arrays")]
    torch.save(state, files[0])
    torch.save(state, files[1], _use_new_zipfile_serialization=False)
    files[2].write_bytes(pickle.dumps({"fc.weight": state["fc.weight"].numpy()}, 2))
    if suffix != ".safetensors":  # its reader is asked where the suffix says so and the bytes say nothing
        torch.testing.assert_close(read_file(files[2]).state, state)
    for file in files[:2]:
        torch.testing.assert_close(read_file(file).state, state)


def test_safetensors_under_another_name(tmp_path):
    save_file = pytest.importorskip("safetensors.torch").save_file
    state = {"fc.weight": torch.randn(2, 3)}
    save_file(state, tmp_path / "weights.pth")
    torch.testing.assert_close(read_file(tmp_path / "weights.pth").state, state)


def test_missing_safetensors_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "safetensors.torch", None)
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"anything")
    with pytest.raises(ValueError, match=r"weights\.safetensors needs the package safetensors: pip install"):
        read_file(path)


@pytest.mark.parametrize("wrap", [False, True])
@pytest.mark.parametrize("protocol", ["python 2", 2, 4])
def test_reads_pickled_arrays(tmp_path, write_python2, protocol, wrap):
    blobs = {"a_w": np.arange(600, dtype=np.float32).reshape(2, 300), "lr": np.float32(0.5), "n": np.arange(3)}
    content = {"blobs": blobs} if wrap else blobs
    path = tmp_path / "R.pkl"
    write_python2(content, path) if protocol == "python 2" else path.write_bytes(pickle.dumps(content, protocol))
    state = read_file(path).state
    assert {key: value.numpy().tolist() for key, value in state.items()} == {k: v.tolist() for k, v in blobs.items()}
    assert state["a_w"].dtype == torch.float32


@pytest.mark.parametrize("name", ["evil.pkl", "evil.pth", "evil.tar"])
def test_pickled_code_is_refused_and_not_run(tmp_path, name):
    path, marker = tmp_path / name, tmp_path / "marker"
    content = {"conv1_w": Evil(marker)}
    if name == "evil.pkl":
        path.write_bytes(pickle.dumps(content, 2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=name == "evil.pth")
    with pytest.raises(ValueError, match=rf"{name} holds pickled code \(.*system.*\), which is never run; open it in"):
        read_file(path)
    assert not marker.exists()


def test_pickled_classes_are_named(tmp_path):
    path = tmp_path / "whole_model.pth"
    torch.save({"model": torch.nn.Linear(2, 2)}, path)
    with pytest.raises(
        ValueError, match=r"holds pickled code \(torch\.nn\.modules\.linear\.Linear\), which is never run"
    ):
        read_file(path)


@pytest.mark.parametrize("target", ["builtins.eval", "_codecs.decode", "numpy.load", "collections.OrderedDict"])
def test_only_arrays_are_admitted(tmp_path, target):
    module, _, name = target.rpartition(".")
    path = tmp_path / "R.pkl"
    path.write_bytes(f"c{module}\n{name}\n.".encode())
    with pytest.raises(ValueError, match=re.escape(f"R.pkl holds pickled code ({target}), which is never run")):
        read_file(path)


def test_only_latin1_is_encoded(tmp_path):
    path = tmp_path / "R.pkl"
    path.write_bytes(b"c_codecs\nencode\n(Vtext\nVzlib_codec\ntR.")
    with pytest.raises(ValueError, match=r"R\.pkl holds pickled code \(zlib_codec\)"):
        read_file(path)


@pytest.mark.parametrize("suffix", [".pth", ".pkl", ".safetensors"])
@pytest.mark.parametrize("damage", ["truncated", "noise", "empty", "html"])
def test_damaged_files_are_named(tmp_path, suffix, damage):
    state, path = {"conv1.weight": torch.randn(50, 30)}, tmp_path / f"w{suffix}"
    if suffix == ".pkl":
        path.write_bytes(pickle.dumps({key: value.numpy() for key, value in state.items()}))
    elif suffix == ".pth":
        torch.save(state, path)
    else:
        pytest.importorskip("safetensors.torch").save_file(state, path)
    whole = path.read_bytes()
    path.write_bytes(
        {
            "truncated": whole[: len(whole) // 2],
            "noise": bytes(range(200, 256)) * 20,
            "empty": b"",
            "html": b"\n<!DOCTYPE html><html>Google Drive can't scan this file",
        }[damage]
    )
    reason = {"empty": "is empty", "html": "is a web page"}.get(damage, "is truncated")
    with pytest.raises(ValueError, match=rf"w\{suffix} {reason}.*fetch it again"):
        read_file(path)


@pytest.mark.parametrize("content", [[1, 2], {"model": {"conv1.weight": "text"}}, {}])
def test_files_without_tensors_are_named(tmp_path, content):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"w\.pth.*save `model\.state_dict\(\)`"):
        read_file(tmp_path / "w.pth")
