"""Keys of maskrcnn-benchmark and FCOS are answered with what to write now."""

import re

import pytest

from detector.config import get_defaults, load_config
from detector.config.defaults import flat
from detector.config.moved import MOVED, what_to_write_now

FCOS_R_50_FPN_1X = """\
MODEL:
  META_ARCHITECTURE: "GeneralizedRCNN"
  WEIGHT: "catalog://ImageNetPretrained/MSRA/R-50"
  RPN_ONLY: True
  FCOS_ON: True
  BACKBONE:
    CONV_BODY: "R-50-FPN-RETINANET"
  RESNETS:
    BACKBONE_OUT_CHANNELS: 256
  RETINANET:
    USE_C5: False # FCOS uses P5 instead of C5
DATASETS:
  TRAIN: ("coco_2014_train", "coco_2014_valminusminival")
  TEST: ("coco_2014_minival",)
INPUT:
  MIN_SIZE_TRAIN: (800,)
  MAX_SIZE_TRAIN: 1333
  MIN_SIZE_TEST: 800
  MAX_SIZE_TEST: 1333
DATALOADER:
  SIZE_DIVISIBILITY: 32
SOLVER:
  BASE_LR: 0.01
  WEIGHT_DECAY: 0.0001
  STEPS: (60000, 80000)
  MAX_ITER: 90000
  IMS_PER_BATCH: 16
  WARMUP_METHOD: "constant"
TEST:
  BBOX_AUG:
    ENABLED: False
"""


def test_a_published_file_is_answered_in_one_message_and_loads_once_that_is_done(tmp_path):
    path = tmp_path / "fcos_R_50_FPN_1x.yaml"
    path.write_text(FCOS_R_50_FPN_1X)
    with pytest.raises(ValueError, match="7 problems in the config") as error:
        load_config(path)
    text = str(error.value)
    for line in (
        "MODEL.META_ARCHITECTURE: write MODEL.HEAD.NAME fcos",
        "MODEL.WEIGHT: write MODEL.WEIGHT imagenet",
        "MODEL.RPN_ONLY: write MODEL.HEAD.NAME fcos",
        "MODEL.FCOS_ON: write MODEL.HEAD.NAME fcos",
        "MODEL.BACKBONE.CONV_BODY: write MODEL.BACKBONE.NAME resnet50_caffe, MODEL.NECK.NAME fpn",
        "MODEL.RESNETS.BACKBONE_OUT_CHANNELS: write MODEL.NECK.OUT_CHANNELS",
        "MODEL.RETINANET.USE_C5: write MODEL.NECK.EXTRA_LEVELS p6p7_p5",
    ):
        assert f"\n  {line}" in text

    start = FCOS_R_50_FPN_1X.index("DATASETS")
    path.write_text(
        "MODEL:\n"
        "  WEIGHT: imagenet\n"
        "  HEAD: {NAME: fcos}\n"
        "  BACKBONE: {NAME: resnet50_caffe}\n"
        "  NECK: {NAME: fpn, OUT_CHANNELS: 256, EXTRA_LEVELS: p6p7_p5}\n" + FCOS_R_50_FPN_1X[start:]
    )
    cfg = load_config(path)
    assert cfg.DATASETS.TRAIN == ("coco_2014_train", "coco_2014_valminusminival")
    assert cfg.INPUT.MIN_SIZE_TRAIN == (800,)
    assert cfg.SOLVER.WARMUP_METHOD == "constant"


FASTER_RCNN_R_50_FPN_1X = """\
MODEL:
  META_ARCHITECTURE: "GeneralizedRCNN"
  WEIGHT: "catalog://ImageNetPretrained/MSRA/R-50"
  BACKBONE:
    CONV_BODY: "R-50-FPN"
  RESNETS:
    BACKBONE_OUT_CHANNELS: 256
  RPN:
    USE_FPN: True
    ANCHOR_STRIDE: (4, 8, 16, 32, 64)
    PRE_NMS_TOP_N_TRAIN: 2000
    PRE_NMS_TOP_N_TEST: 1000
    POST_NMS_TOP_N_TEST: 1000
    FPN_POST_NMS_TOP_N_TEST: 1000
  ROI_HEADS:
    USE_FPN: True
  ROI_BOX_HEAD:
    POOLER_RESOLUTION: 7
    POOLER_SCALES: (0.25, 0.125, 0.0625, 0.03125)
    POOLER_SAMPLING_RATIO: 2
    FEATURE_EXTRACTOR: "FPN2MLPFeatureExtractor"
    PREDICTOR: "FPNPredictor"
"""


def test_what_faster_rcnn_shares_with_a_published_file_stays(tmp_path):
    path = tmp_path / "e2e_faster_rcnn_R_50_FPN_1x.yaml"
    path.write_text(FASTER_RCNN_R_50_FPN_1X)
    with pytest.raises(ValueError, match="11 problems in the config") as error:
        load_config(path)
    answered = [line.split(":")[0].strip() for line in str(error.value).splitlines()[2:]]
    assert "MODEL.RPN.ANCHOR_STRIDE" in answered
    kept = [
        line
        for line in FASTER_RCNN_R_50_FPN_1X.splitlines()
        if not any(f"{k.split('.')[-1]}:" in line for k in answered)
    ]
    path.write_text("\n".join([*kept[:-1], kept[-1], ""]).replace("  BACKBONE:\n", "").replace("  RESNETS:\n", ""))
    cfg = load_config(path)
    assert (cfg.MODEL.RPN.PRE_NMS_TOP_N_TEST, cfg.MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO) == (1000, 2)


@pytest.mark.parametrize(
    ("key", "value", "answer"),
    [
        ("MODEL.BACKBONE.CONV_BODY", "R-101-FPN-RETINANET", "MODEL.BACKBONE.NAME resnet101_caffe"),
        ("MODEL.BACKBONE.CONV_BODY", "R-50-FPN", "MODEL.NECK.EXTRA_LEVELS maxpool"),
        ("MODEL.BACKBONE.CONV_BODY", "V-57-FPN", "name the parts"),
        ("MODEL.RETINANET.USE_C5", "True", "p6p7_c5"),
        ("MODEL.RETINANET.OCTAVE", "2.0", "delete"),
        ("MODEL.RESNETS.STRIDE_IN_1X1", "False", "does not end in _caffe"),
        ("MODEL.RESNETS.NUM_GROUPS", "32", "resnext50_32x4d"),
        ("MODEL.RESNETS.STAGE_WITH_DCN", "(False, True, True, True)", "MODEL.BACKBONE.DEFORM_STAGES"),
        ("MODEL.RESNETS", "", "MODEL.BACKBONE.NAME"),
        ("MODEL.FCOS.NUM_CLASSES", "81", "MODEL.NUM_CLASSES, without the background"),
        ("MODEL.FCOS.FPN_STRIDES", ["8"], "follows from the levels"),
        ("MODEL.RPN_ONLY", "False", "MODEL.HEAD.NAME says which head"),
        ("MODEL.RPN.ANCHOR_STRIDE", "(4, 8)", "follows from the levels"),
        ("MODEL.RPN.FPN_POST_NMS_TOP_N_TEST", "2000", "write MODEL.RPN.POST_NMS_TOP_N_TEST"),
        ("MODEL.RPN.STRADDLE_THRESH", "0", "delete"),
        ("MODEL.ROI_HEADS.DETECTIONS_PER_IMG", "50", "write TEST.DETECTIONS_PER_IMG"),
        ("MODEL.ROI_BOX_HEAD.NUM_CLASSES", "81", "MODEL.NUM_CLASSES, without the background"),
        ("MODEL.ROI_BOX_HEAD.POOLER_SCALES", "(0.25,)", "follows from the levels"),
        ("MODEL.ROI_BOX_HEAD.PREDICTOR", "FPNPredictor", "NUM_CONV, NUM_FC and NORM describe the box head"),
        ("MODEL.ROI_BOX_HEAD.FEATURE_EXTRACTOR", "FPNXconv1fcFeatureExtractor", "NUM_CONV 4 and"),
        ("MODEL.ROI_BOX_HEAD.USE_GN", "True", "write MODEL.ROI_BOX_HEAD.NORM gn"),
        ("MODEL.FPN.USE_GN", "True", "write MODEL.NECK.NORM gn"),
        ("INPUT.TO_BGR255", "True", "weight record"),
        ("TEST.EXPECTED_RESULTS_SIGMA_TOL", "4", "delete"),
        ("PATHS_CATALOG", "x.py", "DATASETS.ROOT"),
        ("DTYPE", "float16", "SOLVER.AMP fp16"),
    ],
)
def test_answers(key, value, answer):
    assert answer in what_to_write_now(key, value)
    with pytest.raises(ValueError, match=re.escape(f"command line: {key}: ")):
        load_config(None, [key, str(value)])


def test_no_default_is_answered():
    assert not [key for key, value in flat(get_defaults()).items() if what_to_write_now(key, value, known=True)]


def test_answers_name_keys_that_exist():
    known = flat(get_defaults())
    named = {word for *_, answer in MOVED for word in re.findall(r"[A-Z]+(?:\.[A-Z_]+)+", answer)}
    assert named
    assert named <= set(known)


def test_every_row_can_be_reached():
    """A row behind a wider one would never answer."""
    for i, (key, value, _) in enumerate(MOVED):
        hit = what_to_write_now(key.replace("*", "X"), value.replace("*", "x"))
        assert hit == MOVED[i][2]
