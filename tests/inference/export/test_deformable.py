"""Files of detectors with deformable stages, in the runtimes."""

from copy import deepcopy

import pytest
import torch
from helpers.exporting import assert_same, pictures, small
from torch import nn

from detector.inference.export import Whole
from detector.inference.export.write import export
from detector.inference.runtimes import load_exported
from detector.models.deform import use_sampling
from detector.ops import deform
from detector.tasks.export import facts_of

DCN = ("MODEL.BACKBONE.DEFORM_STAGES", "(False, True, True, True)", "MODEL.BACKBONE.DEFORM_GROUPS", "2")


STD = {"res2net50_14w_8s": 0.01}
"""Of the weights of offsets where 0.05 is too much: eight splits, of which each moves the taps of the next, then take a
rounding in float64 (6e-14 at c3) to 1 % at c5, so that float32 has nothing to agree with."""


def moved(head, backbone, *more):
    """A detector whose taps have moved."""
    model, cfg = small(head, *DCN, *more, backbone=backbone)
    for name, parameter in model.named_parameters():
        if "offset" in name:
            nn.init.normal_(parameter, std=STD.get(backbone, 0.05))
    return model, cfg


def test_what_is_exported_has_operators_of_every_runtime(monkeypatch):
    model, _ = moved("fcos", "resnet10")
    images, sizes = pictures(2, 64, 96)
    with torch.no_grad():
        want = model(images, sizes)
        use_sampling(model)
        monkeypatch.setattr(deform, "deform_conv2d", None)
        got = Whole(model)(images, torch.tensor(sizes))
    assert sum(len(one["scores"]) for one in want) > 10
    assert_same(got, want, boxes=1e-3, scores=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["onnx", "openvino"])
@pytest.mark.parametrize(
    ("head", "backbone", "more"),
    [
        ("fcos", "resnet50", ()),
        ("fcos", "resnet50", ("MODEL.BACKBONE.DEFORM_MODULATED", "False")),
        ("refinedet", "res2net50_14w_8s", ("MODEL.BACKBONE.DEFORM_MASK_DOUBLED", "True")),
        ("faster_rcnn", "resnest50", ()),
    ],
)
def test_a_file_finds_what_the_detector_finds(form, head, backbone, more, tmp_path):
    for name in ("onnx", "onnxscript", {"onnx": "onnxruntime"}.get(form, form)):
        pytest.importorskip(name)
    model, cfg = moved(head, backbone, *more)
    before, path = deepcopy(model), tmp_path / {"onnx": "a.onnx", "openvino": "a.xml"}[form]
    export(model, facts_of(cfg, list("abc"), [1, 2, 3], "0" * 64, "", None), form, path)
    other = load_exported(path)
    for case in ((1, 128, 192), (3, 160, 129)):
        images, sizes = pictures(*case)
        with torch.no_grad():
            want = before(images, sizes)
        assert sum(len(one["scores"]) for one in want) > 20
        for one, mine in zip(want, other(images, sizes), strict=True):
            number = torch.tensor([len(mine["scores"])])
            assert_same([*(mine[key][None] for key in ("boxes", "scores", "labels")), number], [one])
