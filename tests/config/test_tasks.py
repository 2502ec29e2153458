"""What is for detectors of boxes says so."""

import pytest

from detector.config import load_config
from detector.config.idle import idle_keys
from detector.config.tasks import require_boxes
from detector.errors import UserError


def test_a_task_without_boxes_is_named_with_what_it_has():
    require_boxes("detection", "detector export")
    with pytest.raises(
        UserError, match=r"^detector export is for detectors of boxes, and this is MODEL\.TASK saliency"
    ):
        require_boxes("saliency", "detector export")


def test_each_task_has_keys_that_are_idle_in_the_other():
    boxes, maps = (idle_keys(load_config(None, ["MODEL.TASK", task])) for task in ("detection", "saliency"))
    assert boxes["MODEL.SALIENCY.WIDTH"] == "MODEL.TASK detection"
    for key in ("MODEL.HEAD.NAME", "MODEL.NECK.SOURCES", "MODEL.FCOS.NUM_CONVS", "TEST.BBOX_AUG.ENABLED"):
        assert maps[key] == "MODEL.TASK saliency"
        assert boxes.get(key) != "MODEL.TASK detection"
    assert not {"MODEL.BACKBONE.NAME", "SOLVER.BASE_LR", "INPUT.MIN_SIZE_TRAIN", "MODEL.SALIENCY.NAME"} & maps.keys()


def test_the_base_is_the_authors_solver():
    cfg = load_config("base/saliency")
    solver = cfg.SOLVER
    assert (solver.IMS_PER_BATCH, solver.ACCUM_ITERS, solver.MAX_ITER, solver.STEPS) == (10, 10, 12000, (7500,))
    assert (solver.BASE_LR, solver.MOMENTUM, solver.WEIGHT_DECAY, solver.GAMMA) == (1e-8 * 400 * 300, 0.9, 5e-4, 0.1)
    assert (solver.BIAS_LR_FACTOR, solver.WEIGHT_DECAY_BIAS, solver.WARMUP_ITERS) == (2, 0, 0)
    assert (cfg.MODEL.BACKBONE.NORM, cfg.MODEL.BACKBONE.FREEZE_CONV_BODY_AT) == ("frozen_bn", 0)
    for name, backbone in (("resnet50", "resnet50"), ("res2net50", "res2net50_26w_4s")):
        one = load_config(f"saliency/{name}")
        assert (one.MODEL.BACKBONE.NAME, one.OUTPUT_DIR) == (backbone, f"output/saliency_{name}")
