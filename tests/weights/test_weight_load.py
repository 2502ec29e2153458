"""Weight files: read without running them, renamed, loaded strictly."""

import os
import pickle
import re
import struct
from typing import ClassVar

import numpy as np
import pytest
import torch

from detector.models.backbones import BGR_255, Classifier, Weights, load_backbone
from detector.weights.load import load_state
from detector.weights.read import read_weights

MSRA = Weights(pixels=BGR_255, norm_eps=0.0)


class Evil:
    """Runs a command when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


class Python2Pickler(pickle._Pickler):
    """Writes text and bytes alike as byte strings, as Python 2 did, and the names of numpy 1."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def save_string(self, text):
        data = text.encode("latin1") if isinstance(text, str) else text
        self.write(pickle.BINSTRING + struct.pack("<i", len(data)) + data)
        self.memoize(text)

    dispatch[str] = dispatch[bytes] = save_string


def write_python2(content, path):
    with path.open("wb") as file:
        Python2Pickler(file, protocol=2).dump(content)
    path.write_bytes(path.read_bytes().replace(b"numpy._core", b"numpy.core"))


def caffe2_names(trunk):
    """The state of a bottleneck trunk under Caffe2's names, statistics folded into the affine (eps 0)."""
    state, blobs = trunk.state_dict(), {}
    for key, value in state.items():
        layer, _, what = key.rpartition(".")
        if what not in ("weight", "bias") or (value.ndim == 1 and what == "bias"):
            continue
        place = re.match(r"layer(\d)\.(\d+)\.(.*)", layer)
        if place is None:
            name = {"conv1": "conv1", "bn1": "res_conv1_bn"}[layer]
        else:
            part = {"downsample.0": "branch1", "downsample.1": "branch1_bn"} | {
                f"{kind}{n}": f"branch2{'abc'[n - 1]}{suffix}"
                for kind, suffix in (("conv", ""), ("bn", "_bn"))
                for n in (1, 2, 3)
            }
            name = f"res{int(place[1]) + 1}_{place[2]}_{part[place[3]]}"
        if value.ndim == 4:
            blobs[f"{name}_w"] = value.numpy()
            blobs[f"{name}_w_momentum"] = np.zeros(3, np.float32)
            blobs[f"{name}_b"] = np.zeros(value.shape[0], np.float32)
        else:
            scale = value * state[f"{layer}.running_var"].rsqrt()
            blobs[f"{name}_s"] = scale.numpy()
            blobs[f"{name}_b"] = (state[f"{layer}.bias"] - state[f"{layer}.running_mean"] * scale).numpy()
    return blobs | {"fc1000_w": np.ones((10, 2048), np.float32), "fc1000_b": np.ones(10, np.float32)}


# ---------------------------------------------------------------------------- read


@pytest.mark.parametrize("key", [None, "model", "state_dict"])
@pytest.mark.parametrize("legacy", [False, True])
def test_reads_torch_files(tmp_path, key, legacy):
    state = {"conv1.weight": torch.randn(2, 3), "bn1.num_batches_tracked": torch.tensor(5)}
    path = tmp_path / "weights.pth.tar"
    torch.save({key: state, "iteration": 90000} if key else state, path, _use_new_zipfile_serialization=not legacy)
    torch.testing.assert_close(read_weights(path), state)


def test_reads_safetensors(tmp_path):
    save_file = pytest.importorskip("safetensors.torch").save_file
    state = {"fc.weight": torch.randn(2, 3)}
    save_file(state, tmp_path / "weights.safetensors")
    torch.testing.assert_close(read_weights(tmp_path / "weights.safetensors"), state)


@pytest.mark.parametrize("suffix", [".pth", ".pkl", ".safetensors", ".pdparams", ""])
def test_the_content_decides_on_the_format(tmp_path, suffix):
    state = {"fc.weight": torch.randn(2, 3)}
    files = [tmp_path / f"{kind}{suffix}" for kind in ("torch", "before_1_6", "arrays")]
    torch.save(state, files[0])
    torch.save(state, files[1], _use_new_zipfile_serialization=False)
    files[2].write_bytes(pickle.dumps({"fc.weight": state["fc.weight"].numpy()}, 2))
    if suffix != ".safetensors":  # its reader is asked where the suffix says so and the bytes say nothing
        torch.testing.assert_close(read_weights(files[2]), state)
    for file in files[:2]:
        torch.testing.assert_close(read_weights(file), state)


def test_safetensors_under_another_name(tmp_path):
    save_file = pytest.importorskip("safetensors.torch").save_file
    state = {"fc.weight": torch.randn(2, 3)}
    save_file(state, tmp_path / "weights.pth")
    torch.testing.assert_close(read_weights(tmp_path / "weights.pth"), state)


def test_missing_safetensors_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "safetensors.torch", None)
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"anything")
    with pytest.raises(ValueError, match=r"weights\.safetensors needs the package safetensors: pip install"):
        read_weights(path)


@pytest.mark.parametrize("wrap", [False, True])
@pytest.mark.parametrize("protocol", ["python 2", 2, 4])
def test_reads_pickled_arrays(tmp_path, protocol, wrap):
    blobs = {"a_w": np.arange(600, dtype=np.float32).reshape(2, 300), "lr": np.float32(0.5), "n": np.arange(3)}
    content = {"blobs": blobs} if wrap else blobs
    path = tmp_path / "R.pkl"
    write_python2(content, path) if protocol == "python 2" else path.write_bytes(pickle.dumps(content, protocol))
    state = read_weights(path)
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
        read_weights(path)
    assert not marker.exists()


def test_pickled_classes_are_named(tmp_path):
    path = tmp_path / "whole_model.pth"
    torch.save({"model": torch.nn.Linear(2, 2)}, path)
    with pytest.raises(
        ValueError, match=r"holds pickled code \(torch\.nn\.modules\.linear\.Linear\), which is never run"
    ):
        read_weights(path)


@pytest.mark.parametrize("target", ["builtins.eval", "_codecs.decode", "numpy.load", "collections.OrderedDict"])
def test_only_arrays_are_admitted(tmp_path, target):
    module, _, name = target.rpartition(".")
    path = tmp_path / "R.pkl"
    path.write_bytes(f"c{module}\n{name}\n.".encode())
    with pytest.raises(ValueError, match=re.escape(f"R.pkl holds pickled code ({target}), which is never run")):
        read_weights(path)


def test_only_latin1_is_encoded(tmp_path):
    path = tmp_path / "R.pkl"
    path.write_bytes(b"c_codecs\nencode\n(Vtext\nVzlib_codec\ntR.")
    with pytest.raises(ValueError, match=r"R\.pkl holds pickled code \(zlib_codec\)"):
        read_weights(path)


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
        read_weights(path)


@pytest.mark.parametrize("content", [[1, 2], {"model": {"conv1.weight": "text"}}, {}])
def test_files_without_tensors_are_named(tmp_path, content):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"w\.pth.*save `model\.state_dict\(\)`"):
        read_weights(tmp_path / "w.pth")


# ---------------------------------------------------------------------------- load


@pytest.mark.parametrize(
    ("prefix", "others", "dropped"),
    [
        ("", {"fc.weight": torch.ones(2), "fc.bias": torch.ones(2)}, ["fc.bias", "fc.weight"]),
        ("module.", {}, []),
        ("stem ", {}, []),
        ("module.backbone.body.stem ", {"module.rpn.anchors": torch.ones(1)}, ["rpn.anchors"]),
        ("backbone.body.stem ", {"backbone.fpn.fpn_inner2.weight": torch.ones(1)}, ["backbone.fpn.fpn_inner2.weight"]),
        ("backbone.", {"neck.inner.c3.bias": torch.ones(1), "head.x": torch.ones(1)}, ["head.x", "neck.inner.c3.bias"]),
    ],
)
def test_prefixes(tmp_path, tiny, trained, images, prefix, others, dropped):
    prefix, stem = prefix.removesuffix("stem "), "stem." if prefix.endswith("stem ") else ""
    state = {
        f"{prefix}{stem if key.startswith(('conv1.', 'bn1.')) else ''}{key}": value
        for key, value in trained.state_dict().items()
    }
    torch.save({"model": state | others}, tmp_path / "w.pth")
    backbone = tiny("frozen_bn").eval()
    report = load_backbone(backbone, Weights(), tmp_path / "w.pth")
    assert report.dropped == dropped
    assert report.loaded == list(backbone.state_dict())
    torch.testing.assert_close(backbone(images), trained(images), rtol=1e-5, atol=1e-5)


def test_classifier_keeps_its_fc(tmp_path, tiny, trained):
    classifier, fresh = Classifier(trained, 7), Classifier(tiny("bn"), 7)
    torch.save(classifier.state_dict(), tmp_path / "w.pth")
    report = load_backbone(fresh, Weights(), tmp_path / "w.pth")
    assert not report.dropped
    assert torch.equal(fresh.fc.weight, classifier.fc.weight)


def test_declared_renames(tmp_path, tiny, trained):
    state = {key.replace("layer", "stage"): value for key, value in trained.state_dict().items()}
    torch.save(state, tmp_path / "w.pth")
    load_backbone(tiny("bn"), Weights(rename=((r"^stage(\d)", r"layer\1"),)), tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"w\.pth: '.*' and '.*' both become 'one'; is it"):
        load_backbone(tiny("bn"), Weights(rename=((r".*weight$", "one"),)), tmp_path / "w.pth")


@pytest.mark.parametrize("norm", ["frozen_bn", "bn", "sync_bn"])
def test_caffe2_weights_equal_the_unfolded_network(tmp_path, tiny, trained, images, norm):
    write_python2({"blobs": caffe2_names(tiny_eps(trained))}, tmp_path / "R.pkl")
    backbone = tiny(norm).eval()
    for module in backbone.modules():
        if hasattr(module, "eps"):
            module.eps = 0.0 if norm == "frozen_bn" else 1e-12
    report = load_backbone(backbone, MSRA, tmp_path / "R.pkl")
    assert {"fc.weight", "fc.bias", "conv1_b", "res2_0_branch2a_b", "res5_0_branch1_w_momentum"} <= {*report.dropped}
    assert not [key for key in report.dropped if "_bn_" in key]
    torch.testing.assert_close(backbone(images), trained(images), rtol=1e-4, atol=1e-4)


def tiny_eps(trunk):
    for module in trunk.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eps = 1e-12
    return trunk


def test_caffe2_weights_need_a_bgr_backbone(tmp_path, tiny, trained):
    write_python2(caffe2_names(trained), tmp_path / "R.pkl")
    with pytest.raises(ValueError, match=r"R\.pkl: these are Caffe2 weights.*_caffe backbone"):
        load_backbone(tiny("frozen_bn"), Weights(), tmp_path / "R.pkl")


def test_another_depth_is_one_error(tmp_path, tiny, trained):
    torch.save(trained.state_dict(), tmp_path / "w.pth")
    deeper = tiny("bn", (2, 2, 1, 1), groups=64)
    before = {key: value.clone() for key, value in deeper.state_dict().items()}
    with pytest.raises(ValueError, match=r"w\.pth do not fit the model") as error:
        load_backbone(deeper, Weights(), tmp_path / "w.pth")
    message = str(error.value)
    assert re.search(r"missing +15  layer2\.1\.conv1\.weight, .* and 7 more", message)
    assert re.search(r"wrong shape +\d+  layer1\.0\.conv1\.weight \(32, 64, 1, 1\) for \(64, 64, 1, 1\)", message)
    assert "MODEL.BACKBONE.NAME" in message
    torch.testing.assert_close(deeper.state_dict(), before, rtol=0, atol=0)
    with pytest.raises(ValueError, match=r"unexpected +\d+  layer1\.1\."):
        load_backbone(tiny("bn", (1, 1, 1, 1)), Weights(), tmp_path / "w.pth")


def test_statistics_do_not_fit_group_norm(tmp_path, tiny, trained):
    torch.save(trained.state_dict(), tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"MODEL\.BACKBONE\.NORM to frozen_bn, bn or sync_bn"):
        load_backbone(tiny("gn"), Weights(), tmp_path / "w.pth")


def test_counters_are_optional_both_ways(tiny, trained):
    state = trained.state_dict()
    without = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    assert load_state(tiny("bn"), without).loaded == list(without)
    assert load_state(tiny("frozen_bn"), state).loaded == list(without)
    state["bn1.num_batches_tracked"] += 7
    target = tiny("bn")
    load_state(target, state)
    assert target.bn1.num_batches_tracked == 7


def test_dropped_prefixes_keep_the_modules_values(tiny, trained):
    target = tiny("bn")
    report = load_state(target, trained.state_dict() | {"layer4.extra": torch.ones(1)}, drop=("layer4.",))
    assert all(key.startswith("layer4.") for key in report.dropped)
    assert "layer4.extra" in report.dropped
    assert not torch.equal(target.layer4[0].conv1.weight, trained.layer4[0].conv1.weight)
    assert torch.equal(target.layer3[0].conv1.weight, trained.layer3[0].conv1.weight)
    assert str(report).splitlines()[0].split() == ["loaded", str(len(report.loaded))]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_of_a_diverged_training_are_refused(tiny, value):
    module = tiny("bn")
    state = {key: tensor.clone() for key, tensor in module.state_dict().items()}
    before = {key: tensor.clone() for key, tensor in state.items()}
    state["conv1.weight"][0, 0, 0, 0] = value
    with pytest.raises(
        ValueError, match=r"file\.pth: 1 tensors hold values that are infinite or no number, conv1\.weight"
    ):
        load_state(module, state, source="file.pth")
    assert all(torch.equal(tensor, before[key]) for key, tensor in module.state_dict().items())
