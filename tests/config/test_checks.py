"""Choices and ranges of the keys."""

import pytest
from yacs.config import CfgNode

from detector.config import get_defaults, load_config, validate
from detector.config.checks import RULES
from detector.config.defaults import flat


def test_every_key_with_numbers_or_choices_has_a_rule():
    numbers = {key for key, value in flat(get_defaults()).items() if not isinstance(value, str | bool)}
    assert numbers - {"DATASETS.TRAIN", "DATASETS.TEST"} <= set(RULES)
    assert set(RULES) <= set(flat(get_defaults()))


@pytest.mark.parametrize("text", ["0.5, 0.6", "(0.5, 0.6)", "[0.5, 0.6]"])
def test_a_list_that_is_empty_by_default_takes_numbers_and_nothing(text):
    assert get_defaults().MODEL.ROI_HEADS.CASCADE_IOUS == ()
    assert load_config(None, ["MODEL.ROI_HEADS.CASCADE_IOUS", text]).MODEL.ROI_HEADS.CASCADE_IOUS == (0.5, 0.6)
    assert load_config(None, ["MODEL.ROI_HEADS.CASCADE_IOUS", "[]"]).MODEL.ROI_HEADS.CASCADE_IOUS == ()
    with pytest.raises(ValueError, match="CASCADE_IOUS: expected a list of numbers, got 'high'"):
        load_config(None, ["MODEL.ROI_HEADS.CASCADE_IOUS", "high"])


def test_the_list_of_a_necks_sources_is_empty_by_default_and_takes_names():
    assert get_defaults().MODEL.NECK.SOURCES == ()
    assert load_config(None, ["MODEL.NECK.SOURCES", "[c2, c3]"]).MODEL.NECK.SOURCES == ("c2", "c3")
    with pytest.raises(ValueError, match="SOURCES: expected a list of names, got '2, 3'"):
        load_config(None, ["MODEL.NECK.SOURCES", "2, 3"])


def test_the_list_of_milestones_is_empty_by_default_and_takes_steps():
    key = "SOLVER.CHECKPOINT_MILESTONES"
    assert get_defaults().SOLVER.CHECKPOINT_MILESTONES == ()
    for text in ("[10, 20]", "(10, 20)", "10, 20"):
        (first, second) = load_config(None, [key, text]).SOLVER.CHECKPOINT_MILESTONES
        assert ((first, second), type(first)) == ((10, 20), int)
    with pytest.raises(ValueError, match=r"MILESTONES: expected a list of integers, got '10\.5'"):
        load_config(None, [key, "10.5"])


@pytest.mark.parametrize("text", ["(False, True, True, True)", "[false, on, yes, True]", "False, True, True, True"])
def test_stages_are_chosen_by_words_of_truth(text, tmp_path):
    (tmp_path / "a.yaml").write_text(f"MODEL: {{BACKBONE: {{DEFORM_STAGES: '{text}'}}}}")
    for cfg in (load_config(None, ["MODEL.BACKBONE.DEFORM_STAGES", text]), load_config(tmp_path / "a.yaml")):
        assert cfg.MODEL.BACKBONE.DEFORM_STAGES == (False, True, True, True)


def test_pixel_statistics_go_together():
    with pytest.raises(ValueError, match=r"INPUT\.PIXEL_MEAN and INPUT\.PIXEL_STD go together"):
        load_config(None, ["INPUT.PIXEL_MEAN", "[1, 2, 3]"])
    with pytest.raises(ValueError, match=r"INPUT\.PIXEL_STD: \[1\.0, 0\.0, 1\.0\] is not allowed"):
        load_config(None, ["INPUT.PIXEL_MEAN", "[1, 2, 3]", "INPUT.PIXEL_STD", "[1, 0, 1]"])


@pytest.mark.parametrize(
    ("key", "text", "words"),
    [
        ("MODEL.BACKBONE.NORM", "batch", "'batch' is not allowed; allowed: frozen_bn | bn | sync_bn | gn"),
        ("SOLVER.AMP", "on", "'on' is not allowed; allowed: off | bf16 | fp16"),
        ("TEST.AMP", "fp32", "allowed: off | bf16 | fp16"),
        ("SOLVER.OPTIMIZER", "adam", "allowed: sgd | adamw"),
        ("SOLVER.SCHEDULE", "step", "allowed: multi_step | cosine"),
        ("SOLVER.WARMUP_METHOD", "exp", "allowed: linear | constant"),
        ("MODEL.FCOS.IOU_LOSS_TYPE", "ciou", "allowed: iou | linear_iou | giou"),
        ("MODEL.FCOS.NORM", "bn", "allowed: gn | none"),
        ("MODEL.NECK.EXTRA_LEVELS", "p6", "allowed: auto | none | maxpool | p6p7_p5 | p6p7_c5"),
        ("MODEL.NECK.NORM", "frozen_bn", "allowed: auto | none | bn | sync_bn | gn"),
        ("MODEL.NECK.SOURCES", "[c3, c3]", "allowed: names of levels, each once, or () for auto"),
        ("MODEL.NECK.L2NORM_SCALES", "[10, -1]", "allowed: positive numbers, () for none, or (-1,) for auto"),
        ("MODEL.NUM_CLASSES", "-1", "allowed: 0 or more"),
        ("SOLVER.EPOCHS", "-1", "allowed: 0 or more"),
        ("SOLVER.STEPS", "[200, 100]", "[200, 100] is not allowed; allowed: positive numbers that rise"),
        ("SOLVER.STEPS", "[0, 100]", "allowed: positive numbers that rise"),
        ("SOLVER.IMS_PER_BATCH", "0", "0 is not allowed; allowed: 1 or more"),
        ("INPUT.HORIZONTAL_FLIP_PROB_TRAIN", "1.5", "allowed: 0 to 1"),
        ("MODEL.FCOS.PRIOR_PROB", "0", "allowed: more than 0 and less than 1"),
        ("MODEL.RPN.ANCHOR_SIZES", "[32, 0]", "allowed: one positive number at least"),
        ("MODEL.RPN.NMS_THRESH", "1.1", "allowed: 0 to 1"),
        ("MODEL.ROI_HEADS.BBOX_REG_WEIGHTS", "[10, 10, 5]", "allowed: four positive numbers"),
        ("MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE", "iou", "allowed: smooth_l1 | l1 | giou"),
        ("INPUT.MIN_SIZE_TRAIN", "[]", "allowed: one positive number at least"),
        ("INPUT.MIN_SIZE_RANGE_TRAIN", "[800, 600]", "smaller first"),
        ("INPUT.MIN_SIZE_RANGE_TRAIN", "[800]", "two positive numbers"),
        ("MODEL.BACKBONE.FREEZE_CONV_BODY_AT", "6", "allowed: 0 to 5"),
        ("SOLVER.STAGE_LR_FACTORS", "(0.1, 0.2, 0.3, 0.4)", "allowed: () or five or six positive numbers"),
        ("SOLVER.STAGE_LR_FACTORS", "(0.1, 0.2, 0.3, 0.4, 0.0)", "allowed: () or five or six positive numbers"),
        (
            "MODEL.BACKBONE.CHECKPOINT_STAGES",
            "(0, 1)",
            "[0, 1] is not allowed; allowed: numbers from 1 to 4",
        ),
        ("MODEL.BACKBONE.CHECKPOINT_STAGES", "[2, 2]", "allowed: numbers from 1 to 4, each once"),
        ("MODEL.BACKBONE.DEFORM_STAGES", "(True, True)", "allowed: four of True and False"),
        ("MODEL.BACKBONE.DEFORM_STAGES", "True", "allowed: four of True and False"),
        ("MODEL.BACKBONE.DEFORM_STAGES", "[2, 3, 4, 5]", "expected a list of True and False, got '[2, 3, 4, 5]'"),
        ("MODEL.BACKBONE.DEFORM_GROUPS", "0", "allowed: 1 or more"),
        ("MODEL.BACKBONE.CHECKPOINT_STAGES", "1.5", "expected a list of integers, got '1.5'"),
        ("INPUT.AUGMENTATION", "none", "allowed: flip | ssd"),
        ("INPUT.SQUARE_SIZE", "-1", "allowed: 0 or more"),
        ("DATASETS.TRAIN_DIFFICULT", "maybe", "allowed: auto | yes | no"),
        ("SOLVER.CHECKPOINT_MILESTONES", "[20, 20]", "allowed: positive numbers that rise"),
        ("SOLVER.CHECKPOINT_MILESTONES", "0", "allowed: positive numbers that rise"),
        ("SOLVER.PATIENCE", "-1", "allowed: 0 or more"),
        ("SOLVER.EMA_DECAY", "1", "allowed: 0 or more and less than 1"),
        ("DISTILL.METHOD", "kd", "'kd' is not allowed; allowed: pkd | cwd"),
        ("DISTILL.LEVELS", "[p3, p3]", "allowed: names of levels, each once, or () for auto"),
        ("DISTILL.LEVELS", "3", "expected a list of names, got '3'"),
        ("DISTILL.WEIGHT", "-2", "allowed: 0 or more, or -1 for auto"),
        ("DISTILL.TEMPERATURE", "0", "allowed: more than 0"),
        ("TEST.EVALUATOR", "[auto, voc]", "allowed: auto, or coco, voc or both"),
        ("TEST.BBOX_AUG.SCALES", "[600, 0]", "allowed: positive numbers, each once"),
        ("TEST.BBOX_AUG.SCALES", "[600, 600]", "allowed: positive numbers, each once"),
        ("TEST.BBOX_AUG.SCALES", "0.5", "expected a list of integers, got '0.5'"),
        ("TEST.BBOX_AUG.MAX_SIZE", "0", "allowed: 1 or more"),
        ("TEST.BBOX_AUG.MERGE", "soft", "allowed: nms | wbf"),
        ("TEST.BBOX_AUG.MERGE_IOU", "1.1", "allowed: 0 to 1, or -1 for auto"),
        ("TEST.BBOX_AUG.MERGE_IOU", "-0.5", "allowed: 0 to 1, or -1 for auto"),
        ("TEST.EVALUATOR", "[voc, voc]", "allowed: auto, or coco, voc or both"),
    ],
)
def test_message_names_source_key_value_and_choices(key, text, words):
    with pytest.raises(ValueError, match=rf"^command line: {key}: ") as error:
        load_config(None, [key, text])
    assert words in str(error.value)


def test_validate_lists_all_problems_and_passes_the_defaults():
    cfg = get_defaults()
    validate(cfg)
    cfg.SOLVER.AMP, cfg.SEED = "x", -1
    with pytest.raises(ValueError, match=r"SEED.*\n.*SOLVER.AMP"):
        validate(cfg)
    assert isinstance(cfg, CfgNode)
