"""Whole networks of every family and head, on photographs: what onnxruntime finds is what torch finds."""

import cv2
import numpy as np
import pytest
import torch
from helpers.exporting import CASCADE, small

from detector.data.loader import collate
from detector.inference.export import Network
from detector.inference.export.facts import read_facts
from detector.inference.export.write import export
from detector.inference.prepare import merge_norms
from detector.inference.runtimes import load_exported
from detector.structures import Target
from detector.tasks.export import facts_of

BACKBONES = ("sreresnet50", "iresnet50", "res2net50_26w_4s", "resnest50", "resnet50", "blresnet50")
HEADS = {"fcos": ("fcos", []), "refinedet": ("refinedet", []), "cascade": ("faster_rcnn", CASCADE)}

BOX, SCORE = 0.05, 1e-4
SHARE = 0.995


def photos(folder, short, divisibility):
    """20 photographs whose shorter side is `short`, in batches of 1 and 3."""
    paths = sorted(folder.rglob("*.jpg"))[:20]
    items = []
    for path in paths:
        image = cv2.imread(str(path))[:, :, ::-1]
        scale = short / min(image.shape[:2])
        image = np.ascontiguousarray(cv2.resize(image, None, fx=scale, fy=scale))
        nothing = torch.zeros(0, 4)
        target = Target(boxes=nothing, labels=nothing[:, 0].long(), ignore=nothing, image_id=0, original=(1, 1), draw=0)
        items.append((torch.from_numpy(image).permute(2, 0, 1), target))
    start = 0
    for number in (1, 3) * 5:
        yield collate(items[start : start + number], divisibility)
        start += number


def matched(found, wanted):
    """How many of the wanted detections have one of their own among those that were found."""
    left, count = list(range(len(found["scores"]))), 0
    for box, label, score in zip(*(wanted[key] for key in ("boxes", "labels", "scores")), strict=True):
        same = [
            j for j in left
            if found["labels"][j] == label and abs(found["scores"][j] - score) < SCORE
            and (found["boxes"][j] - box).abs().max() < BOX
        ]  # fmt: skip
        count += bool(same)
        if same:
            left.remove(same[0])
    return count


@pytest.mark.slow
@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("kind", HEADS)
def test_photographs(kind, backbone, coco_tiny, tmp_path):
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name)
    head, opts = HEADS[kind]
    model, cfg = small(head, *opts, backbone=backbone)
    facts = facts_of(cfg, list("abc"), [1, 2, 3], "0" * 64, "", None)
    export(model, facts, "onnx", tmp_path / "a.onnx")  # merges the norms: without Winograd's filtering, as the file
    other = load_exported(tmp_path / "a.onnx")
    count = total = 0
    for short in (160, 175, 224):
        for batch in photos(coco_tiny, short, facts.resize.divisibility):
            with torch.no_grad():
                wanted = model(batch.images, batch.sizes)
            for one, want in zip(other(batch.images, batch.sizes), wanted, strict=True):
                assert abs(len(one["scores"]) - len(want["scores"])) <= 1
                count, total = count + matched(one, want), total + len(want["scores"])
    print(f"{kind} {backbone}: {count} of {total}")
    assert total > 1000
    assert count >= SHARE * total


@pytest.mark.slow
@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("head", ["fcos", "refinedet"])
def test_raw_tensors(head, backbone, coco_tiny, tmp_path):
    """To 1e-4 of the largest number of each."""
    for name in ("onnx", "onnxscript"):
        pytest.importorskip(name)
    onnxruntime = pytest.importorskip("onnxruntime")
    model, cfg = small(head, backbone=backbone)
    facts = facts_of(cfg, list("abc"), [1, 2, 3], "0" * 64, "", None)
    export(model, facts, "onnx", tmp_path / "a.onnx", split=True)
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx", providers=["CPUExecutionProvider"])
    assert read_facts(session.get_modelmeta().custom_metadata_map["detector"], "a.onnx").split
    network = Network(merge_norms(model))
    for short in (160, 175, 224):
        for batch in list(photos(coco_tiny, short, facts.resize.divisibility))[:4]:
            sizes = torch.tensor(batch.sizes)
            got = session.run(None, {"images": batch.images.numpy(), "sizes": sizes.numpy()})
            with torch.no_grad():
                want = network(batch.images, sizes)
            for one, wanted in zip(got, want, strict=True):
                assert np.abs(one - wanted.numpy()).max() <= 1e-4 * wanted.abs().max()
