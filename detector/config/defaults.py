"""Every config key once: its default, its unit and its meaning.

Keys that maskrcnn-benchmark or FCOS has keep their names and meaning; what became of the others stands in `moved.py`.
"""

import os
from typing import Any

from yacs.config import CfgNode

_C = CfgNode()
_C.OUTPUT_DIR = "output"  # folder of checkpoints, config.yaml, log.jsonl, metrics.json, results.json; where
#                          neither the file NAME.yaml nor a base of yours sets it, output/NAME
_C.SEED = 0  # of weights, order of images and augmentation; the same seed gives the same run on the same machine

_C.LOG = CfgNode()
_C.LOG.TENSORBOARD = False  # write OUTPUT_DIR/tensorboard too; needs the extra [log]
_C.LOG.PICTURES = 4  # with TENSORBOARD: pictures of each test set that show detections and truth, at every evaluation

# ---------------------------------------------------------------------------- model
_C.MODEL = CfgNode()
_C.MODEL.TASK = "detection"  # detection (boxes) | saliency (maps of salient objects: backbone and MODEL.SALIENCY)
_C.MODEL.DEVICE = "auto"  # auto (cuda, else mps, else cpu) | cpu | cuda | cuda:1 | mps
_C.MODEL.WEIGHT = ""  # "": random | imagenet: the backbone's own record | path or address of a file, or a run's
#                                           folder, of which the newest checkpoint counts: weights only
_C.MODEL.NUM_CLASSES = 80  # foreground classes, background is the head's own affair; 0: as many as the data have
_C.MODEL.CHANNELS_LAST = True  # memory format of weights and images: True is faster nearly everywhere, same numbers

_C.MODEL.BACKBONE = CfgNode()
_C.MODEL.BACKBONE.NAME = "resnet50"  # any registered backbone
_C.MODEL.BACKBONE.NORM = "frozen_bn"  # frozen_bn | bn | sync_bn | gn
_C.MODEL.BACKBONE.NORM_EPS = -1.0  # frozen_bn only: added to its variance; -1: what the weight record says
_C.MODEL.BACKBONE.FREEZE_CONV_BODY_AT = 2  # parts without gradient: 0 none, 1 stem, 2 stem and layer1, .. 5 all
_C.MODEL.BACKBONE.PASSES = 0  # how often each stage runs (SReResNet: 2); 0: as the entry itself has it
_C.MODEL.BACKBONE.DEFORM_STAGES = (False, False, False, False)  # layer1 to layer4 (res2 to res5): whether their 3x3
#                                           convolutions are deformable: they learn where they look, from zero offsets
_C.MODEL.BACKBONE.DEFORM_MODULATED = True  # they weigh it by masks, too (Zhu et al. 2019); False: offsets alone
_C.MODEL.BACKBONE.DEFORM_GROUPS = 1  # groups of channels, each with offsets and masks of its own; ResNeSt's results: 2
_C.MODEL.BACKBONE.DEFORM_MASK_DOUBLED = False  # False: a mask is a sigmoid, so that a new convolution counts half;
#                                           weights of detectron2 and mmdetection need that. True: twice a sigmoid, so
#                                           that a network with new offsets computes what it does without any
_C.MODEL.BACKBONE.CHECKPOINT_STAGES = ()  # stages, 1 to 4 (layer1 to layer4), of whose activations only a few are
#                                           kept; the backward pass computes the others again: less memory, more time

_C.MODEL.NECK = CfgNode()  # what is auto here is what the paper of the head has, or of another neck that is named
_C.MODEL.NECK.NAME = "auto"  # auto | any registered neck
_C.MODEL.NECK.SOURCES = ()  # backbone levels it takes, fine to coarse: [c3, c4, c5]; (): auto
_C.MODEL.NECK.OUT_CHANNELS = 256  # fpn: channels of every level that it puts out, and of the head's towers
_C.MODEL.NECK.EXTRA_LEVELS = "auto"  # levels above the coarsest: auto | none, of fpn maxpool | p6p7_p5 | p6p7_c5 (their
#                                      source), of refinedet_sources c6 (two convolutions) | c6_bottleneck
_C.MODEL.NECK.L2NORM_SCALES = (-1.0,)  # refinedet_sources: first scales of the L2-normalised sources; (): none are;
#                                        (-1,): auto, a number that no scale can be, as () has a meaning of its own
_C.MODEL.NECK.NORM = "auto"  # fpn: norm after its convolutions but those of the extra levels; refinedet_sources: in c6
#                              auto | none | bn | sync_bn | gn

_C.MODEL.HEAD = CfgNode()
_C.MODEL.HEAD.NAME = "fcos"  # any registered head

_C.MODEL.FCOS = CfgNode()  # Tian et al. 2019
_C.MODEL.FCOS.NUM_CONVS = 4  # 3x3 convolutions in each of the two towers
_C.MODEL.FCOS.NORM = "gn"  # norm after each of them: gn | none
_C.MODEL.FCOS.PRIOR_PROB = 0.01  # score that every location starts with
_C.MODEL.FCOS.SIZES_OF_INTEREST = (64, 128, 256, 512)  # pixels: upper ends of the levels' ranges, the last has
#                                                     none; with MODEL.NECK open, as many levels as ranges: 3, 4 or 5
_C.MODEL.FCOS.OPEN_RANGES = False  # a largest distance of exactly 64 belongs to neither level, not to both
_C.MODEL.FCOS.POINT_OFFSET = 0.5  # where in its cell a location lies, in strides: 0.5 the centre, 0 the upper left
_C.MODEL.FCOS.PADDED_STRIDES = False  # locations lie (padded side // cells of the level) apart, as in torchvision
_C.MODEL.FCOS.CENTER_SAMPLING_RADIUS = 0.0  # positive region around a box centre, in strides; 0: the whole box
_C.MODEL.FCOS.NORM_REG_TARGETS = False  # regress distances in strides through relu, not in pixels through exp
_C.MODEL.FCOS.CENTERNESS_ON_REG = False  # centerness from the regression tower, not from the classification tower
_C.MODEL.FCOS.LEVEL_SCALES = True  # a learned factor for the distances of each level
_C.MODEL.FCOS.IOU_LOSS_TYPE = "iou"  # iou (-log) | linear_iou | giou, all with FCOS's + 1 | plain_giou, without
_C.MODEL.FCOS.CENTERNESS_WEIGHTS_REG = True  # the IoU loss is a mean weighted by centerness, not the plain mean
_C.MODEL.FCOS.LOSS_ALPHA = 0.25  # focal loss: weight of the positives
_C.MODEL.FCOS.LOSS_GAMMA = 2.0  # focal loss: exponent that fades easy examples out
_C.MODEL.FCOS.INFERENCE_TH = 0.05  # score that a candidate must exceed
_C.MODEL.FCOS.TH_WITH_CENTERNESS = False  # INFERENCE_TH is for sqrt(class * centerness), not for the class score alone
_C.MODEL.FCOS.PRE_NMS_TOP_N = 1000  # candidates a level and image that reach the NMS
_C.MODEL.FCOS.NMS_TH = 0.6  # IoU above which the lower score of one class is dropped

_C.MODEL.CLS_AGNOSTIC_BBOX_REG = False  # faster_rcnn: one box for all classes of a proposal, not one for each

_C.MODEL.RPN = CfgNode()  # faster_rcnn, Ren et al. 2015; the numbers on a pyramid are those of Lin et al. 2017
_C.MODEL.RPN.ANCHOR_SIZES = (32.0, 64.0, 128.0, 256.0, 512.0)  # pixels, square root of the area: one size a level
_C.MODEL.RPN.ASPECT_RATIOS = (0.5, 1.0, 2.0)  # height / width: an anchor for each at every cell
_C.MODEL.RPN.ANCHORS_ROUNDED = False  # corners at whole pixels, as in torchvision
_C.MODEL.RPN.LEGACY_ANCHORS = False  # sides rounded in strides, centred in the cells, as in maskrcnn-benchmark
_C.MODEL.RPN.PADDED_STRIDES = False  # anchors lie (padded side // cells of the level) apart, as in torchvision
_C.MODEL.RPN.NUM_CONVS = 1  # 3x3 convolutions before the objectness and the deltas
_C.MODEL.RPN.FG_IOU_THRESHOLD = 0.7  # IoU from which an anchor is positive
_C.MODEL.RPN.BG_IOU_THRESHOLD = 0.3  # IoU below which it is background; in between it is not trained
_C.MODEL.RPN.BATCH_SIZE_PER_IMAGE = 256  # anchors of an image that are trained
_C.MODEL.RPN.POSITIVE_FRACTION = 0.5  # share of positives among them, at most
_C.MODEL.RPN.SMOOTH_L1_BETA = 1.0 / 9  # error of a delta below which its loss is quadratic; 0: L1
_C.MODEL.RPN.PRE_NMS_TOP_N_TRAIN = 2000  # candidates a level and image that reach the NMS, in the loss
_C.MODEL.RPN.PRE_NMS_TOP_N_TEST = 1000  # likewise, in prediction
_C.MODEL.RPN.POST_NMS_TOP_N_TRAIN = 2000  # proposals an image, over all levels, in the loss
_C.MODEL.RPN.POST_NMS_TOP_N_TEST = 1000  # likewise, in prediction
_C.MODEL.RPN.NMS_THRESH = 0.7  # IoU above which the lower score of one level is dropped
_C.MODEL.RPN.MIN_SIZE = 0.001  # pixels: proposals with a shorter side are dropped; 0: only empty ones

_C.MODEL.ROI_HEADS = CfgNode()  # faster_rcnn: what becomes of the proposals
_C.MODEL.ROI_HEADS.FG_IOU_THRESHOLD = 0.5  # IoU from which a proposal is positive
_C.MODEL.ROI_HEADS.BG_IOU_THRESHOLD = 0.5  # IoU below which it is background
_C.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = 512  # proposals of an image that are trained
_C.MODEL.ROI_HEADS.POSITIVE_FRACTION = 0.25  # share of positives among them, at most
_C.MODEL.ROI_HEADS.BBOX_REG_WEIGHTS = (10.0, 10.0, 5.0, 5.0)  # factors of dx, dy, dw, dh
_C.MODEL.ROI_HEADS.SCORE_THRESH = 0.05  # class score that a detection must exceed
_C.MODEL.ROI_HEADS.NMS = 0.5  # IoU above which the lower score of one class is dropped, or decays (soft_linear)
_C.MODEL.ROI_HEADS.NMS_METHOD = "hard"  # hard | soft_linear | soft_gaussian: scores decay, Bodla et al. 2017
_C.MODEL.ROI_HEADS.SOFT_NMS_SIGMA = 0.5  # soft_gaussian only: a score is multiplied by exp(-IoU ** 2 / sigma)
_C.MODEL.ROI_HEADS.SOFT_NMS_MIN_SCORE = 0.001  # soft_* only: decayed score that a detection must exceed
_C.MODEL.ROI_HEADS.CASCADE_IOUS = ()  # IoU of each stage, e.g. 0.5, 0.6, 0.7: Cai and Vasconcelos 2018; (): one stage

_C.MODEL.ROI_BOX_HEAD = CfgNode()  # faster_rcnn: RoIAlign, convolutions and fully connected layers
_C.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION = 7  # cells a side that a proposal is pooled to
_C.MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO = 2  # samples a side of each of them; 0: one for each cell of the map
_C.MODEL.ROI_BOX_HEAD.POOLER_ALIGNED = True  # samples where they belong; False: half a cell off, as in torchvision
_C.MODEL.ROI_BOX_HEAD.NUM_CONV = 0  # 3x3 convolutions that come first; 4 of them and NUM_FC 1 are 4conv1fc
_C.MODEL.ROI_BOX_HEAD.CONV_HEAD_DIM = 256  # channels of the convolutions
_C.MODEL.ROI_BOX_HEAD.NORM = "none"  # norm after each convolution: none | bn | sync_bn | gn
_C.MODEL.ROI_BOX_HEAD.NUM_FC = 2  # fully connected layers
_C.MODEL.ROI_BOX_HEAD.MLP_HEAD_DIM = 1024  # channels of the fully connected layers
_C.MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE = "smooth_l1"  # smooth_l1 | l1 | giou
_C.MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA = 1.0  # smooth_l1 only: error of a delta below which it is quadratic; 0: L1

_C.MODEL.REFINEDET = CfgNode()  # Zhang et al. 2018: anchor refinement (ARM), transfer (TCB), object detection (ODM)
_C.MODEL.REFINEDET.ANCHOR_SCALE = 4.0  # side of an anchor (square root of its area), in strides of its level
_C.MODEL.REFINEDET.ASPECT_RATIOS = (1.0, 0.5, 2.0)  # height / width: an anchor for each, in this order, at every cell
_C.MODEL.REFINEDET.CLIP_ANCHORS = False  # no anchor is wider or higher than the input, as in RefineDet.PyTorch
_C.MODEL.REFINEDET.TCB_CHANNELS = 256  # channels of the transfer connection blocks
_C.MODEL.REFINEDET.NORM = "none"  # norm in blocks and bottlenecks: none (biases instead) | bn | sync_bn | gn
_C.MODEL.REFINEDET.PREDICTOR_BOTTLENECK = False  # a 256-256-1024 bottleneck before the predictors (ResNet-101 recipe)
_C.MODEL.REFINEDET.FG_IOU_THRESHOLD = 0.5  # IoU from which an anchor is positive; so is each box's nearest
_C.MODEL.REFINEDET.BG_IOU_THRESHOLD = 0.5  # IoU below which it is background; in between it is not trained
_C.MODEL.REFINEDET.VARIANCES = (0.1, 0.1, 0.2, 0.2)  # dx, dy, dw, dh are divided by these
_C.MODEL.REFINEDET.NEG_POS_RATIO = 3.0  # hard negatives of an image for each of its positives, at most
_C.MODEL.REFINEDET.OBJECTNESS_THRESH = 0.01  # the ODM passes anchors by whose objectness is less
_C.MODEL.REFINEDET.SCORE_THRESH = 0.01  # class score that a detection must exceed
_C.MODEL.REFINEDET.PRE_NMS_TOP_N = 1000  # candidates a class and image that reach the NMS
_C.MODEL.REFINEDET.NMS = 0.45  # IoU above which the lower score of one class is dropped

_C.MODEL.SALIENCY = CfgNode()  # with MODEL.TASK saliency
_C.MODEL.SALIENCY.NAME = "dss"  # any registered head of salient objects; dss: Hou et al. 2019
_C.MODEL.SALIENCY.WIDTH = 1.0  # times the published channels of the branches of its side outputs

# ---------------------------------------------------------------------------- input and data
_C.INPUT = CfgNode()
_C.INPUT.MIN_SIZE_TRAIN = (800,)  # pixels, shorter side; several: one is drawn for each image
_C.INPUT.MIN_SIZE_RANGE_TRAIN = (-1, -1)  # pixels, inclusive range to draw from; (-1, -1): MIN_SIZE_TRAIN counts
_C.INPUT.MAX_SIZE_TRAIN = 1333  # pixels, longer side at most
_C.INPUT.MIN_SIZE_TEST = 800  # pixels, shorter side
_C.INPUT.MAX_SIZE_TEST = 1333  # pixels, longer side at most
_C.INPUT.PIXEL_MEAN = ()  # three numbers in 0..255, in the record's channel order; (): as the backbone's record says
_C.INPUT.PIXEL_STD = ()  # likewise; both or neither
_C.INPUT.HORIZONTAL_FLIP_PROB_TRAIN = 0.5  # probability, 0..1
_C.INPUT.SQUARE_SIZE = 0  # pixels: images are warped to a square, in training and test; 0: the sizes above count
_C.INPUT.AUGMENTATION = "flip"  # flip | ssd: before the sizes and the flip, colours, expansion and crops of Liu et al.

_C.DATASETS = CfgNode()
_C.DATASETS.ROOT = os.environ.get("DETECTOR_DATASETS") or "datasets"  # folder that the catalog's names live under; the
#                      default is what the environment variable DETECTOR_DATASETS says, where it is set
_C.DATASETS.TRAIN = ("coco_2017_train",)  # catalog names, IMAGES:FILE.json, voc:FOLDER:SPLIT, yolo:FOLDER:SPLIT; joined
_C.DATASETS.TEST = ("coco_2017_val",)  # likewise; each is evaluated by itself
_C.DATASETS.ALLOW_OUTSIDE = False  # records may name pictures outside their folder: absolute paths, or by ".."
_C.DATASETS.TRAIN_DIFFICULT = "auto"  # train on VOC's difficult objects: yes | no (ignored, as crowds are) | auto: 2007
_C.DATASETS.CROWDS = "ignore"  # COCO's crowd regions: ignore, in training and test as COCO does | objects, like others

_C.DATALOADER = CfgNode()
_C.DATALOADER.NUM_WORKERS = 4  # processes that read and augment, at most one a core; 0: the training process itself
_C.DATALOADER.BROKEN = "stop"  # pictures that cannot be read, looked for before the first step: stop | skip them
_C.DATALOADER.TIMEOUT = 300  # seconds without a batch after which a run with workers stops; 0: never
_C.DATALOADER.SIZE_DIVISIBILITY = 0  # batches are padded right and bottom to a multiple of this, pixels; 0: the head's
_C.DATALOADER.ASPECT_RATIO_GROUPING = True  # wide and tall images go into different batches
_C.DATALOADER.FILTER_EMPTY_ANNOTATIONS = True  # train without the images that have no box
_C.DATALOADER.REPEAT_THRESHOLD = 0.0  # share f of the images below which a class is rare: an epoch shows the images
#                                       that hold it sqrt(REPEAT_THRESHOLD / f) times (Gupta et al. 2019); 0: once

# ---------------------------------------------------------------------------- solver and test
_C.SOLVER = CfgNode()
_C.SOLVER.IMS_PER_BATCH = 16  # images a step
_C.SOLVER.ACCUM_ITERS = 1  # micro-batches of a step in each process, whose gradients add up: less memory, the same
#                            step. What predictions decide, the number of RoI samples and RefineDet's ODM positives,
#                            divides the losses of its own micro-batch; trained batch norms measure each by itself
_C.SOLVER.REFERENCE_BATCH = 0  # images a step that BASE_LR, STEPS and MAX_ITER are meant for: for k times as many the
#                                rate is k times as high, with adamw sqrt(k) times, and steps are 1/k; 0: as they stand
_C.SOLVER.MAX_ITER = 90000  # steps
_C.SOLVER.EPOCHS = 0  # times that every image is seen; above 0 it counts instead of MAX_ITER, of which STEPS and
#                       WARMUP_ITERS keep their shares; the later one counts: of a base, the file, the command line
_C.SOLVER.OPTIMIZER = "sgd"  # sgd | adamw
_C.SOLVER.BASE_LR = 0.01  # learning rate of weights
_C.SOLVER.BIAS_LR_FACTOR = 2.0  # times BASE_LR: learning rate of biases
_C.SOLVER.STAGE_LR_FACTORS = ()  # times the rates: of the stem and of layer1 to layer4, and as a sixth, where it is
#                                  there, of neck and head; SSLD's weights want 0.05, 0.05, 0.05, 0.1, 0.15; (): all 1
_C.SOLVER.MOMENTUM = 0.9  # sgd only
_C.SOLVER.WEIGHT_DECAY = 0.0001  # of weights
_C.SOLVER.WEIGHT_DECAY_BIAS = 0.0  # of biases
_C.SOLVER.SCHEDULE = "multi_step"  # multi_step | cosine (to 0 at MAX_ITER)
_C.SOLVER.STEPS = (60000, 80000)  # multi_step: steps at which the rate is multiplied by GAMMA
_C.SOLVER.GAMMA = 0.1  # multi_step: factor at each of STEPS
_C.SOLVER.WARMUP_METHOD = "linear"  # linear (from WARMUP_FACTOR to 1) | constant (WARMUP_FACTOR)
_C.SOLVER.WARMUP_ITERS = 500  # steps; 0: none
_C.SOLVER.WARMUP_FACTOR = 1.0 / 3  # times the rate, at the start
_C.SOLVER.CLIP_GRAD_NORM = 0.0  # largest norm of all gradients together; 0: no limit
_C.SOLVER.EMA_DECAY = 0.0  # share of the average of all weights that stays in a step, e.g. 0.999 for about the last
#                            1,000 steps; the average is what is tested, kept as the best and predicts; 0: none
_C.SOLVER.EMA_WARMUP = False  # after n steps at most (1 + n) / (10 + n) of the average stays, whatever EMA_DECAY: for
#                               runs that are short for it, whose first weights would have a share of it to the end
_C.SOLVER.AMP = "off"  # precision of the training step: off (float32) | bf16 | fp16
_C.SOLVER.CHECKPOINT_PERIOD = 2500  # steps between checkpoints; 0: only at the end
_C.SOLVER.CHECKPOINT_KEEP = 3  # numbered checkpoints that stay, the newest; 0: all; final and best stay anyway
_C.SOLVER.CHECKPOINT_MILESTONES = ()  # steps, with EPOCHS too, whose checkpoints are written and stay, whatever KEEP
_C.SOLVER.TEST_PERIOD = 0  # steps between evaluations; 0: only at the end, with EPOCHS after each of them
_C.SOLVER.PATIENCE = 0  # evaluations in a row without a better one (TEST.BEST_BY) that end the training; 0: none do

_C.DISTILL = CfgNode()  # a training whose neck learns that of a trained detector too: docs/distil.md
_C.DISTILL.TEACHER = ""  # folder of a run, of which the newest checkpoint counts, or a checkpoint; "": none
_C.DISTILL.METHOD = "pkd"  # pkd: channels standardised, Cao et al. 2022 | cwd: as distributions, Shu et al. 2021
_C.DISTILL.LEVELS = ()  # levels of the neck: [p3, p4, p5]; (): the finest that both have, four for pkd, five for cwd
_C.DISTILL.WEIGHT = -1.0  # of the loss; -1: as published, pkd 6 where both heads are faster_rcnn, else 10, cwd 10
_C.DISTILL.TEMPERATURE = 1.0  # cwd only: what maps are divided by before the softmax

_C.TEST = CfgNode()
_C.TEST.EVALUATOR = ("auto",)  # coco, voc, or both; auto: coco, and for data in VOC's layout both
_C.TEST.BEST_BY = ""  # measure, its mean over the test sets, that the best checkpoint has the highest of: AP50, APs,
#                       AP/person, VOC/AP50, ..; "": AP, and VOC/AP50 where TEST.EVALUATOR is voc alone
_C.TEST.IMS_PER_BATCH = 8  # images a forward pass, at most: a batch has those of one padded size
_C.TEST.DETECTIONS_PER_IMG = 100  # detections kept an image, over all classes
_C.TEST.AMP = "off"  # precision of evaluation and prediction: off (float32) | bf16 | fp16 | auto, by the device
_C.TEST.BBOX_AUG = CfgNode()  # test-time augmentation, of every evaluation and prediction: views, detected one by one
_C.TEST.BBOX_AUG.ENABLED = False  # detect in several views of a picture and merge what they show
_C.TEST.BBOX_AUG.H_FLIP = False  # pictures of INPUT's size are also seen mirrored left and right
_C.TEST.BBOX_AUG.SCALES = ()  # further sizes, pixels: shorter sides, or with INPUT.SQUARE_SIZE other squares
_C.TEST.BBOX_AUG.MAX_SIZE = 4000  # pixels, longer side of SCALES at most
_C.TEST.BBOX_AUG.SCALE_H_FLIP = False  # pictures of SCALES are also seen mirrored
_C.TEST.BBOX_AUG.MERGE = "nms"  # of the views' boxes of a class: nms, the best stay | wbf: weighted box fusion, their
#                                 means, whose scores fall where views disagree
_C.TEST.BBOX_AUG.MERGE_IOU = -1.0  # IoU above which boxes are the same; -1: nms that of the head's own NMS, wbf 0.05
#                                     more, at least 0.55: what the head itself leaves side by side is not fused


DEFAULTS = _C  # `declare` adds the keys of plugins
FROM_ENVIRONMENT = {"DATASETS.ROOT": "DETECTOR_DATASETS"} if os.environ.get("DETECTOR_DATASETS") else {}
LISTS_OF_NAMES = ("MODEL.NECK.SOURCES", "DISTILL.LEVELS")  # of the lists empty by default; the others hold numbers
LISTS_OF_INTEGERS = (  # likewise
    "MODEL.BACKBONE.CHECKPOINT_STAGES",
    "SOLVER.CHECKPOINT_MILESTONES",
    "TEST.BBOX_AUG.SCALES",
)


def get_defaults() -> CfgNode:
    """A fresh copy of the defaults, with the keys that plugins declared."""
    return DEFAULTS.clone()


def flat(cfg: CfgNode, prefix: str = "") -> dict[str, Any]:
    """A config as one dict of dotted keys."""
    found: dict[str, Any] = {}
    for name, value in cfg.items():
        found.update(flat(value, f"{prefix}{name}.") if isinstance(value, CfgNode) else {prefix + name: value})
    return found
