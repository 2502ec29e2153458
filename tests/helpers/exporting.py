"""Small detectors with much to find, and whether what finds the same as them in other ways does so."""

from itertools import pairwise

import torch
from torch import nn

from detector.config import load_config
from detector.models.build import build_detector

OPTS = {
    "fcos": ["MODEL.FCOS.PRIOR_PROB", "0.3", "MODEL.FCOS.NUM_CONVS", "1", "MODEL.NECK.OUT_CHANNELS", "32"],
    "refinedet": ["MODEL.REFINEDET.TCB_CHANNELS", "32"],
    "faster_rcnn": [
        *("MODEL.NECK.OUT_CHANNELS", "32", "MODEL.ROI_BOX_HEAD.MLP_HEAD_DIM", "32"),
        *("MODEL.RPN.POST_NMS_TOP_N_TEST", "100"),
    ],
}
CASCADE = ["MODEL.ROI_HEADS.CASCADE_IOUS", "(0.5, 0.6, 0.7)", "MODEL.CLS_AGNOSTIC_BBOX_REG", "True"]


def small(head, *opts, backbone="resnet10"):
    """A detector of three classes with random weights that finds many boxes of all of them, and its config."""
    names = ["MODEL.HEAD.NAME", head, "MODEL.BACKBONE.NAME", backbone, "MODEL.NUM_CLASSES", "3"]
    cfg = load_config(None, [*names, *OPTS[head], *opts])
    model = build_detector(cfg).eval()
    for name, module in model.head.named_modules():
        if name.startswith(("odm_cls.", "arm_cls.")) or (name.endswith("cls_logits") and isinstance(module, nn.Linear)):
            nn.init.normal_(module.weight, std=0.5)
        elif name == "rpn.objectness":
            nn.init.normal_(module.weight, std=0.3)
        elif name in ("rpn.deltas", "bbox_pred") or name.endswith("deltas"):
            nn.init.normal_(module.weight, std=0.05)
    return model, cfg


def pictures(number, height, width, seed=0):
    """Noise, of sizes that differ, and those sizes."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (number, 3, height, width), dtype=torch.uint8, generator=generator)
    return images, [(height - 5 * i, width - 7 * i) for i in range(number)]


def assert_same(got, want, boxes=0.05, scores=1e-4):
    """Whether detections of images are the same, one to one; those of equal scores may stand in any order.

    got: boxes [N, D, 4], scores [N, D], labels [N, D] and counts [N]; want: of each image.
    """
    for i, one in enumerate(want):
        number = len(one["scores"])
        assert int(got[3][i]) == number
        mine = [entry[i, :number] for entry in got[:3]]
        left = list(range(number))
        for box, score, label in zip(*(one[key] for key in ("boxes", "scores", "labels")), strict=True):
            same = [
                j for j in left
                if mine[2][j] == label and abs(mine[1][j] - score) <= scores and (mine[0][j] - box).abs().max() <= boxes
            ]  # fmt: skip
            assert same, (i, box, score, label)
            left.remove(same[0])
        assert all(a >= b - scores for a, b in pairwise(mine[1].tolist()))
        assert not any(entry[i, number:].any() for entry in got[:3])
