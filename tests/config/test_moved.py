"""Keys of other frameworks are answered with what to write now."""

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


FASTER_RCNN_OF_DETECTRON2 = """\
VERSION: 2
MODEL:
  META_ARCHITECTURE: "GeneralizedRCNN"
  WEIGHTS: "detectron2://ImageNetPretrained/MSRA/R-50.pkl"
  BACKBONE: {NAME: "build_resnet_fpn_backbone", FREEZE_AT: 2}
  RESNETS: {DEPTH: 50, OUT_FEATURES: ["res2", "res3", "res4", "res5"]}
  FPN: {IN_FEATURES: ["res2", "res3", "res4", "res5"]}
  ANCHOR_GENERATOR: {SIZES: [[32], [64], [128], [256], [512]], ASPECT_RATIOS: [[0.5, 1.0, 2.0]]}
  RPN: {IN_FEATURES: ["p2", "p3"], PRE_NMS_TOPK_TRAIN: 2000, IOU_THRESHOLDS: [0.3, 0.7], NMS_THRESH: 0.6}
  ROI_HEADS: {NAME: "StandardROIHeads", NUM_CLASSES: 4, SCORE_THRESH_TEST: 0.05}
  ROI_BOX_HEAD: {NAME: "FastRCNNConvFCHead", NUM_FC: 2, POOLER_RESOLUTION: 7, NORM: "SyncBN"}
SOLVER:
  STEPS: (210000, 250000)
  AMP: {ENABLED: True}
  REFERENCE_WORLD_SIZE: 8
TEST: {EVAL_PERIOD: 5000}
"""


def test_a_file_of_detectron2_is_answered_key_by_key_and_what_is_the_same_stays(tmp_path):
    path = tmp_path / "faster_rcnn_R_50_FPN_1x.yaml"
    path.write_text(FASTER_RCNN_OF_DETECTRON2)
    with pytest.raises(ValueError, match="problems in the config") as error:
        load_config(path)
    text = str(error.value)
    for line in (
        "VERSION: configs have no version; delete the line",
        "MODEL.WEIGHTS: write MODEL.WEIGHT imagenet",
        "MODEL.BACKBONE.NAME: write the network's name, e.g. MODEL.BACKBONE.NAME resnet50",
        "MODEL.BACKBONE.FREEZE_AT: write MODEL.BACKBONE.FREEZE_CONV_BODY_AT",
        "MODEL.ANCHOR_GENERATOR.SIZES: write MODEL.RPN.ANCHOR_SIZES",
        "MODEL.RPN.IOU_THRESHOLDS: write MODEL.RPN.BG_IOU_THRESHOLD and MODEL.RPN.FG_IOU_THRESHOLD",
        "MODEL.ROI_HEADS.NUM_CLASSES: write MODEL.NUM_CLASSES",
        "MODEL.ROI_BOX_HEAD.NORM: write MODEL.ROI_BOX_HEAD.NORM sync_bn",
        "SOLVER.AMP.ENABLED: write SOLVER.AMP fp16 (or bf16)",
        "SOLVER.REFERENCE_WORLD_SIZE: write SOLVER.REFERENCE_BATCH",
        "TEST.EVAL_PERIOD: write SOLVER.TEST_PERIOD",
    ):
        assert f"\n  {line}" in text
    assert "unknown key" not in text
    assert not [key for key in ("NMS_THRESH:", "NUM_FC:", "POOLER_RESOLUTION:", "STEPS:") if f".{key}" in text]


OF_OTHERS = {
    "model: {type: FCOS, backbone: {type: ResNet, depth: 50, frozen_stages: 1}, bbox_head: {num_classes: 3}}\n"
    "optim_wrapper: {type: AmpOptimWrapper, optimizer: {type: SGD, lr: 0.01}, clip_grad: {max_norm: 35}}\n"
    "optimizer: {type: SGD, lr: 0.01}\ndata: {samples_per_gpu: 2, train: {type: CocoDataset}}\n"
    "auto_scale_lr: {base_batch_size: 16}\ncustom_hooks: [{type: EMAHook}]\ntrain_pipeline: [{type: Resize}]\n": (
        "model.type: write MODEL.HEAD.NAME fcos",
        "model.backbone.depth: write MODEL.BACKBONE.NAME",
        "model.backbone.frozen_stages: write MODEL.BACKBONE.FREEZE_CONV_BODY_AT, one more",
        "model.bbox_head.num_classes: write MODEL.NUM_CLASSES",
        "optim_wrapper.type: write SOLVER.AMP fp16",
        "optim_wrapper.optimizer.lr: write SOLVER.BASE_LR",
        "optim_wrapper.clip_grad.max_norm: write SOLVER.CLIP_GRAD_NORM",
        "optimizer.lr: write SOLVER.BASE_LR",
        "data.samples_per_gpu: write SOLVER.IMS_PER_BATCH",
        "auto_scale_lr.base_batch_size: write SOLVER.REFERENCE_BATCH",
        "custom_hooks: write SOLVER.EMA_DECAY",
        "train_pipeline: write INPUT.MIN_SIZE_TRAIN",
    ),
    "task: detect\nmodel: yolo11n.pt\ndata: coco8.yaml\nepochs: 100\nbatch: -1\nimgsz: 640\ncos_lr: true\n"
    "optimizer: auto\nval: true\nlr0: 0.01\nfreeze: 10\nhsv_h: 0.015\nformat: onnx\n": (
        "model: there are no YOLO heads",
        "data: write DATASETS.TRAIN yolo:FILE.yaml:train",
        "epochs: write SOLVER.EPOCHS",
        "batch: leave it out and add --batch auto",
        "imgsz: write INPUT.MIN_SIZE_TRAIN and INPUT.MIN_SIZE_TEST",
        "cos_lr: write SOLVER.SCHEDULE cosine",
        "optimizer: write SOLVER.OPTIMIZER sgd or adamw",
        "val: write SOLVER.TEST_PERIOD",
        "lr0: write SOLVER.BASE_LR",
    ),
    "path: coco8\ntrain: images/train\nval: images/val\nnc: 2\nnames: {0: person, 1: car}\n": (
        "train: of a YOLO data set's YAML, which is no config: write DATASETS.TRAIN yolo:FILE.yaml:train",
        "val: write DATASETS.TEST yolo:FILE.yaml:val",
        "nc: write MODEL.NUM_CLASSES",
        "names: of a YOLO data set's YAML",
    ),
}


@pytest.mark.parametrize(("text", "lines"), OF_OTHERS.items(), ids=["mmdetection", "ultralytics", "data"])
def test_every_key_of_other_files_is_answered(text, lines, tmp_path):
    path = tmp_path / "theirs.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match="problems in the config") as error:
        load_config(path)
    assert "unknown key" not in str(error.value)
    assert not [line for line in lines if f"\n  {line}" not in str(error.value)]


def test_no_default_is_answered():
    assert not [key for key, value in flat(get_defaults()).items() if what_to_write_now(key, value, known=True)]


def test_answers_name_keys_that_exist():
    known = flat(get_defaults())
    named = {word for *_, answer in MOVED for word in re.findall(r"[A-Z]+(?:\.[A-Z0-9_]+)+", answer)}
    assert named
    assert named <= set(known)


def test_every_row_can_be_reached():
    """A row behind a wider one would never answer."""
    for i, (key, value, _) in enumerate(MOVED):
        hit = what_to_write_now(key.replace("*", "X"), value.replace("*", "x"))
        assert hit == MOVED[i][2]
