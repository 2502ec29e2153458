"""Names of pictures and classes that no terminal and no UTF-8 text can take, through a whole run."""

import json
import os
import re

import cv2
import numpy as np

from detector.tasks.detection import test as run_test  # under its own name pytest would collect it
from detector.tasks.detection import train


def folder_of(path, name):
    """Two pictures in VOC's layout, whose names are no UTF-8, of a class whose name would colour the screen."""
    for part in ("JPEGImages", "Annotations"):
        (path / part).mkdir(parents=True)
    for i in range(2):
        image = np.full((64, 96, 3), 120, np.uint8)
        image[10:40, 20:60] = 10
        stem = os.fsencode(path) + b"/%s/caf\xe9" + str(i).encode()
        with open(stem % b"JPEGImages" + b".png", "wb") as file:
            file.write(cv2.imencode(".png", image)[1].tobytes())
        box = "<bndbox><xmin>21</xmin><ymin>11</ymin><xmax>60</xmax><ymax>40</ymax></bndbox>"
        text = f"<annotation><size><width>96</width><height>64</height></size><object><name>{name}</name>{box}</object>"
        with open(stem % b"Annotations" + b".xml", "w") as file:
            file.write(f"{text}</annotation>")
    return f"voc:{path}:all"


def test_results_of_such_pictures_are_written_and_such_classes_printed(tiny, tmp_path, caplog):
    caplog.set_level("INFO", "detector")
    entry = folder_of(tmp_path / "cells", "red\u202ecat")
    opts = ("DATASETS.TRAIN", entry, "DATASETS.TEST", entry, "MODEL.NUM_CLASSES", 0, "MODEL.FCOS.INFERENCE_TH", 0)
    cfg = tiny(*opts, "SOLVER.MAX_ITER", 1, "SOLVER.STEPS", "()")
    metrics = train(cfg)
    assert run_test(cfg) == metrics
    for name in ("results.json", "metrics.json"):
        (tmp_path / "out" / name).read_text(encoding="utf-8")
    rows = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))
    assert {row["image_id"] for row in rows} == {"caf\\xe90", "caf\\xe91"}
    assert re.search(r"red\\u202ecat +\d\.\d{3}", caplog.text)
    assert "red\u202ecat" not in caplog.text
