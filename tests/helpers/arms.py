"""Folders as trainings leave them, written by hand: a test set of 40 pictures, and what was found on it."""

import json
from pathlib import Path

import numpy as np
import torch

from detector.config import changed_keys, config_text, load_config, save_config
from detector.models.build import build_detector

IMAGES = 40
SMALL = [
    *("MODEL.DEVICE", "cpu", "MODEL.WEIGHT", "", "MODEL.NUM_CLASSES", "2", "MODEL.BACKBONE.NAME", "resnet10"),
    *("MODEL.BACKBONE.NORM", "bn", "MODEL.BACKBONE.FREEZE_CONV_BODY_AT", "0", "MODEL.NECK.OUT_CHANNELS", "64"),
    *("INPUT.MIN_SIZE_TEST", "64", "INPUT.MAX_SIZE_TEST", "96", "SOLVER.IMS_PER_BATCH", "4", "SOLVER.MAX_ITER", "60"),
]


def write_truth(folder, categories=("dark", "light"), turn=0):
    """A COCO file of one object a picture, by turns of two classes from `turn` on; returns its "IMAGES:JSON" entry."""
    folder = Path(folder)
    (folder / "pictures").mkdir(parents=True)
    images = [{"id": i + 1, "file_name": f"{i}.png", "height": 100, "width": 100} for i in range(IMAGES)]
    box = {"bbox": [10, 10, 50, 50], "area": 2500, "iscrowd": 0}
    objects = [{"id": i + 1, "image_id": i + 1, "category_id": (i + turn) % 2, **box} for i in range(IMAGES)]
    names = [{"id": k, "name": name} for k, name in enumerate(categories)]
    path = folder / "truth.json"
    path.write_text(json.dumps({"images": images, "annotations": objects, "categories": names}))
    return f"{folder / 'pictures'}:{path}"


def write_run(
    folder, entry, *opts, hits=0.6, seed=0, step=60, log=True, checkpoint=False, header=(), tested=(), scale=1.0
):
    """A run whose detector found a share of the objects.

    opts: KEY VALUE; tested: those of the test alone; scale: of times and memory.
    """
    folder = Path(folder)
    words = [*SMALL, "DATASETS.TEST", entry, "OUTPUT_DIR", str(folder), "SEED", str(seed), *map(str, opts)]
    cfg = load_config(None, words)
    save_config(cfg, folder / "config.yaml")
    found = np.flatnonzero(np.random.default_rng([seed, round(hits * 1000)]).random(IMAGES) < hits).tolist()
    rows = [{"image_id": i + 1, "category_id": i % 2, "bbox": [10, 10, 50, 50], "score": 0.9} for i in found]
    (folder / "results.json").write_text(json.dumps(rows))
    changed = changed_keys(load_config(None, [*words, *map(str, tested)]))
    said = {"data": {"name": "truth", "images": IMAGES}, "config": changed, "step": step, "weight": "", "digest": ""}
    (folder / "metrics.json").write_text(json.dumps({"measured": said}))
    if log:
        start = {"versions": {"torch": "2.14"}, "device": "cpu (mine)", "threads": 1, "processes": 1, **dict(header)}
        lines = [
            {"step": 0, "event": "start", **start},
            {"step": 20, "loss": 2.0, "lr": 0.1, "step_s": 0.5 * scale, "memory_mb": 100.0 * scale},
            {"step": 40, "loss": 1.0, "lr": 0.1, "step_s": 0.25 * scale, "memory_mb": 300.0 * scale},
            {"step": 60, "loss": 0.5, "lr": 0.1, "step_s": 0.3 * scale, "memory_mb": 200.0 * scale},
            {"step": 60, "event": "evaluation", "metrics": {"truth": {"AP": 0.5, "AP50": 0.7}}},
        ]
        (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if checkpoint:
        torch.manual_seed(seed)
        model = build_detector(cfg).state_dict()
        content = {"model": model, "step": step, "config": config_text(cfg), "classes": ["dark", "light"]}
        torch.save(content, folder / "model_final.pth")
    return folder
