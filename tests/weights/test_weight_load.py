"""Tensors renamed and loaded strictly."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from detector.errors import UserError
from detector.models.backbones import BGR_255, Classifier, Weights, load_backbone
from detector.weights.load import count_outputs, load_state, say_report
from detector.weights.read import WeightFile, read_file
from detector.weights.rename import unwrapped

MSRA = Weights(pixels=BGR_255, norm_eps=0.0)


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
    report = load_backbone(backbone, Weights(), read_file(tmp_path / "w.pth"))
    assert report.dropped == dropped
    assert report.loaded == list(backbone.state_dict())
    torch.testing.assert_close(backbone(images), trained(images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("prefix", "said"),
    [
        ("module.", "module."),
        ("_orig_mod.", "_orig_mod."),
        ("module._orig_mod.", "_orig_mod. and module."),
        ("_orig_mod.module.", "_orig_mod. and module."),
        ("model.", "model."),
        ("encoder.", "encoder."),
        ("module.model.encoder.", "module. and model. and encoder."),
        ("backbone._orig_mod.", "_orig_mod."),
        ("module.backbone.", "module."),
    ],
)
def test_what_wrappers_put_before_keys_is_taken_off_and_the_log_says_so(tiny, trained, caplog, prefix, said):
    caplog.set_level("INFO", "detector")
    state = {prefix + key: value for key, value in trained.state_dict().items()}
    backbone = tiny("bn")
    load_backbone(backbone, Weights(), WeightFile(Path("w.pth"), state))
    assert all(torch.equal(value, trained.state_dict()[key]) for key, value in backbone.state_dict().items())
    assert caplog.messages == [f"w.pth: its keys are taken without the prefix {said} that a wrapper left"]


def test_what_stands_beside_an_encoder_is_left_out_and_named(tiny, trained):
    encoder = {f"module.encoder.{key}": value for key, value in trained.state_dict().items()}
    beside = {"module.decoder.0.weight": torch.ones(1), "module.fc.weight": torch.ones(3, 2048)}
    file = WeightFile(Path("w.pth"), encoder | beside)
    assert load_backbone(tiny("bn"), Weights(), file).dropped == ["decoder.0.weight", "fc.weight"]
    classifier = Classifier(tiny("bn"), 3)
    state = file.state | {"module.fc.bias": torch.ones(3)}
    assert load_backbone(classifier, Weights(), WeightFile(file.path, state)).dropped == ["decoder.0.weight"]
    assert classifier.fc.bias.tolist() == [1, 1, 1]  # a classifier on top of the encoder is ours
    assert count_outputs(classifier, Weights(), WeightFile(file.path, state)) == 3


def test_what_stands_beside_a_wrapper_is_an_error(tiny, trained):
    state = {f"module.{key}": value for key, value in trained.state_dict().items()} | {"stray.weight": torch.ones(1)}
    with pytest.raises(ValueError, match=r"w\.pth does not fit the model(?s:.*)unexpected +1  stray\.weight"):
        load_backbone(tiny("bn"), Weights(), WeightFile(Path("w.pth"), state))


def test_modules_with_children_of_such_names_keep_them():
    own = {"model.weight": torch.ones(1), "module.encoder.weight": torch.ones(1)}
    state, aside, off = unwrapped(own, own)
    assert (state, aside, off) == (own, [], [])


def test_classifier_keeps_its_fc(tmp_path, tiny, trained):
    classifier, fresh = Classifier(trained, 7), Classifier(tiny("bn"), 7)
    torch.save(classifier.state_dict(), tmp_path / "w.pth")
    report = load_backbone(fresh, Weights(), read_file(tmp_path / "w.pth"))
    assert not report.dropped
    assert torch.equal(fresh.fc.weight, classifier.fc.weight)


def test_declared_renames(tmp_path, tiny, trained):
    state = {key.replace("layer", "stage"): value for key, value in trained.state_dict().items()}
    torch.save(state, tmp_path / "w.pth")
    load_backbone(tiny("bn"), Weights(rename=((r"^stage(\d)", r"layer\1"),)), read_file(tmp_path / "w.pth"))
    with pytest.raises(ValueError, match=r"w\.pth: '.*' and '.*' both become 'one'; is it"):
        load_backbone(tiny("bn"), Weights(rename=((r".*weight$", "one"),)), read_file(tmp_path / "w.pth"))


@pytest.mark.parametrize("norm", ["frozen_bn", "bn", "sync_bn"])
def test_caffe2_weights_equal_the_unfolded_network(tmp_path, write_python2, tiny, trained, images, norm):
    write_python2({"blobs": caffe2_names(tiny_eps(trained))}, tmp_path / "R.pkl")
    backbone = tiny(norm).eval()
    for module in backbone.modules():
        if hasattr(module, "eps"):
            module.eps = 0.0 if norm == "frozen_bn" else 1e-12
    report = load_backbone(backbone, MSRA, read_file(tmp_path / "R.pkl"))
    assert {"fc.weight", "fc.bias", "conv1_b", "res2_0_branch2a_b", "res5_0_branch1_w_momentum"} <= {*report.dropped}
    assert not [key for key in report.dropped if "_bn_" in key]
    torch.testing.assert_close(backbone(images), trained(images), rtol=1e-4, atol=1e-4)


def tiny_eps(trunk):
    for module in trunk.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eps = 1e-12
    return trunk


def test_caffe2_weights_need_a_bgr_backbone(tmp_path, write_python2, tiny, trained):
    write_python2(caffe2_names(trained), tmp_path / "R.pkl")
    with pytest.raises(ValueError, match=r"R\.pkl: these are Caffe2 weights.*_caffe backbone"):
        load_backbone(tiny("frozen_bn"), Weights(), read_file(tmp_path / "R.pkl"))


def test_another_depth_is_one_error(tmp_path, tiny, trained):
    torch.save(trained.state_dict(), tmp_path / "w.pth")
    deeper = tiny("bn", (2, 2, 1, 1), groups=64)
    before = {key: value.clone() for key, value in deeper.state_dict().items()}
    with pytest.raises(ValueError, match=r"w\.pth does not fit the model") as error:
        load_backbone(deeper, Weights(), read_file(tmp_path / "w.pth"))
    message = str(error.value)
    assert re.search(r"missing +15  layer2\.1\.conv1\.weight, .* and 7 more", message)
    assert re.search(r"wrong shape +\d+  layer1\.0\.conv1\.weight \(32, 64, 1, 1\) for \(64, 64, 1, 1\)", message)
    assert "MODEL.BACKBONE.NAME" in message
    torch.testing.assert_close(deeper.state_dict(), before, rtol=0, atol=0)
    with pytest.raises(ValueError, match=r"unexpected +\d+  layer1\.1\."):
        load_backbone(tiny("bn", (1, 1, 1, 1)), Weights(), read_file(tmp_path / "w.pth"))


def test_statistics_do_not_fit_group_norm(tmp_path, tiny, trained):
    torch.save(trained.state_dict(), tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"MODEL\.BACKBONE\.NORM to frozen_bn, bn or sync_bn"):
        load_backbone(tiny("gn"), Weights(), read_file(tmp_path / "w.pth"))


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
        ValueError, match=r"file\.pth: 1 tensor holds values that are infinite or no number, conv1\.weight"
    ):
        load_state(module, state, source="file.pth")
    assert all(torch.equal(tensor, before[key]) for key, tensor in module.state_dict().items())


def test_halves_are_taken_and_said_whole_numbers_are_not(caplog):
    caplog.set_level("INFO", "detector")
    module = torch.nn.Linear(2, 2)
    state = {"weight": torch.tensor([[1.0, 2.0], [3.0, 0.1]]).half(), "bias": torch.ones(2)}
    load_state(module, state, source="w.pth")
    assert torch.equal(module.weight, state["weight"].float())
    assert caplog.messages == ["w.pth: 1 tensor is stored as float16 and converted"]
    for kind in (torch.bool, torch.int8, torch.int64):
        with pytest.raises(UserError, match=r"^w\.pth: 1 tensor is of another type than the model's, bias"):
            load_state(module, {**state, "bias": torch.zeros(2, dtype=kind)}, source="w.pth")
    with pytest.raises(UserError, match=r"weight first, which is float16 and has to be float32; take"):
        load_state(module, state, source="w.pth", exact=True)
    assert torch.equal(module.bias, torch.ones(2))


def test_the_report_is_a_line_where_all_fits_and_a_table_else(trained, tiny, caplog):
    caplog.set_level("INFO", "detector")
    state = trained.state_dict()
    number = len([key for key in state if not key.endswith("num_batches_tracked")])
    say_report(Path("w.pth"), load_state(tiny("bn"), state))
    assert caplog.messages == [f"w.pth: {number} tensors loaded, all that the file holds"]
    say_report(Path("w.pth"), load_state(tiny("bn"), {**state, "fc.\x1b[31m": torch.ones(1)}, drop=("fc.",)))
    first, *table = caplog.messages[1].splitlines()
    assert first == "w.pth:"
    assert table[:2] == [f"loaded      {number:>6}", "dropped          1  fc.\\x1b[31m"]
