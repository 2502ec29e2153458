"""Under autocast, losses, coding, matching, IoU and NMS of every head are computed in float32."""

import sys
from pathlib import Path

import pytest
import torch
from helpers import refinement, two_stage
from helpers.inputs import features_for, target
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import detector
from detector.models.heads.fcos import FCOS
from detector.structures import Level

HALF = (torch.bfloat16, torch.float16)
LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
HERE = str(Path(detector.__file__).parent)
SIZES = [(96, 128), (90, 120)]
LEVELS = {f"p{i + 3}": Level(32, 8 * 2**i) for i in range(5)}


def fcos(**options):
    head = FCOS(LEVELS, 3, num_convs=1, prior_prob=0.2, **options)
    for layer in (head.cls_logits, head.bbox_pred, head.centerness):
        nn.init.normal_(layer.weight, std=0.1)
    return head


def cascade():
    options = {"cls_agnostic_bbox_reg": True, "cascade_ious": (0.5, 0.6), "bbox_reg_loss_type": "giou"}
    options |= {"rpn_options": {"post_nms_top_n_train": 100, "post_nms_top_n_test": 100}}
    return two_stage.faster_rcnn(3, nms_method="soft_linear", box_options={"num_conv": 1}, **options)


HEADS = {
    "fcos": (lambda: fcos(), LEVELS),
    "fcos_improved": (lambda: fcos(norm_reg_targets=True, iou_loss_type="giou", center_sampling_radius=1.5), LEVELS),
    "faster_rcnn": (lambda: two_stage.lively(two_stage.faster_rcnn(3)), two_stage.LEVELS),
    "cascade": (lambda: two_stage.lively(cascade()), two_stage.LEVELS),
    "refinedet": (lambda: refinement.lively(refinement.refinedet(3)), refinement.LEVELS),
}


@pytest.fixture(params=HEADS)
def case(request):
    """A head, features of two images, and what is true of them: boxes, and a region to ignore."""
    build, levels = HEADS[request.param]
    boxes = [[10, 10, 60, 60], [5, 40, 37, 90], [70, 20, 110, 44]]
    truth = [target(boxes, [2, 0, 1], ignore=[[100, 60, 120, 90]]), target([[20, 20, 90, 80]], [1])]
    return build(), features_for(levels, 96, 128), truth


def outcome(head, features, truth, half=None):
    """Losses and detections; half: under autocast, of features in this type."""
    if half:
        features = {name: x.to(half) for name, x in features.items()}
    torch.manual_seed(3)  # of what is sampled
    with torch.autocast("cpu", half, enabled=half is not None):
        losses = head.loss(features, truth, SIZES)
        with torch.no_grad():
            found = head.predict(features, SIZES)
    return losses, found


@pytest.mark.parametrize("half", HALF)
def test_behind_its_layers_a_head_is_the_same_with_and_without_autocast(case, half):
    """The layers' outputs under autocast, once more in float32: all that is made of them is equal to the bit."""
    head, features, truth = case
    layers = [module for module in head.modules() if isinstance(module, LAYERS)]
    outputs = []

    def keep(module, given, output):
        assert output.dtype == half
        outputs.append(output.detach())

    hooks = [layer.register_forward_hook(keep) for layer in layers]
    losses, found = outcome(head, features, truth, half)
    for hook in hooks:
        hook.remove()
    for layer in layers:
        layer.register_forward_hook(lambda *_: outputs.pop(0).float())
    again, found_again = outcome(head, features, truth)
    assert not outputs
    assert {value.dtype for value in losses.values()} == {torch.float32}
    assert {name: value.item() for name, value in losses.items()} == {k: v.item() for k, v in again.items()}
    assert all(value > 0 for value in losses.values())
    assert sum(len(one["scores"]) for one in found) > 20
    for one, other in zip(found, found_again, strict=True):
        assert {one[key].dtype for key in ("boxes", "scores")} == {torch.float32}
        assert all(torch.equal(one[key], other[key]) for key in one)


ARITHMETIC = {
    *("exp", "log", "sqrt", "pow", "sigmoid", "softplus", "_softmax", "_log_softmax", "log_sigmoid_forward"),
    *("mul", "mul_", "sub", "sub_", "div", "div_", "rsub", "neg", "reciprocal", "sum", "mean", "minimum", "maximum"),
    *("clamp", "clamp_", "amax", "amin", "max", "topk", "sort", "gt", "ge", "lt", "le", "index", "nms", "cumsum"),
    *("binary_cross_entropy_with_logits", "smooth_l1_loss", "l1_loss", "nll_loss_forward", "cross_entropy_loss"),
}
"""What scores, boxes and losses are made with; layers need none of it."""


class Watch(TorchDispatchMode):
    """Notes the operations on half-precision tensors, with the file of the project that asked for them."""

    def __init__(self):
        super().__init__()
        self.found = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        output = function(*args, **(kwargs or {}))
        leaves = tree_leaves((args, kwargs, output))
        if any(isinstance(leaf, torch.Tensor) and leaf.dtype in HALF for leaf in leaves):
            frame = sys._getframe()
            while frame is not None and not frame.f_code.co_filename.startswith(HERE):
                frame = frame.f_back
            place = "" if frame is None else frame.f_code.co_filename.removeprefix(HERE).lstrip("/")
            self.found.add((place, function.overloadpacket.__name__))
        return output


@pytest.mark.parametrize("half", HALF)
def test_no_box_no_loss_and_no_score_is_half_precise(case, half):
    with Watch() as watch:
        outcome(*case, half)
    places = {place for place, _ in watch.found}
    assert any(place.startswith("models/heads/") for place in places)  # it sees what the layers do
    assert {place for place in places if place.startswith("ops/")} <= {"ops/roi_align.py"}  # which averages features
    assert not {(place, name) for place, name in watch.found if name in ARITHMETIC}
