"""Keys of maskrcnn-benchmark and FCOS that are not here, each with what to write now."""

Row = tuple[str, str, str]
"""A pattern of keys, one of values (without case), and what to write now; the first row that fits answers."""

BOX_HEAD = "MODEL.ROI_BOX_HEAD.NUM_CONV, NUM_FC and NORM describe the box head; delete the line"
OVER_LEVELS = "write MODEL.RPN.POST_NMS_TOP_N_{}: proposals an image, over all levels"
LEVELS = "follows from the levels of the neck; delete the line"
MASKS = "belongs to masks and keypoints, which are not built in; delete the line"
ONE_HEAD = "MODEL.HEAD.NAME says which head (fcos, faster_rcnn, refinedet); delete the line"
ENTRY = "comes with the backbone's entry: MODEL.BACKBONE.NAME"
PIXELS = "comes with the backbone's weight record, so that it cannot disagree with the weights; delete the line"
COLOUR = "INPUT.AUGMENTATION ssd changes colours, by strengths of its own; delete the line"
RETINANET = "belongs to RetinaNet, which is not built in; delete the line"
GROUP_NORM = "group norm has 32 groups and eps 1e-5; delete the line"

ROWS: tuple[Row, ...] = (
    ("MODEL.META_ARCHITECTURE", "*", "write MODEL.HEAD.NAME fcos or faster_rcnn"),
    ("MODEL.RPN_ONLY", "true", "write MODEL.HEAD.NAME fcos"),
    ("MODEL.RPN_ONLY", "*", ONE_HEAD),
    ("MODEL.FCOS_ON", "true", "write MODEL.HEAD.NAME fcos"),
    ("MODEL.FCOS_ON", "*", ONE_HEAD),
    ("MODEL.RETINANET_ON", "*", ONE_HEAD),
    ("MODEL.MASK_ON", "*", MASKS),
    ("MODEL.KEYPOINT_ON", "*", MASKS),
    ("MODEL.USE_SYNCBN", "true", "write MODEL.BACKBONE.NORM sync_bn"),
    ("MODEL.USE_SYNCBN", "*", "MODEL.BACKBONE.NORM names the norm; delete the line"),
    (
        "MODEL.WEIGHT",
        "catalog://imagenetpretrained/*",
        "write MODEL.WEIGHT imagenet: the backbone's entry knows its file",
    ),
    ("MODEL.WEIGHT", "catalog://*", "there is no catalog of weights; write imagenet, or a file's path or address"),
    (
        "MODEL.BACKBONE.CONV_BODY",
        "r-50-fpn-retinanet",
        "write MODEL.BACKBONE.NAME resnet50_caffe, MODEL.NECK.NAME fpn, MODEL.NECK.EXTRA_LEVELS p6p7_p5 (or p6p7_c5)",
    ),
    (
        "MODEL.BACKBONE.CONV_BODY",
        "r-101-fpn-retinanet",
        "write MODEL.BACKBONE.NAME resnet101_caffe, MODEL.NECK.NAME fpn, MODEL.NECK.EXTRA_LEVELS p6p7_p5 (or p6p7_c5)",
    ),
    (
        "MODEL.BACKBONE.CONV_BODY",
        "r-50-fpn",
        "write MODEL.BACKBONE.NAME resnet50_caffe, MODEL.NECK.NAME fpn, MODEL.NECK.EXTRA_LEVELS maxpool",
    ),
    (
        "MODEL.BACKBONE.CONV_BODY",
        "r-101-fpn",
        "write MODEL.BACKBONE.NAME resnet101_caffe, MODEL.NECK.NAME fpn, MODEL.NECK.EXTRA_LEVELS maxpool",
    ),
    (
        "MODEL.BACKBONE.CONV_BODY",
        "*",
        "name the parts: MODEL.BACKBONE.NAME (resnet50, resnet50_caffe, ..), MODEL.NECK.NAME fpn, "
        "MODEL.NECK.EXTRA_LEVELS (p6p7_p5, ..)",
    ),
    ("MODEL.BACKBONE.OUT_CHANNELS", "*", "write MODEL.NECK.OUT_CHANNELS; a backbone's own channels are known"),
    ("MODEL.BACKBONE.USE_GN", "true", "write MODEL.BACKBONE.NORM gn"),
    ("MODEL.BACKBONE.USE_GN", "*", "MODEL.BACKBONE.NORM names the norm; delete the line"),
    ("MODEL.RESNETS.BACKBONE_OUT_CHANNELS", "*", "write MODEL.NECK.OUT_CHANNELS"),
    ("MODEL.RESNETS.STRIDE_IN_1X1", "true", "write MODEL.BACKBONE.NAME with an entry that ends in _caffe"),
    ("MODEL.RESNETS.STRIDE_IN_1X1", "*", "write MODEL.BACKBONE.NAME with an entry that does not end in _caffe"),
    ("MODEL.RESNETS.NUM_GROUPS", "1", f"{ENTRY}; delete the line"),
    ("MODEL.RESNETS.NUM_GROUPS", "*", f"{ENTRY} resnext50_32x4d, resnext101_32x8d, .."),
    ("MODEL.RESNETS.WIDTH_PER_GROUP", "64", f"{ENTRY}; delete the line"),
    ("MODEL.RESNETS.WIDTH_PER_GROUP", "*", f"{ENTRY} resnext50_32x4d, resnext101_32x8d, .."),
    ("MODEL.RESNETS.TRANS_FUNC", "*", "write MODEL.BACKBONE.NORM frozen_bn, bn, sync_bn or gn"),
    ("MODEL.RESNETS.STEM_FUNC", "*", "write MODEL.BACKBONE.NORM frozen_bn, bn, sync_bn or gn"),
    ("MODEL.RESNETS.STAGE_WITH_DCN", "*", "write MODEL.BACKBONE.DEFORM_STAGES, e.g. (False, True, True, True)"),
    ("MODEL.RESNETS.DEFORM_ON_PER_STAGE", "*", "write MODEL.BACKBONE.DEFORM_STAGES, e.g. (False, True, True, True)"),
    ("MODEL.RESNETS.WITH_MODULATED_DCN", "*", "write MODEL.BACKBONE.DEFORM_MODULATED"),
    ("MODEL.RESNETS.DEFORM_MODULATED", "*", "write MODEL.BACKBONE.DEFORM_MODULATED"),
    ("MODEL.RESNETS.DEFORM*_GROUPS", "*", "write MODEL.BACKBONE.DEFORM_GROUPS"),
    ("MODEL.RESNETS*", "*", f"{ENTRY}; delete the line"),
    ("MODEL.FBNET*", "*", "FBNet is not built in; delete the line"),
    ("MODEL.FPN.USE_GN", "true", "write MODEL.NECK.NORM gn"),
    ("MODEL.FPN.USE_GN", "*", "MODEL.NECK.NORM names the norm; delete the line"),
    ("MODEL.FPN.USE_RELU", "*", "the pyramid's convolutions have no activation; delete the line"),
    ("MODEL.GROUP_NORM*", "*", GROUP_NORM),
    ("MODEL.RETINANET.USE_C5", "true", "write MODEL.NECK.EXTRA_LEVELS p6p7_c5"),
    ("MODEL.RETINANET.USE_C5", "*", "write MODEL.NECK.EXTRA_LEVELS p6p7_p5"),
    ("MODEL.RETINANET*", "*", RETINANET),
    ("MODEL.FCOS.NUM_CLASSES", "*", "write MODEL.NUM_CLASSES, without the background (81 becomes 80)"),
    ("MODEL.FCOS.FPN_STRIDES", "*", LEVELS),
    ("MODEL.FCOS.USE_DCN_IN_TOWER", "*", "only a backbone's stages can be deformed; delete the line"),
    ("MODEL.RPN.USE_FPN", "*", "MODEL.NECK.NAME fpn says so; delete the line"),
    ("MODEL.RPN.ANCHOR_STRIDE", "*", LEVELS),
    ("MODEL.RPN.STRADDLE_THRESH", "*", "anchors that leave the image are trained like the others; delete the line"),
    ("MODEL.RPN.FPN_POST_NMS_TOP_N_TRAIN", "*", OVER_LEVELS.format("TRAIN")),
    ("MODEL.RPN.FPN_POST_NMS_TOP_N_TEST", "*", OVER_LEVELS.format("TEST")),
    ("MODEL.RPN.FPN_POST_NMS_PER_BATCH", "*", "proposals are counted an image; delete the line"),
    ("MODEL.RPN.RPN_HEAD", "*", "MODEL.RPN.NUM_CONVS says how deep it is; delete the line"),
    ("MODEL.ROI_MASK_HEAD*", "*", MASKS),
    ("MODEL.ROI_KEYPOINT_HEAD*", "*", MASKS),
    ("MODEL.ROI_BOX_HEAD.NUM_CLASSES", "*", "write MODEL.NUM_CLASSES, without the background (81 becomes 80)"),
    ("MODEL.ROI_HEADS.DETECTIONS_PER_IMG", "*", "write TEST.DETECTIONS_PER_IMG"),
    ("MODEL.ROI_HEADS.USE_FPN", "*", "MODEL.NECK.NAME fpn says so; delete the line"),
    ("MODEL.ROI_BOX_HEAD.POOLER_SCALES", "*", LEVELS),
    (
        "MODEL.ROI_BOX_HEAD.FEATURE_EXTRACTOR",
        "*xconv1fc*",
        "write MODEL.ROI_BOX_HEAD.NUM_CONV 4 and MODEL.ROI_BOX_HEAD.NUM_FC 1",
    ),
    ("MODEL.ROI_BOX_HEAD.FEATURE_EXTRACTOR", "*", BOX_HEAD),
    ("MODEL.ROI_BOX_HEAD.PREDICTOR", "*", BOX_HEAD),
    ("MODEL.ROI_BOX_HEAD.NUM_STACKED_CONVS", "*", "write MODEL.ROI_BOX_HEAD.NUM_CONV"),
    ("MODEL.ROI_BOX_HEAD.DILATION", "*", BOX_HEAD),
    ("MODEL.ROI_BOX_HEAD.USE_GN", "true", "write MODEL.ROI_BOX_HEAD.NORM gn"),
    ("MODEL.ROI_BOX_HEAD.USE_GN", "*", BOX_HEAD),
    ("INPUT.TO_BGR255", "*", PIXELS),
    ("INPUT.BRIGHTNESS", "*", COLOUR),
    ("INPUT.CONTRAST", "*", COLOUR),
    ("INPUT.SATURATION", "*", COLOUR),
    ("INPUT.HUE", "*", COLOUR),
    ("INPUT.VERTICAL_FLIP_PROB_TRAIN", "*", "only INPUT.HORIZONTAL_FLIP_PROB_TRAIN is built in; delete the line"),
    ("SOLVER.DCONV_OFFSETS_LR_FACTOR", "*", "offsets learn at the rate of other weights; delete the line"),
    ("TEST.EXPECTED_RESULTS*", "*", "results are written to OUTPUT_DIR and compared by nobody; delete the line"),
    ("DTYPE", "float16", "write SOLVER.AMP fp16 and TEST.AMP fp16"),
    ("DTYPE", "*", "SOLVER.AMP and TEST.AMP name the precision; delete the line"),
    ("AMP_VERBOSE", "*", "delete the line"),
    (
        "PATHS_CATALOG",
        "*",
        "write DATASETS.ROOT, or in DATASETS.TRAIN the files themselves: IMAGE_FOLDER:FILE.json, voc:FOLDER:SPLIT or "
        "yolo:FOLDER:SPLIT",
    ),
)
