"""Detectors loaded for further training on other classes: the outputs of the classes that stay are those of before."""

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from detector.models.heads.box_head import BoxHead
from detector.models.heads.faster_rcnn import FasterRCNN, Pooler
from detector.models.heads.fcos import FCOS
from detector.models.heads.refinedet import RefineDet
from detector.models.heads.rpn import RPN
from detector.structures import ClassRows, Level
from detector.weights.load import agreeing, is_detector, load_detector
from detector.weights.read import WeightFile

HEADS = ["fcos", "faster_rcnn", "agnostic", "cascade", "refinedet"]
LEVELS = {"p3": Level(8, 8), "p4": Level(8, 16)}
THERE = ["ape", "bat", "cat"]


def build_head(name, classes, levels=LEVELS):
    if name == "fcos":
        return FCOS(levels, classes, num_convs=1, norm="none", sizes_of_interest=(64,))
    if name == "refinedet":
        return RefineDet(LEVELS, classes, tcb_channels=8, aspect_ratios=(1.0, 2.0))
    ious = (0.5, 0.6) if name == "cascade" else ()
    boxes = [BoxHead(8, 2, classes, mlp_head_dim=6, cls_agnostic=name != "faster_rcnn") for _ in ious or [0]]
    rpn, pooler = RPN(LEVELS, anchor_sizes=(32, 64)), Pooler(LEVELS, 2)
    agnostic = {"cls_agnostic_bbox_reg": name != "faster_rcnn", "cascade_ious": ious}
    return FasterRCNN(classes, rpn, pooler, boxes, **agnostic)


class Net(nn.Module):
    """As much of a detector as loading looks at, with values of its own everywhere; float64."""

    def __init__(self, head, classes):
        super().__init__()
        self.backbone, self.head = nn.Conv2d(3, 4, 1), build_head(head, classes)
        self.double()
        for parameter in self.parameters():
            nn.init.normal_(parameter)

    @torch.no_grad()
    def outputs(self):
        """Logits [.., C] and deltas [.., C, 4] of the classes; of all of them background [.., 1], shared [.., 1, 4]."""
        generator = torch.Generator().manual_seed(3)
        features = {
            name: torch.randn(2, 8, 4 // 2**i, 4 // 2**i, generator=generator, dtype=torch.float64)
            for i, name in enumerate(LEVELS)
        }
        if isinstance(self.head, FCOS):
            return {"logits": torch.cat(self.head(features)[1], 1)}
        if isinstance(self.head, RefineDet):
            logits = self.head(features).odm_logits
            return {"logits": logits[..., :-1], "background": logits[..., -1:]}
        found = {}
        for k, box_head in enumerate(self.head.box_heads):
            logits, deltas = box_head(torch.randn(5, 8, 2, 2, generator=generator, dtype=torch.float64))
            found |= {f"logits{k}": logits[:, :-1], f"background{k}": logits[:, -1:]}
            found[f"{'shared' if self.head.cls_agnostic else 'deltas'}{k}"] = deltas
        return found


def file_of(model, classes=None):
    state = {key: value.clone() for key, value in model.state_dict().items()}
    return WeightFile(Path("old.pth"), state, {} if classes is None else {"classes": classes}, "model")


def equal(found, wanted):
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize(
    "here",
    [["cat", "ape", "bat"], ["bat", "elk", "cat"], ["cat", "fox", "gnu", "ape", "hen"], ["bat"], ["bat", "elk"]],
    ids=" ".join,
)
def test_outputs_of_classes_that_stay_are_kept_and_the_others_start_anew(head, here):
    old, new = Net(head, len(THERE)), Net(head, len(here))
    anew = copy.deepcopy(new)
    load_detector(new, file_of(old, THERE), here, fine_tune=True)
    load_detector(anew, file_of(old, THERE), [f"other {name}" for name in here], fine_tune=True)
    before, after, fresh = old.outputs(), new.outputs(), anew.outputs()
    for what in before:
        if what.startswith(("background", "shared")):
            equal(after[what], before[what])
            continue
        axis = 1 if what.startswith("deltas") else -1
        for i, name in enumerate(here):
            source, place = (before, THERE.index(name)) if name in THERE else (fresh, i)
            equal(after[what].select(axis, i), source[what].select(axis, place))
    assert torch.equal(new.backbone.weight, old.backbone.weight)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("here", [["elk", "fox", "gnu"], ["elk", "fox"]], ids=" ".join)
def test_without_a_name_in_common_the_classifier_starts_anew(head, here, caplog):
    old, new = Net(head, len(THERE)), Net(head, len(here))
    before = {key: value.clone() for key, value in new.state_dict().items()}
    load_detector(new, file_of(old, THERE), here, fine_tune=True)
    prefixes = tuple(f"head.{name}." for name in new.head.classifier)
    for key, value in new.state_dict().items():
        assert torch.equal(value, before[key] if key.startswith(prefixes) else old.state_dict()[key]), key
    why = {3: "was trained on other classes (ape, bat, cat)", 2: "has 3 class outputs, the config 2"}[len(here)]
    assert caplog.messages == [f"old.pth {why}: its classifier is dropped and starts anew"]


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize(
    ("names", "here"),
    [(THERE, THERE), (None, THERE), (["ape", "bat"], THERE), (["cat", "bat", "ape"], None), (THERE, ["cat", "dog"])],
)
def test_the_same_classes_and_unknown_ones_of_the_same_number_load_whole(head, names, here, caplog):
    """Unknown are also names of another number than there are outputs."""
    old, new = Net(head, 3), Net(head, 3)
    load_detector(new, file_of(old, names), here, fine_tune=True)
    assert all(torch.equal(value, old.state_dict()[key]) for key, value in new.state_dict().items())
    assert not caplog.messages


@pytest.mark.parametrize("head", HEADS)
def test_unknown_classes_of_another_number_are_dropped_in_training_only(head, caplog):
    old, new = Net(head, 3), Net(head, 2)
    before = new.outputs()
    for classes, remedy in (
        (None, r"set MODEL\.NUM_CLASSES"),
        (["ape", "elk"], "the data lists 2 classes; evaluate on"),
    ):
        with pytest.raises(ValueError, match=rf"old\.pth has 3 class outputs, the config 2 \(head.*{remedy}"):
            load_detector(new, file_of(old), classes)
    equal(new.outputs(), before)
    load_detector(new, file_of(old), ["ape", "elk"], fine_tune=True)
    assert caplog.messages == ["old.pth has 3 class outputs, the config 2: its classifier is dropped and starts anew"]
    assert torch.equal(new.backbone.weight, old.backbone.weight)


@pytest.mark.parametrize("classes", [None, ["cat", "bat", "ape"]])
def test_for_a_test_outputs_stay_where_they_are(classes):
    old, new = Net("fcos", 3), Net("fcos", 3)
    load_detector(new, file_of(old, THERE), classes)
    equal(new.outputs(), old.outputs())


def test_names_that_stand_twice_never_agree():
    assert agreeing(["ape", "bat", "ape"], ["ape", "bat"]) == {1: 1}
    assert agreeing(["ape", "bat"], ["bat", "ape", "bat", "cat"]) == {1: 0}
    assert agreeing([], ["ape"]) == {}


def test_the_log_says_what_became_of_which_class(caplog):
    load_detector(Net("fcos", 3), file_of(Net("fcos", 3), THERE), ["elk", "cat", "bat"], fine_tune=True)
    load_detector(Net("fcos", 2), file_of(Net("fcos", 2), ["ape", "bat"]), ["bat", "ape"], fine_tune=True)
    many = [f"c{i}" for i in range(20)]
    load_detector(Net("fcos", 1), file_of(Net("fcos", 20), many), ["c1"], fine_tune=True)
    assert caplog.messages == [
        "old.pth was trained on other classes: its outputs for cat, bat are kept, those for ape dropped; "
        "elk start anew",
        "old.pth was trained on other classes: its outputs for bat, ape are kept",
        "old.pth was trained on other classes: its outputs for c1 are kept, "
        "those for c0, c2, c3, c4, c5, c6, c7, c8 and 11 more dropped",
    ]


def test_a_classifier_of_another_width_starts_anew_whatever_its_names():
    old, new = Net("agnostic", 3), Net("faster_rcnn", 3)
    before = new.outputs()
    load_detector(new, file_of(old, THERE), ["cat", "bat", "ape"], fine_tune=True)
    assert torch.equal(new.head.box_heads[0].fcs[0].weight, old.head.box_heads[0].fcs[0].weight)
    assert not torch.equal(new.outputs()["deltas0"], before["deltas0"])  # as what comes before it is loaded
    assert not torch.equal(new.head.box_heads[0].cls_logits.weight, old.head.box_heads[0].cls_logits.weight)
    with pytest.raises(ValueError, match=r"old\.pth does not fit the model(?s:.*)head\.box_heads\.0\.deltas\.weight"):
        load_detector(old, file_of(new, THERE), THERE, fine_tune=True)


def test_a_detector_of_another_width_does_not_fit_whatever_its_names():
    old, new = Net("fcos", 3), Net("fcos", 3)
    old.head = build_head("fcos", 3, {name: Level(16, level.stride) for name, level in LEVELS.items()})
    with pytest.raises(
        ValueError,
        match=r"old\.pth does not fit the model(?s:.*)wrong shape +\d+  head\.cls_tower(?s:.*)The backbone fits, neck",
    ):
        load_detector(new, file_of(old, THERE), ["cat", "bat", "ape"], fine_tune=True)


def test_another_width_is_not_taken_for_another_number_of_classes(caplog):
    old, new = Net("fcos", 3), Net("fcos", 3)
    old.head = build_head("fcos", 3, {name: Level(16, level.stride) for name, level in LEVELS.items()})
    with pytest.raises(ValueError, match=r"old\.pth does not fit the model(?s:.*)wrong shape +\d+ ") as caught:
        load_detector(new, file_of(old, THERE))
    assert "NUM_CLASSES" not in str(caught.value)
    with pytest.raises(ValueError, match="does not fit the model"):
        load_detector(new, file_of(old, THERE), THERE[::-1], fine_tune=True)
    assert caplog.messages == ["old.pth has class outputs of another width: its classifier is dropped and starts anew"]


@pytest.mark.parametrize("head", HEADS)
def test_every_layer_of_the_class_count_is_declared(head):
    few, many = build_head(head, 2), build_head(head, 7)
    other = {key for key, value in few.state_dict().items() if value.shape != many.state_dict()[key].shape}
    assert other == {key for key in few.state_dict() if key.startswith(tuple(f"{name}." for name in few.classifier))}
    for name, rows in few.classifier.items():
        assert isinstance(rows, ClassRows)
        assert len(few.get_parameter(f"{name}.bias")) == rows.before * (2 + rows.background) * rows.after


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "model.", "encoder.", "module._orig_mod.", "model.module."]
)
def test_wrapped_detectors_load_and_the_log_says_so(prefix, caplog):
    caplog.set_level("INFO", "detector")
    old, new = Net("fcos", 3), Net("fcos", 3)
    file = file_of(old)
    wrapped = WeightFile(file.path, {prefix + key: value for key, value in file.state.items()})
    assert is_detector(file)
    assert is_detector(wrapped)
    load_detector(new, wrapped)
    equal(new.outputs(), old.outputs())
    names = {"module._orig_mod.": "_orig_mod. and module.", "model.module.": "model. and module."}.get(prefix, prefix)
    assert caplog.messages[0] == f"old.pth: its keys are taken without the prefix {names} that a wrapper left"
    caplog.clear()
    load_detector(new, file)
    assert "prefix" not in caplog.text


def test_a_head_that_declares_no_classes_loads_whole(caplog):
    old, new = Net("fcos", 3), Net("fcos", 3)
    new.head.classifier = {}
    load_detector(new, file_of(old, THERE), ["cat", "ape", "dog"], fine_tune=True)
    equal(new.outputs(), old.outputs())
    assert not caplog.messages


def test_a_backbone_is_no_detector():
    state = Net("fcos", 3).state_dict()
    for keys in ("backbone.", "head."):
        part = {key: value for key, value in state.items() if key.startswith(keys)}
        assert not is_detector(WeightFile(Path("a.pth"), part))
    both = {"module.backbone.a": torch.ones(1), "backbone.a": torch.ones(1), "head.a": torch.ones(1)}
    assert not is_detector(WeightFile(Path("a.pth"), both))
    with pytest.raises(ValueError, match=r"a\.pth: 'module\.backbone\.a' and 'backbone\.a' both become 'backbone\.a'"):
        load_detector(Net("fcos", 3), WeightFile(Path("a.pth"), both))
