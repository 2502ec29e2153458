"""Two processes, and micro-batches, make the steps that one process makes."""

import json

import pytest
import torch
from helpers.ranks import course, courses

SMALL = (
    *("MODEL.NECK.OUT_CHANNELS", 32, "MODEL.FCOS.NUM_CONVS", 1, "DATASETS.TEST", "()", "SOLVER.IMS_PER_BATCH", 4),
    *("MODEL.ROI_BOX_HEAD.MLP_HEAD_DIM", 16, "MODEL.RPN.POST_NMS_TOP_N_TRAIN", 50),
    *("MODEL.RPN.BATCH_SIZE_PER_IMAGE", 16, "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", 16),
    *("MODEL.REFINEDET.TCB_CHANNELS", 32, "SOLVER.MAX_ITER", 10, "SOLVER.STEPS", "(8,)", "SOLVER.BASE_LR", 0.01),
)
HEADS = ("fcos", "faster_rcnn", "refinedet")
NORMS = ("frozen_bn", "sync_bn")


@pytest.fixture
def small(tiny, tmp_path):
    """small(name, *opts): a tiny config of four images a step, which writes to a folder of this name."""

    def build(name, *opts):
        return tiny(*SMALL, *opts, "OUTPUT_DIR", tmp_path / "one" / name)

    return build


def largest_difference(got, want):
    return max((got[key].double() - value.double()).abs().max().item() for key, value in want.items())


def test_two_processes_make_the_steps_of_one(small, tmp_path):
    """In float64 with all heads and norms, where nothing but an error could make a difference; then in float32."""
    jobs = {}
    for head in HEADS:
        for norm in NORMS:
            jobs[f"{head}_{norm}"] = small(head + norm, "MODEL.HEAD.NAME", head, "MODEL.BACKBONE.NORM", norm), True
    jobs["float"] = small("float", "MODEL.HEAD.NAME", "fcos", "MODEL.BACKBONE.NORM", "frozen_bn"), False
    two = courses(tmp_path / "two", jobs)
    for name, (cfg, double) in jobs.items():
        want, got = course(cfg, double), two[name]
        assert got["seen"] == want["seen"], name
        steps = list(zip(got["terms"], want["terms"], strict=True))
        for step, (ours, theirs) in enumerate(steps[: None if double else 1]):
            assert ours == pytest.approx(theirs, rel=1e-9 if double else 1e-5, abs=1e-9), (name, step)
        assert largest_difference(got["model"], want["model"]) < (1e-8 if double else 1e-4), name
        assert len(steps) == 10
