"""Keys that were set and do nothing are named in one line."""

import logging

import pytest

from detector.config import config_from_text, config_text, load_config, save_config, shipped_configs
from detector.config.defaults import flat
from detector.config.idle import NECK_OF_HEAD, idle_keys, idle_text
from detector.models.heads import STANDARDS

DEFORMED = ("MODEL.BACKBONE.DEFORM_STAGES", "(False, True, True, True)")
AUGMENTED = ("TEST.BBOX_AUG.ENABLED", "True", "TEST.BBOX_AUG.H_FLIP", "True")


def lines(caplog, path, *opts):
    caplog.clear()
    with caplog.at_level(logging.WARNING, "detector"):
        load_config(path, opts)
    return [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize(
    ("opts", "named", "why"),
    [
        (["MODEL.HEAD.NAME", "faster_rcnn", "MODEL.FCOS.NUM_CONVS", "4"], "MODEL.FCOS.NUM_CONVS", "MODEL.HEAD.NAME"),
        (["MODEL.RPN.NMS_THRESH", "0.7"], "MODEL.RPN.NMS_THRESH", "MODEL.HEAD.NAME fcos"),
        *(
            ([key, value], key, "MODEL.BACKBONE.DEFORM_STAGES [False, False, False, False]")
            for key, value in (
                ("MODEL.BACKBONE.DEFORM_MODULATED", "True"),
                ("MODEL.BACKBONE.DEFORM_GROUPS", "2"),
                ("MODEL.BACKBONE.DEFORM_MASK_DOUBLED", "True"),
            )
        ),
        (
            [*DEFORMED, "MODEL.BACKBONE.DEFORM_MODULATED", "False", "MODEL.BACKBONE.DEFORM_MASK_DOUBLED", "True"],
            "MODEL.BACKBONE.DEFORM_MASK_DOUBLED",
            "MODEL.BACKBONE.DEFORM_MODULATED False",
        ),
        (["MODEL.ROI_HEADS.NMS", "0.5"], "MODEL.ROI_HEADS.NMS", "MODEL.HEAD.NAME fcos"),
        (["MODEL.ROI_BOX_HEAD.NUM_FC", "2"], "MODEL.ROI_BOX_HEAD.NUM_FC", "MODEL.HEAD.NAME fcos"),
        (["MODEL.CLS_AGNOSTIC_BBOX_REG", "False"], "MODEL.CLS_AGNOSTIC_BBOX_REG", "MODEL.HEAD.NAME fcos"),
        (["MODEL.REFINEDET.NMS", "0.4"], "MODEL.REFINEDET.NMS", "MODEL.HEAD.NAME fcos"),
        (["MODEL.NECK.L2NORM_SCALES", "(10, 8)"], "MODEL.NECK.L2NORM_SCALES", "neck fpn"),
        (
            ["MODEL.HEAD.NAME", "refinedet", "MODEL.NECK.OUT_CHANNELS", "64"],
            "MODEL.NECK.OUT_CHANNELS",
            "neck refinedet_sources",
        ),
        (
            ["MODEL.HEAD.NAME", "refinedet", "MODEL.NECK.EXTRA_LEVELS", "none", "MODEL.NECK.NORM", "bn"],
            "MODEL.NECK.NORM",
            "MODEL.NECK.EXTRA_LEVELS none",
        ),
        (["MODEL.FCOS.NUM_CONVS", "0", "MODEL.FCOS.NORM", "gn"], "MODEL.FCOS.NORM", "MODEL.FCOS.NUM_CONVS 0"),
        (["SOLVER.SCHEDULE", "cosine", "SOLVER.GAMMA", "0.1"], "SOLVER.GAMMA", "SOLVER.SCHEDULE cosine"),
        (["SOLVER.SCHEDULE", "cosine", "SOLVER.STEPS", "(1,)"], "SOLVER.STEPS", "SOLVER.SCHEDULE cosine"),
        (["SOLVER.STEPS", "()", "SOLVER.GAMMA", "0.1"], "SOLVER.GAMMA", "SOLVER.STEPS []"),
        (["SOLVER.EMA_WARMUP", "True"], "SOLVER.EMA_WARMUP", "SOLVER.EMA_DECAY 0.0"),
        (["SOLVER.OPTIMIZER", "adamw", "SOLVER.MOMENTUM", "0.9"], "SOLVER.MOMENTUM", "SOLVER.OPTIMIZER adamw"),
        (
            ["MODEL.BACKBONE.FREEZE_CONV_BODY_AT", "5", "SOLVER.STAGE_LR_FACTORS", "(1, 1, 1, 1, 2)"],
            "SOLVER.STAGE_LR_FACTORS",
            "MODEL.BACKBONE.FREEZE_CONV_BODY_AT 5",
        ),
        (
            ["SOLVER.WARMUP_ITERS", "0", "SOLVER.WARMUP_METHOD", "linear"],
            "SOLVER.WARMUP_METHOD",
            "SOLVER.WARMUP_ITERS 0",
        ),
        (["SOLVER.WARMUP_ITERS", "0", "SOLVER.WARMUP_FACTOR", "1"], "SOLVER.WARMUP_FACTOR", "SOLVER.WARMUP_ITERS 0"),
        (["INPUT.SQUARE_SIZE", "320", "INPUT.MAX_SIZE_TEST", "9"], "INPUT.MAX_SIZE_TEST", "INPUT.SQUARE_SIZE 320"),
        (
            ["INPUT.MIN_SIZE_RANGE_TRAIN", "(6, 8)", "INPUT.MIN_SIZE_TRAIN", "(7,)"],
            "INPUT.MIN_SIZE_TRAIN",
            "INPUT.MIN_SIZE_RANGE_TRAIN [6, 8]",
        ),
        (["DATASETS.TEST", "()", "SOLVER.TEST_PERIOD", "5"], "SOLVER.TEST_PERIOD", "DATASETS.TEST []"),
        (
            [
                "DATASETS.TRAIN",
                "('voc:a:train', 'voc_2007_train')",
                "DATASETS.TEST",
                "()",
                "DATASETS.CROWDS",
                "objects",
            ],
            "DATASETS.CROWDS",
            "data without crowds",
        ),
        (["SOLVER.PATIENCE", "2"], "SOLVER.PATIENCE", "SOLVER.TEST_PERIOD 0"),
        (["TEST.BEST_BY", "AP50"], "TEST.BEST_BY", "SOLVER.TEST_PERIOD 0"),
        (["DATASETS.TEST", "()", "SOLVER.PATIENCE", "2"], "SOLVER.PATIENCE", "DATASETS.TEST []"),
        (["TEST.BBOX_AUG.H_FLIP", "True"], "TEST.BBOX_AUG.H_FLIP", "TEST.BBOX_AUG.ENABLED False"),
        (["TEST.BBOX_AUG.SCALES", "600"], "TEST.BBOX_AUG.SCALES", "TEST.BBOX_AUG.ENABLED False"),
        (["TEST.BBOX_AUG.MERGE_IOU", "0.5"], "TEST.BBOX_AUG.MERGE_IOU", "TEST.BBOX_AUG.ENABLED False"),
        ([*AUGMENTED, "TEST.BBOX_AUG.MAX_SIZE", "900"], "TEST.BBOX_AUG.MAX_SIZE", "TEST.BBOX_AUG.SCALES []"),
        ([*AUGMENTED, "TEST.BBOX_AUG.SCALE_H_FLIP", "True"], "TEST.BBOX_AUG.SCALE_H_FLIP", "TEST.BBOX_AUG.SCALES []"),
        (["TEST.BBOX_AUG.ENABLED", "True"], "TEST.BBOX_AUG.ENABLED", "TEST.BBOX_AUG.SCALES []"),
        (
            [*AUGMENTED, "TEST.BBOX_AUG.SCALES", "9", "TEST.BBOX_AUG.MAX_SIZE", "9", "INPUT.SQUARE_SIZE", "320"],
            "TEST.BBOX_AUG.MAX_SIZE",
            "INPUT.SQUARE_SIZE 320",
        ),
        (["DISTILL.WEIGHT", "3"], "DISTILL.WEIGHT", "no DISTILL.TEACHER"),
        (["DISTILL.METHOD", "cwd"], "DISTILL.METHOD", "no DISTILL.TEACHER"),
        (["DISTILL.LEVELS", "[p3]"], "DISTILL.LEVELS", "no DISTILL.TEACHER"),
        (["DISTILL.TEACHER", "x", "DISTILL.TEMPERATURE", "2"], "DISTILL.TEMPERATURE", "DISTILL.METHOD pkd"),
        (["LOG.PICTURES", "2"], "LOG.PICTURES", "LOG.TENSORBOARD False"),
        (
            ["MODEL.BACKBONE.FREEZE_CONV_BODY_AT", "3", "MODEL.BACKBONE.CHECKPOINT_STAGES", "(2, 1)"],
            "MODEL.BACKBONE.CHECKPOINT_STAGES",
            "MODEL.BACKBONE.FREEZE_CONV_BODY_AT 3",
        ),
        (["DATASETS.TEST", "()", "LOG.TENSORBOARD", "True", "LOG.PICTURES", "2"], "LOG.PICTURES", "DATASETS.TEST []"),
    ],
)
def test_what_has_no_effect_is_named_with_its_origin_and_reason(caplog, opts, named, why):
    (line,) = lines(caplog, None, *opts)
    assert line.startswith(f"without effect in this config: {named} (command line) with {why}")


@pytest.mark.parametrize(
    ("opts", "named"),
    [
        (["ROI_HEADS.CASCADE_IOUS", "(0.5, 0.6)"], "ROI_HEADS.FG_IOU_THRESHOLD"),
        (["ROI_HEADS.NMS_METHOD", "soft_linear"], "ROI_HEADS.SOFT_NMS_SIGMA"),
        (["ROI_HEADS.NMS_METHOD", "hard"], "ROI_HEADS.SOFT_NMS_MIN_SCORE"),
        (["ROI_HEADS.NMS_METHOD", "soft_gaussian"], "ROI_HEADS.NMS"),
        (["ROI_BOX_HEAD.NUM_CONV", "0"], "ROI_BOX_HEAD.CONV_HEAD_DIM"),
        (["ROI_BOX_HEAD.NUM_CONV", "0"], "ROI_BOX_HEAD.NORM"),
        (["ROI_BOX_HEAD.NUM_FC", "0"], "ROI_BOX_HEAD.MLP_HEAD_DIM"),
        (["ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE", "giou"], "ROI_BOX_HEAD.SMOOTH_L1_BETA"),
    ],
)
def test_options_of_faster_rcnn_exclude_others(caplog, opts, named):
    key = f"MODEL.{named}"
    value = str(flat(load_config(None))[key])
    (line,) = lines(caplog, "base/faster_rcnn", f"MODEL.{opts[0]}", opts[1], key, value)
    assert line == f"without effect in this config: {key} (command line) with MODEL.{opts[0]} {shown(opts[1])}"
    method = "hard" if named == "ROI_HEADS.NMS" else "soft_gaussian"
    effective = ["MODEL.ROI_HEADS.NMS_METHOD", method, "MODEL.ROI_BOX_HEAD.NUM_CONV", "1"]
    assert not lines(caplog, "base/faster_rcnn", *effective, key, value)


def shown(text):
    return text.replace("(", "[").replace(")", "]")


def test_keys_of_one_file_and_one_reason_stand_together(caplog, tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("MODEL: {FCOS: {NORM: gn, NUM_CONVS: 3}}\nSOLVER: {OPTIMIZER: adamw}\n")
    (line,) = lines(caplog, path, "MODEL.HEAD.NAME", "refinedet", "SOLVER.MOMENTUM", "0.9")
    assert line == (
        f"without effect in this config: MODEL.FCOS.NORM, MODEL.FCOS.NUM_CONVS ({path}) "
        "with MODEL.HEAD.NAME refinedet; SOLVER.MOMENTUM (command line) with SOLVER.OPTIMIZER adamw"
    )


def test_what_a_shipped_file_says_is_no_surprise_to_whoever_sets_keys_on_top_of_it(caplog, tmp_path):
    for head in ("faster_rcnn", "refinedet"):
        assert not lines(caplog, "quickstart", "MODEL.HEAD.NAME", head)
    path = tmp_path / "mine.yaml"
    path.write_text("_BASE_: quickstart\nMODEL: {FCOS: {NUM_CONVS: 3}}\n")
    (line,) = lines(caplog, path, "MODEL.HEAD.NAME", "refinedet")
    assert line.startswith(f"without effect in this config: MODEL.FCOS.NUM_CONVS ({path}) with")
    assert not lines(caplog, "quickstart", "SOLVER.WARMUP_ITERS", "0")  # as a warning of short trainings advises
    (line,) = lines(caplog, "quickstart", "SOLVER.WARMUP_ITERS", "0", "SOLVER.WARMUP_FACTOR", "0.1")
    assert line == "without effect in this config: SOLVER.WARMUP_FACTOR (command line) with SOLVER.WARMUP_ITERS 0"


def test_a_shipped_file_alone_is_told_what_it_sets_in_vain():
    cfg = load_config(None, ["SOLVER.WARMUP_ITERS", "0"])
    theirs = {"SOLVER.WARMUP_FACTOR": "base/new.yaml"}
    assert "SOLVER.WARMUP_FACTOR (base/new.yaml)" in idle_text(cfg, theirs, {"base/new.yaml"})
    assert idle_text(cfg, {**theirs, "SEED": "mine.yaml"}, {"base/new.yaml"}) == ""


@pytest.mark.parametrize(
    "opts",
    [
        AUGMENTED,
        (*AUGMENTED, "TEST.BBOX_AUG.MERGE", "wbf", "TEST.BBOX_AUG.MERGE_IOU", "0.6"),
        (*AUGMENTED[:2], "TEST.BBOX_AUG.SCALES", "(600, 1000)", "TEST.BBOX_AUG.SCALE_H_FLIP", "True"),
        (*AUGMENTED[:2], "TEST.BBOX_AUG.SCALES", "600", "TEST.BBOX_AUG.MAX_SIZE", "900"),
        (*AUGMENTED, "TEST.BBOX_AUG.SCALES", "600", "INPUT.SQUARE_SIZE", "320"),
        ("TEST.BBOX_AUG.ENABLED", "False"),
    ],
)
def test_nothing_is_said_of_test_time_augmentation_in_use(caplog, opts):
    assert lines(caplog, None, *opts) == []


def test_nothing_is_said_of_keys_in_use_or_of_a_plugins_head(caplog):
    used = [
        "MODEL.FCOS.NUM_CONVS",
        "2",
        "SOLVER.STEPS",
        "(5,)",
        "SOLVER.WARMUP_FACTOR",
        "0.5",
        "INPUT.MIN_SIZE_TRAIN",
        "9",
    ]
    assert not lines(caplog, None, *used, "MODEL.NECK.OUT_CHANNELS", "64")
    best = ["SOLVER.PATIENCE", "2", "TEST.BEST_BY", "AP50"]
    assert not lines(caplog, None, *best, "SOLVER.TEST_PERIOD", "5")
    assert not lines(caplog, None, *best, "SOLVER.EPOCHS", "5")  # with an evaluation after each
    assert not lines(caplog, None, "MODEL.BACKBONE.CHECKPOINT_STAGES", "(1, 2)")  # layer2 is trained
    assert not lines(caplog, None, "MODEL.BACKBONE.CHECKPOINT_STAGES", "()")
    theirs = ["MODEL.HEAD.NAME", "theirs", "MODEL.FCOS.NUM_CONVS", "2", "MODEL.RPN.NMS_THRESH", "0.5"]
    theirs += ["MODEL.NECK.OUT_CHANNELS", "64", "MODEL.NECK.L2NORM_SCALES", "()", "MODEL.ROI_BOX_HEAD.NORM", "gn"]
    assert not lines(caplog, None, *theirs)
    assert not lines(caplog, None, "MODEL.NECK.NAME", "theirs", "MODEL.NECK.L2NORM_SCALES", "()")


def test_what_a_program_wrote_says_nothing(caplog, tmp_path):
    cfg = load_config(None, ["MODEL.HEAD.NAME", "faster_rcnn", "MODEL.FCOS.NUM_CONVS", "2"])
    save_config(cfg, tmp_path / "config.yaml")
    assert not lines(caplog, tmp_path / "config.yaml")
    (line,) = lines(caplog, tmp_path / "config.yaml", "MODEL.FCOS.NUM_CONVS", "3")
    assert "MODEL.FCOS.NUM_CONVS (command line)" in line
    caplog.clear()
    with caplog.at_level(logging.WARNING, "detector"):
        config_from_text(config_text(cfg))
        config_from_text("MODEL: {FCOS: {NUM_CONVS: 2}, HEAD: {NAME: refinedet}}\n")
    assert not caplog.records


@pytest.mark.parametrize("name", shipped_configs())
def test_no_shipped_file_sets_an_idle_key(caplog, name):
    assert not lines(caplog, name)


def test_the_necks_known_here_are_those_that_the_heads_declare():
    assert {head: standard.neck for head, standard in STANDARDS.items() if head in NECK_OF_HEAD} == NECK_OF_HEAD
    assert "MODEL.NECK.OUT_CHANNELS" not in idle_keys(load_config(None))
