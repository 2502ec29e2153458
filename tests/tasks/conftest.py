"""A detector so small that a training step takes milliseconds, on pictures made here."""

import json

import cv2
import numpy as np
import pytest
import torch
from helpers import ROOT
from helpers.by_hand import SETTINGS

from detector.config import load_config
from detector.models.build import build_detector


def coco_folder(folder, boxes_per_image, seed=0, categories=((3, "dark"), (7, "light"))):
    """A COCO folder of 64x96 pictures with rectangles of two classes; returns its "IMAGES:JSON" entry."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    images, annotations = [], []
    for i, number in enumerate(boxes_per_image):
        image = rng.integers(90, 160, (64, 96, 3), dtype=np.uint8)
        for _ in range(number):
            x, y, w, h = (
                int(rng.integers(60)),
                int(rng.integers(34)),
                int(rng.integers(16, 34)),
                int(rng.integers(16, 28)),
            )
            label = int(rng.integers(2))
            image[y : y + h, x : x + w] = (10, 245)[label]
            box = {"bbox": [x, y, w, h], "area": w * h, "iscrowd": 0, "category_id": categories[label][0]}
            annotations.append({"id": len(annotations) + 1, "image_id": i + 1, **box})
        cv2.imwrite(str(folder / f"{i}.png"), image)
        images.append({"id": i + 1, "file_name": f"{i}.png", "height": 64, "width": 96})
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": i, "name": n} for i, n in categories],
    }
    path = folder.with_suffix(".json")
    path.write_text(json.dumps(content))
    return f"{folder}:{path}"


TINY = [
    *("MODEL.DEVICE", "cpu", "MODEL.WEIGHT", "", "MODEL.NUM_CLASSES", "2"),
    *("MODEL.BACKBONE.NAME", "resnet10", "MODEL.BACKBONE.NORM", "bn", "MODEL.BACKBONE.FREEZE_CONV_BODY_AT", "0"),
    *("MODEL.NECK.OUT_CHANNELS", "64", "MODEL.FCOS.NUM_CONVS", "1"),
    *("INPUT.MIN_SIZE_TRAIN", "(48, 64)", "INPUT.MAX_SIZE_TRAIN", "96"),
    *("INPUT.MIN_SIZE_TEST", "64", "INPUT.MAX_SIZE_TEST", "96"),
    *("DATALOADER.NUM_WORKERS", "0", "DATALOADER.FILTER_EMPTY_ANNOTATIONS", "False"),
    *("SOLVER.IMS_PER_BATCH", "2", "SOLVER.MAX_ITER", "6", "SOLVER.BASE_LR", "0.002"),
    *("SOLVER.WARMUP_ITERS", "2", "SOLVER.STEPS", "(4,)", "SOLVER.CHECKPOINT_PERIOD", "0", "TEST.IMS_PER_BATCH", "2"),
]


@pytest.fixture
def write_images():
    """`coco_folder`, for tests that need further data."""
    return coco_folder


@pytest.fixture
def data(tmp_path):
    """Overrides that name a training set of 5 images (one of them empty) and a test set of 3."""
    train = coco_folder(tmp_path / "train", (2, 1, 0, 3, 1))
    val = coco_folder(tmp_path / "val", (1, 2, 0), seed=1)
    return ["DATASETS.TRAIN", train, "DATASETS.TEST", val]


@pytest.fixture
def tiny(tmp_path, data):
    """tiny("SOLVER.MAX_ITER", "4", ..): the config of a tiny detector writing to tmp_path / "out"."""

    def build(*opts):
        base = str(ROOT / "configs" / "base" / "fcos_improved.yaml")
        return load_config(base, [*TINY, *data, "OUTPUT_DIR", str(tmp_path / "out"), *map(str, opts)])

    return build


@pytest.fixture
def started(tiny, tmp_path):
    """started(*opts): a tiny config that starts from a file of weights, and these weights."""

    def build(*opts):
        path = tmp_path / "start.pth"
        cfg = tiny(*SETTINGS, "MODEL.WEIGHT", path, *opts)
        if not path.exists():
            state = build_detector(cfg).state_dict()
            torch.save({"model": state, "classes": ["dark", "light"], "category_ids": [3, 7]}, path)
        return cfg, torch.load(path, weights_only=True)["model"]

    return build
