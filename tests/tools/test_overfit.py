"""The overfitting check takes the first images of data in any form."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers import ROOT

from detector.config import load_config
from detector.data.catalog import load_dataset
from detector.data.index import load_index

OBJECT = (
    "<object><name>{}</name><difficult>{}</difficult><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax>"
    "<ymax>{}</ymax></bndbox></object>"
)


@pytest.fixture(scope="module")
def overfit(load_benchmark):
    return load_benchmark("overfit")


@pytest.fixture
def cells(tmp_path):
    """Three pictures in VOC's layout; the second object of each is difficult."""
    for name in ("JPEGImages", "Annotations"):
        (tmp_path / "cells" / name).mkdir(parents=True)
    for i in range(3):
        image = np.zeros((40, 60, 3), np.uint8)
        image[5:25, 10:30] = 255
        cv2.imwrite(str(tmp_path / "cells" / "JPEGImages" / f"{i}.png"), image)
        objects = OBJECT.format("b", 0, 11, 6, 30, 25) + OBJECT.format("a", 1, 1 + i, 1, 60, 40)
        (tmp_path / "cells" / "Annotations" / f"{i}.xml").write_text(f"<annotation>{objects}</annotation>")
    return tmp_path / "cells"


def test_first_images_of_voc(overfit, cells, tmp_path):
    folder, _, path = overfit.first_images(f"voc:{cells}:all", "", 2, tmp_path / "out").partition(":")
    assert Path(folder) == cells / "JPEGImages"
    index = load_index(path)
    assert index.classes == ["a", "b"]
    assert index.file_names.tolist() == ["0.png", "1.png"]
    assert index.boxes.tolist() == [[10, 5, 30, 25], [0, 0, 60, 40], [10, 5, 30, 25], [1, 0, 60, 40]]
    assert index.labels.tolist() == [1, 0, 1, 0]
    assert index.trainable().tolist() == [True, False] * 2


def test_first_images_of_coco_are_the_first_by_id(overfit, cells, tmp_path):
    entry = overfit.first_images(f"voc:{cells}:all", "", 3, tmp_path / "out")
    again = overfit.first_images(entry, "", 2, tmp_path / "again")
    one, two = (load_dataset(e, "").index for e in (overfit.first_images(f"voc:{cells}:all", "", 2, tmp_path), again))
    for name in ("image_ids", "boxes", "boxes_xywh", "labels", "crowd", "areas", "annotation_ids", "offsets"):
        assert np.array_equal(getattr(one, name), getattr(two, name)), name


@pytest.mark.parametrize("head", ["fcos", "faster_rcnn", "refinedet"])
def test_trains_bounds_and_draws_in_any_precision(overfit, cells, tmp_path, head):
    config = {"fcos": "fcos_improved", "faster_rcnn": "faster_rcnn", "refinedet": "refinedet"}[head]
    opts = [
        *("MODEL.WEIGHT", "", "MODEL.BACKBONE.NAME", "resnet10", "MODEL.BACKBONE.NORM", "gn", "MODEL.NUM_CLASSES", "2"),
        *("MODEL.BACKBONE.FREEZE_CONV_BODY_AT", "0", "MODEL.NECK.OUT_CHANNELS", "16", "MODEL.DEVICE", "cpu"),
        *("INPUT.MIN_SIZE_TEST", "64", "INPUT.MAX_SIZE_TEST", "96", "INPUT.MIN_SIZE_TRAIN", "64"),
        *("INPUT.MAX_SIZE_TRAIN", "96", "SOLVER.MAX_ITER", "2", "SOLVER.STEPS", "[1]", "SOLVER.IMS_PER_BATCH", "2"),
        *("SOLVER.BASE_LR", "0.0001", "TEST.AMP", "bf16", "DATALOADER.NUM_WORKERS", "0", "OUTPUT_DIR", str(tmp_path)),
        *("DATASETS.TRAIN", f"voc:{cells}:all", "MODEL.ROI_BOX_HEAD.MLP_HEAD_DIM", "16"),
        *("MODEL.RPN.POST_NMS_TOP_N_TEST", "50", "MODEL.RPN.POST_NMS_TOP_N_TRAIN", "50"),
    ]
    result = overfit.overfit(load_config(ROOT / "configs" / "base" / f"{config}.yaml", opts), 2)
    assert result["bound"] == 1
    assert 0 <= result["AP50"] == result["share"] <= 1
    assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == ["0.png", "1.png"]
