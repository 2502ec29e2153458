"""Folders of pictures with masks, and a network of salient objects so small that a step takes milliseconds."""

import cv2
import numpy as np
import torch

from detector.config import load_config
from detector.models.backbones import BACKBONES, Backbone, BackboneEntry, Weights
from detector.structures import Level
from helpers import ROOT


class Small(Backbone):
    """Five convolutions of stride 2."""

    def __init__(self, norm):
        super().__init__()
        self.convs = torch.nn.ModuleList(
            torch.nn.Sequential(torch.nn.Conv2d(a, b, 3, 2, 1), norm(b), torch.nn.ReLU())
            for a, b in ((3, 4), (4, 6), (6, 8), (8, 10), (10, 12))
        )
        self.levels = {f"c{i}": Level(2 + 2 * i, 2**i) for i in range(2, 6)}

    def parts(self):
        return [[conv] for conv in self.convs]

    def add_stem_level(self):
        self.levels = {"c1": Level(4, 2), **self.levels}

    def forward(self, images):
        found, x = {}, images
        for i, conv in enumerate(self.convs, start=1):
            x = found[f"c{i}"] = conv(x)
        return {name: found[name] for name in self.levels}


def register_small(monkeypatch):
    """Makes it the backbone "small", for a while."""
    monkeypatch.setitem(BACKBONES, "small", BackboneEntry("small", Small, Weights(())))


TINY = [
    *("MODEL.TASK", "saliency", "MODEL.DEVICE", "cpu", "MODEL.WEIGHT", "", "MODEL.SALIENCY.WIDTH", "0.02"),
    *("MODEL.BACKBONE.NAME", "small", "MODEL.BACKBONE.NORM", "bn", "MODEL.BACKBONE.FREEZE_CONV_BODY_AT", "0"),
    *("INPUT.SQUARE_SIZE", "32", "DATALOADER.NUM_WORKERS", "0", "SOLVER.IMS_PER_BATCH", "2", "SOLVER.MAX_ITER", "4"),
    *("SOLVER.WARMUP_ITERS", "0", "SOLVER.STEPS", "()", "SOLVER.BASE_LR", "0.01", "SOLVER.CHECKPOINT_PERIOD", "2"),
    *("TEST.IMS_PER_BATCH", "2"),
]


def scene(number, height=24, width=36):
    """A picture uint8 [H, W, 3] and its mask uint8 [H, W] of 0 and 255: a light rectangle on noise."""
    rng = np.random.default_rng(number)
    image = rng.integers(60, 100, (height, width, 3), dtype=np.uint8)
    mask = np.zeros((height, width), np.uint8)
    y, x = rng.integers(2, height // 2), rng.integers(2, width // 2)
    mask[y : y + 10, x : x + 14] = 255
    image[mask > 0] = 230
    return image, mask


def mask_folder(folder, number=4, images="images", masks="ground_truth_mask", suffix=".jpg"):
    """Writes so many pictures in a layout; returns the folder. images and masks alike: side by side."""
    for name in (images, masks):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for i in range(number):
        image, mask = scene(i)
        cv2.imwrite(str(folder / images / f"a{i}{suffix}"), image)
        cv2.imwrite(str(folder / masks / f"a{i}.png"), mask)
    return folder


def tiny_salient(folder, *opts):
    """The config of a tiny training on the pictures of `folder`/train and `folder`/val, which are made."""
    for name, number in (("train", 5), ("val", 3)):
        if not (folder / name).exists():
            mask_folder(folder / name, number)
    data = ["DATASETS.TRAIN", f"saliency:{folder}/train", "DATASETS.TEST", f"saliency:{folder}/val"]
    base = ROOT / "configs" / "base" / "saliency.yaml"
    own = ["SOLVER.ACCUM_ITERS", "1", "OUTPUT_DIR", str(folder / "out")]
    return load_config(base, [*TINY, *data, *own, *map(str, opts)])
