"""The neck and the head that docs/howto/add_a_part.md adds are working ones."""

import pytest
import torch
from helpers.docs_blocks import files
from helpers.inputs import target
from torchvision.ops import box_iou

from detector.config import load_config
from detector.models.build import build_detector
from detector.models.heads.base import HEADS, STANDARDS
from detector.models.necks.base import NECK_KEYS, NECKS


@pytest.fixture
def parts():
    """Their names are known while a test runs."""
    before = [dict(table) for table in (NECKS, NECK_KEYS, HEADS, STANDARDS)]
    shown = files("docs/howto/add_a_part.md")
    for name in ("my_neck.py", "my_head.py"):
        exec(compile(shown[name], name, "exec"), {"__name__": name[:-3]})
    yield
    for table, old in zip((NECKS, NECK_KEYS, HEADS, STANDARDS), before, strict=True):
        table.clear()
        table.update(old)


OTHERS = [pytest.param(*pair, marks=pytest.mark.slow) for pair in (("laterals", "fcos"), ("fpn", "one_conv"))]


@pytest.mark.parametrize(("neck", "head"), [("laterals", "one_conv"), *OTHERS])
def test_they_learn_two_boxes_by_heart(parts, neck, head):
    settings = ["MODEL.NECK.NAME", neck, "MODEL.HEAD.NAME", head, "MODEL.NECK.OUT_CHANNELS", "32"]
    torch.manual_seed(0)
    model = build_detector(load_config("quickstart", settings))
    image = torch.full((2, 3, 64, 64), 40, dtype=torch.uint8)
    boxes = torch.tensor([[8.0, 12, 40, 44], [20.0, 16, 60, 56]])
    for i, (x1, y1, x2, y2) in enumerate(boxes.int().tolist()):
        image[i, i, y1:y2, x1:x2] = 220
    sizes = [(64, 64)] * 2
    targets = [target(boxes[:1], [0]), target(boxes[1:], [2])]
    optimizer = torch.optim.AdamW(model.parameters(), 0.002)
    for step in range(40):
        losses = model(image, sizes, targets)
        sum(losses.values()).backward()
        if step == 0:
            assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
        optimizer.step()
        optimizer.zero_grad()
    for found, box, label in zip(model(image, sizes), boxes, (0, 2), strict=True):
        assert found["labels"][0] == label
        assert box_iou(found["boxes"][:1], box[None]) > 0.5


def test_the_head_bears_pictures_without_boxes_and_crowds(parts):
    model = build_detector(load_config("quickstart", ["MODEL.HEAD.NAME", "one_conv"]))
    image = torch.full((1, 3, 64, 64), 40, dtype=torch.uint8)
    losses = [
        model(image, [(64, 64)], [target(ignore=ignore)]) for ignore in ((), torch.tensor([[0.0, 0, 64, 64]]))
    ]  # fmt: skip
    assert losses[0]["loss_cls"] > 0 == losses[1]["loss_cls"]
    assert all(loss["loss_reg"] == 0 for loss in losses)
    features = model.neck(model.backbone(model.normalize(image, [(64, 64)])))
    answered = model.head.answered(features, [target([[8.0, 12, 40, 44], [8.0, 12, 8.5, 12.5]], [0, 1])])
    assert answered[0].tolist() == [0]  # no location lies in the other one
