"""Every head learns two images by heart."""

import pytest
import torch
from helpers import ROOT
from helpers.inputs import target

from detector.config import load_config
from detector.models.build import build_detector
from detector.ops.boxes import pairwise_iou

BOXES = [[[8, 8, 40, 48], [72, 16, 96, 88], [48, 56, 64, 72]], [[24, 32, 104, 80]]]
LABELS = [[0, 1, 2], [1]]
COMMON = {
    "MODEL.BACKBONE.NAME": "resnet10",
    "MODEL.BACKBONE.NORM": "gn",
    "MODEL.BACKBONE.FREEZE_CONV_BODY_AT": 0,
    "MODEL.NUM_CLASSES": 3,
}
CASES = {
    "fcos_improved": (80, {"MODEL.NECK.OUT_CHANNELS": 32, "MODEL.FCOS.NUM_CONVS": 1}),
    "faster_rcnn": (
        120,
        {
            "MODEL.NECK.OUT_CHANNELS": 32,
            "MODEL.RPN.ANCHOR_SIZES": [16, 32, 64, 128, 256],
            "MODEL.RPN.POST_NMS_TOP_N_TRAIN": 200,
            "MODEL.RPN.POST_NMS_TOP_N_TEST": 100,
            "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 64,
            "MODEL.ROI_BOX_HEAD.MLP_HEAD_DIM": 128,
        },
    ),
    "refinedet": (80, {"MODEL.REFINEDET.TCB_CHANNELS": 32}),
}


@pytest.mark.parametrize("base", CASES)
def test_two_images_are_learned(base):
    steps, opts = CASES[base]
    opts = [str(x) for pair in {**COMMON, **opts}.items() for x in pair]
    model = build_detector(load_config(ROOT / f"configs/base/{base}.yaml", opts))
    images, sizes = torch.randint(100, 130, (2, 3, 128, 128), dtype=torch.uint8), [(128, 128)] * 2
    for i in range(2):
        for (left, top, right, bottom), label in zip(BOXES[i], LABELS[i]):
            images[i, :, top:bottom, left:right] = 255 * torch.eye(3, dtype=torch.uint8)[label][:, None, None]
    targets = [target(*truth) for truth in zip(BOXES, LABELS)]
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    for _ in range(steps):
        losses = model(images, sizes, targets)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
    with torch.no_grad():
        detections = model(images, sizes)
    for found, truth in zip(detections, targets):
        sure = found["scores"] > 0.5
        iou, place = pairwise_iou(truth["boxes"], found["boxes"][sure]).max(1)
        assert (iou > 0.6).all()
        assert torch.equal(found["labels"][sure][place], truth["labels"])
